"""Testing an application that submits jobs: a real store of one's own, no worker, and time that can be moved.

Theory. A test wants to see what was submitted, then to run it here and now. `Jobs` therefore keeps a private SQLite
store to which every submit of the process goes, and plays the worker itself: `drain` claims one job at a time in the
order a worker would, runs it in the calling thread, and finishes it through the store, so states, retries, results and
all that follows from an end are the real ones. Only the clock is not: `drain(advance="1h")` lets an hour pass, from
one due job to the next, in no time. A retry's wait is the shortest that its policy may draw. Time limits are those of
the real clock: a coroutine is cancelled at its own, a plain function fails after it. Isolated tasks run here, too.

What a job raised for good, `drain` raises when it is done; a test should not pass because nobody looked.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import msgspec

from coserver.client import Client
from coserver.errors import (
    InvalidArguments,
    ResultTimeout,
    StoreUnavailable,
    UnknownTask,
    UsageError,
    WouldDeadlock,
)
from coserver.model import units
from coserver.model.job import (
    DEFAULT_QUEUE,
    Claimed,
    Failed,
    JobFilter,
    JobInfo,
    NewJob,
    Outcome,
    Progress,
    State,
    Succeeded,
    TaskDefaults,
)
from coserver.runtime import attempt as around
from coserver.runtime.line import Stop
from coserver.store.clock import Clock, system_clock
from coserver.store.contract import Opener, Want, WorkerIdentity
from coserver.store.sqlite import SQLiteStore
from coserver.store.url import SQLiteUrl
from coserver.tasks import binding
from coserver.tasks.current import CurrentJob, Serving, running
from coserver.tasks.declaration import Task
from coserver.tasks.handle import Job
from coserver.tasks.registry import registry

__all__ = ["Jobs", "Submission", "private_jobs"]

P = ParamSpec("P")
R = TypeVar("R")

PATIENCE = 5.0
"""Seconds after which whoever waits without end for a job that nobody drains is told so."""
_PAGE = 1000
_LEASE = 86_400.0
_LOOK = 0.05
"""Seconds between looks whether a running coroutine was cancelled."""


@dataclass(frozen=True, slots=True)
class Submission:
    """A job as it was submitted: its task's name and its arguments as the task will get them; `job` is its handle.

    `created` False: `unique` matched a living job, which is then `job`, and no other was made. All else that was said
    of it, `job.info()` tells: priority, queue, tags, limit, `run_at`, `parents` and so on.
    """

    task: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    job: Job[Any] = field(compare=False)
    created: bool = field(default=True, compare=False)

    def __str__(self) -> str:
        shown = [*map(repr, self.args), *(f"{name}={value!r}" for name, value in self.kwargs.items())]
        matched = "" if self.created else f" (there was job {self.job.id} already)"
        return f"{self.task}({', '.join(shown)}){matched}"


@contextmanager
def private_jobs(directory: Path) -> Iterator[Jobs]:
    """Within the block, every submit of this process goes to a new store in `directory`; yields its `Jobs`.

    This is what the pytest fixture `coserver_jobs` is made of; use it in other test frameworks.
    """
    jobs = Jobs(directory / "jobs.db")
    try:
        with binding.pin(jobs.client):
            yield jobs
    finally:
        jobs.close()


class Jobs:
    """The jobs of one test. `client` is their store's client, for anything that is not offered here."""

    def __init__(self, path: Path) -> None:
        self._passed = 0
        real = system_clock()
        clock = Clock(lambda: real.wall() + self._passed, real.boot, real.boot_id)
        # Nothing here has to survive a power failure.
        self._store = SQLiteStore(SQLiteUrl(str(path), synchronous="NORMAL"), clock=clock)
        self._clock = clock
        self._newest = 0
        self._pairs: set[tuple[str, str]] = set()
        self.client = _RecordingClient("", opener=lambda _: self._store)

    def close(self) -> None:
        """Close the store."""
        self.client.close()
        self._store.close()

    def submitted(self, task: Task[..., Any] | str | None = None) -> list[Submission]:
        """Return what was submitted so far, oldest first, finished jobs included; of one task, or of all.

        Submits that made no job, because one of their unique key was alive, are among them (`Submission.created`).
        """
        placed = [(info.id, self._submission(info.id, info.task, info.args)) for info in self._infos()]
        placed.reverse()
        placed += [
            (after, self._submission(number, job.task, job.args, created=False))
            for after, number, job in self.client.matched
        ]
        found = [one for _, one in sorted(placed, key=lambda pair: pair[0])]
        if task is None:
            return found
        name = task if isinstance(task, str) else task.name
        return [one for one in found if one.task == name]

    def assert_submitted(self, task: Task[P, R], *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """Fail unless the task was submitted with these arguments; return the newest such job.

        Arguments are compared as the function receives them: by position or by name, and left out or given as the
        default says, are the same.
        """
        __tracebackhide__ = True
        wanted = _full(task, *task.parameters.decode(task.parameters.encode(args, kwargs)))
        found = self.submitted()
        for one in reversed(found):
            if one.task == task.name and _full(task, one.args, one.kwargs) == wanted:
                return one.job
        shown = Submission(task.name, tuple(args), dict(kwargs), Job(0, self.client, created=False))
        listed = "".join(f"\n  {one}" for one in found) or " nothing"
        raise AssertionError(f"{shown} was not submitted; submitted was:{listed}")

    def drain(self, *, advance: units.Duration = 0, raise_errors: bool = True) -> int:
        """Run what is queued or due, and what that submits, until nothing is left; return how many attempts ran.

        `advance` lets time pass meanwhile ("1h", a timedelta or seconds), so that delayed jobs and retries come due,
        each at its time. When jobs failed for good, raises what they raised: the exception itself, or several in an
        `ExceptionGroup`; with `raise_errors=False` look at the jobs instead. Raises `UnknownTask` when a job is left
        whose task no module has declared, and `WouldDeadlock` on a running event loop (there, use `adrain`).
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            raise WouldDeadlock(
                "cannot drain here: an event loop runs in this thread; use `await coserver_jobs.adrain()`"
            )
        work = _Work(self._store, self._clock, self._pass, self._known_pairs)
        with asyncio.Runner() as runner:  # makes no loop before a coroutine needs one
            for attempt in work.attempts(_microseconds(advance)):
                with attempt:
                    if attempt.task.is_async:
                        attempt.value = runner.run(attempt.run())
                    else:
                        attempt.value = attempt.context.run(attempt.call)
        return work.verdict(raise_errors)

    async def adrain(self, *, advance: units.Duration = 0, raise_errors: bool = True) -> int:
        """As `drain`, on the running event loop; plain tasks run in a thread, as they do in a worker."""
        work = _Work(self._store, self._clock, self._pass, self._known_pairs)
        for attempt in work.attempts(_microseconds(advance)):
            with attempt:
                if attempt.task.is_async:
                    attempt.value = await attempt.run()
                else:
                    attempt.value = await asyncio.to_thread(attempt.context.run, attempt.call)
        return work.verdict(raise_errors)

    def _pass(self, time: int) -> None:
        self._passed += time

    def _known_pairs(self) -> set[tuple[str, str]]:
        """Return the (queue, task) of every job so far; a task that nobody declared cannot be claimed."""
        for info in self._infos(above=self._newest):
            self._newest = max(self._newest, info.id)
            task = registry.get(info.task)
            if task is not None:
                self._pairs.add((info.queue or task.queue or DEFAULT_QUEUE, info.task))
        return self._pairs

    def _submission(self, id: int, name: str, text: str, *, created: bool = True) -> Submission:
        task = registry.get(name)
        try:
            args, kwargs = task.decode_args(text) if task else _as_json(text)
        except InvalidArguments:
            args, kwargs = (text,), {}
        job: Job[Any] = Job(id, self.client, created=created)
        return Submission(task.name if task else name, args, kwargs, job, created)

    def _infos(self, *, above: int = 0) -> Iterator[JobInfo]:
        """Yield all jobs, newest first, down to the number `above`, which is left out."""
        # Mostly nothing is new, so the first look is a short one.
        before, limit = None, 1 if above else _PAGE
        while True:
            page = self.client.jobs(limit=limit, before=before)
            for info in page:
                if info.id <= above:
                    return
                yield info
            if len(page) < limit:
                return
            before, limit = page[-1].id, _PAGE


class _RecordingClient(Client):
    """Remembers the submits that made no job; `matched`: the newest job then, the one that matched, what was asked."""

    def __init__(self, url: str, *, opener: Opener) -> None:
        super().__init__(url, opener=opener)
        self.matched: list[tuple[int, int, NewJob]] = []

    def enqueue(self, jobs: Sequence[NewJob], *, connection: Any = None) -> list[int]:  # noqa: ARG002 - see below
        """Store them at once: a connection of the application's leads to its own database, not to the test's store."""
        return self._recorded(jobs, super().enqueue(jobs))

    async def aenqueue(self, jobs: Sequence[NewJob], *, connection: Any = None) -> list[int]:  # noqa: ARG002
        return await super().aenqueue(jobs)  # by `enqueue`

    def wait(self, id: int, timeout: float | None) -> JobInfo | None:
        """As `Client.wait`; who waits without end is told after `PATIENCE` seconds that nobody drains."""
        try:
            return super().wait(id, PATIENCE if timeout is None else timeout)
        except ResultTimeout:
            if timeout is not None:
                raise
            raise _nobody_drains(id) from None

    async def await_end(self, id: int, timeout: float | None) -> JobInfo | None:
        """As `wait`, without blocking the event loop."""
        try:
            return await super().await_end(id, PATIENCE if timeout is None else timeout)
        except ResultTimeout:
            if timeout is not None:
                raise
            raise _nobody_drains(id) from None

    def _recorded(self, jobs: Sequence[NewJob], ids: list[int]) -> list[int]:
        if min(ids, default=0) < 0:
            newest = max([0, *ids, *(info.id for info in self.jobs(limit=1))])
            self.matched += [
                (newest, -number, job) for number, job in zip(ids, jobs, strict=True) if number < 0
            ]
        return ids


def _nobody_drains(id: int) -> WouldDeadlock:
    return WouldDeadlock(
        f"cannot wait for job {id} any longer: in a test nothing runs by itself; call `coserver_jobs.drain()`, or "
        "`await coserver_jobs.adrain()`, first"
    )


class _Work:
    """One drain: the worker's part."""

    def __init__(
        self,
        store: SQLiteStore,
        clock: Clock,
        let_pass: Callable[[int], None],
        pairs: Callable[[], set[tuple[str, str]]],
    ) -> None:
        self._store = store
        self._clock = clock
        self._pass = let_pass
        self._pairs = pairs
        self._ran = 0
        self._errors: list[Exception] = []

    def attempts(self, advance: int) -> Iterator[_Attempt]:
        """Yield one attempt after the other, to be run inside its `with`; `advance` (µs) may pass meanwhile."""
        # Reading the pairs first makes the tables of a store that nobody has used yet.
        pairs = self._pairs()
        names = registry.names()
        queues = sorted({queue for queue, _ in pairs})
        worker = self._store.register(
            WorkerIdentity("test", "localhost", 0, names, queues, defaults=_defaults()), lease=_LEASE
        )
        serving = Serving(frozenset(queues), frozenset(names))
        done: list[Outcome] = []
        try:
            while True:
                found = self._store.exchange(worker, done, Want(1, sorted(self._pairs())))
                if found.busy:
                    raise StoreUnavailable(
                        f"cannot record the end of job {found.busy[0].id}: a transaction that is open holds it; end "
                        "that before the jobs run"
                    )
                done = []
                for claimed in found.claimed:
                    task = registry.get(claimed.task)
                    assert task is not None  # only declared tasks are claimed
                    inputs = self._store.inputs(claimed.id) if around.needs_inputs(claimed) else None
                    hand = _Hand(self._store, worker, claimed)
                    args = around.args_text(claimed, inputs)
                    attempt = _Attempt(task, claimed, args, serving, hand, self._clock.wall)
                    yield attempt
                    self._ran += 1
                    done.append(attempt.outcome)
                    if attempt.error is not None and isinstance(attempt.outcome, Failed):
                        self._errors.append(attempt.error)
                if not found.claimed:
                    if found.next_due is None or found.next_due > advance:
                        break
                    self._pass(found.next_due)
                    advance -= found.next_due
            self._pass(advance)
        finally:
            # Whatever a test interrupted (by pytest.fail, say) goes back as it was.
            self._store.leave(worker)

    def verdict(self, raise_errors: bool) -> int:
        """Return how many attempts ran, or raise what the jobs did, or that one could not be run at all."""
        waiting = self._store.jobs(JobFilter((State.NEW, State.QUEUED)), limit=_PAGE)
        if raise_errors and len(self._errors) == 1:
            raise self._errors[0]
        if raise_errors and self._errors:
            raise ExceptionGroup(f"{len(self._errors)} jobs failed", self._errors)
        for info in waiting:
            if registry.get(info.task) is None:
                raise UnknownTask(
                    f"cannot run job {info.id}: no task {info.task!r} is declared in this process; import its module"
                )
        return self._ran


class _Hand:
    """What a running job reaches of its worker (see `tasks.current.Control` and `Completer`)."""

    def __init__(self, store: SQLiteStore, worker: int, job: Claimed) -> None:
        self._store = store
        self._worker = worker
        self._job = job

    @property
    def cancelled(self) -> bool:
        return any(held.id == self._job.id for held in self._store.cancels(self._worker))

    def progress(self, fraction: float | None, note: str) -> None:
        self._store.progress(self._worker, [Progress(self._job.id, self._job.claim, fraction, note)])

    def complete(self, connection: Any, outcome: Succeeded) -> bool:  # noqa: ARG002 - as for submits
        """Record it at once, in the test's store."""
        found = self._store.exchange(self._worker, [outcome], Want(0, ()))
        return not (found.stale or found.busy)

    async def acomplete(self, connection: Any, outcome: Succeeded) -> bool:
        """As `complete`."""
        return self.complete(connection, outcome)


class _Attempt:
    """One attempt at one job. Used as a context manager, it turns what happens inside into `outcome`."""

    def __init__(
        self,
        task: Task[..., Any],
        job: Claimed,
        args: str,
        serving: Serving,
        hand: _Hand,
        now: Callable[[], int],
    ) -> None:
        self.task = task
        self.value: Any = None
        self.error: Exception | None = None
        self.context: Context = copy_context()
        self._job = job
        self._args = args
        self._hand = hand
        self._now = now
        self._readable = False
        self._timeout = task.timeout(job.options)
        plain = None if task.is_async else serving
        here = CurrentJob(job.id, job.attempt + 1, task.name, job.queue, plain, hand, job.claim, now(), hand)
        self.context.run(running.set, here)

    def call(self) -> Any:
        """Call the task's function with the job's arguments."""
        args, kwargs = self.task.decode_args(self._args)
        self._readable = True
        return self.task.function(*args, **kwargs)

    async def run(self) -> Any:
        """Call a coroutine function and await it, until it is cancelled or its time is over."""
        coroutine = asyncio.create_task(self.call(), context=self.context)
        until = None if self._timeout is None else time.monotonic() + self._timeout
        try:
            while not coroutine.done():
                left = _LOOK if until is None else min(_LOOK, max(0.0, until - time.monotonic()))
                await asyncio.wait([coroutine], timeout=left)
                if not coroutine.done() and (self._late() or self._hand.cancelled):
                    coroutine.cancel()
                    await asyncio.wait([coroutine])
            return coroutine.result()
        finally:
            if coroutine.cancel():
                await asyncio.wait([coroutine])

    def __enter__(self) -> None:
        self._started_at = self._now()
        self._began = time.monotonic()

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        stop = Stop.CANCEL if error is not None and self._hand.cancelled else None
        if isinstance(error, asyncio.CancelledError) and stop is None and not self._late():
            return False
        interrupts = error is not None and not isinstance(error, Exception | asyncio.CancelledError)
        if self._timeout is not None and self._late() and stop is None and not interrupts:
            error = around.too_long(self._job, self._timeout)
        if error is None:
            try:
                self._end(around.success(self.task, self._job, self.value, self._started_at * 1000))
                return True
            except TypeError as unfit:
                error = unfit
        if interrupts:
            return False
        if isinstance(error, Exception):
            error.add_note(f"(raised by job {self._job.id}, {self._job.task})")
            self.error = error
        self._end(
            around.failure(
                self.task,
                self._job,
                error,
                self._started_at * 1000,
                readable=self._readable,
                stop=stop,
                chance=0.0,
            )
        )
        return True

    def _end(self, outcome: Outcome) -> None:
        """Keep the outcome, with the time of this test's clock."""
        told = "finished_at" in outcome.__struct_fields__
        self.outcome = msgspec.structs.replace(outcome, finished_at=self._now()) if told else outcome

    def _late(self) -> bool:
        return self._timeout is not None and time.monotonic() - self._began > self._timeout


def _full(task: Task[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return a call with every parameter by name, defaults included."""
    bound = inspect.signature(task.function).bind(*args, **kwargs)
    bound.apply_defaults()
    return bound.arguments


def _as_json(text: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of a task that is not known, as they lie in the store."""
    match json.loads(text):
        case list(args):
            return tuple(args), {}
        case dict(kwargs):
            return tuple(kwargs.pop("*", ())), kwargs
        case other:
            return (other,), {}


def _defaults() -> dict[str, TaskDefaults]:
    return {
        name: TaskDefaults(task.queue or DEFAULT_QUEUE, task.max_crashes)
        for name in registry.names()
        if (task := registry.get(name)) is not None
    }


def _microseconds(advance: units.Duration) -> int:
    try:
        return units.microseconds(advance)
    except ValueError as error:
        raise UsageError(f"{error} (advance of a drain)") from None
