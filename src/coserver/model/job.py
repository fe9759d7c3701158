"""A job: its states, and the records that travel between client, store and worker.

States. A job is in exactly one of

    new ──route──▶ queued ◀──due── scheduled        final: succeeded, failed, cancelled, expired, lost
                    │  ▲ ▲              ▲
                  claim │ └─ released ──┤ retry (charged: attempt + 1)
                    ▼   └─ rescued      │         (crashes + 1 if it had started)
                  running ──────────────┴──▶ final

`held`, `waiting` (on another job) and `limited` (on a slot) stand beside `scheduled`. The number of a state is what
the `state` column holds, the same in both databases; final states exist only in the `coserver_done` table.

Whoever finishes a job must hold it: the finish names the job, the worker's incarnation and the *claim number* that
the claim returned. Every claim raises that number and nothing lowers it, so a finish by somebody who lost the job
(a stopped worker that came back, a reply that was lost) changes nothing.

Times are integer microseconds since 1970 UTC throughout the store.

The records that exist once per job on the hot path (`Claimed` and the outcomes) are msgspec structs: making one costs
a twentieth of a frozen dataclass, and they behave alike (frozen, compared by value, matched by class).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

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


DEFAULT_QUEUE = "default"
DEFAULT_MAX_CRASHES = 3
"""A job is lost when this many workers died while running it."""


@dataclass(frozen=True, slots=True)
class TaskDefaults:
    """What a task says of itself, for jobs whose producer left it open."""

    queue: str = DEFAULT_QUEUE
    max_crashes: int = DEFAULT_MAX_CRASHES


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job as its producer hands it to the store.

    `args` is JSON text: an array of positional arguments, an object of keyword arguments, or, for both, an object
    whose key `*` holds the positional ones. `queue` None means the task's own default queue as its workers published
    it (`WorkerIdentity.defaults`); while none of them ever has, the job waits as *new*. `run_at` (µs UTC) and `delay`
    (µs, added to the store's clock) exclude each other. `max_crashes` None: what the task's workers published, else
    three. `options` is JSON text of per-job overrides (`retries`, `timeout`, …), None when there are none.
    """

    task: str
    args: str = "[]"
    queue: str | None = None
    priority: Priority = Priority.NORMAL
    run_at: int | None = None
    delay: int | None = None
    max_crashes: int | None = None
    options: str | None = None


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
    """Handed back as it was, uncharged and at its old place; it never started, or the worker must leave."""

    id: int
    claim: int


Outcome = Succeeded | Failed | Retry | Release


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
    crashes: int
    created_at: int
    run_at: int | None = None
    started_at: int | None = None
    finished_at: int | None = None
    worker: str | None = None
    result: str | None = None
    error: Error | None = None


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs to list; None and empty mean no restriction."""

    states: Sequence[State] = ()
    queue: str | None = None
    task: str | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """How many jobs are in each state; final states count since the store was made, pruned ones included."""

    by_state: Mapping[State, int] = field(default_factory=dict)
