"""`coserver start`, `stop` and `restart`: what they ask, print, and leave with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Console, FixedNode, Terminal


def answer(verb: str, *results: tuple[str, str, str, int | None, str | None]) -> dict[str, Any]:
    """An answer of (name, result, state, pid, why)."""
    return {
        "verb": verb,
        "results": [
            {
                "name": name,
                "result": result,
                "processes": [{"name": f"{name}/1", "state": state, "ready": True, "pid": pid, "why": why}],
            }
            for name, result, state, pid, why in results
        ],
    }


def test_it_says_first_on_which_site_and_then_what_came_of_it(
    console: Console, node: FixedNode, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDO_USER", "ada")
    node.says(
        "/api/v1/services/web/start",
        answer("start", ("web", "arrived", "running", 12, None), ("mail", "arrived", "running", 13, None)),
    )
    said = console("start", "web", "mail", "--timeout", "5s")
    assert said == (
        0,
        "web/1 running, process 12\nmail/1 running, process 13\n",
        f"start web mail on shop ({site}/coserver.toml)\n",
    )
    [(_, asked)] = node.asked
    assert asked == {"names": ["web", "mail"], "by": "ada", "wait": True, "timeout": 5.0}


def test_json_is_the_answer_itself(console: Console, node: FixedNode) -> None:
    expected = answer("stop", ("web", "arrived", "stopped", None, None))
    node.says("/api/v1/services/web/stop", expected)
    assert json.loads(console("stop", "web", "--json").out) == expected


def test_without_waiting_the_node_is_told_so(console: Console, node: FixedNode) -> None:
    node.says("/api/v1/services/web/restart", answer("restart", ("web", "asked", "stopping", None, None)))
    assert console("restart", "web", "--no-wait").code == 0
    assert node.asked[0][1]["wait"] is False


def test_not_in_time_is_code_124_and_names_who_is_late(console: Console, node: FixedNode) -> None:
    node.says(
        "/api/v1/services/%2A/stop",
        answer("stop", ("web", "arrived", "stopped", None, None), ("mail", "timeout", "stopping", 9, None)),
    )
    said = console("stop", "*", "--timeout", "2s")
    assert said.code == 124
    assert "cannot say that mail is stopped: not within 2 s" in said.err


def test_a_failure_is_code_1_and_names_the_logs(
    console: Console, node: FixedNode, terminal: Terminal
) -> None:
    terminal(80)
    node.says("/api/v1/services/web/start", answer("start", ("web", "failed", "fatal", None, "no\x1b[2J")))
    said = console("start", "web")
    assert said.code == 1
    assert said.out == "web/1 fatal: no\\x1b[2J\n"
    assert said.err.endswith("see `coserver logs web`\n")


def test_a_later_command_that_came_in_between_is_said(console: Console, node: FixedNode) -> None:
    node.says("/api/v1/services/web/start", answer("start", ("web", "superseded", "stopped", None, None)))
    said = console("start", "web")
    assert said.code == 0
    assert "another command for web came in between" in said.err


def test_an_error_of_the_node_keeps_its_code(console: Console, node: FixedNode) -> None:
    error = {"error": {"code": "unknown-name", "message": 'cannot find "wep"; did you mean "web"?'}}
    node.says("/api/v1/services/wep/start", error)
    said = console("start", "wep")
    assert said.code == 4
    assert said.err.endswith('coserver: cannot find "wep"; did you mean "web"?\n')


@pytest.mark.parametrize("words", [["start"], ["start", "web", "--timeout", "soon"]])
def test_a_wrong_command_line_is_code_2(console: Console, site: Path, words: list[str]) -> None:
    assert console(*words).code == 2
