"""Forking a process that uses a store.

A fork copies one thread, and every lock as it is at that moment. Were another thread just then inside the database's
library, the child would inherit that library's own locks held by nobody, and hang at its first use. So everything that
keeps threads out of the library by a lock of its own registers here: its locks are taken before each fork and given
back after it in the parent, while the child is told to start afresh.

`subprocess` and `multiprocessing`'s spawn and forkserver do not come this way; they are not affected.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from typing import Protocol
from weakref import WeakSet

PATIENCE = 1.0
"""Seconds that a fork waits for one lock. A thread that holds it for longer waits for somebody itself, and so is not
inside the library."""


class Forkable(Protocol):
    """Something that holds connections."""

    def fork_locks(self) -> Iterable[threading.Lock]:
        """The locks under which threads use the connections."""

    def forked(self) -> None:
        """This is the child: leave what was inherited untouched and start afresh."""


_all: WeakSet[Forkable] = WeakSet()
_taken: list[threading.Lock] = []


def watch_forks(one: Forkable) -> None:
    """Keep `one` safe across forks for as long as it lives."""
    _all.add(one)


def _before() -> None:
    for one in list(_all):
        _taken.extend(lock for lock in one.fork_locks() if lock.acquire(timeout=PATIENCE))


def _in_parent() -> None:
    while _taken:
        _taken.pop().release()


def _in_child() -> None:
    _taken.clear()
    for one in list(_all):
        one.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
