"""New jobs that are held, wait for others, may come too late, are unique, limited or tagged: the slow path of a submit,
once for both databases. Plain jobs have a fast one in each.

Theory. Rows are stored first, as held or waiting, all but those whose unique key a living job has. Others may be
storing the same key at this moment; so whoever is refused looks for the holder, and stores again if that one has ended
meanwhile. Then the parents are told (the flag PARENT, under their rows' locks; see `endings`), those that have ended
are read, and last every new job goes where it belongs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from coserver.errors import InvalidArguments
from coserver.model.graph import Adopt, Cancel, Link, verdict
from coserver.model.job import Flag, NewJob, State
from coserver.store import endings
from coserver.store.endings import End, Ended
from coserver.store.records import INLINE, due_at, error_text, json_text
from coserver.store.session import Session


class Stored(NamedTuple):
    """`ids` as `contract.Producer.submit` returns them, and how many of the jobs are queued."""

    ids: list[int]
    ready: int


def submit(session: Session, jobs: Sequence[NewJob]) -> Stored:
    """Store the jobs, which `records.check_new` has found to be in order."""
    numbers = session.ids(len(jobs))
    holders = _store(session, jobs, numbers)
    ids = [holders.get(place, number) for place, number in enumerate(numbers)]
    new = {number: job for number, job in zip(ids, jobs, strict=True) if number > 0}
    _store_beside(session, new)
    places = [abs(number) for number in ids]
    ends, waits = _join(session, new, places)
    waiting = [number for number in new if waits.get(number)]
    if waiting:
        session.rows("set_waits", told=json_text([(number, waits[number]) for number in waiting]))
    ready = endings.end(session, ends, endings.lock(session, [one.id for one in ends])) if ends else 0
    ended = {one.id for one in ends}
    free = [
        number
        for number, job in new.items()
        if not job.held and not waits.get(number) and number not in ended
    ]
    return Stored(ids, ready + endings.let_go(session, free))


def _store(session: Session, jobs: Sequence[NewJob], numbers: Sequence[int]) -> dict[int, int]:
    """Store the rows; return the negated id of the living job instead, by the place of each that was not stored."""
    open_tasks = sorted({job.task for job in jobs if job.queue is None})
    queues: dict[str, str] = dict(session.rows("task_queues", names=open_tasks)) if open_tasks else {}
    left = sorted(range(len(jobs)), key=lambda place: (jobs[place].unique or "", place))
    holders: dict[int, int] = {}
    while True:
        told = [_row(jobs[place], numbers[place], queues, session.now) for place in left]
        stored = {row[0] for row in session.rows("store", jobs=json_text(told), now=session.now)}
        left = [place for place in left if numbers[place] not in stored]
        if not left:
            return holders
        keys = sorted({key for place in left if (key := jobs[place].unique) is not None})
        known: dict[str, int] = dict(session.rows("holders", keys=keys))
        holders.update({place: -known[key] for place in left if (key := jobs[place].unique) in known})
        left = [place for place in left if place not in holders]
        if not left:
            return holders


def _row(job: NewJob, number: int, queues: dict[str, str], now: int) -> tuple[object, ...]:
    """One row for the statement `store`. A negative `begin_by` counts from when the job is due."""
    return (
        number,
        State.HELD if job.held else State.WAITING,
        job.priority,
        Flag.UNTIL_STARTED if job.unique is not None and job.until_started else 0,
        due_at(job, now),
        job.begin_by if job.begin_within is None else -job.begin_within,
        job.queue if job.queue is not None else queues.get(job.task),
        job.task,
        job.args if len(job.args) <= INLINE else None,
        job.options,
        job.max_crashes,
        job.unique,
        job.limit,
    )


def _store_beside(session: Session, new: dict[int, NewJob]) -> None:
    """Store large arguments and tags."""
    blobs = [(number, 0, job.args) for number, job in new.items() if len(job.args) > INLINE]
    if blobs:
        session.rows("add_blobs", told=json_text(blobs))
    tags = sorted((tag, number) for number, job in new.items() for tag in set(job.tags))
    if tags:
        session.rows("add_tags", told=json_text(tags))


def _join(
    session: Session, new: dict[int, NewJob], places: Sequence[int]
) -> tuple[list[End], dict[int, int]]:
    """Store the edges. Return the jobs that end at once, because a parent has ended otherwise, and for how many
    parents each job waits."""
    parents = {
        number: [places[edge.job] if edge.here else edge.job for edge in job.after]
        for number, job in new.items()
        if job.after
    }
    if not parents:
        return [], {}
    ended = _tell(session, {parent for its in parents.values() for parent in its}, new, parents)
    edges: list[tuple[object, ...]] = []
    ends: list[End] = []
    waits: dict[int, int] = {}
    for number, its in parents.items():
        links = []
        for place, (parent, edge) in enumerate(zip(its, new[number].after, strict=True)):
            state, result, error = ended.get(parent, (None, None, None))
            edges.append((number, place, parent, edge.on, state, result, error))
            if state is None:
                waits[number] = waits.get(number, 0) + 1
            else:
                links.append(Link(number, parent, edge.on, State(state)))
        match verdict(links):
            case Cancel(why):
                ends.append(End(number, State.CANCELLED, error=error_text("JobCancelled", why)))
            case Adopt() | None:
                pass
    session.rows("add_edges", told=json_text(edges))
    return ends, waits


def _tell(
    session: Session, parents: set[int], new: dict[int, NewJob], children: dict[int, list[int]]
) -> dict[int, Ended]:
    """Raise PARENT on the living parents; return how the others ended."""
    living, ended = endings.tell_parents(session, parents)
    left = parents - living - ended.keys()
    if not left:
        return ended
    missing = min(left)
    child = next(number for number, its in children.items() if missing in its)
    raise InvalidArguments(
        f"cannot submit {new[child].task}: job {missing}, which it is to wait for, does not exist (any more); "
        "name one that does"
    )
