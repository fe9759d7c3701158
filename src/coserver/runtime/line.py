"""What a worker knows of one claimed job, and of one of its queues.

Theory. A job is run in one of three *kinds* of places: coroutine functions in the event loop, plain functions in
threads, isolated ones in processes beside the worker. The first two kinds are handed out job by job, each in a slot of
its queue. A process beside the worker is too far away for that: handing it one job and waiting for the answer would
leave it idle most of the time. It gets a *turn*: one slot of one queue, under which it runs jobs of that queue one
after the other; as many lie ahead in its hands as a few milliseconds of work, and the turn ends with the last.

A queue's *pace* (`model.batch`) is measured over the time in which the worker held any of its jobs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from enum import Enum

from coserver.model import batch
from coserver.model.job import Claimed, Input, Outcome
from coserver.model.reconcile import Key
from coserver.runtime.progress import Board

COROUTINE, PLAIN, ISOLATED = KINDS = 0, 1, 2

SUSPECT = 2
"""Deaths of workers at which a job was there, from which on it runs alone."""


class Stop(Enum):
    """Why a running job was asked to stop."""

    CANCEL = "cancel"
    TIMEOUT = "timeout"


LEAVING = "its worker had to leave while it ran"
"""Why a job was interrupted."""


class Job:
    """A claimed job: its queue, its kind, when it came (monotonic seconds) and as which, whether it has been handed
    out and under which turn, why it was asked to stop, whether its outcome is told already though it still runs, and
    whether it has ended. It is what the running code reaches by `current_job()` (see `tasks.current.Control`)."""

    __slots__ = (
        "came",
        "claimed",
        "ended",
        "handed",
        "inputs",
        "kind",
        "line",
        "number",
        "stop",
        "suspect",
        "told",
        "turn",
    )

    def __init__(
        self,
        claimed: Claimed,
        line: Line,
        kind: int,
        came: float,
        number: int,
        inputs: Sequence[Input] | None,
    ) -> None:
        self.claimed = claimed
        self.line = line
        self.kind = kind
        self.came = came
        self.number = number
        self.inputs = inputs
        self.handed = False
        self.turn: Turn | None = None
        self.stop: Stop | None = None
        self.told = False
        self.ended = False
        # An isolated job takes nobody along but the process that it runs in.
        self.suspect = claimed.crashes >= SUSPECT and kind != ISOLATED

    @property
    def cancelled(self) -> bool:
        """Whether it should stop."""
        return self.stop is not None

    def progress(self, fraction: float | None, note: str) -> None:
        """Tell how far it is."""
        if not self.ended:
            self.line.board.tell(self.claimed.id, self.claimed.claim, fraction, note)


class Turn:
    """A slot of a queue in which a process beside the worker runs jobs, of which `left` have not ended."""

    __slots__ = ("first", "left", "line")

    def __init__(self, first: Job) -> None:
        self.first = first
        self.line = first.line
        self.left = 1


class Line:
    """One queue of this worker: `slots` of which `out` are taken, `extra` jobs in turns beside the first of each,
    jobs `waiting` by kind, and room `reserved` by lanes on their way."""

    __slots__ = (
        "board",
        "busy",
        "busy_since",
        "extra",
        "finished",
        "moved",
        "out",
        "pace",
        "queue",
        "reserved",
        "shut",
        "slots",
        "stocked",
        "waiting",
    )

    def __init__(self, queue: str, slots: int, board: Board) -> None:
        self.queue = queue
        self.slots = slots
        self.board = board
        self.out = 0
        self.extra = 0
        self.waiting: tuple[deque[Job], deque[Job], deque[Job]] = (deque(), deque(), deque())
        self.reserved = 0
        self.stocked = True
        self.shut = False
        self.pace = batch.FIRST_PACE
        # Since the pace was measured, in `busy` seconds, and since `busy_since` if anything is held.
        self.finished = 0
        self.busy = 0.0
        self.busy_since = 0.0
        self.moved = 0.0  # when a job last began or ended to run here

    def idle(self) -> bool:
        """Whether the worker holds none of its jobs."""
        return not (self.out or self.waiting[COROUTINE] or self.waiting[PLAIN] or self.waiting[ISOLATED])

    def at_hand(self) -> int:
        """How many of its jobs are claimed beyond its slots."""
        coroutines, plain, isolated = self.waiting
        return len(coroutines) + len(plain) + len(isolated) + self.extra

    def measure(self, now: float) -> None:
        """Take the pace anew, if anything has finished."""
        if self.finished:
            if not self.idle():
                self.busy += now - self.busy_since
                self.busy_since = now
            self.pace = batch.pace_after(self.pace, finished=self.finished, busy=self.busy)
            self.finished, self.busy = 0, 0.0

    def ahead(self, now: float) -> int:
        """How many jobs a trip may fetch ahead of need."""
        return batch.ahead(self.pace, still=now - self.moved if self.out >= self.slots else 0.0)

    def order(self) -> None:
        """Put better priorities first, then by arrival; nearly always it is so already."""
        for waiting in self.waiting:
            previous = -1
            for job in waiting:
                if job.claimed.priority < previous:
                    ordered = sorted(waiting, key=order)
                    waiting.clear()
                    waiting.extend(ordered)
                    break
                previous = job.claimed.priority


def order(job: Job) -> tuple[int, int]:
    """The order in which jobs are handed out."""
    return job.claimed.priority, job.number


def key(of: Claimed | Outcome) -> Key:
    """What tells one claim of a job from all others."""
    return of.id, of.claim
