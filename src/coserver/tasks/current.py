"""The job that the calling code is part of.

Theory. Code inside a job finds it by a context variable. What it can do with it (say how far it is, ask whether it
should stop) goes through a `Control`, which the worker that runs the job hands in: in the worker's own process, or in
one beside it. Without a worker, as where a test runs a job inline, what the job says of itself goes nowhere.
"""

from __future__ import annotations

import time
from contextvars import ContextVar
from dataclasses import dataclass
from math import isfinite
from typing import Any, Protocol

from msgspec import Struct

from coserver.errors import JobNoLongerHeld, UsageError
from coserver.model.job import Succeeded
from coserver.tasks.arguments import result_text


@dataclass(frozen=True, slots=True)
class Serving:
    """What the service around a plain task provides: a job of these queues and tasks may need the very thread that
    the task occupies."""

    queues: frozenset[str]
    tasks: frozenset[str]


NOTE_KEPT = 500
"""Characters of a note."""


class Control(Protocol):
    """What a worker lets a running job do. May be called by any thread."""

    @property
    def cancelled(self) -> bool:
        """Whether somebody asked the job to stop."""

    def progress(self, fraction: float | None, note: str) -> None:
        """Tell how far it is; checked already."""


class Completer(Protocol):
    """Records how a job ended in the transaction of its own function."""

    def complete(self, connection: Any, outcome: Succeeded) -> bool:
        """Record it on this connection; False when the job is not this worker's any more."""

    async def acomplete(self, connection: Any, outcome: Succeeded) -> bool:
        """As `complete`, on an asynchronous connection."""


class CurrentJob(Struct, frozen=True, gc=False):
    """The running job: `id`, `attempt` (1 for the first), `task` and `queue` are names, `started_at` is µs UTC.

    `serving` is set for plain functions only, whose waiting for their own service could never end.
    """

    id: int
    attempt: int
    task: str
    queue: str
    serving: Serving | None = None
    control: Control | None = None
    claim: int = 0
    started_at: int = 0
    completer: Completer | None = None

    @property
    def cancelled(self) -> bool:
        """Whether somebody asked this job to stop. A coroutine is cancelled besides, an isolated function ended; a
        plain function has to look here now and then, and leave by raising `JobCancelled`."""
        return self.control is not None and self.control.cancelled

    def progress(self, fraction: float | None = None, note: str = "") -> None:
        """Say how far this job is, for others to see: `fraction` from 0 to 1, `note` a few words (500 characters).

        Costs next to nothing: what is said in quick succession is written twice a second at most, the last of it
        always. Raises `UsageError` for anything else.
        """
        said: object = fraction
        if said is not None and not (
            isinstance(said, int | float) and not isinstance(said, bool) and isfinite(said) and 0 <= said <= 1
        ):
            raise UsageError(f"cannot tell the progress {fraction!r}: write a number from 0 to 1, or None")
        words: object = note
        if not isinstance(words, str):
            raise UsageError(f"cannot tell {note!r} as a note of progress: write text")
        if self.control is not None:
            kept = words[:NOTE_KEPT].replace("\0", "\\x00").encode(errors="backslashreplace").decode()
            self.control.progress(None if fraction is None else float(fraction), kept)

    def complete(self, *, connection: Any, result: Any = None) -> None:
        """Record in the open transaction of your own connection that this job has succeeded, with this result: what
        the transaction changes happens exactly once, since the job ends by its commit, and runs again without it.

        To be called as the last thing before that commit; what the function returns afterwards is not recorded.
        `connection` is one that `Client.submit` takes. Raises `JobNoLongerHeld` when the job is not this worker's any
        more: let it out, so that the transaction is rolled back. Raises `UsageError` in a task with `isolate`. Without
        a worker, as where a test runs a job inline, it does nothing.
        """
        if self.control is None and self.completer is None:
            return
        outcome = self._outcome(result)
        if not self._completer().complete(connection, outcome):
            raise self._no_longer_held()

    async def acomplete(self, *, connection: Any, result: Any = None) -> None:
        """As `complete`, on an asynchronous connection."""
        if self.control is None and self.completer is None:
            return
        outcome = self._outcome(result)
        if not await self._completer().acomplete(connection, outcome):
            raise self._no_longer_held()

    def _completer(self) -> Completer:
        if self.completer is None:
            raise UsageError(
                f"cannot complete job {self.id} here: it runs in a process of its own, which does not hold it; take "
                "isolate=True from its task"
            )
        return self.completer

    def _outcome(self, result: Any) -> Succeeded:
        return Succeeded(self.id, self.claim, result_text(result), self.started_at, time.time_ns() // 1000)

    def _no_longer_held(self) -> JobNoLongerHeld:
        return JobNoLongerHeld(
            f"cannot complete job {self.id}: it is not this worker's any more, and may be running elsewhere; roll the "
            "transaction back"
        )


running: ContextVar[CurrentJob | None] = ContextVar("coserver.current_job", default=None)
"""Set by the worker in the context that a task runs in."""


def current_job() -> CurrentJob:
    """Return the job that this code runs in. Raises `UsageError` outside of one."""
    job = running.get()
    if job is None:
        raise UsageError(
            "cannot tell the current job: no job is running here; call current_job() inside a task"
        )
    return job
