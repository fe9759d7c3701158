"""A job in the hands of whoever submitted it.

Theory. A handle is an id and the way to its store; making one costs nothing and keeps nothing alive. Waiting is
refused where it could never end: on a running event loop, which would be blocked, and inside a plain task whose own
service would have to run the awaited job on the very thread that waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from coserver.errors import (
    JobCancelled,
    JobExpired,
    JobFailed,
    JobLost,
    ResultGone,
    UsageError,
    WouldDeadlock,
)
from coserver.model import units
from coserver.model.job import Error, JobInfo, State
from coserver.tasks.current import running
from coserver.tasks.registry import registry

if TYPE_CHECKING:
    from coserver.tasks.binding import Submitter

R_co = TypeVar("R_co", covariant=True)


class Job(Generic[R_co]):
    """A submitted job. `id` is its number in the store; `created` says whether this submit made it."""

    __slots__ = ("_submitter", "created", "id")

    id: int
    created: bool

    def __init__(self, id: int, submitter: Submitter, *, created: bool) -> None:
        self.id = id
        self.created = created
        self._submitter = submitter

    def __repr__(self) -> str:
        return f"<Job {self.id}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Job):
            return NotImplemented
        return self.id == other.id and self._submitter is other._submitter

    def __hash__(self) -> int:
        return hash(self.id)

    def info(self) -> JobInfo:
        """Return what the store knows of the job. Raises `ResultGone` when it is not there (any more)."""
        return self._present(self._submitter.look(self.id))

    async def ainfo(self) -> JobInfo:
        """As `info`, without blocking the event loop."""
        return self._present(await self._submitter.alook(self.id))

    def result(self, timeout: units.Duration | None = None) -> R_co:
        """Wait for the job's end and return what its function returned, as the return annotation says.

        `timeout`: "30s", a timedelta or seconds; None waits for ever. Raises `JobFailed` with the worker's traceback,
        `JobLost`, `ResultTimeout`, `ResultGone`, or `WouldDeadlock` where waiting could never end.
        """
        if _on_event_loop():
            raise WouldDeadlock(
                f"cannot wait for job {self.id} here: the event loop that runs in this thread would stand still; "
                "use `await job` or `await job.aresult()`"
            )
        self._refuse_own_service()
        return self._outcome(self._submitter.wait(self.id, _seconds(timeout)))

    async def aresult(self, timeout: units.Duration | None = None) -> R_co:
        """As `result`, without blocking the event loop. `await job` is the same without a timeout."""
        return self._outcome(await self._submitter.await_end(self.id, _seconds(timeout)))

    def __await__(self) -> Generator[Any, None, R_co]:
        return self.aresult().__await__()

    def _refuse_own_service(self) -> None:
        here = running.get()
        if here is None or here.serving is None:
            return
        info = self._present(self._submitter.look(self.id))
        if info.state.final or info.task not in here.serving.tasks:
            return
        if info.queue is None or info.queue in here.serving.queues:
            raise WouldDeadlock(
                f"cannot wait for job {self.id} here: {info.task} runs in the same service as {here.task}, whose "
                "thread would be held meanwhile; make the waiting task async, or submit what follows from the other"
            )

    def _outcome(self, info: JobInfo | None) -> R_co:
        info = self._present(info)
        match info.state:
            case State.SUCCEEDED:
                task = registry.get(info.task)
                # Where the task is unknown, its result is plain data, and R is Any.
                return cast(R_co, task.decode_result(info.result) if task else _plain(info.result))
            case State.FAILED:
                raise _failure(info)
            case State.LOST:
                cause = info.error.message if info.error else "its workers died while running it"
                raise JobLost(
                    f"cannot get the result of job {info.id} ({info.task}): {cause}; mend what kills them, then "
                    f"`coserver jobs retry {info.id}`"
                )
            case State.CANCELLED:
                raise JobCancelled(f"cannot get the result of job {info.id} ({info.task}): it was cancelled")
            case State.EXPIRED:
                raise JobExpired(
                    f"cannot get the result of job {info.id} ({info.task}): it had not begun by the time it had to"
                )
            case other:
                raise AssertionError(f"waiting ended although the job is {other.name.lower()}")

    def _present(self, info: JobInfo | None) -> JobInfo:
        if info is None:
            raise ResultGone(
                f"cannot find job {self.id}: the store does not have it; finished jobs are pruned after their "
                "retention"
            )
        return info


def _failure(info: JobInfo) -> JobFailed:
    error = info.error or Error("Exception", "")
    failed = JobFailed(error.type, error.message, error.traceback)
    if error.traceback:
        failed.add_note(f"Job {info.id} ({info.task}) failed in its worker:\n{error.traceback.rstrip()}")
    return failed


def _plain(text: str | None) -> Any:
    import msgspec

    return None if text is None else msgspec.json.decode(text)


def _seconds(timeout: units.Duration | None) -> float | None:
    try:
        return None if timeout is None else units.seconds(timeout)
    except ValueError as error:
        raise UsageError(f"{error} (timeout of a result)") from None


def _on_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
