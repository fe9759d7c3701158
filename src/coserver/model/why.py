"""Why a job is where it is: one cause from a fixed list, with its evidence and what mends it.

Theory. Whoever asks gathers *evidence*: the job, the workers that the store knows, and the few facts that only the
store can tell (`Standing`). `why` turns that into exactly one `Cause`: the first thing that has to change before the
job can go on. Things behind it do not matter yet: a job that is not due and whose task nobody has is not due.

    final state          Finished
    held                 Held
    waiting              WaitingFor         another job has to end first
    limited              Limited            a limit is reached: on jobs that run at once, or on starts in a time
    scheduled            NotDue             until its time has come; then as new
    running              Running            if its worker is live, else
                         DeadLease          the job is freed by whoever looks next
    queued, new          Paused             its queue is
                         NoWorker           nobody works at all
                         UnknownTask        workers are live, none has the task
                         UnreadQueue        some have the task, nobody reads the queue
                         OtherQueues        some have the task, others read the queue, nobody does both
                         Behind             somebody can take it, and takes others first (or it is next)

Only live workers count: an incarnation whose lease ran out takes nothing more, noticed or not. What a store says of
workers and jobs is a moment old and not of the same moment, so a cause may be past when it is read.

`Unserved` is the same question asked for all waiting jobs at once: groups of jobs that nobody takes. It stays silent
about groups that somebody can take, however long their line is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from coserver.model.job import JobInfo, State
from coserver.model.names import near, near_task

MANY = 10_000
"""Counting the jobs ahead of one stops above this."""

MANY_WAITING = 1_000
"""Counting the jobs of a waiting group stops above this."""


# -- evidence ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """A worker that the store counts as present.

    `lease` is how many µs its lease still lasts, below zero when it ran out and nobody has noticed yet; None means
    that the worker is known to be dead and may still hold jobs. `parked`: it found nothing to take and sleeps.
    """

    id: int
    process: str
    host: str
    pid: int
    queues: frozenset[str]
    tasks: frozenset[str]
    parked: bool
    lease: int | None

    @property
    def live(self) -> bool:
        """Whether it may take jobs."""
        return self.lease is not None and self.lease >= 0

    @property
    def service(self) -> str:
        """The service that its process belongs to: `images` of `images/2`."""
        return self.process.rpartition("/")[0] or self.process


@dataclass(frozen=True, slots=True)
class Waiting:
    """The jobs of one task that wait in the same way: `state` is new (then `queue` is None) or queued.

    `number` is how many they are, counted up to one more than `MANY_WAITING`; `oldest` the lowest id among them and
    `since` (µs UTC) when that one was submitted.
    """

    state: State
    queue: str | None
    task: str
    number: int
    oldest: int
    since: int


@dataclass(frozen=True, slots=True)
class Standing:
    """What only the store can tell of a living job; `state` and `now` (µs UTC) belong to the moment of the look.

    `ahead`: how many jobs that the same workers can take come before it, counted up to one more than `MANY`; of a new
    one, how many of its task were there earlier. `worker`: the incarnation that holds it. `paused`: its queue is.
    `parent`: a job that has to end first. `limit`: the limit key at which it waits. `opens` (µs UTC): when that
    is to be looked at again, None when only the end of another job lets it in.
    """

    state: State
    now: int
    ahead: int = 0
    worker: int | None = None
    paused: bool = False
    parent: int | None = None
    limit: str | None = None
    opens: int | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that the cause follows from. `standing` is None for a job that has ended."""

    job: JobInfo
    workers: Sequence[WorkerInfo] = ()
    standing: Standing | None = None


# -- causes ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Finished:
    """It has ended. `error`: what it failed with, if it did."""

    job: int
    state: State
    error: str | None


@dataclass(frozen=True, slots=True)
class Held:
    """It was put in to be released later."""

    job: int


@dataclass(frozen=True, slots=True)
class WaitingFor:
    """Another job has to end first; `parent` is None when the store does not say which."""

    parent: int | None


@dataclass(frozen=True, slots=True)
class Limited:
    """A limit does not let it in; `limit` is the key, None when the store does not say which. `left` None: so many jobs
    run that it may not; else so many have begun that the next may in `left` µs, 0 when that is being decided."""

    limit: str | None
    queue: str | None
    left: int | None = None


@dataclass(frozen=True, slots=True)
class NotDue:
    """Its time (`run_at`, µs UTC) comes in `left` µs. `error`: what its last attempt failed with, if one did."""

    run_at: int
    left: int
    error: str | None


@dataclass(frozen=True, slots=True)
class Paused:
    """An operator paused its queue."""

    queue: str


@dataclass(frozen=True, slots=True)
class NoWorker:
    """No worker at all is live."""


@dataclass(frozen=True, slots=True)
class UnknownTask:
    """Workers are live (`services` names whose), and none has the task; `near` is a task of that name nearly."""

    task: str
    near: str | None
    services: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class UnreadQueue:
    """`services` have the task, and nobody reads the queue; `near` is a queue of that name nearly that they read."""

    queue: str
    task: str
    near: str | None
    services: tuple[str, ...]
    read: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OtherQueues:
    """`services` have the task but read the queues `read`; `readers` read its queue and lack the task."""

    queue: str
    task: str
    services: tuple[str, ...]
    read: tuple[str, ...]
    readers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Behind:
    """`ahead` others come first (see `Standing`); of the `workers` that can take it, `busy` look for no more work."""

    ahead: int
    workers: int
    busy: int
    services: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DeadLease:
    """It was running under `process`, which no live worker is any more; `live` others could free it at once."""

    process: str | None
    live: int


@dataclass(frozen=True, slots=True)
class Running:
    """It runs since `took` µs."""

    job: int
    process: str
    host: str
    pid: int
    took: int


Unprovided = NoWorker | UnknownTask | UnreadQueue | OtherQueues
"""The causes that nobody takes a job."""

Cause = Finished | Held | WaitingFor | Limited | NotDue | Paused | Unprovided | Behind | DeadLease | Running
"""The fixed list."""


@dataclass(frozen=True, slots=True)
class Unserved:
    """A group of waiting jobs that nobody takes."""

    group: Waiting
    cause: Unprovided


# -- the rule ----------------------------------------------------------------------------------------------------------


def why(evidence: Evidence) -> Cause:
    """Return what has to change first before the job can go on."""
    job, standing = evidence.job, evidence.standing
    if standing is None or job.state.final:
        return Finished(job.id, job.state, _error(job))
    match job.state:
        case State.HELD:
            return Held(job.id)
        case State.WAITING:
            return WaitingFor(standing.parent)
        case State.LIMITED:
            left = None if standing.opens is None else max(0, standing.opens - standing.now)
            return Limited(standing.limit, job.queue, left)
        case State.RUNNING:
            return _running(job, standing, evidence.workers)
        case State.SCHEDULED if job.run_at is not None and job.run_at > standing.now:
            return NotDue(job.run_at, job.run_at - standing.now, _error(job))
        case _:
            return _in_line(job, standing, evidence.workers)


def unprovided(task: str, queue: str | None, workers: Iterable[WorkerInfo]) -> Unprovided | None:
    """Return why nobody takes jobs of this task out of this queue, None when somebody does.

    Without a queue (a new row) it is enough that somebody has the task: whoever routes it asks for no more.
    """
    live = [worker for worker in workers if worker.live]
    if not live:
        return NoWorker()
    able = [worker for worker in live if task in worker.tasks]
    if not able:
        return UnknownTask(
            task, near_task(task, sorted({name for worker in live for name in worker.tasks})), _services(live)
        )
    if queue is None or any(queue in worker.queues for worker in able):
        return None
    read = tuple(sorted(frozenset[str]().union(*(worker.queues for worker in able))))
    readers = [worker for worker in live if queue in worker.queues]
    if readers:
        return OtherQueues(queue, task, _services(able), read, _services(readers))
    return UnreadQueue(queue, task, near(queue, read), _services(able), read)


def unserved(groups: Iterable[Waiting], workers: Sequence[WorkerInfo]) -> list[Unserved]:
    """Return the groups that nobody takes, those that wait longest first."""
    found = [
        Unserved(group, cause)
        for group in groups
        if (cause := unprovided(group.task, group.queue, workers)) is not None
    ]
    return sorted(found, key=lambda one: (one.group.since, one.group.oldest))


def takers(job: JobInfo, workers: Iterable[WorkerInfo]) -> list[WorkerInfo]:
    """Return the live workers that can take a job."""
    return [
        worker
        for worker in workers
        if worker.live and job.task in worker.tasks and (job.queue is None or job.queue in worker.queues)
    ]


def _running(job: JobInfo, standing: Standing, workers: Sequence[WorkerInfo]) -> Running | DeadLease:
    for worker in workers:
        if worker.id == standing.worker and worker.live:
            took = 0 if job.started_at is None else max(0, standing.now - job.started_at)
            return Running(job.id, worker.process, worker.host, worker.pid, took)
    return DeadLease(job.worker, sum(worker.live for worker in workers))


def _in_line(job: JobInfo, standing: Standing, workers: Sequence[WorkerInfo]) -> Paused | Unprovided | Behind:
    if standing.paused and job.queue is not None:
        return Paused(job.queue)
    nobody = unprovided(job.task, job.queue, workers)
    if nobody is not None:
        return nobody
    able = takers(job, workers)
    return Behind(standing.ahead, len(able), sum(not worker.parked for worker in able), _services(able))


def _services(workers: Iterable[WorkerInfo]) -> tuple[str, ...]:
    return tuple(sorted({worker.service for worker in workers}))


def _error(job: JobInfo) -> str | None:
    if job.error is None:
        return None
    return next(iter(f"{job.error.type}: {job.error.message}".splitlines()), "")
