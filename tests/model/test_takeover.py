"""Turning a slot towards what an operator wants."""

from __future__ import annotations

import pytest

from coserver.model.service import (
    Backoff,
    Clearing,
    End,
    Exited,
    Fatal,
    Running,
    Start,
    Starting,
    State,
    Stop,
    Stopped,
    Stopping,
    Then,
)
from coserver.model.takeover import towards

END = End(at=0, status=1)


@pytest.mark.parametrize(
    ("state", "running", "stopped"),
    [
        (Stopped(), Start(), None),
        (Starting(1, 0.0), None, Stop()),
        (Running(1, 9, 0.0, True), None, Stop()),
        (Stopping(1, 9, 0.0, Then.REST, 5.0), Start(), None),
        (Stopping(1, 9, 0.0, Then.AGAIN, 5.0), None, Stop()),
        (Clearing(1, END, 1.0, Then.REST, 5.0), Start(), None),
        (Clearing(1, END, 1.0, Then.AGAIN, 5.0), None, Stop()),
        (Clearing(1, END, 1.0, Then.POLICY, 5.0), None, Stop()),
        (Backoff(1, END, 5.0), None, Stop()),
        (Exited(1, END), None, None),
        (Fatal(1, END, "too often"), None, None),
    ],
)
def test_the_intent_wins_over_whatever_a_slot_was_on_its_way_to(
    state: State, running: Start | None, stopped: Stop | None
) -> None:
    assert towards(state, "running") == running
    assert towards(state, "stopped") == stopped
