"""Asking a node that ends while it is asked."""

from __future__ import annotations

import pytest

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
