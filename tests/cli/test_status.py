"""`coserver status`, on a node with fixed answers."""

from __future__ import annotations

import json

import pytest

from tests.cli.conftest import Console, FixedNode, Terminal, process, status

WIDE = """\
shop on web1: running   coserver 0.1

PROCESS  STATE    READY   PID    UPTIME  RESTARTS   CPU   MEMORY
web/1    running  yes    4711  3:07 min         0  12 %  39.6 MB  http://127.0.0.1:8000
web/2    running  yes    4711  3:07 min         2  12 %  39.6 MB  http://127.0.0.1:8000
mail/1   backoff  -         -         -         0     -        -  exit status 1; starts again in 0.4 s

jobs: 3 queued, 12 succeeded
"""
NARROW = """\
shop on web1: running   coserver 0.1

PROCESS  STATE      UPTIME
web/1    running  3:07 min  http://127.0.0.1:8000
web/2    running  3:07 min  http://127.0.0.1:8000
mail/1   backoff         -  exit status 1; starts again in …
(not shown for want of width: restarts, pid, ready, cpu, memory)

jobs: 3 queued, 12 succeeded
"""


@pytest.fixture(autouse=True)
def answers(node: FixedNode) -> None:
    node.says("/api/v1/status", status())


def test_into_a_pipe_everything_is_printed(console: Console) -> None:
    assert console("status") == (0, WIDE, "")


def test_a_narrow_terminal_gets_what_matters_most(
    console: Console, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    terminal(60)
    assert console("status") == (0, NARROW, "")


def test_colour_can_be_forced_and_only_adds(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    out = console("status").out
    assert "\x1b[32mrunning\x1b[0m" in out
    assert "\x1b[31mbackoff\x1b[0m" in out
    for code in ("0", "1", "31", "32", "90"):
        out = out.replace(f"\x1b[{code}m", "")
    assert out == WIDE


def test_json_is_the_answer_itself(console: Console) -> None:
    assert json.loads(console("status", "--json").out) == status()


def test_a_site_that_is_not_well_is_code_1(console: Console, node: FixedNode) -> None:
    node.says("/api/v1/status", status(healthy=False))
    assert console("status").code == 1
    assert console("status", "--quiet") == (1, "", "")


def test_what_needs_a_person_is_said_beside_the_data(console: Console, node: FixedNode) -> None:
    answer = status(
        unowned=[812, 900], jobs=None, store={"state": "unavailable", "trouble": "cannot reach it"}
    )
    answer["services"][1]["held_stopped"] = [{"name": "mail/1", "by": "ada", "at": 0}]
    node.says("/api/v1/status", answer)
    said = console("status")
    assert "jobs: the store does not answer" in said.out
    assert said.err.splitlines() == [
        "mail/1 is held stopped by ada; `coserver start mail/1` ends that",
        "processes that no service owns: 812, 900; `down` ends them",
        "cannot reach it",
    ]


def test_a_site_without_jobs_says_so(console: Console, node: FixedNode) -> None:
    node.says("/api/v1/status", status(jobs={"queued": 0}))
    assert console("status").out.endswith("\njobs: none yet\n")


def test_what_a_process_says_of_itself_does_not_reach_the_terminal_raw(
    console: Console, node: FixedNode, terminal: Terminal
) -> None:
    terminal(200)
    answer = status(store={"state": "unavailable", "trouble": "no \x1b[2J"})
    answer["services"][1]["processes"] = [
        process("mail/1", "fatal", why="bad\x1b]52;c;aGk=\x07\nweb/9 running")
    ]
    node.says("/api/v1/status", answer)
    said = console("status")
    assert r"bad\x1b]52;c;aGk=\x07\x0aweb/9 running" in said.out
    assert said.err == "no \\x1b[2J\n"


def test_without_a_verb_the_status_of_a_site_that_is_up_is_shown(console: Console) -> None:
    assert console() == (0, WIDE, "")
