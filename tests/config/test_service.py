"""What services inherit, and what cannot be together."""

from __future__ import annotations

import pytest

from tests.config.sites import Desk

TASKS = 'tasks = ["t"]\n'


def test_a_service_inherits_from_defaults_and_those_from_app(desk: Desk) -> None:
    site = desk.load(
        """
        [app]
        path = ["app"]
        tasks = ["app.tasks"]
        setup = "app:setup"
        [defaults.service]
        setup = "defaults:setup"
        nice = 3
        env = { A = "1", B = "1" }
        restart = { when = "never", give_up = "9 in 1m" }
        [service.own]
        tasks = ["own"]
        nice = 0
        env = { B = "2" }
        restart = { when = "always" }
        [service.plain]
        [service.foreign]
        command = "x"
        """
    )
    own, plain, foreign = site.services.values()
    assert (own.path, own.tasks, own.setup, own.nice) == (
        (desk.directory / "app",),
        ("own",),
        "defaults:setup",
        0,
    )
    assert (own.env, own.restart.when, own.restart.give_up) == ({"A": "1", "B": "2"}, "always", (9, 60.0))
    assert (plain.tasks, plain.queues) == (("app.tasks",), {"default": 10})
    assert (foreign.nice, foreign.env, foreign.restart.when) == (3, {"A": "1", "B": "1"}, "never")
    assert (foreign.path, foreign.tasks, foreign.setup) == ((), (), None)
    assert str(site.settings["service.own.env.A"].origin) == "coserver.toml:8"
    assert str(site.settings["service.own.env.B"].origin) == "coserver.toml:13"


def test_a_value_stated_as_the_default_still_wins_over_an_inherited_one(desk: Desk) -> None:
    site = desk.load('[defaults.service]\nprocesses = 4\n[service.a]\ncommand = "a"\nprocesses = 1\n')
    assert site.services["a"].processes == 1


def test_a_mistake_in_defaults_is_told_once_and_also_if_nobody_inherits_it(desk: Desk) -> None:
    mistake = '[defaults.service]\nprocesses = "x"\nnonsense = 1\n'
    told = [
        'coserver.toml:2: defaults.service.processes: expected a whole number such as 2, found "x"',
        "coserver.toml:3: defaults.service.nonsense: unknown key",
    ]
    assert desk.problems(mistake) == told
    assert desk.problems(f'{mistake}[service.a]\ncommand = "a"\n[service.b]\ncommand = "b"\n') == told


@pytest.mark.parametrize(
    "key", ['command = "x"', 'asgi = "a:b"', 'wsgi = "a:b"', 'bind = "h:1"', "queues = { a = 1 }"]
)
def test_what_belongs_to_one_service_is_no_default(desk: Desk, key: str) -> None:
    name = key.partition(" ")[0]
    assert desk.problems(f"[defaults.service]\n{key}\n") == [
        f"coserver.toml:2: defaults.service.{name}: belongs to one service; state it in [service.NAME]"
    ]


@pytest.mark.parametrize(
    ("text", "queues", "threads"),
    [
        (TASKS, {"default": 10}, 10),
        (f"{TASKS}concurrency = 3\n", {"default": 3}, 3),
        (f"{TASKS}queues = {{ a = 2, b = 5 }}\n", {"a": 2, "b": 5}, 7),
        (f"{TASKS}queues = {{ a = 2, b = 5 }}\nconcurrency = 4\n", {"a": 2, "b": 5}, 4),
        (f"{TASKS}threads = 1\n", {"default": 10}, 1),
        ('asgi = "a:b"\nbind = "h:1"\n', {}, 10),
        (f'{TASKS}asgi = "a:b"\nbind = "h:1"\n', {}, 10),
        (f'{TASKS}asgi = "a:b"\nbind = "h:1"\nqueues = {{ a = 2 }}\n', {"a": 2}, 2),
    ],
)
def test_queues_and_threads_follow_from_the_rest(
    desk: Desk, text: str, queues: dict[str, int], threads: int
) -> None:
    service = desk.load(f"[service.a]\n{text}").services["a"]
    assert (service.queues, service.threads, service.works) == (queues, threads, bool(queues))


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("", ["1: service.a: it says nothing to run; state command, asgi, wsgi or tasks"]),
        ("processes = 2\n", ["1: service.a: it says nothing to run; state command, asgi, wsgi or tasks"]),
        (
            f'{TASKS}command = "x"\nqueues = {{ a = 1 }}\n',
            [
                "2: service.a.tasks: belongs to a Python service, but this one has a command; remove one of them",
                "4: service.a.queues: belongs to a Python service, but this one has a command; remove one of them",
            ],
        ),
        (
            'asgi = "a:b"\nwsgi = "a:b"\nbind = "h:1"\n',
            [
                "3: service.a.wsgi: a service has one application, but this one states asgi too; remove one of them"
            ],
        ),
        (
            'asgi = "a:b"\n',
            ['2: service.a.asgi: the application has no address; add bind = "127.0.0.1:8000"'],
        ),
        (
            f'{TASKS}bind = "h:1"\n',
            ["3: service.a.bind: nothing would listen there; state asgi or wsgi too, or remove it"],
        ),
        (
            "queues = { a = 1 }\n",
            ['2: service.a.queues: no task is known to work on; add tasks = ["shop.tasks"]'],
        ),
        (f"{TASKS}queues = {{ a = 0 }}\n", ["3: service.a.queues.a: 0 is too small; the least is 1"]),
        (f"{TASKS}queues = {{ 'a b' = 1 }}\n", ['3: service.a.queues."a b": "a b" cannot be a queue']),
        (
            'tasks = ["shop.tasks:x"]\n',
            ['2: service.a.tasks[0]: "shop.tasks:x" names an object; here a module'],
        ),
        ('tasks = ["a/b"]\n', ['2: service.a.tasks[0]: "a/b" is no module']),
        ('command = ""\n', ["2: service.a.command: the command is empty"]),
        ('command = "  "\n', ["2: service.a.command: the command is empty"]),
        ("command = []\n", ["2: service.a.command: the command is empty"]),
        ("command = ['a', 1]\n", ["2: service.a.command[1]: expected text in quotes, found the number 1"]),
        ('command = "a \'b"\n', ["2: service.a.command: cannot split the command: no closing quotation"]),
        ("command = 3\n", ["2: service.a.command: expected a command such as"]),
        ('command = "a"\nnice = 20\n', ["3: service.a.nice: 20 is too large; the most is 19"]),
        ('command = "a"\numask = "999"\n', ["3: service.a.umask: expected octal digits"]),
        ('command = "a"\numask = "1000"\n', ["3: service.a.umask: the mask is beyond 777"]),
        ('command = "a"\numask = 22\n', ["3: service.a.umask: a number may be read as decimal"]),
        (
            'command = "a"\nstop = { signal = "CHLD" }\n',
            ['3: service.a.stop.signal: "CHLD" does not end a program'],
        ),
        (
            'command = "a"\nrestart = { backoff = "0s..60s" }\n',
            ["3: service.a.restart.backoff: a delay that begins with 0s never grows"],
        ),
        (
            'command = "a"\nrestart = { when = "sometimes" }\n',
            ['3: service.a.restart.when: expected "always" or'],
        ),
        (
            'command = "a"\nrestart = { expected = [256] }\n',
            ["3: service.a.restart.expected[0]: 256 is too large"],
        ),
        ('command = "a"\nlimits = { core = "1X" }\n', ["3: service.a.limits.core: cannot read"]),
    ],
)
def test_what_cannot_be_together_is_refused_with_its_line(desk: Desk, text: str, problems: list[str]) -> None:
    found = desk.problems(f"[service.a]\n{text}")
    assert len(found) == len(problems)
    for told, expected in zip(found, problems, strict=True):
        assert told.startswith(f"coserver.toml:{expected}")


def web(name: str, bind: str) -> str:
    return f'[service.{name}]\nasgi = "a:b"\nbind = "{bind}"\n'


@pytest.mark.parametrize(
    ("one", "two", "collide"),
    [
        ("127.0.0.1:8000", "127.0.0.1:8000", True),
        ("127.0.0.1:8000", "0.0.0.0:8000", True),
        ("127.0.0.1:8000", "127.0.0.2:8000", False),
        ("127.0.0.1:8000", "127.0.0.1:8001", False),
        ("127.0.0.1:0", "127.0.0.1:0", False),
        ("unix:a", "unix:a", True),
        ("unix:a", "unix:b", False),
        ("unix:a", "127.0.0.1:1", False),
    ],
)
def test_two_services_at_one_address_are_refused_at_load(
    desk: Desk, one: str, two: str, collide: bool
) -> None:
    text = web("one", one) + web("two", two)
    if not collide:
        assert len(desk.load(text).services) == 2
        return
    (problem,) = desk.problems(text)
    assert problem.startswith("coserver.toml:6: service.two.bind: service.one listens at ")


def test_names_that_differ_only_in_case_or_dashes_are_refused(desk: Desk) -> None:
    text = "".join(
        f'[service.{name}]\ncommand = "x"\n' for name in ("mail-out", "mail_out", "Mail-Out", "mail")
    )
    message = "its name differs from service.mail-out only in case or in - and _; rename one"
    assert desk.problems(text) == [
        f"coserver.toml:3: service.mail_out: {message}",
        f"coserver.toml:5: service.Mail-Out: {message}",
    ]


def test_a_worker_may_be_replaced_by_a_fresh_one_now_and_then(desk: Desk) -> None:
    limits = 'max_jobs = 1000\nmax_age = "1d"\nmax_memory = "200M"\nisolated = 3\n'
    site = desk.load(
        f'[defaults.service]\n{limits}[service.jobs]\n{TASKS}[service.web]\nasgi = "a:b"\nbind = "h:1"\n'
    )
    jobs, web = site.services["jobs"], site.services["web"]
    assert (jobs.max_jobs, jobs.max_age, jobs.max_memory, jobs.isolated) == (1000, 86_400.0, 200 << 20, 3)
    assert jobs.recycles
    assert not web.recycles


def test_a_web_application_is_not_replaced_because_its_address_would_be_closed(desk: Desk) -> None:
    (problem,) = desk.problems('[service.a]\nasgi = "a:b"\nbind = "h:1"\nmax_age = "1d"\n')
    assert problem.startswith(
        "coserver.toml:4: service.a.max_age: between two processes the application's address"
    )


@pytest.mark.parametrize("name", ["a", "Mail2", "mail-queue", "a_b-c", "x" * 63])
def test_a_good_name_is_taken(desk: Desk, name: str) -> None:
    assert list(desk.load(f'[service.{name}]\ncommand = "x"\n').services) == [name]


@pytest.mark.parametrize("name", ["2a", "-a", "a-", "a__b", "a.b", "a/1", "@a", "", "é", "a b", "x" * 64])
def test_a_bad_name_is_refused(desk: Desk, name: str) -> None:
    (problem,) = desk.problems(f'[service."{name}"]\ncommand = "x"\n')
    assert "cannot be a name" in problem
