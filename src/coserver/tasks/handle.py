"""A job in the hands of whoever submitted it.

Theory. A handle is an id and the way to its store; making one costs nothing and keeps nothing alive. Waiting is
refused where it could never end: on a running event loop, which would be blocked, and inside a plain task whose own
service would have to run the awaited job on the very thread that waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Sequence
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
from coserver.model.job import Edge, Error, JobInfo, NewJob, On, State
from coserver.tasks.current import running
from coserver.tasks.registry import registry

if TYPE_CHECKING:
    from coserver.tasks.binding import Submitter
    from coserver.tasks.flow import Call

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

    @property
    def _store(self) -> str | None:
        """The masked URL of its store, None when its submitter has none, as in tests."""
        return getattr(self._submitter, "url", None)

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

    def cancel(self) -> bool:
        """Cancel the job; whether it was still living. What has not begun ends at once as cancelled, and so does what
        waits for its success. What runs is asked to stop: a coroutine is cancelled, an isolated function ended; a
        plain function sees it at `current_job().cancelled` and may go on."""
        return bool(self._submitter.cancel([self.id]))

    async def acancel(self) -> bool:
        """As `cancel`, without blocking the event loop."""
        return bool(await self._submitter.acancel([self.id]))

    def release(self) -> bool:
        """Let a held job go; whether it was held."""
        return bool(self._submitter.release([self.id]))

    async def arelease(self) -> bool:
        """As `release`, without blocking the event loop."""
        return bool(await self._submitter.arelease([self.id]))

    def then(self, call: Call, *, on_error: Call | None = None) -> Job[Any]:
        """Submit a job that runs when this one has succeeded, also when it has already; return its handle.

        A bare task gets the result as its only argument, a bound call exactly its own: `job.then(publish)`,
        `job.then(publish.bind("front"))`. `on_error`: what runs when this job ended otherwise, see `on_error`.
        Raises `InvalidArguments` when the job is not in the store any more.
        """
        return self._follow(self._submitter.enqueue(self._next(call, on_error)))

    async def athen(self, call: Call, *, on_error: Call | None = None) -> Job[Any]:
        """As `then`, without blocking the event loop."""
        return self._follow(await self._submitter.aenqueue(self._next(call, on_error)))

    def on_error(self, call: Call) -> Job[Any]:
        """Submit a job that runs when this one has failed or ended in any way but success; return its handle. A bare
        task gets a `Failure`."""
        return self._follow(self._submitter.enqueue(self._next(None, call)))

    async def aon_error(self, call: Call) -> Job[Any]:
        """As `on_error`, without blocking the event loop."""
        return self._follow(await self._submitter.aenqueue(self._next(None, call)))

    def _next(self, call: Call | None, on_error: Call | None) -> list[NewJob]:
        from coserver.tasks.flow import new_job

        jobs = []
        if call is not None:
            jobs.append(new_job(call, (Edge(self.id, On.SUCCESS),), "result"))
        if on_error is not None:
            jobs.append(new_job(on_error, (Edge(self.id, On.FAILURE),), "failure"))
        return jobs

    def _follow(self, ids: Sequence[int]) -> Job[Any]:
        return Job(abs(ids[0]), self._submitter, created=ids[0] > 0)

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
                cause = f": {info.error.message}" if info.error and info.error.message else ""
                raise JobCancelled(
                    f"cannot get the result of job {info.id} ({info.task}): it was cancelled{cause}"
                )
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
                "retention, and what was submitted in a transaction of your own is there after its commit"
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
