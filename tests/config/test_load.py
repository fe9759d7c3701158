"""A whole file: what it becomes, and everything wrong with it at once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from coserver.config import ConfigError, load
from coserver.config.records import StopPolicy
from coserver.errors import UsageError
from coserver.model.address import TcpAddress, UnixAddress
from coserver.model.job import State
from coserver.model.restart import RestartPolicy
from tests.config.sites import NOWHERE, Desk

SHOP = """
    [site]
    name = "shop"
    store = "${DATABASE_URL:-sqlite:site.db}"

    [node]
    name = "web1"
    labels = ["web", "linux"]

    [app]
    path = ["."]
    tasks = ["shop.tasks"]
    setup = "coserver.contrib.django:setup"

    [defaults.service]
    env_files = [".env"]

    [control]
    socket = "run/control.sock"
    console = false

    [service.web]
    asgi = "shop.web:app"
    bind = "127.0.0.1:8000"
    processes = 2

    [service.redis]
    command = "redis-server --port 6400"
    restart = { when = "always", backoff = "100ms..60s", give_up = "5 in 1m" }
    stop = { signal = "SIGTERM", timeout = "30s" }
    limits = { nofile = 500 }
    output = { max_bytes = "20M", keep = 5 }

    [service.images]
    path = ["apps/images"]
    tasks = ["images.jobs"]
    queues = { images = 2, mail = 8 }
    processes = 2
    env = { KEY = "VALUE" }

    [retention]
    succeeded = "1d"
    cancelled = "2h"
    expired = 60
    """


def test_the_example_of_the_design_becomes_records(desk: Desk) -> None:
    site = desk.load(SHOP)
    here = desk.directory
    assert (site.name, site.store, site.file, site.base_dir) == (
        "shop",
        f"sqlite:{here}/site.db",
        here / "coserver.toml",
        here,
    )
    assert (site.node.name, site.node.labels, site.node.state) == (
        "web1",
        ("web", "linux"),
        here / ".coserver",
    )
    assert (site.control.socket, site.control.console) == (here / "run/control.sock", False)
    assert site.retention.succeeded == 86_400.0
    assert site.retention.failed is None
    assert site.retention.seconds() == {
        State.SUCCEEDED: 86_400.0,
        State.CANCELLED: 7_200.0,
        State.EXPIRED: 60.0,
    }
    assert list(site.services) == ["web", "redis", "images"]

    web = site.services["web"]
    assert (web.kind, web.asgi, web.bind, web.processes) == (
        "python",
        "shop.web:app",
        TcpAddress("127.0.0.1", 8000),
        2,
    )
    assert (web.path, web.tasks, web.setup) == ((here,), ("shop.tasks",), "coserver.contrib.django:setup")
    assert (web.works, web.env_files, web.cwd) == (False, (here / ".env",), here)

    redis = site.services["redis"]
    assert (redis.kind, redis.command) == ("command", ("redis-server", "--port", "6400"))
    assert redis.restart == RestartPolicy("always", 0.1, 60.0, (5, 60.0))
    assert redis.stop == StopPolicy(signal="TERM", timeout=30.0)
    assert (redis.limits, redis.output.max_bytes, redis.output.keep) == ({"nofile": 500}, 20 << 20, 5)
    assert (redis.path, redis.tasks, redis.setup, redis.queues) == ((), (), None, {})

    images = site.services["images"]
    assert (images.path, images.tasks) == ((here / "apps/images",), ("images.jobs",))
    assert (images.queues, images.threads, images.works) == ({"images": 2, "mail": 8}, 10, True)
    assert (images.env, images.setup) == ({"KEY": "VALUE"}, "coserver.contrib.django:setup")


def test_an_empty_file_is_a_site_of_defaults(desk: Desk) -> None:
    directory = desk.directory / "my shop (2)"
    desk.write("", "my shop (2)/coserver.toml")
    site = desk.load(path=directory / "coserver.toml")
    assert (site.name, site.services) == ("my-shop-2", {})
    assert site.store == f"sqlite:{directory}/site.db"
    assert site.control.socket == directory / ".coserver/control.sock"
    assert all(setting.origin.kind == "default" for setting in site.settings.values())


@pytest.mark.parametrize(
    ("directory", "name"), [("2024", "site"), ("_", "site"), ("a--b", "a-b"), ("shop", "shop")]
)
def test_a_site_without_a_name_is_named_after_its_directory(desk: Desk, directory: str, name: str) -> None:
    desk.write("", f"{directory}/coserver.toml")
    assert desk.load(path=Path(directory, "coserver.toml")).name == name


def test_the_control_socket_follows_the_node_s_state(desk: Desk) -> None:
    assert desk.load('[node]\nstate = "/var/lib/x"\n').control.socket == Path("/var/lib/x/control.sock")


def test_every_problem_is_told_at_once_in_the_order_of_lines(desk: Desk) -> None:
    problems = desk.problems(
        """
        [sit]
        x = 1
        [service.web]
        asgi = "shop.web"
        bind = 8000
        prcesses = 2
        processes = -1
        ready = { tcp = 1 }
        path = ["a", 1, ""]
        cwd = "~/x"
        restart = "never"
        stop = { signal = "TERMX", timeout = "10" }
        [service."odd name"]
        command = "x"
        limits = { memory = "3G", nofile = "many" }
        env = { A = 1, "B=" = "x", COSERVER_RUN = "1" }
        """
    )
    assert [problem.removeprefix("coserver.toml:") for problem in problems] == [
        '1: sit: unknown key; did you mean "site"?',
        '4: service.web.asgi: "shop.web" does not say which object of which module; write "shop.web:app"',
        '5: service.web.bind: expected an address such as "127.0.0.1:8000", "[::1]:8000" or "unix:run/web.sock", '
        "found the number 8000",
        '6: service.web.prcesses: unknown key; did you mean "processes"?',
        "7: service.web.processes: -1 is too small; the least is 0",
        "8: service.web.ready: not supported yet: readiness checks; remove it",
        '9: service.web.path[1]: expected a path such as ".", found the number 1',
        '9: service.web.path[2]: expected a path such as ".", found no path',
        '10: service.web.cwd: cannot use the path "~/x": "~" is a shell\'s notation; write "${HOME}/…"',
        '11: service.web.restart: expected a table such as { when = "on-failure" }, found "never"',
        '12: service.web.stop.signal: "TERMX" is no signal; write "TERM", "INT", "QUIT", "HUP", "USR1" or "KILL"',
        '12: service.web.stop.timeout: cannot read "10" as a duration: it has no unit; write "10s" for seconds',
        '13: service."odd name": "odd name" cannot be a name: a name begins with a letter and holds letters, digits '
        'and single "-" or "_" between them, at most 63 characters; for example "mail-queue"',
        '15: service."odd name".limits.memory: not supported yet: a memory limit by cgroup; remove it',
        '15: service."odd name".limits.nofile: expected a whole number such as 1024 or "unlimited", found "many"',
        '16: service."odd name".env.A: expected text in quotes, such as "8000", found the number 1',
        '16: service."odd name".env."B=": "B=" cannot be an environment variable: a name is not empty and holds no "="',
        '16: service."odd name".env.COSERVER_RUN: cannot set COSERVER_RUN: coserver gives it to every process itself; '
        "remove it",
    ]  # fmt: skip


def test_the_error_is_one_of_usage_and_every_problem_has_its_parts(desk: Desk) -> None:
    with pytest.raises(ConfigError) as refused:
        desk.load("[service.web]\n  prcesses = 2\n")
    assert isinstance(refused.value, UsageError)
    assert refused.value.exit_status == 2
    problem = refused.value.problems[0]
    assert (problem.file, problem.line, problem.column, problem.key) == (
        "coserver.toml",
        2,
        3,
        "service.web.prcesses",
    )


@pytest.mark.parametrize(
    "text",
    [
        "[socket.http]\nbind = 'x'",
        "[calendar.c]\nexclude = []",
        "[schedule.r]\ntask = 'x:y'",
        "[bus]\ntransport = 'nats://x'",
        "[plugin.p]\nuse = 'x:y'",
        "[control]\nconsole = '127.0.0.1:7600'",
        "[control]\nconsole = true",
        "[site]\nstore_direct = 'postgresql://x'",
        *(
            f"[service.a]\ncommand = 'a'\n{key}"
            for key in (
                "ready = { tcp = 'x' }", "live = {}", "needs = ['b']", "sockets = ['http']", "on = ['web']",
                "essential = true", "oneshot = true",
                "max_requests = 1", "reload = { signal = 'HUP' }", "hooks = {}", "stdin = 'null'", "min = 1",
                "stay_alive_for = '1m'", "shutdown_after = '1m'", "shutdown_if_idle = '1m'", "idle_timeout = '1m'",
                "daemon.x.use = 'a:b'", "limits = { memory = '1G' }", "limits = { pids = 1 }",
                "output = { syslog = true }", "restart = { reset_after = '1m' }",
            )
        ),
    ],
)  # fmt: skip
def test_a_key_whose_feature_is_not_built_yet_is_refused_and_never_ignored(desk: Desk, text: str) -> None:
    problems = desk.problems(text)
    assert len(problems) == 1
    assert "not supported yet" in problems[0]
    assert problems[0].startswith("coserver.toml:")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[services.web]", 'services: unknown key; did you mean "service"?'),
        ("[service.a]\ncmd = 'a'", 'service.a.cmd: unknown key; did you mean "command"?'),
        ("[service.a]\nnumprocs = 1", 'service.a.numprocs: unknown key; did you mean "processes"?'),
        ("[service.a]\nworking-dir = '.'", 'service.a.working-dir: unknown key; did you mean "cwd"?'),
        ("[service.a]\nstore = 'x'", "service.a.store: unknown key; it belongs in [site]"),
        ("[service.a]\nmax_job = 1", 'service.a.max_job: unknown key; did you mean "max_jobs"?'),
        ("[site]\nzzz = 1", "site.zzz: unknown key"),
        (
            "[service.a]\ncommand = 'a'\nstop.timout = 1",
            'service.a.stop.timout: unknown key; did you mean "timeout"?',
        ),
    ],
)
def test_an_unknown_key_comes_with_a_suggestion(desk: Desk, text: str, problem: str) -> None:
    (found,) = desk.problems(text)
    assert found.endswith(f": {problem}")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("site = 3", "site: expected a table, [site], found the number 3"),
        ("service = []", "service: expected [service.NAME] tables, found a list"),
        ("[service]\nweb = 1", "service.web: expected a table, [service.web], found the number 1"),
        ("[[service]]\nname = 'x'", "service: expected [service.NAME] tables, found a list"),
        ("[defaults]\nservice = 'x'", "defaults.service: expected "),
        ("defaults = 1", "defaults: expected "),
        ("[defaults.queue]\nx = 1", "defaults.queue: unknown key"),
        ("[site]\nname = 2024-01-01", 'site.name: expected a name such as "shop", found a date or time'),
        ("[app]\npath = '.'", 'app.path: expected a list such as ["."], found "."'),
    ],
)
def test_a_value_of_the_wrong_kind_is_told_what_was_expected(desk: Desk, text: str, problem: str) -> None:
    found = desk.problems(text)
    assert len(found) == 1
    assert f": {problem}" in found[0]


@pytest.mark.parametrize(
    ("store", "cause"),
    [
        ("site.db", "it names no kind of store"),
        ("mysql://x/y", '"mysql" is no store that coserver knows'),
        ("sqlite:///site.db", "without slashes"),
        ("sqlite::memory:", "processes can only share a file"),
        ("sqlite:", "processes can only share a file"),
        ("sqlite:a.db?driver=odd", "write driver=apsw or driver=sqlite3"),
        ("sqlite:a.db?mode=ro", 'unknown option "mode"'),
        ("postgresql://host:port/db", "cannot read the store's address"),
        ("", "it names no kind of store"),
    ],
)
def test_a_store_that_cannot_be_is_refused_with_its_cause(desk: Desk, store: str, cause: str) -> None:
    problems = desk.problems(f'[site]\nstore = "{store}"\n')
    assert len(problems) == 1
    assert problems[0].startswith("coserver.toml:2: site.store: ")
    assert cause in problems[0]


@pytest.mark.parametrize(
    ("store", "becomes"),
    [
        ("sqlite:data/a.db", "sqlite:{here}/data/a.db"),
        ("sqlite:/var/a.db", "sqlite:/var/a.db"),
        (
            "sqlite:a.db?driver=sqlite3&synchronous=NORMAL",
            "sqlite:{here}/a.db?driver=sqlite3&synchronous=NORMAL",
        ),
        ("postgres://u@h/d", "postgresql://u@h/d"),
        ("postgresql:///d?host=/run/postgresql", "postgresql:///d?host=/run/postgresql"),
    ],
)
def test_a_store_is_kept_with_an_absolute_path(desk: Desk, store: str, becomes: str) -> None:
    assert desk.load(f'[site]\nstore = "{store}"\n').store == becomes.format(here=desk.directory)


def test_values_that_states_may_have_in_several_notations(desk: Desk) -> None:
    site = desk.load(
        """
        [service.a]
        command = ["/bin/a b", "$$HOME", "*"]
        umask = "022"
        nice = -5
        user = "www-data"
        stop = { signal = "int", timeout = 2.5 }
        restart = { when = "on-failure", backoff = "0s..0s", give_up = "never", expected = [0, 2] }
        limits = { nofile = "unlimited", core = "0", stack = "8M", address_space = 1024 }
        output = { stderr = "separate", max_bytes = 1000, keep = 0 }
        [service.b]
        command = "sh -c 'echo \\"a b\\"' x"
        umask = "0o077"
        [service.c]
        wsgi = "shop.wsgi:app"
        bind = "unix:run/c.sock"
        """
    )
    a, b, c = site.services.values()
    assert a.command == ("/bin/a b", "$HOME", "*")
    assert (a.umask, a.nice, a.user) == (0o022, -5, "www-data")
    assert (a.stop.signal, a.stop.timeout) == ("INT", 2.5)
    assert a.restart == RestartPolicy("on-failure", 0.0, 0.0, None, frozenset({0, 2}))
    assert a.limits == {"nofile": -1, "core": 0, "stack": 8 << 20, "address_space": 1024}
    assert (a.output.stderr, a.output.max_bytes, a.output.keep) == ("separate", 1000, 0)
    assert (b.command, b.umask) == (("sh", "-c", 'echo "a b"', "x"), 0o077)
    assert c.bind == UnixAddress(desk.directory / "run/c.sock")


def test_settings_tell_where_each_value_came_from(desk: Desk) -> None:
    desk.environ = {"DATABASE_URL": "postgresql://u@h/d"}
    settings = desk.load(SHOP).settings
    assert str(settings["site.store"].origin) == "coserver.toml:3 via ${DATABASE_URL}"
    assert str(settings["service.web.path"].origin) == "coserver.toml:10"
    assert str(settings["service.web.env_files"].origin) == "coserver.toml:15"
    assert str(settings["service.web.threads"].origin) == "default"
    assert str(settings["service.redis.restart.give_up"].origin) == "coserver.toml:28"
    assert str(settings["service.images.env.KEY"].origin) == "coserver.toml:38"
    assert "service.redis.asgi" not in settings
    assert "service.web.command" not in settings


def test_a_file_elsewhere_is_named_by_its_whole_path(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    path = desk.write("[sit]\n")
    assert desk.problems(path=path, cwd=tmp_path / "elsewhere")[0].startswith(f"{path}:1: sit:")


def test_the_real_environment_and_machine_are_enough(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    path = desk.write('[service.a]\ncommand = "a"\n')
    site = load(path, environ=os.environ, cwd=Path.cwd(), node_file=NOWHERE)
    assert list(site.services) == ["a"]
