"""The job that the calling code is part of.

Theory. Code inside a job finds it by a context variable. What it can do with it (say how far it is, ask whether it
should stop) goes through a `Control`, which the worker that runs the job hands in: in the worker's own process, or in
one beside it. Without a worker, as where a test runs a job inline, what the job says of itself goes nowhere.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from math import isfinite
from typing import Protocol

from msgspec import Struct

from coserver.errors import UsageError


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


class CurrentJob(Struct, frozen=True, gc=False):
    """The running job: `id`, `attempt` (1 for the first), `task` and `queue` are names.

    `serving` is set for plain functions only, whose waiting for their own service could never end.
    """

    id: int
    attempt: int
    task: str
    queue: str
    serving: Serving | None = None
    control: Control | None = None

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
