"""A job: its states, and the records that travel between client, store and worker.

States. A job is in exactly one of

    new ──route──▶ queued ◀──due── scheduled        final: succeeded, failed, cancelled, expired, lost
                    │  ▲ ▲              ▲
                  claim │ └─ released ──┤ retry (charged: attempt + 1)
                    ▼   └─ rescued      │         (crashes + 1 if it had started)
                  running ──────────────┴──▶ final

`held` (until somebody releases it), `waiting` (on the ends of other jobs) and `limited` (ready, but its limit has no
slot free) stand beside `scheduled`. The number of a state is what the `state` column holds, the same in both databases;
final states exist only in the `coserver_done` table.

A job may wait for others: each *edge* names a parent and which end of it lets the child go. The child becomes ready
when all of its parents have ended so; as soon as one ends otherwise, the child is cancelled, and so on down the graph.

A row in which something concerns more than its own end (a request to cancel it, jobs that depend on it, slots that it
holds) carries *flags*. Rows without flags finish on the fast path, by the thousand; flagged ones finish one
transaction later with all that follows from it. Raising a flag and finishing meet at the row's lock.

Whoever finishes a job must hold it: the finish names the job, the worker's incarnation and the *claim number* that
the claim returned. Every claim raises that number and nothing lowers it, so a finish by somebody who lost the job
(a stopped worker that came back, a reply that was lost) changes nothing.

Times are integer microseconds since 1970 UTC throughout the store.

The records that exist once per job on the hot path (`NewJob`, `Claimed` and the outcomes) are msgspec structs: making
one costs a twentieth of a frozen dataclass, and they behave alike (frozen, compared by value, matched by class).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag

from msgspec import Struct


class State(IntEnum):
    """The states of a job; the numbers are part of the store's published format."""

    NEW = 0
    HELD = 1
    WAITING = 2
    LIMITED = 3
    SCHEDULED = 4
    QUEUED = 5
    RUNNING = 6
    SUCCEEDED = 10
    FAILED = 11
    CANCELLED = 12
    EXPIRED = 13
    LOST = 14

    @property
    def final(self) -> bool:
        """Whether a job in this state stays in it for ever."""
        return self >= State.SUCCEEDED


class Priority(IntEnum):
    """Lower numbers are claimed first; the numbers are part of the store's published format."""

    HIGH = 0
    NORMAL = 1
    LOW = 2


class Flag(IntFlag):
    """What makes a job finish on the slow path; the numbers are part of the store's published format."""

    CANCEL = 1
    """Somebody asked to cancel it while it ran."""
    PARENT = 2
    """Other jobs wait for its end, or take over from it."""
    SLOTS = 4
    """It holds slots of limits."""
    UNTIL_STARTED = 8
    """Its unique key is free as soon as it is claimed; a claim lowers this flag and forgets the key."""
    UNCHECKED = 16
    """Of a finished job: it came as plain SQL and ended before anybody had checked it."""


NO_FLAGS = Flag(0)


class On(IntEnum):
    """Which end of its parent an edge asks for; the numbers are part of the store's published format."""

    SUCCESS = 0
    FAILURE = 1
    """Any final state but succeeded."""
    END = 2
    """Any final state."""
    TAKE_OVER = 3
    """The child has run, returned this parent, and ends as the parent ends."""


@dataclass(frozen=True, slots=True)
class Edge:
    """A job waits for another: `job` is its id or, if `here`, its position in the same submit, before the child's."""

    job: int
    on: On = On.SUCCESS
    here: bool = False


DEFAULT_QUEUE = "default"
DEFAULT_MAX_CRASHES = 3
"""A job is lost when this many workers died while running it."""


@dataclass(frozen=True, slots=True)
class TaskDefaults:
    """What a task says of itself, for jobs whose producer left it open."""

    queue: str = DEFAULT_QUEUE
    max_crashes: int = DEFAULT_MAX_CRASHES


class NewJob(Struct, frozen=True, gc=False):
    """A job as its producer hands it to the store.

    `args` is JSON text: an array of positional arguments, an object of keyword arguments, or, for both, an object
    whose key `*` holds the positional ones. `queue` None means the task's own default queue as its workers published
    it (`WorkerIdentity.defaults`); while none of them ever has, the job waits as *new*. `run_at` (µs UTC) and `delay`
    (µs, added to the store's clock) exclude each other. `max_crashes` None: what the task's workers published, else
    three. `options` is JSON text of per-job overrides (`retries`, `timeout`, …), None when there are none.

    `held`: wait until released. `begin_within` (µs after it is due) and `begin_by` (µs UTC) exclude each other: a job
    that has not begun by then expires; one that has begun once never does. `unique`: no second living job of this key
    is made; with `until_started` only until the first is claimed. `limit`: a key such as `api` or `user:7`, whose
    slots bound how many such jobs run at once (see `store.limits`). `tags` are free words to find it by. `after`: the
    jobs that it waits for. `checked`: whoever wrote `args` has asked `payload` whether they can be stored, so that the
    store need not ask again.
    """

    task: str
    args: str = "[]"
    queue: str | None = None
    priority: Priority = Priority.NORMAL
    run_at: int | None = None
    delay: int | None = None
    max_crashes: int | None = None
    options: str | None = None
    held: bool = False
    begin_within: int | None = None
    begin_by: int | None = None
    unique: str | None = None
    until_started: bool = False
    limit: str | None = None
    tags: tuple[str, ...] = ()
    after: tuple[Edge, ...] = ()
    checked: bool = False


class Claimed(Struct, frozen=True, gc=False):
    """A job as a worker receives it. `claim` fences its finish; `attempt` counts attempts charged so far."""

    id: int
    claim: int
    task: str
    queue: str
    args: str
    attempt: int
    crashes: int
    priority: int
    created_at: int
    options: str | None


class Succeeded(Struct, frozen=True, gc=False):
    """`result` is JSON text, or None for a function that returned None."""

    id: int
    claim: int
    result: str | None
    started_at: int
    finished_at: int


class Failed(Struct, frozen=True, gc=False):
    """No attempt is left. `error` is JSON text of an object with `type`, `message`, `traceback`."""

    id: int
    claim: int
    error: str
    started_at: int
    finished_at: int


class Retry(Struct, frozen=True, gc=False):
    """The attempt failed and is charged; the job is due again `delay` µs from now. `error` as in `Failed`."""

    id: int
    claim: int
    error: str
    delay: int


class Release(Struct, frozen=True, gc=False):
    """Handed back as it was, uncharged and at its old place: it never began."""

    id: int
    claim: int


class Cancelled(Struct, frozen=True, gc=False):
    """It was asked to stop and did. `error` as in `Failed`, None when there is nothing to say."""

    id: int
    claim: int
    error: str | None
    started_at: int
    finished_at: int


class TakeOver(Struct, frozen=True, gc=False):
    """Its function returned job `job`, whose end becomes its own. Until then it waits, held by no worker."""

    id: int
    claim: int
    job: int
    started_at: int


class Crashed(Struct, frozen=True, gc=False):
    """The process that ran it died of it, while its worker lives: charged with a crash, and back in line or, at its
    limit, lost. `note` says how that process ended, with its last lines of output."""

    id: int
    claim: int
    note: str


class Interrupted(Struct, frozen=True, gc=False):
    """It had begun, and its worker must leave: handed back as by `Release`, but its error says so; one that may begin
    only once is lost. `note` says why."""

    id: int
    claim: int
    note: str


Outcome = Succeeded | Failed | Retry | Release | Cancelled | TakeOver | Crashed | Interrupted


class Progress(Struct, frozen=True, gc=False):
    """How far a running job says it is: `fraction` from 0 to 1 or None, and a few words."""

    id: int
    claim: int
    fraction: float | None
    note: str


@dataclass(frozen=True, slots=True)
class Input:
    """How a parent ended, as its child reads it. `result` is JSON text."""

    job: int
    state: State
    result: str | None
    error: Error | None


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `running` jobs at once, and at most `starts` begun in any `period` µs; None is unbounded.

    `name` is that of a queue as `queue:mail`, or the part before the first colon of a job's limit key. A limit key that
    no limit is declared for runs one job at a time.
    """

    name: str
    running: int | None = None
    starts: int | None = None
    period: int | None = None


@dataclass(frozen=True, slots=True)
class Error:
    """What went wrong in an attempt, as text from the worker."""

    type: str
    message: str
    traceback: str = ""


@dataclass(frozen=True, slots=True)
class JobInfo:
    """All that the store knows of one job. Times in µs UTC; `result` and `args` are JSON text."""

    id: int
    task: str
    queue: str | None
    state: State
    priority: Priority
    args: str
    attempt: int
    """the number of the attempt that runs or ran last, from 1 as its function sees it, 0 before the first. One that was
    handed back or whose worker died does not count: the next one has its number."""
    crashes: int
    """how many workers died of it or while they ran it"""
    created_at: int
    run_at: int | None = None
    started_at: int | None = None
    finished_at: int | None = None
    worker: str | None = None
    result: str | None = None
    error: Error | None = None
    flags: Flag = NO_FLAGS
    begin_by: int | None = None
    unique: str | None = None
    limit: str | None = None
    blocked_on: str | None = None
    """the limit key whose slots it waits for"""
    progress: float | None = None
    note: str = ""
    """progress in words"""
    tags: tuple[str, ...] = ()
    parents: tuple[int, ...] = ()
    """those that it waited for or took over from, in their order"""
    children: tuple[int, ...] = ()
    """those that waited for it, up to 1,000"""
    options: str | None = None


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs to list; None and empty mean no restriction. `error` and `args` are parts of the texts, whatever the
    case of their letters from A to Z; `created_at` (µs UTC) is not before `since` and before `until`."""

    states: Sequence[State] = ()
    queue: str | None = None
    task: str | None = None
    tag: str | None = None
    error: str | None = None
    args: str | None = None
    since: int | None = None
    until: int | None = None


@dataclass(frozen=True, slots=True)
class QueueInfo:
    """A queue as people see it. Counts of living jobs are exact up to 10,000, then 10,001. `oldest_at` is when the job
    was stored that has been ready for the longest; `paused_at` None means that it is not paused. Times in µs UTC.
    `put_back`: how many of those that had ended in a state were put back by a retry; they count in it no more."""

    name: str
    paused_at: int | None
    paused_by: str | None
    limit: Limit | None
    by_state: Mapping[State, int]
    oldest_at: int | None
    put_back: Mapping[State, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Counts:
    """How many jobs are in each state; final states count since the store was made, pruned ones included."""

    by_state: Mapping[State, int] = field(default_factory=dict)
