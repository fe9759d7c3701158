"""Ends of jobs that concern others too: the slow path, once for both databases.

Theory. Everything here runs in one transaction that its caller opened. First all rows that matter are locked, in waves:
the jobs that end, then the children that wait for them, as far down as ends lead to further ends; `model.graph` says
what follows from each wave. Only then is anything written that others may wait for (slots, counters). Children are
younger than their parents, so the locks come nearly always in the order of ids; where they do not, PostgreSQL ends one
of two transactions that wait for each other, and its caller begins it anew.

Raising a flag and ending meet at the row's lock. Who submits a child raises PARENT on its parents: either that comes
first, and then the parent's end takes this way and finds the edge, or the end does, and then the parent is found among
the finished jobs.

A job that is put back waits again for what had not ended as it asks. So a chain goes on where it broke when the broken
job is put back with those after it; one that was put back alone, while the job before it stays failed, could never
have what it needs, and is left as it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, assert_never

from coserver.model.graph import Adopt, Cancel, Link, follow, meets
from coserver.model.job import (
    Cancelled,
    Crashed,
    Failed,
    Flag,
    Input,
    Interrupted,
    On,
    Outcome,
    Release,
    Retry,
    State,
    Succeeded,
    TakeOver,
)
from coserver.store import limits
from coserver.store.records import (
    INLINE,
    Verdict,
    cut_text,
    died_text,
    error_text,
    interrupted_text,
    json_text,
    read_error,
    readable,
)
from coserver.store.session import Session


class Row(NamedTuple):
    """A living job as the statement `lock` found it."""

    id: int
    state: int
    flags: int
    waits: int
    claim: int
    worker: int | None
    claimed_at: int | None
    attempt: int
    crashes: int
    queue: str | bytes | None
    max_crashes: int


@dataclass(frozen=True, slots=True)
class End:
    """How a job ends. `error` is JSON text; `charge` is 1 if a crash is part of it; `worker` is on whose row it counts
    (0: everybody's)."""

    id: int
    state: State
    result: str | None = None
    error: str | None = None
    started_at: int | None = None
    finished_at: int | None = None
    charge: int = 0
    worker: int = 0


@dataclass(slots=True)
class Done:
    """What a session's work came to: ids of outcomes that changed nothing, and how many jobs became ready."""

    stale: list[int] = field(default_factory=list)
    ready: int = 0


def lock(session: Session, ids: Iterable[int]) -> dict[int, Row]:
    """Lock living jobs; return those that are living, by id."""
    wanted = sorted(set(ids))
    return {row[0]: Row(*row) for row in session.rows("lock", ids=wanted)} if wanted else {}


def end(session: Session, ends: Sequence[End], rows: dict[int, Row], *, leaving: Sequence[int] = ()) -> int:
    """End these jobs, whose rows are locked, with all that follows; return how many jobs became ready by it.

    `leaving`: further jobs that give up their slots.
    """
    if not ends and not leaving:
        return 0
    ending, free = _gather(session, ends, rows)
    limits.leave(session, sorted({job for job in [*ending, *leaving] if rows[job].flags & Flag.SLOTS}))
    _write(session, list(ending.values()), rows)
    return let_go(session, free)


def _gather(session: Session, ends: Sequence[End], rows: dict[int, Row]) -> tuple[dict[int, End], list[int]]:
    """Lock what these ends concern, write them on the edges; return all jobs that end, and those that are let go."""
    ending: dict[int, End] = {}
    free: list[int] = []
    wave = list(ends)
    while wave:
        ending.update({one.id: one for one in wave})
        told = [
            (one.id, one.state, one.result, one.error) for one in wave if rows[one.id].flags & Flag.PARENT
        ]
        links = [
            Link(child, parent, On(on), State(state))
            for child, parent, on, state in (session.rows("fill_edges", told=json_text(told)) if told else ())
            if child not in ending
        ]
        children = lock(session, {link.child for link in links})
        rows.update(children)
        step = follow(sorted(links, key=_by_parent), {row.id: row.waits for row in children.values()})
        held = [child for child in step.free if rows[child].state == State.HELD]
        waits = {**step.waits, **dict.fromkeys(held, 0)}
        if waits:
            session.rows("set_waits", told=json_text(list(waits.items())))
        free += [child for child in step.free if child not in held]
        wave = [_follow(child, why, ending, rows[child]) for child, why in step.ends.items()]
    return ending, free


def _by_parent(link: Link) -> tuple[int, int]:
    return link.child, link.parent


def _follow(child: int, why: Cancel | Adopt, ending: dict[int, End], row: Row) -> End:
    match why:
        case Cancel(text):
            return End(child, State.CANCELLED, error=error_text("JobCancelled", text))
        case Adopt(parent):
            one = ending[parent]
            return End(child, one.state, one.result, one.error, started_at=row.claimed_at)
        case _:
            assert_never(why)


def _write(session: Session, ends: list[End], rows: dict[int, Row]) -> None:
    """Move jobs to the finished ones and count them."""
    told, blobs = [], []
    counted: Counter[tuple[int, str, int]] = Counter()
    for one in ends:
        large = one.result is not None and len(one.result) > INLINE
        if large:
            blobs.append((one.id, 1, one.result))
        told.append(
            (
                one.id,
                one.state,
                one.started_at,
                session.now if one.finished_at is None else one.finished_at,
                None if large else one.result,
                one.error,
                one.charge,
            )
        )
        # On a row of its own, whose number no worker has: whoever counts on another's row waits for that transaction.
        counter = -one.id if session.lingers else one.worker
        counted[counter, readable(rows[one.id].queue), one.state] += 1
    if not told:
        return
    session.rows("end", told=json_text(told))
    session.rows("remove", ids=[one.id for one in ends])
    if blobs:
        session.rows("add_blobs", told=json_text(blobs))
    session.rows("tally", told=json_text([(*key, n) for key, n in sorted(counted.items())]))


LOOKS = 3
"""How often a parent is looked for: somebody may put it back among the living between two looks."""

Ended = Sequence[Any]
"""How a parent ended: state, result, error."""


def tell_parents(session: Session, ids: Iterable[int]) -> tuple[set[int], dict[int, Ended]]:
    """Have those of these jobs that are living know that others wait for their ends; return them, and how the others
    ended. Those that are in neither do not exist (any more)."""
    left = set(ids)
    living: set[int] = set()
    ended: dict[int, Ended] = {}
    for _ in range(LOOKS):
        if not left:
            break
        living.update(row[0] for row in session.rows("raise_flags", ids=sorted(left), flag=int(Flag.PARENT)))
        left -= living
        if left:
            ended.update({job: end for job, *end in session.rows("ended", ids=sorted(left))})
            left -= ended.keys()
    return living, ended


def let_go(session: Session, ids: Sequence[int]) -> int:
    """Locked jobs are neither held nor waiting any more: new, scheduled or ready. Return how many are queued."""
    if not ids:
        return 0
    states: dict[int, int] = dict(session.rows("let_go", ids=list(ids), now=session.now))
    ready = [job for job in ids if states.get(job) not in (None, State.NEW, State.SCHEDULED)]
    return limits.enter(session, ready)


# -- what workers say -----------------------------------------------------------------------------------------------


def finish(session: Session, worker: int, outcomes: Sequence[Outcome]) -> Done:
    """Record outcomes that the fast path did not take: of jobs with flags, of the kinds that it does not know, told
    once more, or stale."""
    others = [outcome.job for outcome in outcomes if isinstance(outcome, TakeOver)]
    if others:
        session.rows("graph_lock")
    rows = lock(session, [*[outcome.id for outcome in outcomes], *others])
    change = _Change(session, worker, rows)
    unfit: list[Outcome] = []
    for outcome in outcomes:
        row = rows.get(outcome.id)
        fence = (State.RUNNING, worker, outcome.claim)
        if row is None or outcome.id in change.told or (row.state, row.worker, row.claim) != fence:
            unfit.append(outcome)
        else:
            change.tell(outcome, row)
    done = Done(ready=change.write())
    if unfit:
        done.stale = _stale(session, unfit, rows)
    return done


def _stale(session: Session, outcomes: Sequence[Outcome], rows: dict[int, Row]) -> list[int]:
    """Which of these outcomes the store did not record before, either."""
    ended = {
        (job, claim): state
        for job, claim, state in session.rows("settled", ids=sorted({one.id for one in outcomes}))
    }
    stale = []
    for outcome in outcomes:
        state = ended.get((outcome.id, outcome.claim))
        match outcome:
            case Succeeded():
                known = state == State.SUCCEEDED
            case Failed():
                known = state == State.FAILED
            case Cancelled():
                known = state == State.CANCELLED
            case TakeOver():
                row = rows.get(outcome.id)
                waits = row is not None and (row.state, row.claim) == (State.WAITING, outcome.claim)
                known = waits or state is not None
            case Retry() | Release() | Crashed() | Interrupted():
                known = False
            case _:
                assert_never(outcome)
        if not known:
            stale.append(outcome.id)
    return stale


class _Change:
    """Outcomes that fit, gathered before anything is written."""

    def __init__(self, session: Session, worker: int, rows: dict[int, Row]) -> None:
        self._session = session
        self._worker = worker
        self._rows = rows
        self.told: set[int] = set()
        self._ends: list[End] = []
        self._back: list[int] = []
        self._interrupted: list[tuple[int, str]] = []
        self._crashed: list[int] = []
        self._charged: list[tuple[int, int | None, str]] = []
        self._over: list[TakeOver] = []

    def tell(self, outcome: Outcome, row: Row) -> None:
        """Decide what becomes of a running job."""
        self.told.add(outcome.id)
        cancel = bool(row.flags & Flag.CANCEL)
        match outcome:
            case Succeeded():
                self._end(outcome, State.SUCCEEDED, outcome.result, None)
            case Failed():
                self._end(outcome, State.FAILED, None, outcome.error)
            case Cancelled():
                self._end(outcome, State.CANCELLED, None, outcome.error)
            case Retry() if cancel:
                self._ends.append(
                    End(row.id, State.CANCELLED, None, outcome.error, row.claimed_at, worker=self._worker)
                )
            case Retry():
                due = self._session.now + outcome.delay if outcome.delay > 0 else None
                self._charged.append((row.id, due, outcome.error))
            case Interrupted() if row.max_crashes == 1 and not cancel:
                error = cut_text(outcome.note)
                self._ends.append(End(row.id, State.LOST, None, error, row.claimed_at, worker=self._worker))
            case Interrupted() if not cancel:
                self._interrupted.append((row.id, interrupted_text(outcome.note)))
            case Interrupted():
                self._ends.append(
                    End(row.id, State.CANCELLED, started_at=row.claimed_at, worker=self._worker)
                )
            case Release() if cancel:
                self._ends.append(End(row.id, State.CANCELLED, worker=self._worker))
            case Release():
                self._back.append(row.id)
            case Crashed() if cancel:
                self._ends.append(
                    End(row.id, State.CANCELLED, started_at=row.claimed_at, charge=1, worker=self._worker)
                )
            case Crashed() if row.crashes + 1 < row.max_crashes:
                self._crashed.append(row.id)
            case Crashed():
                error = died_text(outcome.note, row.crashes + 1)
                self._ends.append(
                    End(row.id, State.LOST, None, error, row.claimed_at, charge=1, worker=self._worker)
                )
            case TakeOver() if cancel:
                self._ends.append(
                    End(row.id, State.CANCELLED, started_at=outcome.started_at, worker=self._worker)
                )
            case TakeOver():
                self._take_over(outcome, row)
            case _:
                assert_never(outcome)

    def _end(
        self, outcome: Succeeded | Failed | Cancelled, state: State, result: str | None, error: str | None
    ) -> None:
        self._ends.append(
            End(
                outcome.id,
                state,
                result,
                error,
                outcome.started_at,
                outcome.finished_at,
                worker=self._worker,
            )
        )

    def _take_over(self, outcome: TakeOver, row: Row) -> None:
        """Let a job wait for the one that it returned, or end it at once if that has ended, or never can."""
        parent = self._rows.get(outcome.job)
        if parent is not None and not self._session.rows("waits_for", id=outcome.job, other=outcome.id):
            self._session.rows("raise_flags", ids=[outcome.job], flag=int(Flag.PARENT))
            self._rows[outcome.job] = parent._replace(flags=parent.flags | Flag.PARENT)
            edge = (outcome.id, None, outcome.job, On.TAKE_OVER, None, None, None)
            self._session.rows("add_edges", told=json_text([edge]))
            self._over.append(outcome)
            return
        state, result, error = State.FAILED, None, None
        if parent is not None:
            error = error_text(
                "WouldDeadlock",
                f"cannot take over from job {outcome.job}: that one waits for this one; return a job that does not",
            )
        else:
            ended = self._session.rows("ended", ids=[outcome.job])
            if ended:
                _, number, result, error = ended[0]
                state = State(number)
            else:
                error = error_text(
                    "ResultGone",
                    f"cannot take over from job {outcome.job}: there is none (any more); return one that is kept",
                )
        self._ends.append(End(row.id, state, result, error, outcome.started_at, worker=self._worker))

    def write(self) -> int:
        """Write it all; return how many jobs became ready."""
        at_once = [job for job, due, _ in self._charged if due is None]
        over = [one.id for one in self._over]
        # What a job gives up its slots for is written after that, since slots remember when it was claimed.
        for one in self._over:
            self._rows[one.id] = self._rows[one.id]._replace(state=State.WAITING, waits=1)
        ready = len(self._back) + len(self._interrupted)
        charged = [job for job, _, _ in self._charged]
        limited = limits.leave(self._session, self._with_slots([*charged, *over, *self._crashed]))
        for one in self._over:
            self._session.rows("take_over", id=one.id, started_at=one.started_at)
        ready += end(self._session, self._ends, self._rows)
        if self._back:
            self._session.rows("put_back", ids=self._back)
        if self._interrupted:
            self._session.rows("interrupt", told=json_text(self._interrupted))
        if self._crashed:
            self._session.rows("charge_crash", ids=self._crashed)
            ready += len(self._crashed) - len(limited.intersection(self._crashed))
            limits.enter(self._session, sorted(limited.intersection(self._crashed)), keep_places=True)
        if self._charged:
            self._session.rows("charge", told=json_text(self._charged))
            ready += limits.enter(self._session, at_once)
        return ready

    def _with_slots(self, ids: Iterable[int]) -> list[int]:
        return sorted(job for job in ids if self._rows[job].flags & Flag.SLOTS)


# -- what others ask for ----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class CancelRequest:
    """What a request to cancel did: the state of each job that was living, the workers to rouse, and how many jobs
    became ready."""

    states: dict[int, State] = field(default_factory=dict)
    workers: list[int] = field(default_factory=list)
    ready: int = 0


def cancel(session: Session, ids: Sequence[int]) -> CancelRequest:
    """See `contract.Producer.cancel`."""
    rows = lock(session, ids)
    done = CancelRequest()
    running = [row for row in rows.values() if row.state == State.RUNNING]
    if running:
        session.rows("raise_flags", ids=[row.id for row in running], flag=int(Flag.CANCEL))
        done.workers = sorted({row.worker for row in running if row.worker is not None})
    for row in rows.values():
        done.states[row.id] = State.RUNNING if row.state == State.RUNNING else State.CANCELLED
    ends = [
        End(row.id, State.CANCELLED, started_at=row.claimed_at)
        for row in rows.values()
        if row.state != State.RUNNING
    ]
    done.ready = end(session, ends, rows)
    return done


def release_held(session: Session, ids: Sequence[int]) -> tuple[list[int], int]:
    """See `contract.Producer.release_held`; also return how many are queued."""
    rows = lock(session, ids)
    held = [job for job in dict.fromkeys(ids) if job in rows and rows[job].state == State.HELD]
    waiting = [job for job in held if rows[job].waits]
    if waiting:
        session.rows("await_parents", ids=waiting)
    return held, let_go(session, [job for job in held if not rows[job].waits])


def expire(session: Session, limit: int, *, only: int | None = None) -> tuple[int, int]:
    """End up to `limit` jobs that have not begun in time, or `only` one of them; return how many did, and how many
    others became ready."""
    late = [row[0] for row in session.rows("overdue", now=session.now, limit=limit) if only in (None, row[0])]
    if not late:
        return 0, 0
    rows = lock(session, late)
    error = error_text("JobExpired", "it had not begun by its time")
    ends = [End(row.id, State.EXPIRED, error=error) for row in rows.values()]
    return len(ends), end(session, ends, rows)


def leave(session: Session, worker: int) -> int:
    """A worker leaves: what of its somebody asked to cancel does not go back, it ends. Return how many became ready."""
    rows = lock(session, [row[0] for row in session.rows("cancels", worker=worker)])
    ends = [
        End(row.id, State.CANCELLED, started_at=row.claimed_at)
        for row in rows.values()
        if (row.state, row.worker) == (State.RUNNING, worker)
    ]
    return end(session, ends, rows)


def bereave(session: Session, verdict: Verdict) -> int:
    """End the jobs that a dead worker lost, and those of its that somebody had asked to cancel; return how many became
    ready by it."""
    rows = lock(session, [*[job for job, _ in verdict.lost], *verdict.cancelled])
    ends = [
        End(job, State.LOST, error=error, started_at=rows[job].claimed_at, charge=1)
        for job, error in verdict.lost
    ]
    ends += [End(job, State.CANCELLED, started_at=rows[job].claimed_at) for job in verdict.cancelled]
    return end(session, ends, rows)


def reject(session: Session, why: Mapping[int, str]) -> int:
    """End new jobs that can never run as failed, each with its error; return how many became ready by it."""
    rows = lock(session, why)
    return end(session, [End(job, State.FAILED, error=why[job]) for job in rows], rows)


def revive(session: Session, ids: Sequence[int]) -> tuple[list[int], int]:
    """See `contract.Producer.retry`; also return how many are queued."""
    found = {row[0]: row for row in session.rows("revivable", ids=sorted(set(ids)))}
    if not found:
        return [], 0
    revived: dict[int, int] = dict(session.rows("revive", ids=list(found)))
    if not revived:
        return [], 0
    waits, barred = _wait_again(session, sorted(revived))
    if barred:
        session.rows("remove", ids=sorted(barred))
    back = sorted(revived.keys() - barred)
    if not back:
        return [], 0
    session.rows("forget", ids=back)
    counted = Counter((0, readable(found[job][1]), found[job][2]) for job in back)
    told = [(*key, -n) for key, n in sorted(counted.items())]
    # How many were put back is kept beside, so that what has ever ended can be told, too: it only grows.
    told += [(worker, queue, -state, n) for (worker, queue, state), n in sorted(counted.items())]
    session.rows("tally", told=json_text(told))
    return back, let_go(session, [job for job in back if revived[job] != State.NEW and job not in waits])


def _wait_again(session: Session, ids: Sequence[int]) -> tuple[dict[int, int], set[int]]:
    """Let jobs that are put back wait again for those of their parents that have not ended as they ask, and take what
    the others left since. Return for how many each waits, and those that have to stay as they are: a parent ended
    otherwise and was not put back itself, or is gone."""
    session.rows("drop_waits", ids=list(ids))
    unmet = [
        (child, place, parent, On(on))
        for child, place, parent, on, state in session.rows("edges_of", ids=list(ids))
        if state is None or not meets(On(on), State(state))
    ]
    living, ended = tell_parents(session, {parent for _, _, parent, _ in unmet})
    waits: Counter[int] = Counter()
    barred: set[int] = set()
    told: list[tuple[object, ...]] = []
    for child, place, parent, on in unmet:  # in the order of children, so parents come before theirs
        if parent in living and parent not in barred:
            waits[child] += 1
            told.append((child, place, None, None, None))
        elif parent in ended and meets(on, State(ended[parent][0])):
            told.append((child, place, *ended[parent]))
        else:
            barred.add(child)
    told = [edge for edge in told if edge[0] not in barred]
    waits = Counter({child: number for child, number in waits.items() if child not in barred})
    if told:
        session.rows("set_edges", told=json_text(told))
    if waits:
        session.rows("set_waits", told=json_text(list(waits.items())))
    return waits, barred


def forget(session: Session, ids: Sequence[int]) -> list[int]:
    """Forget finished jobs with all that belongs to them; return those that were there."""
    gone = sorted(row[0] for row in session.rows("forget", ids=sorted(set(ids))))
    if gone:
        for name in ("forget_blobs", "forget_tags", "forget_progress", "forget_edges"):
            session.rows(name, ids=gone)
    return gone


def inputs(rows: Iterable[tuple[Any, ...]]) -> list[Input]:
    """Make Inputs of the rows of the statement `inputs`."""
    return [
        Input(job, State(state), result, None if error is None else read_error(error))
        for job, state, result, error in rows
    ]
