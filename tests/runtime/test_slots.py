"""A slot that one node writes down is the slot that the next one reads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coserver.model.restart import Record
from coserver.model.service import (
    Backoff,
    Clearing,
    End,
    Exited,
    Fatal,
    Running,
    Slot,
    Starting,
    Stopped,
    Stopping,
    Then,
)
from coserver.runtime import slots

NUMBERS = st.integers(0, 2**40)
TIMES = st.floats(0, 1e9)
ENDS = st.builds(
    End,
    at=NUMBERS,
    status=st.none() | st.integers(0, 255),
    signal=st.none() | st.integers(1, 64),
    reason=st.none() | st.text(),
)
STATES = st.one_of(
    st.builds(Stopped),
    st.builds(Starting, NUMBERS, TIMES),
    st.builds(Running, NUMBERS, NUMBERS, TIMES, st.booleans()),
    st.builds(Stopping, NUMBERS, st.none() | NUMBERS, TIMES, st.sampled_from(Then), st.none() | TIMES),
    st.builds(Clearing, NUMBERS, ENDS, TIMES, st.sampled_from(Then), st.none() | TIMES),
    st.builds(Backoff, NUMBERS, ENDS, TIMES),
    st.builds(Exited, NUMBERS, ENDS),
    st.builds(Fatal, NUMBERS, ENDS, st.text()),
)
RECORDS = st.builds(Record, st.lists(TIMES, max_size=5).map(tuple), st.integers(0, 99))


@given(st.builds(Slot, STATES, NUMBERS, RECORDS, st.integers(0, 99)))
def test_a_slot_survives_being_written_down(slot: Slot) -> None:
    assert slots.load(slots.dump(slot)) == slot


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"kind": "x", "state": {}, "run": 1, "record": {}, "restarts": 0}']
)
def test_what_is_no_slot_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="cannot read a slot"):
        slots.load(text)
