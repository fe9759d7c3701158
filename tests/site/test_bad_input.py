"""What users get wrong: one clear message that names cause and mend, the right exit code, no traceback."""

from __future__ import annotations

import socket
import sqlite3
import subprocess

import pytest

from tests.site.live import COSERVER, LiveSite, until


def clear(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    said = done.stdout + done.stderr
    assert "Traceback" not in said
    for part in parts:
        assert part in said, said


def test_broken_toml_names_the_line(site: LiveSite) -> None:
    site.write('[site]\nname = "x\n')
    clear(site.run("up", check=2), "coserver.toml:2")


def test_every_wrong_key_is_named_at_once(site: LiveSite) -> None:
    site.write('[service.a]\ncomand = "true"\nprocesses = "many"\n[servce.b]\n')
    clear(site.run("up", check=2), 'did you mean "command"', "service.a.processes", "servce")


def test_a_key_whose_feature_is_not_built_is_refused(site: LiveSite) -> None:
    site.write('[service.a]\ncommand = "true"\nneeds = ["b"]\n')
    clear(site.run("up", check=2), "coserver.toml:3", "not supported yet")


def test_no_configuration_at_all_says_what_to_do(site: LiveSite) -> None:
    done = subprocess.run(
        [*COSERVER, "up"],
        cwd=site.directory,
        env=site.environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    clear(done, "coserver.toml", "coserver init")


def test_a_missing_program_is_said_and_costs_nothing_while_it_waits(site: LiveSite) -> None:
    site.write('[service.gone]\ncommand = "no-such-program --now"\n[service.a]\ncommand = "sleep 1000"\n')
    done = site.up(check=1)
    clear(done, 'cannot run "no-such-program": no such program', "fatal")
    assert site.process("a/1")["state"] == "running"
    done = site.run("start", "gone", check=1)
    clear(done, "no such program")
    assert site.run("status", check=1).returncode == 1


def test_a_directory_that_is_not_there_is_said(site: LiveSite) -> None:
    site.write('[service.a]\ncommand = "true"\ncwd = "nowhere"\n')
    clear(site.up(check=1), "nowhere", "create the directory")


def test_a_port_in_use_is_said(site: LiveSite) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        site.write(
            f'[app]\npath = ["."]\n[service.web]\nasgi = "page:app"\nbind = "127.0.0.1:{port}"\n',
            page="async def app(scope, receive, send): ...\n",
        )
        clear(site.up(check=1), f"127.0.0.1:{port}", "in use")
        clear(site.run("logs", "web"), f"127.0.0.1:{port}", "in use")


def test_a_module_that_is_not_there_is_said(site: LiveSite) -> None:
    site.write('[service.work]\ntasks = ["no_such_module"]\n')
    clear(site.up(check=1), "cannot import no_such_module")
    clear(site.run("logs", "work"), "cannot import no_such_module")


def test_a_store_that_cannot_be_read_is_said_before_anything_starts(site: LiveSite) -> None:
    site.write('[service.a]\ncommand = "sleep 1000"\n')
    site.store.write_text("this is no database, and it is long enough to be looked at as one" * 100)
    clear(site.up(check=5), "cannot open the store", "site.db")
    assert not site.marked()


def test_a_store_of_a_newer_schema_is_said(site: LiveSite) -> None:
    site.write('[service.a]\ncommand = "sleep 1000"\n')
    site.run("db", "migrate")
    with sqlite3.connect(site.store) as connection:
        changed = connection.execute("UPDATE coserver_meta SET value = 9999 WHERE key = 'schema'").rowcount
    connection.close()
    assert changed == 1
    clear(site.up(check=1), "newer than this coserver", "upgrade coserver")
    clear(site.run("jobs", "list", check=1), "newer than this coserver")


def test_names_that_nothing_has_are_code_4_with_a_suggestion(site: LiveSite) -> None:
    site.write('[service.worker]\ncommand = "sleep 1000"\n')
    site.up()
    clear(site.run("stop", "wroker", check=4), 'did you mean "worker"')
    clear(site.run("logs", "wroker", check=4), 'did you mean "worker"')


def test_a_site_that_is_not_up_is_code_3(site: LiveSite) -> None:
    site.write('[service.a]\ncommand = "sleep 1000"\n')
    for words in (["status"], ["start", "a"], ["down"]):
        clear(site.run(*words, check=3), "is not up", "coserver up")


TASKS = """
from coserver import task

@task
def add(a: int, b: int = 1) -> int:
    return a + b
"""


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        (["work:sub", "1"], 4, "no service has that task"),
        (["work:add"], 2, "`a`"),
        (["work:add", "one"], 2, "Expected `int`"),
        (["work:add", "--args", "[1,"], 2, "no JSON"),
        (["work:add", "--args", "[NaN]"], 2, "no JSON"),
        (["work:add", "--kwargs", "[1]"], 2, "an object"),
        (["work:add", "--args", str([2**70])], 2, "64"),
    ],
)
def test_a_job_that_cannot_be_is_refused_at_submit(
    site: LiveSite, words: list[str], code: int, part: str
) -> None:
    site.write(
        '[app]\npath = ["."]\ntasks = ["work"]\n[service.work]\nqueues = { default = 1 }\n', work=TASKS
    )
    clear(site.run("jobs", "submit", *words, check=code), part)
    assert "0" not in site.run("jobs", "list").stdout.splitlines()[1:]


def test_a_payload_over_the_cap_is_refused(site: LiveSite) -> None:
    site.write('[app]\npath = ["."]\n', work="")
    code = (
        "from coserver import Client\n"
        "from coserver.errors import InvalidArguments\n"
        "try:\n"
        "    Client('sqlite:site.db').submit('a:b', args=['x' * (9 << 20)])\n"
        "except InvalidArguments as error:\n"
        "    print(error)\n"
    )
    clear(site.run("run", "python", "-c", code), "cannot", "8")


def test_plain_sql_from_another_program_runs(site: LiveSite) -> None:
    """J1: any program submits with plain SQL; on SQLite without triggers."""
    site.write(
        '[app]\npath = ["."]\ntasks = ["work"]\n[service.work]\nqueues = { default = 1 }\n', work=TASKS
    )
    site.up()
    with sqlite3.connect(site.store, timeout=30) as connection:
        connection.execute("INSERT INTO coserver_job (task, args) VALUES ('work:add', '[1, 2]')")
    connection.close()
    until(lambda: site.sql("SELECT result FROM coserver_done") == [("3",)], "the job is done")
