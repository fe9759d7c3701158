"""The job worker of a process: takes jobs from the store, runs them, records how they ended.

Theory. Coroutine functions run in the event loop, each as an asyncio task with a context of its own; plain functions
run in threads; isolated ones of either sort in processes beside the worker (`runtime.isolated`). What is claimed, at
hand, running and done is kept by the desk; lanes carry it from and to the store. Per successful job there is no timer,
no log line and no extra trip; a failure is one line in the log.

A job can be made to stop, by whoever cancels it or by its timeout. A coroutine is cancelled at its next `await`, an
isolated function is ended with its process. Nothing can end a thread: a plain function is only told, by
`current_job().cancelled`. At its timeout its job fails at once, but the thread goes on, and what it returns is dropped.
Who is cancelled by somebody and returns all the same has succeeded; a timeout has decided already.

Whatever a call raises ends its attempt, `SystemExit`, `GeneratorExit` and their like included. Only a coroutine that is
closed, which happens when there is no loop any more to run it, leaves nothing behind.

A worker stops by draining: it claims nothing more, hands back what has not begun, lets what runs finish, records it,
and leaves the store. When time runs out, coroutines are cancelled, processes are killed, and their jobs handed back as
interrupted: uncharged, to begin again, unless they may begin only once. The job of a plain function that still runs
goes back as the very last thing, just before the process ends.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import platform
import random
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coserver.errors import SchemaMismatch
from coserver.logs import about
from coserver.model.job import DEFAULT_QUEUE, Interrupted, Outcome, TaskDefaults
from coserver.model.reconcile import Key
from coserver.runtime import attempt
from coserver.runtime.bell import Bell
from coserver.runtime.completing import Completing
from coserver.runtime.deadlines import Deadlines
from coserver.runtime.desk import Desk, Figures
from coserver.runtime.isolated import Isolated, Isolation
from coserver.runtime.lanes import Lanes
from coserver.runtime.lease import Lease
from coserver.runtime.line import COROUTINE, ISOLATED, LEAVING, PLAIN, Job, Stop
from coserver.runtime.listening import Listening
from coserver.runtime.spec import LEASE
from coserver.runtime.started import StartedFile, unnamed
from coserver.runtime.threads import Threads
from coserver.store.contract import Store, WorkerIdentity
from coserver.store.url import place_of
from coserver.tasks import around, instrument
from coserver.tasks.current import CurrentJob, Serving, running
from coserver.tasks.declaration import Task

log = logging.getLogger("coserver.worker")

DEFAULT_CONCURRENCY = 10
"""Jobs at once of a queue whose number is not stated."""


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """What a worker reads and how much at once; fields as in `runtime.spec.ServiceSpec`.

    `lanes`: trips to the store under way at once. `listen`: hear the store's notifications ourselves, because no node
    passes them on. `probe`: look for unannounced commits at short intervals while no node tends us. `isolation`: for
    isolated jobs, None where none can run.
    """

    process: str
    queues: Mapping[str, int]
    host: str | None = None
    concurrency: int | None = None
    threads: int = 8
    token: str | None = None
    started: Path | None = None
    wake: Path | None = None
    lanes: int = 1
    listen: bool = False
    probe: bool = False
    lease: float = LEASE
    isolation: Isolation | None = None
    tasks: Mapping[str, Task[..., Any]] = field(default_factory=dict)


def _kind(task: Task[..., Any]) -> int:
    if task.isolate:
        return ISOLATED
    return COROUTINE if task.is_async else PLAIN


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
        isolation = settings.isolation
        self._tasks = {
            name: task for name, task in settings.tasks.items() if isolation is not None or not task.isolate
        }
        self._tended = tended
        self._chance = chance
        self._context = contextvars.copy_context()
        self._running: dict[Job, asyncio.Task[None]] = {}
        self._cutting = False
        self._pumping = False
        self._gone = asyncio.Event()
        self._serving = Serving(frozenset(settings.queues), frozenset(self._tasks))
        self._store = store
        self._place = place_of(store.url)
        self._started = StartedFile(settings.started) if settings.started is not None else None
        kinds = {name: _kind(task) for name, task in self._tasks.items()}
        if ISOLATED in kinds.values() and self._started is None:
            self._started = unnamed()
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
            cancelled=self._cancel,
            ended=self._left,
        )
        self._desk = Desk(
            settings.queues,
            kinds,
            concurrency=settings.concurrency or sum(settings.queues.values()),
            threads=settings.threads,
            isolated=0 if isolation is None else isolation.count,
            lanes=settings.lanes,
            rouse_loop=self._rouse,
            rouse_lane=self._lanes.rouse,
            rouse_children=self._rouse_children,
            late=self._lanes.late,
        )
        self._completing = Completing(store, lambda: self._lanes.worker)
        self._deadlines: Deadlines[Job] = Deadlines(self._too_long)
        self._isolated: Isolated | None = None
        if ISOLATED in kinds.values() and isolation is not None and self._started is not None:
            self._isolated = Isolated(
                self._desk,
                isolation,
                store=self._place,
                tasks=self._tasks,
                started=self._started,
                began=self._watch,
                ended=self._deadlines.drop,
                failed=self._judge,
            )
        count = settings.threads if PLAIN in kinds.values() else 0
        self._threads = Threads(self._desk, count, self._run_plain, self._context)
        self._lease = Lease(
            store,
            lease=settings.lease,
            worker=lambda: self._lanes.worker,
            tended=tended,
            dead=self._lanes.dead,
        )
        self._listening = Listening(store, self.wake) if settings.listen else None

    def _identity(self) -> WorkerIdentity:
        plain = TaskDefaults()
        said = {
            name: TaskDefaults(task.queue or DEFAULT_QUEUE, task.max_crashes)
            for name, task in self._tasks.items()
        }
        return WorkerIdentity(
            process=self._settings.process,
            host=self._settings.host or platform.node(),
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
        if self._isolated is not None:
            self._isolated.start()
        self._lanes.start(self._desk)
        self._lease.start()
        if self._listening is not None:
            self._listening.start()

    async def drain(self, timeout: float, *, hurry: asyncio.Event | None = None) -> bool:
        """Stop within `timeout` seconds; whether everything that ran could finish.

        Running jobs may finish for most of that time; `hurry` cuts it short. Afterwards the worker has left the store,
        unless the store was out of reach.
        """
        self.retire()
        finish, cancel = timeout * 0.8, timeout * 0.1
        finished = await self._wait_until_gone(finish, hurry)
        if not finished:
            self._cutting = True
            for task in list(self._running.values()):
                task.cancel("the worker has to leave")
            if self._isolated is not None:
                self._isolated.drop()
            if not await self._wait_until_gone(cancel, None):
                self._lanes.close(abandon=True)
                await self._wait_until_gone(timeout - finish - cancel, None)
        await asyncio.to_thread(self._close)
        return finished

    def retire(self) -> None:
        """Claim nothing more, hand back what has not begun, and leave the store when what runs has finished, however
        long that takes. `drain` has to follow."""
        self._desk.leave(time.monotonic())
        self._lanes.close()

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
        self._deadlines.close()
        if self._isolated is not None:
            self._isolated.close()
        stuck = bool(self._desk.begun())
        if self._threads.close(0.0 if stuck else 1.0) and self._started is not None:
            self._started.close(remove=True)

    def _rouse_children(self) -> None:
        if self._isolated is not None:
            self._isolated.rouse()

    def _left(self) -> None:
        self._call_soon(self._gone.set)

    def _call_soon(self, call: Callable[[], object]) -> None:
        try:
            self._loop.call_soon_threadsafe(call)
        except RuntimeError:
            pass  # the loop is closed: the process is ending

    # Any time -------------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """There may be work, or somebody asked to cancel what runs."""
        self._lanes.roused()
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

    @property
    def ended(self) -> int:
        """How many jobs have ended here."""
        return self._desk.ended

    def at(self, ended: int, call: Callable[[], None]) -> None:
        """Have `call` called in the event loop when so many jobs have ended here."""
        self._desk.at(ended, lambda: self._call_soon(call))

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
            self._running[job] = start(self._run_coroutine(job), context=copy())

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
            deadline = followed = None
            try:
                if task is None:
                    raise attempt.unknown(claimed.task)
                running.set(self._current(job, task, at, None))
                if instrument.active is not None:
                    followed = instrument.active.begin(claimed)
                args, kwargs = task.decode_args(claimed.args if job.inputs is None else _args(job))
                readable = True
                if (timeout := task.timeout(claimed.options)) is not None:
                    deadline = self._deadlines.add(timeout, job)
                made = task.function(*args, **kwargs)
                value = await (made if around.active is None else around.wait(around.active, made))
                if job.stop is Stop.TIMEOUT:
                    outcome = self._judge(job, attempt.too_long(claimed, timeout), at)
                    attempt.tell(claimed, outcome)
                else:
                    outcome = attempt.success(task, claimed, value, at, store=self._place)
            except BaseException as error:
                if asyncio.current_task(self._loop) is None:
                    raise  # nothing of the function's own: we are being closed
                outcome = self._failure(job, task, error, at, readable=readable)
            if deadline is not None:
                self._deadlines.drop(deadline)
            if followed is not None:
                followed(outcome, False)
            self._desk.finish(job, outcome, time.monotonic(), in_loop=True)
        finally:
            self._running.pop(job, None)
            if self._desk.for_loop:
                self._pump()

    def _current(self, job: Job, task: Task[..., Any], at: int, serving: Serving | None) -> CurrentJob:
        """What the running code finds by `current_job()`."""
        claimed = job.claimed
        return CurrentJob(
            claimed.id,
            claimed.attempt + 1,
            task.name,
            claimed.queue,
            serving,
            job,
            claimed.claim,
            at // 1000,
            self._completing,
        )

    # Plain functions, in threads ------------------------------------------------------------------------------

    def _run_plain(self, job: Job) -> Outcome:
        claimed = job.claimed
        if self._started is not None:
            self._started.began(claimed.id, claimed.claim)
        at = time.time_ns()
        task = self._tasks.get(claimed.task)
        outcome: Outcome
        readable = False
        deadline = followed = None
        try:
            if task is None:
                raise attempt.unknown(claimed.task)
            running.set(self._current(job, task, at, self._serving))
            if instrument.active is not None:
                followed = instrument.active.begin(claimed)
            args, kwargs = task.decode_args(_args(job))
            readable = True
            if (timeout := task.timeout(claimed.options)) is not None:
                deadline = self._deadlines.add(timeout, job)
            if around.active is None:
                value = task.function(*args, **kwargs)
            else:
                value = around.call(around.active, task.function, args, kwargs)
            outcome = attempt.success(task, claimed, value, at, store=self._place)
        except BaseException as error:
            outcome = self._failure(job, task, error, at, readable=readable)
        if deadline is not None:
            self._deadlines.drop(deadline)
        if followed is not None:
            followed(outcome, job.told)
        return outcome

    # Stopping what runs ---------------------------------------------------------------------------------------

    def _cancel(self, keys: Collection[Key]) -> None:
        """Somebody asked to cancel these; said by a lane."""
        for job in self._desk.cancel(keys, time.monotonic()):
            self._stop(job)

    def _watch(self, job: Job) -> int | None:
        """A process has begun a job with a timeout; return the number of the deadline."""
        timeout = self._tasks[job.claimed.task].timeout(job.claimed.options)
        return None if timeout is None else self._deadlines.add(timeout, job)

    def _too_long(self, job: Job) -> None:
        """A job's time is over."""
        if job.ended or job.stop is not None:
            return
        job.stop = Stop.TIMEOUT
        if job.kind != PLAIN:
            self._stop(job)
            return
        claimed = job.claimed
        timeout = self._tasks[claimed.task].timeout(claimed.options) or 0.0
        at = time.time_ns() - round(timeout * 1e9)
        outcome = self._judge(job, attempt.too_long(claimed, timeout), at)
        if self._desk.fail_early(job, outcome, time.monotonic()):
            attempt.tell(claimed, outcome)
            log.warning(
                "job %d (%s) goes on in its thread, which nothing can end; what it returns is dropped; "
                "give its task isolate=True to have it ended",
                claimed.id,
                claimed.task,
                extra=about(claimed),
            )

    def _stop(self, job: Job) -> None:
        match job.kind:
            case kind if kind == COROUTINE:
                self._call_soon(lambda: self._stop_coroutine(job))
            case kind if kind == ISOLATED and self._isolated is not None:
                self._isolated.stop(job)
            case _:
                pass  # a plain function reads it from its job

    def _stop_coroutine(self, job: Job) -> None:
        task = self._running.get(job)
        if task is not None and not job.ended:
            task.cancel("the job was asked to stop")

    # Failures -------------------------------------------------------------------------------------------------

    def _failure(
        self, job: Job, task: Task[..., Any] | None, error: BaseException, at: int, *, readable: bool
    ) -> Outcome:
        claimed = job.claimed
        if self._cutting and isinstance(error, asyncio.CancelledError) and job.stop is None:
            return Interrupted(claimed.id, claimed.claim, LEAVING)
        outcome = attempt.failure(
            task, claimed, error, at, readable=readable, stop=job.stop, chance=self._chance()
        )
        if not job.told:
            attempt.tell(claimed, outcome)
        return outcome

    def _judge(self, job: Job, error: BaseException, at: int) -> Outcome:
        """Judge an attempt that was ended from outside."""
        task, claimed = self._tasks[job.claimed.task], job.claimed
        return attempt.failure(task, claimed, error, at, readable=True, stop=None, chance=self._chance())


def _args(job: Job) -> str:
    return attempt.args_text(job.claimed, job.inputs)
