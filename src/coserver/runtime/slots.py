"""A slot as text and back: what a node writes down for the node after it."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import msgspec

from coserver.model.restart import Record
from coserver.model.service import (
    Backoff,
    Clearing,
    Exited,
    Fatal,
    Running,
    Slot,
    Starting,
    State,
    Stopped,
    Stopping,
)

_STATES: dict[str, type[State]] = {
    state.__name__.lower(): state
    for state in (Stopped, Starting, Running, Stopping, Clearing, Backoff, Exited, Fatal)
}


def dump(slot: Slot) -> str:
    """Return the slot as JSON text."""
    state = {field.name: getattr(slot.state, field.name) for field in fields(slot.state)}
    return msgspec.json.encode(
        {
            "kind": type(slot.state).__name__.lower(),
            "state": state,
            "run": slot.run,
            "record": slot.record,
            "restarts": slot.restarts,
        }
    ).decode()


def load(text: str) -> Slot:
    """Return the slot that `dump` wrote. Raises ValueError when the text is something else."""
    try:
        found: dict[str, Any] = msgspec.json.decode(text)
        return Slot(
            state=msgspec.convert(found["state"], _STATES[found["kind"]]),
            run=msgspec.convert(found["run"], int),
            record=msgspec.convert(found["record"], Record),
            restarts=msgspec.convert(found["restarts"], int),
        )
    except (msgspec.MsgspecError, KeyError, TypeError) as error:
        raise ValueError(f"cannot read a slot: {error}") from error
