"""The job that the calling code is part of."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass

from msgspec import Struct

from coserver.errors import UsageError


@dataclass(frozen=True, slots=True)
class Serving:
    """What the service around a plain task provides: a job of these queues and tasks may need the very thread that
    the task occupies."""

    queues: frozenset[str]
    tasks: frozenset[str]


class CurrentJob(Struct, frozen=True, gc=False):
    """The running job: `id`, `attempt` (1 for the first), `task` and `queue` are names.

    `serving` is set for plain functions only, whose waiting for their own service could never end.
    """

    id: int
    attempt: int
    task: str
    queue: str
    serving: Serving | None = None


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
