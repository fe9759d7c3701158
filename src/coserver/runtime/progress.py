"""What running jobs say of their progress, until the store has heard it.

Theory. A job may speak a thousand times a second; others look every second or so. So the board keeps the last word of
each job only. A word is *due* at once if the job was quiet for `EVERY` seconds, else that long after the one before;
the lanes carry what is due, together. When a job ends, its last word goes before its outcome, whenever it was said.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from math import inf

from coserver.model.job import Progress
from coserver.model.reconcile import Key

EVERY = 0.5
"""Seconds between two words of one job."""


class Board:
    """Any thread may call it; times are monotonic seconds."""

    def __init__(self, rouse: Callable[[], None], *, now: Callable[[], float] = time.monotonic) -> None:
        """`rouse` is called when something is due that was not before."""
        self._rouse = rouse
        self._now = now
        self._lock = threading.Lock()
        self._said: dict[Key, Progress] = {}
        self._next: dict[Key, float] = {}
        """when the next word of a job is due"""

    def __bool__(self) -> bool:
        """Whether any running job has ever spoken. Without the lock: for who would ask in vain most of the time."""
        return bool(self._next)

    def tell(self, id: int, claim: int, fraction: float | None, note: str) -> None:
        """A job says how far it is."""
        key = id, claim
        with self._lock:
            new = key not in self._said
            self._said[key] = Progress(id, claim, fraction, note)
            self._next.setdefault(key, -inf)
        if new:
            self._rouse()

    def take(self, now: float, ended: Iterable[Key] = ()) -> list[Progress]:
        """Return what is due, and the last words of jobs that have `ended`, which are forgotten."""
        with self._lock:
            words = [word for key, word in self._said.items() if self._next[key] <= now]
            for word in words:
                del self._said[word.id, word.claim]
                self._next[word.id, word.claim] = now + EVERY
            for key in ended:
                self._next.pop(key, None)
                if (last := self._said.pop(key, None)) is not None:
                    words.append(last)
            return words

    def again(self, words: Sequence[Progress]) -> None:
        """These did not arrive: keep them unless newer ones are there."""
        with self._lock:
            for word in words:
                self._said.setdefault((word.id, word.claim), word)
                self._next.setdefault((word.id, word.claim), self._now())

    def forget(self, key: Key) -> None:
        """A job has ended whose outcome, and with it its last word, nobody carries."""
        with self._lock:
            self._said.pop(key, None)
            self._next.pop(key, None)

    def due(self) -> float:
        """Return when something is due next, infinite when nothing is said."""
        if not self._said:
            return inf
        with self._lock:
            return min((self._next[key] for key in self._said), default=inf)
