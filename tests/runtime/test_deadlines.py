from __future__ import annotations

import math
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coserver.runtime.deadlines import FEW, Deadlines, Heap
from tests.runtime.workers import until


@given(st.lists(st.tuples(st.sampled_from(["add", "drop", "take"]), st.integers(0, 30)), max_size=300))
def test_the_heap_agrees_with_a_plain_table(steps: list[tuple[str, int]]) -> None:
    heap: Heap[int] = Heap()
    table: dict[int, int] = {}  # number → time
    for what, value in steps:
        if what == "add":
            number = heap.add(value, value)
            table[number] = value
        elif what == "drop" and table:
            number = sorted(table)[value % len(table)]
            heap.drop(number)
            heap.drop(number)
            del table[number]
        elif what == "take":
            due = sorted(at for at in table.values() if at <= value)
            assert heap.take(value) == due
            table = {number: at for number, at in table.items() if at > value}
        assert len(heap) == len(table)
        assert heap.first() == min(table.values(), default=None)


def test_what_ended_in_time_does_not_fill_the_heap() -> None:
    heap: Heap[str] = Heap()
    for _ in range(10_000):
        heap.drop(heap.add(1e9, "a job"))
    assert len(heap._heap) <= FEW + 1


def test_things_are_due_in_order_and_dropped_ones_never() -> None:
    due: list[str] = []
    deadlines: Deadlines[str] = Deadlines(due.append)
    try:
        deadlines.add(0.05, "second")
        deadlines.add(0.02, "first")
        dropped = deadlines.add(0.03, "never")
        deadlines.add(60.0, "far")
        deadlines.drop(dropped)
        until(lambda: len(due) == 2, "both are due")
        assert due == ["first", "second"]
    finally:
        deadlines.close()


@pytest.mark.parametrize("far", [1e10, 1e300, math.inf])
def test_a_deadline_farther_than_the_system_can_wait_stops_no_other(far: float) -> None:
    due: list[str] = []
    deadlines: Deadlines[str] = Deadlines(due.append)
    try:
        deadlines.add(far, "in some hundred years")
        deadlines.add(0.02, "soon")
        until(lambda: due == ["soon"], "the near one is due")
    finally:
        deadlines.close()


def test_a_fault_in_telling_one_stops_no_other(caplog: pytest.LogCaptureFixture) -> None:
    due: list[str] = []

    def tell(thing: str) -> None:
        if thing == "bad":
            raise RuntimeError("nobody foresaw this")
        due.append(thing)

    deadlines: Deadlines[str] = Deadlines(tell)
    try:
        deadlines.add(0.01, "bad")
        deadlines.add(0.02, "good")
        until(lambda: due == ["good"], "the other one is due")
    finally:
        deadlines.close()
    assert "nobody foresaw this" in caplog.text


def test_without_a_deadline_there_is_no_thread() -> None:
    before = threading.active_count()
    deadlines: Deadlines[str] = Deadlines(lambda _: None)
    assert threading.active_count() == before
    deadlines.close()
    deadlines.add(0.0, "too late")
    time.sleep(0.01)
    assert threading.active_count() == before
