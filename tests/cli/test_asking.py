"""Asking a node that ends while it is asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from coserver.control.client import ControlClient
from coserver.runtime import unix
from tests.cli.conftest import Console, FixedNode, status


def test_a_read_without_an_answer_is_asked_once_more(console: Console, node: FixedNode) -> None:
    node.says("/api/v1/status", None, status())
    assert console("status", "--json").code == 0
    assert len(node.asked) == 2


def test_a_read_is_not_asked_for_ever(console: Console, node: FixedNode) -> None:
    node.says("/api/v1/status", None)
    said = console("status")
    assert said.code == 5
    assert "try again in a moment" in said.err
    assert len(node.asked) == 2


def test_a_change_without_an_answer_is_asked_once_and_said_to_be_open(
    console: Console, node: FixedNode
) -> None:
    node.says("/api/v1/services/web/restart", None)
    said = console("restart", "web")
    assert said.code == 5
    assert said.err.splitlines()[-1] == (
        'coserver: cannot reach site "shop": Remote end closed connection without response; '
        "it may have been done, see `coserver status`"
    )
    assert len(node.asked) == 1


def test_a_site_that_is_not_up_is_told_at_once(
    console: Console, site: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "coserver.cli.asking.time.sleep", lambda _: pytest.fail("there is nothing to wait for")
    )
    said = console("status")
    assert (said.code, said.out) == (3, "")
    assert said.err == 'coserver: site "shop" is not up; `coserver up` starts it\n'


def test_who_waits_for_a_node_that_does_not_answer_is_told_so(
    console: Console, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that is stopped: its socket still takes connections."""
    monkeypatch.setattr("coserver.cli.asking.LONG", 0.05)
    monkeypatch.setattr(ControlClient.__init__, "__kwdefaults__", {"site": "", "timeout": 0.5})
    (site / ".coserver").mkdir()
    door = unix.listen(site / ".coserver" / "control.sock")
    try:
        said = console("status")
    finally:
        door.close()
    assert (said.code, said.out) == (5, "")
    assert said.err.splitlines() == [
        'waiting for the answer of site "shop"\'s node …',
        'coserver: cannot reach site "shop": its node has not answered within 0.5 s; see `coserver doctor`',
    ]


def test_a_quick_answer_is_waited_for_in_silence(console: Console, node: FixedNode) -> None:
    node.says("/api/v1/status", status())
    assert console("status").err == ""
