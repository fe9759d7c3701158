"""Overrides by COSERVER_CFG__ variables."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.config.sites import Desk

SITE = """
    [site]
    name = "shop"
    [service.mail-queue]
    tasks = ["shop.mail"]
    queues = { mail-out = 2 }
    processes = 2
    env = { Mode = "slow", DEBUG = "0" }
    [service.redis]
    command = "redis-server"
    restart = { when = "never" }
    """


def test_a_variable_overrides_what_the_file_states(desk: Desk) -> None:
    desk.environ = {
        "COSERVER_CFG__SITE__NAME": "other",
        "COSERVER_CFG__SERVICE__MAIL_QUEUE__PROCESSES": "5",
        "COSERVER_CFG__SERVICE__MAIL_QUEUE__QUEUES__MAIL_OUT": "7",
        "COSERVER_CFG__SERVICE__MAIL_QUEUE__ENV__DEBUG": "1",
        "COSERVER_CFG__SERVICE__MAIL_QUEUE__ENV__NEW__ONE": "yes",
        "COSERVER_CFG__SERVICE__REDIS__COMMAND": '["redis-server", "--port", "6400"]',
        "COSERVER_CFG__SERVICE__REDIS__RESTART__BACKOFF": "0s..0s",
        "COSERVER_CFG__SERVICE__REDIS__STOP__TIMEOUT": "3",
        "COSERVER_CFG__DEFAULTS__SERVICE__NICE": "4",
        "UNRELATED": "x",
    }
    site = desk.load(SITE)
    mail, redis = site.services["mail-queue"], site.services["redis"]
    assert site.name == "other"
    assert (mail.processes, mail.queues, mail.nice) == (5, {"mail-out": 7}, 4)
    assert mail.env == {"Mode": "slow", "DEBUG": "1", "NEW__ONE": "yes"}
    assert redis.command == ("redis-server", "--port", "6400")
    assert (redis.restart.when, redis.restart.backoff_max, redis.stop.timeout) == ("never", 0.0, 3.0)
    origin = site.settings["service.mail-queue.processes"].origin
    assert (origin.kind, str(origin)) == ("environment", "COSERVER_CFG__SERVICE__MAIL_QUEUE__PROCESSES")


def test_a_whole_table_may_be_overridden_as_a_toml_table(desk: Desk) -> None:
    desk.environ = {
        "COSERVER_CFG__SERVICE__REDIS__RESTART": '{ give_up = "never" }',
        "COSERVER_CFG__SERVICE__MAIL_QUEUE": '{ processes = 9, env = { DEBUG = "2" } }',
    }
    site = desk.load(SITE)
    assert (site.services["redis"].restart.when, site.services["redis"].restart.give_up) == ("never", None)
    mail = site.services["mail-queue"]
    assert (mail.processes, mail.env) == (9, {"Mode": "slow", "DEBUG": "2"})


@pytest.mark.parametrize("value", ["7", "true", "1.5", "[1]", "plain", "${HOME}", "$$ $x", '"quoted" not'])
def test_text_stays_text_whatever_it_looks_like(desk: Desk, value: str) -> None:
    desk.environ = {"COSERVER_CFG__SERVICE__REDIS__ENV__X": value}
    assert desk.load(SITE).services["redis"].env["X"] == value


def test_a_toml_string_loses_its_quotation_marks(desk: Desk) -> None:
    desk.environ = {"COSERVER_CFG__SITE__NAME": '"other"'}
    assert desk.load(SITE).name == "other"


def test_a_secret_may_be_named_by_a_variable(desk: Desk) -> None:
    desk.write("postgresql://ann:pa$$@host/db\n", "run/store")
    desk.environ = {"COSERVER_CFG__SITE__STORE": "file:run/store"}
    assert desk.load(SITE).store == "postgresql://ann:pa$$@host/db"


def test_a_relative_path_is_the_same_wherever_the_command_is_called(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    desk.environ = {"COSERVER_CFG__NODE__STATE": "run/state"}
    path = desk.write(SITE)
    assert desk.load(path=path, cwd=tmp_path / "deep").node.state == tmp_path / "run/state"


@pytest.mark.parametrize(
    ("variable", "value", "problem"),
    [
        ("SERVICE__REDIS__PROCESES", "2", 'service.redis.proceses: unknown key; did you mean "processes"?'),
        (
            "SERVICE__REDIS__PROCESSES",
            "many",
            'service.redis.processes: expected a whole number such as 2, found "many"',
        ),
        ("SERVICE__REDIS__PROCESSES", "-1", "service.redis.processes: -1 is too small; the least is 0"),
        ("SERVICE__REDIS__READY", "x", "service.redis.ready: not supported yet: readiness checks; remove it"),
        ("SERVICE__REDDIS__PROCESSES", "2", 'no service "reddis" to override; did you mean REDIS?'),
        ("SITE", "shop", 'site is a table; name a key in it, or write a TOML table: "{ key = 1 }"'),
        ("SERVICE", "x", 'service is a table; name a key in it, or write a TOML table: "{ key = 1 }"'),
        ("SITE__NAME__DEEPER", "x", 'site.name: expected a name such as "shop", found a table'),
        ("INCLUDE", '["x"]', "cannot override include: the environment cannot name further files"),
        ("SOCKET__HTTP__BIND", "x", "socket: not supported yet: shared listening sockets; remove it"),
        ("NONSENSE", "x", "nonsense: unknown key"),
    ],
)
def test_an_override_that_cannot_be_is_a_problem_of_the_variable(
    desk: Desk, variable: str, value: str, problem: str
) -> None:
    desk.environ = {f"COSERVER_CFG__{variable}": value}
    assert desk.problems(SITE) == [f"COSERVER_CFG__{variable}: {problem}"]


def test_names_that_spell_alike_cannot_be_told_apart(desk: Desk) -> None:
    desk.environ = {"COSERVER_CFG__SERVICE__A_B__NICE": "1", "COSERVER_CFG__SERVICE__C__QUEUES__X_Y": "1"}
    problems = desk.problems(
        """
        [service.a-b]
        command = "x"
        [service.a_b]
        command = "x"
        [service.c]
        tasks = ["t"]
        queues = { x-y = 1, x_y = 1 }
        """
    )
    assert problems == [
        "COSERVER_CFG__SERVICE__A_B__NICE: cannot tell which service is meant: a-b and a_b spell alike; rename one",
        "COSERVER_CFG__SERVICE__C__QUEUES__X_Y: cannot tell which name is meant: x-y and x_y spell alike; rename one",
        "coserver.toml:3: service.a_b: its name differs from service.a-b only in case or in - and _; rename one",
    ]
