"""Waiting for jobs to end: one thread and one listener for everybody who waits in this process.

Theory. A thousand coroutines may await a thousand jobs, so a waiter must not cost a thread or a connection. The
*watch* is one thread per client. It repeats: ask the store, in one query, which of the awaited jobs have ended; hand
those out; then let the listener wait. The listener is only a hint. It hears of every commit on some stores and might
miss an end on others, so the wait is bounded: from `FIRST` it doubles to `LATEST` while nothing ends, and two looks
are never closer than `SOONEST`, however much the listener hears.

No end is missed between two steps, because a waiter first enters its wish and then looks for itself: an end before
that look is found by it, an end after it comes after the wish, which the watch's next look covers. Now and then the
watch also looks for awaited jobs that are gone altogether (pruned, or their store restored), since no end will come.

The thread leaves when nobody has waited for `LINGER` and comes back with the next waiter.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from threading import Condition, Thread
from typing import Protocol

from coserver.errors import StoreUnavailable
from coserver.model.job import JobInfo
from coserver.store.contract import Listener, Settled

SOONEST = 0.001
"""Seconds between two looks, at least."""
FIRST = 0.02
"""Seconds until the second look, when the listener hears nothing."""
LATEST = 0.1
"""Seconds between two looks, at most."""
LINGER = 10.0
"""Seconds that the thread stays without work."""
GONE_EVERY = 1.0
"""Seconds between two looks for jobs that are not in the store any more."""
AT_ONCE = 500
"""Jobs asked for in one query."""

Ended = Future[JobInfo | None]
"""What a waiter holds: the ended job, or None when the store does not have it (any more)."""


class Source(Protocol):
    """The part of a store that waiting needs."""

    def settled(self, ids: Sequence[int]) -> list[Settled]: ...

    def job(self, id: int) -> JobInfo | None: ...

    def listener(self, *, ends: bool = False) -> Listener: ...


class Watch:
    """Hands ended jobs to those who wait for them. `open` returns the store, opening it if need be."""

    def __init__(self, open: Callable[[], Source]) -> None:
        self._open = open
        self._changed = Condition()
        self._waiters: dict[int, list[Ended]] = {}
        self._thread: Thread | None = None
        self._closed = False

    def enter(self, id: int) -> Ended:
        """Begin to wait for a job's end. The caller then looks once for itself, and leaves when done."""
        ended: Ended = Future()
        with self._changed:
            if self._closed:
                raise StoreUnavailable("cannot wait for a job: the client is closed; make a new one")
            self._waiters.setdefault(id, []).append(ended)
            if self._thread is None:
                self._thread = Thread(target=self._run, name="coserver-watch", daemon=True)
                self._thread.start()
            self._changed.notify()
        return ended

    def leave(self, id: int, ended: Ended) -> None:
        """Stop waiting."""
        with self._changed:
            waiting = self._waiters.get(id, [])
            if ended in waiting:
                waiting.remove(ended)
                if not waiting:
                    del self._waiters[id]

    def close(self) -> None:
        """Let everybody who still waits get `StoreUnavailable`, and join the thread."""
        with self._changed:
            self._closed = True
            thread = self._thread
            self._changed.notify()
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        try:
            self._watch()
        except BaseException as error:
            # Whatever broke the watch is the waiters' answer; a later one starts afresh.
            self._give_up(error)
            if not isinstance(error, Exception):
                raise

    def _watch(self) -> None:
        store = self._open()
        listener = store.listener(ends=True)
        try:
            pause, gone_at, offset = FIRST / 2, time.monotonic() + GONE_EVERY, 0
            while ids := self._awaited():
                looked = time.monotonic()
                found = [
                    settled.id
                    for at in range(0, len(ids), AT_ONCE)
                    for settled in store.settled(ids[at : at + AT_ONCE])
                ]
                if looked >= gone_at:
                    # A few at a time and in turn: being gone is rare, and nobody waits for it in a hurry.
                    some = ids[offset : offset + 10]
                    offset = offset + 10 if offset + 10 < len(ids) else 0
                    found += [one for one in some if one not in found and store.job(one) is None]
                    gone_at = looked + GONE_EVERY
                for one in found:
                    self._hand_out(one, store.job(one))
                pause = FIRST if found else min(pause * 2, LATEST)
                listener.wait(pause)
                early = looked + SOONEST - time.monotonic()
                if early > 0:
                    time.sleep(early)
        finally:
            listener.close()

    def _awaited(self) -> list[int]:
        """Return the awaited ids; an empty list ends the thread, which is then no longer the watch."""
        with self._changed:
            if not self._waiters and not self._closed:
                self._changed.wait(LINGER)
            if self._closed:
                raise StoreUnavailable("cannot go on waiting for a job: the client was closed meanwhile")
            if not self._waiters:
                self._thread = None
            return list(self._waiters)

    def _hand_out(self, id: int, info: JobInfo | None) -> None:
        with self._changed:
            waiting = self._waiters.pop(id, [])
        for ended in waiting:
            if ended.set_running_or_notify_cancel():
                ended.set_result(info)

    def _give_up(self, error: BaseException) -> None:
        with self._changed:
            self._thread = None
            waiting = [ended for group in self._waiters.values() for ended in group]
            self._waiters.clear()
        for ended in waiting:
            if ended.set_running_or_notify_cancel():
                ended.set_exception(error)
