"""The times at which running jobs have taken too long, all in one heap.

Theory. A timer per job would cost more than most jobs. Deadlines are kept in a heap, and one thread, started with the
first, sleeps until the earliest. A job that ends in time only marks its entry as void; when more than half of the heap
is void it is made anew, so it holds at most twice what runs, whatever the timeouts.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

log = logging.getLogger("coserver.worker")

T = TypeVar("T")

LONGEST = 3600.0
"""Seconds of one sleep; a deadline may be farther away than the system can wait."""
FEW = 64
"""Void entries that are left where they are."""


class Heap(Generic[T]):
    """Things with a time each."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int]] = []
        self._things: dict[int, T] = {}
        self._number = 0

    def __len__(self) -> int:
        return len(self._things)

    def add(self, at: float, thing: T) -> int:
        """Add a thing; return the number by which it can be dropped."""
        self._number += 1
        self._things[self._number] = thing
        heappush(self._heap, (at, self._number))
        return self._number

    def drop(self, number: int) -> None:
        """Forget a thing that may have been taken already."""
        if self._things.pop(number, None) is not None and len(self._heap) > FEW + 2 * len(self._things):
            self._heap = [entry for entry in self._heap if entry[1] in self._things]
            heapify(self._heap)

    def first(self) -> float | None:
        """Return the earliest time, None when there is nothing."""
        while self._heap and self._heap[0][1] not in self._things:
            heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def take(self, now: float) -> list[T]:
        """Remove and return everything whose time has come, the earliest first."""
        taken = []
        while (at := self.first()) is not None and at <= now:
            taken.append(self._things.pop(heappop(self._heap)[1]))
        return taken


class Deadlines(Generic[T]):
    """Calls `due`, in a thread of its own, for each thing whose time has come. Any thread may call its methods."""

    def __init__(self, due: Callable[[T], None]) -> None:
        self._due = due
        self._heap: Heap[T] = Heap()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._over = False

    def add(self, seconds: float, thing: T) -> int:
        """`thing` is due in so many seconds; return the number by which to drop it."""
        at = time.monotonic() + seconds
        with self._changed:
            first = self._heap.first()
            number = self._heap.add(at, thing)
            if self._thread is None and not self._over:
                self._thread = threading.Thread(target=self._watch, name="deadlines", daemon=True)
                self._thread.start()
            elif first is None or at < first:
                self._changed.notify()
        return number

    def __len__(self) -> int:
        """Return how many things are watched."""
        return len(self._heap)

    def drop(self, number: int) -> None:
        """It is due no more, if it has not been."""
        with self._changed:
            self._heap.drop(number)

    def close(self) -> None:
        """Nothing is due any more. Returns when the thread has ended, or after a second."""
        with self._changed:
            self._over = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(1.0)

    def _watch(self) -> None:
        while True:
            with self._changed:
                if self._over:
                    return
                first = self._heap.first()
                rest = None if first is None else first - time.monotonic()
                if rest is None or rest > 0:
                    self._changed.wait(None if rest is None else min(rest, LONGEST))
                    continue
                due = self._heap.take(time.monotonic())
            for thing in due:
                try:
                    self._due(thing)
                except Exception:
                    log.exception("cannot say that the time of %r is over; the others are watched on", thing)
