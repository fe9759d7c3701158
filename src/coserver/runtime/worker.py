"""The job worker of a process: takes jobs from the store, runs them, records how they ended.

Theory. Coroutine functions run in the event loop, each as an asyncio task with a context of its own; plain functions
run in threads. What is claimed, at hand, running and done is kept by the desk; lanes carry it from and to the store.
Per successful job there is no timer, no log line and no extra trip; a failure is one line in the log.

A worker stops by draining: it claims nothing more, hands back what has not begun, lets what runs finish, records it,
and leaves the store. When time runs out, coroutines are cancelled and their jobs handed back uncharged; the job of a
plain function that still runs goes back as the very last thing, just before the process ends.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import platform
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coserver.errors import SchemaMismatch, UnknownTask
from coserver.model.job import DEFAULT_QUEUE, Failed, Outcome, Release, Retry, Succeeded, TaskDefaults
from coserver.runtime.bell import Bell
from coserver.runtime.desk import COROUTINE, PLAIN, Desk, Figures, Job
from coserver.runtime.lanes import Lanes
from coserver.runtime.lease import Lease
from coserver.runtime.listening import Listening
from coserver.runtime.spec import LEASE
from coserver.runtime.started import StartedFile
from coserver.runtime.threads import Threads
from coserver.store.contract import Store, WorkerIdentity
from coserver.tasks.current import CurrentJob, Serving, running
from coserver.tasks.declaration import Task
from coserver.tasks.settle import describe, settle

log = logging.getLogger("coserver.worker")

DEFAULT_CONCURRENCY = 10
"""Jobs at once of a queue whose number is not stated."""


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """What a worker reads and how much at once; fields as in `runtime.spec.ServiceSpec`.

    `lanes`: trips to the store under way at once. `listen`: hear the store's notifications ourselves, because no node
    passes them on. `probe`: look for unannounced commits at short intervals while no node tends us.
    """

    process: str
    queues: Mapping[str, int]
    concurrency: int | None = None
    threads: int = 8
    token: str | None = None
    started: Path | None = None
    wake: Path | None = None
    lanes: int = 1
    listen: bool = False
    probe: bool = False
    lease: float = LEASE
    tasks: Mapping[str, Task[..., Any]] = field(default_factory=dict)


def _alone() -> bool:
    return False


def _nobody() -> None:
    pass


class Worker:
    """One worker. `start` and `drain` belong to the event loop; the other methods may be called by any thread."""

    def __init__(
        self,
        store: Store,
        settings: WorkerSettings,
        *,
        tended: Callable[[], bool] = _alone,
        registered: Callable[[], None] = _nobody,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """`tended`: whether a node renews the lease and rouses us just now. `registered` is called, in some thread,
        when the worker has got an incarnation. `chance` spreads retries.

        Raises OSError when the file of started jobs or the socket to be roused by cannot be made.
        """
        self._settings = settings
        self._tasks = dict(settings.tasks)
        self._tended = tended
        self._chance = chance
        self._context = contextvars.copy_context()
        self._running: dict[int, asyncio.Task[None]] = {}
        self._cutting = False
        self._pumping = False
        self._gone = asyncio.Event()
        self._serving = Serving(frozenset(settings.queues), frozenset(self._tasks))
        self._store = store
        self._started = StartedFile(settings.started) if settings.started is not None else None
        kinds = {name: COROUTINE if task.is_async else PLAIN for name, task in self._tasks.items()}
        self._lanes = Lanes(
            store,
            self._identity(),
            lease=settings.lease,
            count=settings.lanes,
            bell=Bell(settings.wake),
            started=self._started,
            probes=settings.probe,
            tended=tended,
            registered=registered,
            ended=self._left,
        )
        self._desk = Desk(
            settings.queues,
            kinds,
            concurrency=settings.concurrency or sum(settings.queues.values()),
            threads=settings.threads,
            lanes=settings.lanes,
            rouse_loop=self._rouse,
            rouse_lane=self._lanes.rouse,
            late=self._lanes.late,
        )
        count = settings.threads if PLAIN in kinds.values() else 0
        self._threads = Threads(self._desk, count, self._run_plain, self._context)
        self._lease = Lease(
            store,
            lease=settings.lease,
            worker=lambda: self._lanes.worker,
            tended=tended,
            dead=self._desk.wake,
        )
        self._listening = Listening(store, self._desk.wake) if settings.listen else None

    def _identity(self) -> WorkerIdentity:
        plain = TaskDefaults()
        said = {
            name: TaskDefaults(task.queue or DEFAULT_QUEUE, task.max_crashes)
            for name, task in self._tasks.items()
        }
        return WorkerIdentity(
            process=self._settings.process,
            host=platform.node(),
            pid=os.getpid(),
            tasks=sorted(self._tasks),
            queues=sorted(self._settings.queues),
            wake=None if self._settings.wake is None else str(self._settings.wake),
            token=self._settings.token,
            defaults={name: defaults for name, defaults in said.items() if defaults != plain},
        )

    # Life -----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to work, in the running event loop. The store may still be out of reach."""
        self._loop = asyncio.get_running_loop()
        self._threads.start()
        self._lanes.start(self._desk)
        self._lease.start()
        if self._listening is not None:
            self._listening.start()

    async def drain(self, timeout: float, *, hurry: asyncio.Event | None = None) -> bool:
        """Stop within `timeout` seconds; whether everything that ran could finish.

        Running jobs may finish for most of that time; `hurry` cuts it short. Afterwards the worker has left the store,
        unless the store was out of reach.
        """
        self._desk.leave(time.monotonic())
        self._lanes.close()
        finish, cancel = timeout * 0.8, timeout * 0.1
        finished = await self._wait_until_gone(finish, hurry)
        if not finished:
            self._cutting = True
            for task in list(self._running.values()):
                task.cancel("the worker has to leave")
            if not await self._wait_until_gone(cancel, None):
                self._lanes.close(abandon=True)
                await self._wait_until_gone(timeout - finish - cancel, None)
        await asyncio.to_thread(self._close)
        return finished

    async def gone(self) -> None:
        """Return when the worker has left the store or could not begin (see `failure`)."""
        await self._gone.wait()

    async def _wait_until_gone(self, seconds: float, hurry: asyncio.Event | None) -> bool:
        waits = [asyncio.create_task(event.wait()) for event in (self._gone, hurry) if event is not None]
        try:
            await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        return self._gone.is_set()

    def _close(self) -> None:
        if self._listening is not None:
            self._listening.close()
        self._lease.close()
        self._lanes.join(1.0)
        stuck = bool(self._desk.begun())
        if self._threads.close(0.0 if stuck else 1.0) and self._started is not None:
            self._started.close(remove=True)

    def _left(self) -> None:
        self._call_soon(self._gone.set)

    def _call_soon(self, call: Callable[[], object]) -> None:
        try:
            self._loop.call_soon_threadsafe(call)
        except RuntimeError:
            pass  # the loop is closed: the process is ending

    # Any time -------------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """There may be work."""
        self._desk.wake()

    def pause(self) -> None:
        """Begin nothing more and hand back what has not begun, until `resume`."""
        self._desk.pause(time.monotonic())

    def resume(self) -> None:
        """End of `pause`."""
        self._desk.resume()

    @property
    def failure(self) -> SchemaMismatch | None:
        """Why the worker could not begin at all, None if it did or still tries."""
        return self._lanes.failure

    @property
    def incarnation(self) -> int | None:
        """The worker's number in the store, None before it could register."""
        return self._lanes.worker

    def figures(self) -> Figures:
        """Return how busy the worker is."""
        return self._desk.figures()

    # Coroutines, in the loop ----------------------------------------------------------------------------------

    def _rouse(self) -> None:
        if not self._pumping:
            self._pumping = True
            self._call_soon(self._pump)

    def _pump(self) -> None:
        """Start every coroutine that was handed out."""
        self._pumping = False
        take, start, copy = self._desk.for_loop.popleft, self._loop.create_task, self._context.copy
        while True:
            try:
                job = take()
            except IndexError:
                return
            self._running[id(job)] = start(self._run_coroutine(job), context=copy())

    async def _run_coroutine(self, job: Job) -> None:
        try:
            if not self._desk.begin(job):
                return
            claimed = job.claimed
            if self._started is not None:
                self._started.began(claimed.id, claimed.claim)
            at = time.time_ns()
            task = self._tasks.get(claimed.task)
            outcome: Outcome
            readable = False
            try:
                if task is None:
                    raise UnknownTask(_unknown(claimed.task))
                running.set(CurrentJob(claimed.id, claimed.attempt + 1, task.name, claimed.queue))
                args, kwargs = task.decode_args(claimed.args)
                readable = True
                value = await task.function(*args, **kwargs)
                result = None if value is None else task.encode_result(value)
            except GeneratorExit:
                raise
            except BaseException as error:
                outcome = self._failure(job, task, error, at, readable=readable)
            else:
                outcome = Succeeded(claimed.id, claimed.claim, result, at // 1000, time.time_ns() // 1000)
            self._desk.finish(job, outcome, time.monotonic(), in_loop=True)
        finally:
            self._running.pop(id(job), None)
            if self._desk.for_loop:
                self._pump()

    # Plain functions, in threads ------------------------------------------------------------------------------

    def _run_plain(self, job: Job) -> Outcome:
        claimed = job.claimed
        if self._started is not None:
            self._started.began(claimed.id, claimed.claim)
        at = time.time_ns()
        task = self._tasks.get(claimed.task)
        readable = False
        try:
            if task is None:
                raise UnknownTask(_unknown(claimed.task))
            running.set(CurrentJob(claimed.id, claimed.attempt + 1, task.name, claimed.queue, self._serving))
            args, kwargs = task.decode_args(claimed.args)
            readable = True
            value = task.function(*args, **kwargs)
            result = None if value is None else task.encode_result(value)
        except BaseException as error:
            return self._failure(job, task, error, at, readable=readable)
        return Succeeded(claimed.id, claimed.claim, result, at // 1000, time.time_ns() // 1000)

    # Failures -------------------------------------------------------------------------------------------------

    def _failure(
        self, job: Job, task: Task[..., Any] | None, error: BaseException, at: int, *, readable: bool
    ) -> Failed | Retry | Release:
        claimed = job.claimed
        if self._cutting and isinstance(error, asyncio.CancelledError):
            return Release(claimed.id, claimed.claim)
        ended = time.time_ns() // 1000
        outcome: Failed | Retry
        try:
            if task is None:
                outcome = Failed(claimed.id, claimed.claim, describe(error), at // 1000, ended)
            else:
                outcome = settle(
                    task,
                    claimed,
                    error,
                    chance=self._chance(),
                    started_at=at // 1000,
                    finished_at=ended,
                    final=not readable,
                )
        except Exception as second:  # the job's own options may be past reading
            outcome = Failed(claimed.id, claimed.claim, describe(second), at // 1000, ended)
        self._tell(job, error, outcome)
        return outcome

    @staticmethod
    def _tell(job: Job, error: BaseException, outcome: Failed | Retry) -> None:
        claimed = job.claimed
        try:
            said = str(error).partition("\n")[0][:200]
        except Exception:
            said = "(no text)"
        match outcome:
            case Retry():
                then = f"attempt {claimed.attempt + 2} follows in {outcome.delay / 1e6:.3g} s"
            case Failed():
                then = "failed for good"
        log.warning(
            "job %d (%s) raised %s: %s; %s", claimed.id, claimed.task, type(error).__name__, said, then
        )


def _unknown(name: str) -> str:
    return f"cannot run {name}: no such task in this process; import its module by tasks = […]"
