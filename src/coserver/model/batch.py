"""How many jobs a worker takes at once, and when it goes to the store: the rule of adaptive batches.

Theory. A trip to the store costs about as much for one job as for a hundred, so a worker records many finishes and
claims many jobs in one trip. What it claims ahead of need it withholds from other workers, so it claims only as many
as it will begin in the next few milliseconds. Both follow from one measured number per queue, its *pace*: seconds
from one finish to the next while the queue's jobs keep the worker busy.

    ahead    jobs that may lie at hand without a free slot, per trip: `WORTH` seconds of work, at most `CAP`, and none
             when a single job takes longer than that. A queue in which nothing has moved for a while counts as slow
             as that while.
    room     free slots, plus one `ahead` for every lane and one to work on meanwhile, less what lies at hand or is on
             its way.

Better jobs may have come to the store since a worker claimed what it holds. So no job at hand begins, unless it is of
the highest priority, when the last look at the store is older than `fresh_for`: first the worker looks again, for one
job more if it has no room. While short jobs flow, looks are more frequent than that anyway.

The pace follows a slowdown at once and a speed-up by halves, so one quick job among slow ones does not fill the
worker's hands.

A worker has one *main* lane and, on stores that take several connections, helping ones. Each lane repeatedly shows
its view to `decide` and does what it says. A helper only carries full loads while another lane is on its way;
everything else is the main lane's: flushing a lone finish after `FLUSH`, and parking when a look found nothing.
Finishes go at once when the worker has nothing else to do. A short claim means that the store is empty for now;
before the lane parks, which costs a trip of its own, it waits `FLUSH` for finishes to go along.

Nothing here reads a clock; all durations are seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

CAP = 500
"""Most jobs of one trip."""

WORTH = 0.0075
"""Work that one trip's claim should be worth; with what lies at hand a worker holds two to three times as much."""

FLUSH = 0.005
"""Longest time that a finish waits for company."""

FRESH = 0.01
"""Time after a look at the store in which jobs at hand begin, unless looks themselves take longer."""

UNSTARTED = 0.1
"""A job that was claimed and has not begun after this time goes back."""

FIRST_PACE = WORTH
"""What a queue is taken for before anything was measured."""


def pace_after(pace: float, *, finished: int, busy: float) -> float:
    """Return the new pace after `finished` jobs ended in `busy` seconds during which the queue had jobs at hand."""
    if finished <= 0:
        return pace
    measured = max(busy, 0.0) / finished
    return measured if measured > pace else (pace + measured) / 2


def ahead(pace: float, *, still: float) -> int:
    """Return how many jobs of a queue one trip may fetch ahead of need; `still`: since when nothing finished there
    although all of its slots are taken, 0 when a slot is free."""
    per_job = max(pace, still, WORTH / (2 * CAP))
    return min(CAP, int(WORTH / per_job))


def fresh_for(trip: float) -> float:
    """Return for how long after a look jobs at hand may begin; `trip`: how long that look took. Where the store is far
    away, waiting for each look would leave the worker idle."""
    return max(FRESH, 3 * trip)


@dataclass(frozen=True, slots=True)
class View:
    """What a lane sees.

    `room`: jobs that could be taken from queues that may have some, `spare`: from queues known to be empty; both 0
    while paused or leaving. `batch`: a full load of those that may have some. `at_hand`: jobs claimed and not begun,
    `running`: begun. `done`: outcomes not yet recorded, the oldest for `done_for` seconds; `urgent`: some must not
    wait. `stale`: a job at hand must not begin before another look. `short_for`: seconds since a claim came back short
    of what was asked, infinite when it came back empty. `parked`: the store knows that we sleep. `main`: this is the
    main lane. `others`: other lanes on their way.
    """

    room: int
    spare: int
    batch: int
    at_hand: int
    running: int
    done: int
    done_for: float
    urgent: bool
    stale: bool
    short_for: float
    parked: bool
    main: bool
    others: int


@dataclass(frozen=True, slots=True)
class Go:
    """Record what is done and claim up to `limit` jobs (0: only record), `everywhere`: from queues known to be empty
    as well, because the trip is made anyway."""

    limit: int
    everywhere: bool


@dataclass(frozen=True, slots=True)
class Park:
    """Tell the store that we sleep."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Look again after `seconds` (None: only when roused), or when `finishes` more jobs have ended."""

    seconds: float | None
    finishes: int


Step = Go | Park | Wait


def decide(view: View) -> Step:
    """Return what the lane does next."""
    load = view.room >= max(view.batch, 1)
    missing = max(1, view.batch - view.room)
    if not view.main:
        if load and view.batch > 1 and view.others:
            return Go(min(view.room, CAP), everywhere=False)
        return Wait(None, missing)
    quiet = view.at_hand == 0 and view.running == 0
    starving = view.at_hand == 0 and view.room > 0
    due = view.done > 0 and (quiet or view.done_for >= FLUSH or view.done >= CAP)
    if view.urgent or load or starving or due or view.stale:
        everywhere = not view.parked
        room = min(view.room + (view.spare if everywhere else 0), CAP)
        return Go(max(room, 1) if view.stale else room, everywhere)
    if view.done:
        left = view.at_hand + view.running
        return Wait(FLUSH - view.done_for, max(1, min(left, missing) if view.room else left))
    if not view.spare or view.parked:
        return Wait(None, 1)
    if quiet or view.short_for >= FLUSH:
        return Park()
    return Wait(FLUSH - view.short_for, 1)
