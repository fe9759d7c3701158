"""Generic tasks in a live site: a program ends with its worker, and its job runs again."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.site.live import LiveSite, alive, until

SITE = """
[site]
store = "sqlite:site.db"
[service.helper]
tasks = ["@command"]
queues = { default = 2 }
stop = { timeout = "4s" }
"""
# The first run stays, with a child in a session of its own; a later one ends at once.
STAY = """
test -e again && { echo second; exit 0; }
touch again
setsid sleep 1000 &
echo $! > child.new && mv child.new child
echo $$ > leader.new && mv leader.new leader
wait
"""


def number(file: Path) -> int:
    until(file.exists, f"{file.name} is written")
    return int(file.read_text())


def submitted(site: LiveSite) -> int:
    words = ["--kwargs", '{"argv": ["sh", "stay.sh"], "timeout": "1h"}']
    return int(site.run("jobs", "submit", "command", *words).stdout)


def state(site: LiveSite, job: int) -> list[tuple[object, ...]]:
    return site.sql("SELECT state, attempt, crashes FROM coserver_job WHERE id = ?", job)


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_n7_n11_a_program_ends_with_its_worker_and_its_job_runs_again(site: LiveSite, how: str) -> None:
    """N7."""
    site.write(SITE)
    (site.directory / "stay.sh").write_text(STAY)
    site.up()
    job = submitted(site)
    leader, child = number(site.directory / "leader"), number(site.directory / "child")
    if how == "stop":
        site.run("stop", "helper")
        assert not alive(leader)
        assert not alive(child)
        assert [row[1:] for row in state(site, job)] == [(0, 0)]  # it went back uncharged
        site.run("start", "helper")
    else:
        os.kill(site.pids()["helper/1"], signal.SIGKILL)
        until(lambda: not alive(leader) and not alive(child), "the program has ended")
    until(lambda: not state(site, job), "the job has ended")
    [(result,)] = site.sql("SELECT result FROM coserver_done WHERE id = ?", job)
    assert '"stdout":"second\\n"' in result


def test_j14_a_plugin_that_is_not_named_is_not_provided(site: LiveSite) -> None:
    """J14."""
    site.write(SITE)
    done = site.run("jobs", "submit", "http-call", "http://127.0.0.1/", check=4)
    assert "no service has that task; it knows command" in done.stderr
    site.write(SITE.replace("@command", "@comand"))
    site.up(check=1)
    assert 'did you mean "@command"?' in site.log("helper/1").decode()
