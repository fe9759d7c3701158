"""What a node does about a slot that it took over, or that an operator's word has left behind.

Theory. A node may die between any two of its steps: after an operator's word was written down and before it was acted
on, or between the two halves of a restart. The intent is durable and comes first in time, so it is right: whatever the
slot is on its way to, it is turned towards the intent. Every event returned here is one that an operator could give at
that moment, so the rules of `model.service` hold, and giving it twice changes nothing.
"""

from __future__ import annotations

from typing import Literal, assert_never

from coserver.model.service import (
    Backoff,
    Clearing,
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


def towards(state: State, wanted: Literal["running", "stopped"]) -> Start | Stop | None:
    """Return the command that turns a slot towards what is wanted of it, or None when it is on its way."""
    match state:
        case Stopped():
            return Start() if wanted == "running" else None
        case Starting() | Running() | Backoff():
            return Stop() if wanted == "stopped" else None
        case Stopping() | Clearing():
            if wanted == "stopped":
                return Stop() if state.then is not Then.REST else None
            return Start() if state.then is Then.REST else None
        case Exited() | Fatal():
            # At rest by its own policy; an operator's start is remembered by what it led to.
            return None
        case _:
            assert_never(state)
