"""What every store promises: the contract between the queue's rules and a database.

Theory. A store keeps jobs in two tables: `coserver_job` holds the living, `coserver_done` the finished; a job is in
exactly one of them, and moves by one transaction. Everything here is synchronous and thread-safe in the plainest way:
a method blocks the calling thread for one short transaction, and each thread that calls uses a connection of its own
(PostgreSQL) or the process's one writer (SQLite). Asynchronous callers bring a thread.

All methods raise `StoreUnavailable` when the database cannot be reached or stays locked, and its kind `StoreRefused`
when the database works but refuses what it was told, which will not change. A caller that does not know whether its
transaction took effect asks: a worker by `held`, a producer cannot (and so submits again: at least once).

Who is allowed to finish a job is decided by the fence (`model.job`): id, worker incarnation, claim number.

A **worker incarnation** is one row of `coserver_worker`, made by `register` and never reused. It is *live* while its
lease lasts; it is *dead* from the moment anybody noticed: its node (which learns of the death from the kernel) by
`bury`, or any other worker when the lease ran out. A dead worker claims nothing more, and the jobs that it still holds
are freed in bounded steps by every later `exchange` and `tick`, until none remain.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from coserver.model.job import (
    Claimed,
    Counts,
    Input,
    JobFilter,
    JobInfo,
    Limit,
    NewJob,
    Outcome,
    Progress,
    QueueInfo,
    State,
    TaskDefaults,
)
from coserver.model.why import Standing, Waiting, WorkerInfo

PROTOCOL = 1
"""What a worker of this coserver understands of the store. A migration that an older worker must not see raises the
store's `min_protocol` and declares older incarnations dead; a worker below it cannot register."""


@dataclass(frozen=True, slots=True)
class Want:
    """What a worker can take: at most `limit` jobs whose (queue, task) is in `pairs`.

    `pairs` are the combinations it provides now, in no particular order; better priorities come first over all pairs,
    then older ones. `room` caps how many may come from one queue.
    """

    limit: int
    pairs: Sequence[tuple[str, str]]
    room: Sequence[tuple[str, int]] = ()


@dataclass(frozen=True, slots=True)
class Exchange:
    """What one round trip brought.

    `claimed`: jobs now running under this worker, best first. A job with `crashes > 0` comes alone. `stale`: ids of
    outcomes that changed nothing because the fence no longer fits (an end that the store has already recorded, told
    once more after a lost reply, is none of them). `next_due`: µs until time alone makes work for the store (a
    scheduled job is due, one expires, a rate allows the next), None when nothing does (or not looked up because jobs
    were claimed). `live`: False when this
    worker's incarnation is dead: nothing was claimed, and it must register anew. `busy`: outcomes that are not
    recorded, because a transaction of somebody else's holds what they change; to be told again after a while.
    """

    claimed: Sequence[Claimed]
    stale: Sequence[int]
    next_due: int | None
    live: bool
    busy: Sequence[Outcome] = ()


@dataclass(frozen=True, slots=True)
class WorkerIdentity:
    """Who registers. `process` is `images/2` (or any stable name), `wake` how to rouse it when parked.

    `wake` is the path of a Unix datagram socket on stores that one host shares, else None. `tasks` are the names that
    it provides and `queues` those it reads, so that others can tell why a job waits. `token` identifies the process to
    its node (COSERVER_TOKEN), None without a node. `defaults` says of tasks what is not `TaskDefaults()`.
    """

    process: str
    host: str
    pid: int
    tasks: Sequence[str]
    queues: Sequence[str]
    wake: str | None = None
    token: str | None = None
    defaults: Mapping[str, TaskDefaults] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Held:
    """A job that the store believes to be running under a worker."""

    id: int
    claim: int


@dataclass(frozen=True, slots=True)
class Settled:
    """A finished job's end, as far as a worker has to know after a lost reply."""

    id: int
    claim: int
    state: State


@dataclass(frozen=True, slots=True)
class Rescue:
    """What became of a dead worker's jobs: ids back in the queue (charged with a crash or not), and ids lost."""

    uncharged: Sequence[int]
    crashed: Sequence[int]
    lost: Sequence[int]


@dataclass(frozen=True, slots=True)
class Upkeep:
    """What one bounded `tick` did. `more`: something is left, so call again soon. `next_due`: as in `Exchange`."""

    routed: int
    promoted: int
    rescued: int
    pruned: int
    more: bool
    next_due: int | None


@dataclass(frozen=True, slots=True)
class SchemaStatus:
    """`version` of the tables (0: none), `latest` that this coserver brings, names of migrations still to apply."""

    version: int
    latest: int
    pending: Sequence[str]


class Listener(Protocol):
    """Hears that work may have arrived or that jobs have ended. One per node, or per lone worker or client."""

    def wait(self, timeout: float, *, guesses: bool = True) -> bool:
        """Block until something happened (True) or `timeout` seconds passed (False). Never misses what was committed
        after the listener was made; may report more than there is. Reconnects by itself.

        On a store that announces work to parked workers, `guesses=False` waits for these announcements alone, which is
        far less than every commit by anybody; plain SQL announces nothing (see `Keeping.probe`)."""

    def close(self) -> None:
        """Release the connection; a blocked `wait` returns."""


class Producer(Protocol):
    """What a client needs."""

    def submit(self, jobs: Sequence[NewJob]) -> list[int]:
        """Store the jobs in one transaction and return their ids in order, negated where a living job with that
        unique key was there already (nothing is stored for it then). Afterwards rouse parked workers.

        Raises InvalidArguments, and stores nothing, if any name is none, any arguments are refused by `model.payload`,
        or a job that one waits for does not exist (any more)."""

    def submit_on(self, connection: Any, jobs: Sequence[NewJob]) -> list[int]:
        """As `submit`, inside the open transaction of the caller's own connection, by which the jobs come and go.
        Workers are told by its commit, or find them within 50 ms. Where there are no tables yet they are made: on
        SQLite in that transaction, too.

        `connection`: see `store.foreign`. Raises UsageError for one of another database or library; errors of the
        connection's own driver come out as they are."""

    async def asubmit_on(self, connection: Any, jobs: Sequence[NewJob]) -> list[int]:
        """As `submit_on`, also on an asynchronous connection: psycopg's, aiosqlite's, or SQLAlchemy's on these."""

    def job(self, id: int) -> JobInfo | None:
        """Return one job, living or finished, or None when there is none (any more)."""

    def jobs(self, where: JobFilter, *, limit: int, before: int | None = None) -> list[JobInfo]:
        """Return up to `limit` jobs by descending id, below `before` when given. Arguments and results too large to
        lie in the row (over 2,000 characters) are left out: `args` is then empty and `result` None; `job` has them."""

    def counts(self) -> Counts:
        """Count jobs by state: living ones from the partial indexes, finished ones from the counters."""

    def retry(self, ids: Sequence[int]) -> list[int]:
        """Put finished jobs that did not succeed back into their queues with a fresh budget, under their old ids and
        at the end of their lines. They no longer count as ended. One that was cancelled because of a job that it waited
        for waits for it again, if that is living or put back in the same call, and takes what it has left meanwhile.

        Returns the ids that were put back; succeeded, living and unknown ones are left alone, those whose unique key a
        living job has, and those that wait for a job which has not ended as they ask, or is gone."""

    def cancel(self, ids: Sequence[int]) -> dict[int, State]:
        """Cancel living jobs: what does not run ends as cancelled, with what waits for its success; what runs is asked
        to stop, and its worker roused. Returns the state of each that was living: CANCELLED, or RUNNING when asked."""

    def release_held(self, ids: Sequence[int]) -> list[int]:
        """Let held jobs go their way; return those that were held."""

    def discard(self, ids: Sequence[int]) -> list[int]:
        """Forget finished jobs at once; return those that were there."""

    def inputs(self, id: int) -> list[Input]:
        """Return how the jobs ended that this one waited for, in the order in which they were named."""

    def queues(self) -> list[QueueInfo]:
        """Return every known queue, by name."""

    def pause_queue(self, name: str, *, by: str) -> None:
        """From the next claim on nobody takes jobs of this queue; what is claimed goes on. A new name becomes known."""

    def resume_queue(self, name: str) -> None:
        """End of `pause_queue`. Rouses parked workers."""

    def limits(self) -> list[Limit]:
        """Return the declared limits, by name."""

    def set_limits(self, limits: Sequence[Limit], *, keep: Sequence[str] = (), once: bool = False) -> bool:
        """Replace the declared limits, but for those named in `keep`, which stay as they are. What waits now comes
        under a new limit at once, and what runs counts towards it.

        With `once`, do so only if these very limits were never set with `once` before: what a file says is written
        when it is new, and does not come back when somebody has changed it since. Returns whether it was done. Raises
        InvalidArguments for a limit that bounds nothing or has a name that no key can have."""

    def listener(self, *, ends: bool = False) -> Listener:
        """Open a listener for work that may have arrived; with `ends`, for jobs that have ended."""


class Worker(Protocol):
    """What a worker needs: see the module's theory for leases and fences."""

    def register(self, who: WorkerIdentity, *, lease: float) -> int:
        """Create a live incarnation whose lease lasts `lease` seconds; return its number. Raises SchemaMismatch when
        the store asks for a newer worker protocol than `PROTOCOL`."""

    def exchange(self, worker: int, done: Sequence[Outcome], want: Want) -> Exchange:
        """In one transaction: record the outcomes, all but those that would have to wait for somebody, then claim new
        jobs, routing, promoting and rescuing a bounded number on the way. With `want.limit == 0` it only records. A
        parked worker that was given jobs is not parked any more; one that found nothing still is, and its look left no
        trace in the store."""

    def renew(self, workers: Sequence[int], *, lease: float) -> list[int]:
        """Prolong the leases; return those of `workers` that are dead."""

    def park(self, worker: int) -> bool:
        """Mark the worker as parked and commit; afterwards look once more. True when there may be work (do not
        sleep): something is queued, new or due that it can take."""

    def held(self, worker: int) -> list[Held]:
        """Return what is running under this worker according to the store, by ascending id."""

    def settled(self, ids: Sequence[int]) -> list[Settled]:
        """Of these jobs, return those that are finished, with the claim number of their finish."""

    def cancels(self, worker: int) -> list[Held]:
        """Return the jobs running under this worker that somebody asked to cancel. Cheap: for every wake-up."""

    def progress(self, worker: int, told: Sequence[Progress]) -> None:
        """Keep how far jobs are, where the fence fits. Needs no sync."""

    def finish_on(self, connection: Any, worker: int, outcome: Outcome) -> bool:
        """Record an outcome inside the open transaction of the caller's own connection; whether the fence fitted. The
        same outcome told again by `exchange` afterwards is no stale one."""

    async def afinish_on(self, connection: Any, worker: int, outcome: Outcome) -> bool:
        """As `finish_on`, also on an asynchronous connection."""

    def leave(self, worker: int) -> None:
        """End the incarnation: what it still holds goes back uncharged, its counters are folded."""


class Keeping(Protocol):
    """What a node needs besides."""

    def bury(self, token: str, *, started: Sequence[int] | None, note: str) -> Rescue:
        """The process known by `token` is dead, says the kernel: mark its workers dead and free all of their jobs.

        `started` are the ids that had begun (charged with a crash; lost at their limit), None when unknown (then all
        count as begun). `note` (signal or exit status and last output lines) is kept with jobs that are lost. Rouses
        parked workers."""

    def tick(self, *, retention: Sequence[tuple[State, int]] = (), limit: int = 500) -> Upkeep:
        """One bounded pass of upkeep: route new rows, promote due ones, expire what has not begun in time, admit what
        a rate allows, free jobs of dead or expired workers, prune finished ones older than their state's retention
        (µs). Rouses parked workers when anything became ready."""

    def live_tokens(self) -> list[tuple[int, str]]:
        """Return (worker, token) of live workers that have a token, so that a node renews those it knows."""

    def probe(self) -> bool:
        """Cheap look, a few µs: has anything been committed by somebody else since the last call? May be wrong
        towards True only."""


class Inquiry(Protocol):
    """What tells why jobs wait (see `model.why`). All of it only reads, and costs the same however many jobs wait."""

    def workers(self) -> list[WorkerInfo]:
        """Return the workers that are present, by id: the live ones, and dead ones that may still hold jobs."""

    def waiting(self) -> list[Waiting]:
        """Return the new and the queued jobs in groups, at most some 1,000 of them; those of a queue that are known to
        have crashed workers in the same group as the others."""

    def standing(self, id: int, tasks: Sequence[str]) -> Standing | None:
        """Return how a living job stands, None when there is no such job among the living. `tasks` are those that
        whoever can take it provides: only jobs of these count as ahead of it."""


class Schema(Protocol):
    """The tables themselves."""

    def migrate(self) -> list[str]:
        """Apply pending migrations, each in its own transaction under a lock; return their names."""

    def schema(self) -> SchemaStatus:
        """Say which version the tables have."""


class Store(Producer, Worker, Keeping, Inquiry, Schema, Protocol):
    """All of it. `url` has its password masked."""

    url: str

    def close(self) -> None:
        """Close every connection; later calls raise `StoreUnavailable`."""


Opener = Callable[[str], Store]
