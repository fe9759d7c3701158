"""The threads that run plain functions.

Theory. A plain function blocks whoever calls it, so it gets a thread of its own for that time. Threads take jobs from
the desk themselves and put their outcomes there, without a turn of the event loop for either; so a batch of short
functions costs no hand-over per job, and a blocked loop stops none of them.

A function that never returns cannot be ended from outside. The threads are daemons, so it does not hold up the end of
the process; its job goes back when the worker leaves.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextvars import Context

from coserver.model.job import Outcome
from coserver.runtime.desk import Desk
from coserver.runtime.line import Job


class Threads:
    """Owns `count` threads that run `attempt` for each plain job of the desk, each in a copy of `context`."""

    def __init__(self, desk: Desk, count: int, attempt: Callable[[Job], Outcome], context: Context) -> None:
        self._desk = desk
        self._attempt = attempt
        self._context = context
        self._threads = [
            threading.Thread(target=self._work, name=f"function {number + 1}", daemon=True)
            for number in range(count)
        ]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def _work(self) -> None:
        desk, attempt, copy = self._desk, self._attempt, self._context.copy
        while (job := desk.for_pool.get()) is not None:
            if desk.begin(job):
                outcome = copy().run(attempt, job)
                desk.finish(job, outcome, time.monotonic(), in_loop=False)

    def close(self, timeout: float) -> bool:
        """Let each thread end after its present job; whether all did within `timeout` seconds."""
        for _ in self._threads:
            self._desk.for_pool.put(None)
        until = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)
