"""Between rows and records, the same for both dialects: no SQL and no I/O here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter, itemgetter
from typing import Any, Literal, assert_never

import msgspec

from coserver.errors import InvalidArguments
from coserver.model.job import (
    DEFAULT_QUEUE,
    Cancelled,
    Crashed,
    Error,
    Failed,
    Flag,
    Interrupted,
    JobFilter,
    JobInfo,
    Limit,
    NewJob,
    On,
    Outcome,
    Priority,
    Progress,
    Release,
    Retry,
    State,
    Succeeded,
    TakeOver,
)
from coserver.model.limit import QUEUE, refuse_key
from coserver.model.names import shown
from coserver.model.payload import MAX_BYTES, refuse_args
from coserver.tasks.options import refuse_text

INLINE = 2000
"""Arguments and results with more characters than this lie in `coserver_blob`, so that no rewritten row carries them
(measured on SQLite: from about 2 KB on, claiming runs twice as fast)."""

UPKEEP_PER_EXCHANGE = 100
"""How many jobs one exchange routes, promotes or rescues at most on its way."""

EXPIRED_PER_EXCHANGE = 500
"""How many jobs that have not begun in time one exchange ends at most."""

PASSED_OVER = 50_000
"""After how many µs somebody looks again at what is due, but was passed over because another transaction held it."""

KEEP_WORKERS = 7 * 86_400_000_000
"""Incarnations that ended longer ago (µs) are forgotten."""

IDS = range(-(2**63), 2**63)
"""What the databases can hold as an id; a number beyond is nobody's."""

by_place = itemgetter(7, 10)
"""The order of claimed rows: priority, then place in line."""

_likeness = attrgetter("task", "queue", "priority", "max_crashes", "run_at", "delay", "options")
_NAME = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{1,500}").fullmatch
_encode = msgspec.json.Encoder().encode
_decode_error = msgspec.json.Decoder(Error).decode


@dataclass(slots=True)
class Batch:
    """The outcomes of one exchange, sorted by what has to be done with them."""

    succeeded: list[Succeeded] = field(default_factory=list)
    failed: list[Failed] = field(default_factory=list)
    retries: list[Retry] = field(default_factory=list)
    releases: list[Release] = field(default_factory=list)
    rare: list[Cancelled | TakeOver | Crashed | Interrupted] = field(default_factory=list)
    """what only the slow path knows"""

    def __bool__(self) -> bool:
        return bool(self.succeeded or self.failed or self.retries or self.releases or self.rare)


def sort_outcomes(outcomes: Iterable[Outcome]) -> Batch:
    """Sort outcomes by kind, keeping their order."""
    batch = Batch()
    for outcome in outcomes:
        match outcome:
            case Succeeded():
                batch.succeeded.append(outcome)
            case Failed():
                batch.failed.append(outcome)
            case Retry():
                batch.retries.append(outcome)
            case Release():
                batch.releases.append(outcome)
            case Cancelled() | TakeOver() | Crashed() | Interrupted():
                batch.rare.append(outcome)
            case _:
                assert_never(outcome)
    return batch


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of jobs that a dead worker held: `back` are (id, 0 or 1 crashes to charge), `lost` (id, the JSON
    text of the error), `cancelled` ids."""

    back: list[tuple[int, int]] = field(default_factory=list)
    lost: list[tuple[int, str]] = field(default_factory=list)
    cancelled: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Freed:
    """What upkeep did so far, and how much of it made jobs ready, so that somebody may have to be roused."""

    ready: int = 0
    routed: int = 0
    promoted: int = 0
    more: bool = False
    uncharged: list[int] = field(default_factory=list)
    crashed: list[int] = field(default_factory=list)
    lost: list[int] = field(default_factory=list)
    cancelled: list[int] = field(default_factory=list)
    expired: int = 0

    @property
    def rescued(self) -> int:
        """How many jobs of dead workers were dealt with."""
        return len(self.uncharged) + len(self.crashed) + len(self.lost) + len(self.cancelled)

    def wait(self, due: int | None) -> int | None:
        """In how many µs to look again, when time alone makes work in `due`. What has been due for a while, though
        this pass found nothing to do, was passed over."""
        if due is None or due > -PASSED_OVER:
            return None if due is None else max(due, 0)
        moved = self.promoted or self.expired or self.routed or self.rescued or self.ready > 0 or self.more
        return 0 if moved else PASSED_OVER

    def join(self, other: Freed) -> None:
        """Count what another pass did."""
        self.ready += other.ready
        self.routed += other.routed
        self.promoted += other.promoted
        self.expired += other.expired
        self.uncharged += other.uncharged
        self.crashed += other.crashed
        self.lost += other.lost
        self.cancelled += other.cancelled
        self.more = self.more or other.more

    def add(self, verdict: Verdict) -> None:
        """Count what a verdict did."""
        self.uncharged += [job for job, charge in verdict.back if not charge]
        self.crashed += [job for job, charge in verdict.back if charge]
        self.lost += [job for job, _ in verdict.lost]
        self.cancelled += verdict.cancelled
        self.ready += len(verdict.back)


def judge(rows: Iterable[Sequence[Any]], started: str | None, note: str | None, process: str) -> Verdict:
    """Decide on rows of the statement `left_running` (id, crashes, flags, limit of crashes): who had not begun goes
    back uncharged, who had is charged with a crash, and lost at its limit; what somebody asked to cancel is. `started`
    is the JSON array of ids that had begun; None means that nobody knows, so all count as begun."""
    begun = None if started is None else set(msgspec.json.decode(started))
    verdict = Verdict()
    for job, crashes, flags, limit in rows:
        if flags & Flag.CANCEL:
            verdict.cancelled.append(job)
        elif begun is not None and job not in begun:
            verdict.back.append((job, 0))
        elif crashes + 1 < limit:
            verdict.back.append((job, 1))
        else:
            verdict.lost.append((job, lost_text(note, process, crashes + 1)))
    return verdict


@dataclass(frozen=True, slots=True)
class Route:
    """Where a new row goes: into `queue`, at once (`run_at` None) or when due; its arguments into a blob if `large`.
    `limit` is the limit key that it asks for."""

    id: int
    queue: str
    run_at: int | None
    large: bool
    limit: str | None


@dataclass(frozen=True, slots=True)
class Reject:
    """A new row that can never run, and why, as the JSON text of an error."""

    id: int
    error: str


def route(row: Sequence[Any], now: int) -> Route | Reject:
    """Decide on one row of the statement `unrouted`: id, queue, the task's queue, priority, run_at, args, whether args
    is NULL, options, unique_key, limit_key, and what is the caller's. Text may come as bytes, which need not be UTF-8.

    Args None without being NULL means that they are too large to be read at all.
    """
    number, queue, usual, priority, run_at, args, missing, *others, _ = row
    try:
        queue, args = _decoded("queue", queue), _decoded("args", args)
        columns = ("options", "unique_key", "limit_key")
        options, _, limit = [_decoded(column, value) for column, value in zip(columns, others, strict=True)]
    except ValueError as error:
        reason: str | None = f": {error}"
    else:
        reason = (
            _refusal(priority, args, missing=bool(missing)) or refuse_limit(limit) or _refuse_options(options)
        )
    if reason is not None:
        return Reject(number, error_text("InvalidArguments", f"cannot run the job{reason}"))
    due = None if run_at is None or run_at <= now else run_at
    return Route(number, queue or usual or DEFAULT_QUEUE, due, len(args) > INLINE, limit)


def _refusal(priority: int, args: str | None, *, missing: bool) -> str | None:
    """Why a new row can never run, None if it can."""
    if missing:
        return ": args is NULL; write '[]' for none"
    refused = f"they take more than {MAX_BYTES // 1024 // 1024} MiB" if args is None else refuse_args(args)
    if refused is not None:
        return f" with these arguments: {refused}"
    if priority not in (0, 1, 2):
        return f": its priority is {priority}; 0 is high, 1 normal, 2 low"
    return None


def _refuse_options(text: str | None) -> str | None:
    reason = None if text is None else refuse_text(text)
    return None if reason is None else f" with these options: {reason}"


def refuse_limit(key: str | None) -> str | None:
    """Why a job may not have this limit key, None if it may."""
    reason = None if key is None else refuse_key(key)
    return None if reason is None else f": its limit key {shown(key)} {reason}"


def check_queue(name: str) -> None:
    """Raise InvalidArguments if no queue can have this name."""
    if not _NAME(name):
        raise InvalidArguments(
            f"cannot pause {shown(name)}: it is no name of a queue; use 1 to 500 printable characters"
        )


def check_limits(limits: Iterable[Limit]) -> None:
    """Raise InvalidArguments if a limit bounds nothing that there is, or by less than nothing."""
    for limit in limits:
        name = limit.name.removeprefix(QUEUE)
        if not _NAME(name) or (":" in name and name == limit.name) or limit.name + ":" == QUEUE:
            raise InvalidArguments(
                f"cannot declare the limit {shown(limit.name)}: name it queue:NAME, or as what stands before the "
                "colon of limit keys"
            )
        counts = [n for n in (limit.running, limit.starts) if n is not None]
        unpaired = (limit.starts is None) != (limit.period is None)
        if (
            unpaired
            or not all(0 < n < 2**31 for n in counts)
            or (limit.period is not None and limit.period <= 0)
        ):
            raise InvalidArguments(
                f"cannot declare the limit {shown(limit.name)}: give positive numbers, and starts with their period"
            )


def _decoded(column: str, value: str | bytes | None) -> str | None:
    """The text of a column. ValueError, in words, if it is none."""
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"its {column} is not UTF-8 text (byte {error.start + 1} is 0x{value[error.start]:02x}); insert it as UTF-8"
        ) from None


def readable(value: str | bytes | None) -> str:
    """A text column for people and counters: what is not UTF-8 is replaced, NULL is empty."""
    if value is None:
        return ""
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def check_new(jobs: Sequence[NewJob]) -> bool:
    """Raise InvalidArguments if any of the jobs cannot be stored. Return whether all are plain: not held, free to begin
    at any time, neither unique nor limited, without tags and parents."""
    for name in {name for job in jobs for name in (job.task, job.queue)}:
        if name is not None and not _NAME(name):
            raise InvalidArguments(
                f"cannot submit the job: {shown(name)} is no name of a task or queue; use 1 to 500 printable characters"
            )
    plain = True
    for place, job in enumerate(jobs):
        if not job.checked:
            reason = refuse_args(job.args)
            if reason is not None:
                raise InvalidArguments(f"cannot submit {job.task} with these arguments: {reason}")
        if job.run_at is not None and job.delay is not None:
            raise InvalidArguments(
                f"cannot submit {job.task}: run_at and delay exclude each other; give one of them"
            )
        if (
            job.unique is not None
            or job.limit is not None
            or job.begin_within is not None
            or job.begin_by is not None
            or job.tags
            or job.after
            or job.held
        ):
            _check_rest(job, place)
            plain = False
    return plain


def _check_rest(job: NewJob, place: int) -> None:
    """Raise InvalidArguments if what makes a job more than plain is in disorder. `place`: its own in the submit."""
    refused = refuse_limit(job.limit)
    if refused is not None:
        raise InvalidArguments(f"cannot submit {job.task}{refused}")
    for what, key in (
        ("unique key", job.unique),
        ("limit key", job.limit),
        *(("tag", tag) for tag in job.tags),
    ):
        if key is not None and not _NAME(key):
            raise InvalidArguments(
                f"cannot submit {job.task}: {shown(key)} is no {what}; use 1 to 500 printable characters"
            )
    if job.begin_within is not None and job.begin_by is not None:
        raise InvalidArguments(
            f"cannot submit {job.task}: begin_within and begin_by exclude each other; give one of them"
        )
    if (job.begin_within is not None and job.begin_within <= 0) or (
        job.begin_by is not None and job.begin_by <= 0
    ):
        raise InvalidArguments(
            f"cannot submit {job.task}: it could never begin in time; give it more than none"
        )
    for edge in job.after:
        if edge.on is On.TAKE_OVER:
            raise InvalidArguments(
                f"cannot submit {job.task}: only a job that ran takes over from another; wait for its end"
            )
        if not edge.here and edge.job not in IDS:
            raise InvalidArguments(
                f"cannot submit {job.task}: {edge.job}, which it is to wait for, is no job's id; name a job"
            )
        if edge.here and not 0 <= edge.job < place:
            raise InvalidArguments(
                f"cannot submit {job.task}: it is to wait for number {edge.job} of this submit, but is number {place} "
                "itself; put parents before their children"
            )


def alike(jobs: Sequence[NewJob]) -> bool:
    """Whether plain jobs, at least one, differ in nothing but their arguments, none of which is large."""
    return len(set(map(_likeness, jobs))) == 1 and max(len(job.args) for job in jobs) <= INLINE


def due_at(job: NewJob, now: int) -> int | None:
    """Return when a new job is due (µs UTC), None for at once."""
    at = now + job.delay if job.delay is not None else job.run_at
    return None if at is None or at <= now else at


def progress_text(told: Iterable[Progress]) -> str:
    """The JSON text of [id, claim, fraction, note] of each job, its last word, in the order of ids."""
    last = {(one.id, one.claim): one for one in told}
    return json_text([(*key, last[key].fraction, last[key].note) for key in sorted(last)])


def json_text(value: object) -> str:
    """The JSON text of a value, several times as fast as the standard library's."""
    return _encode(value).decode()


def error_text(type: str, message: str, traceback: str = "") -> str:
    """The JSON text of an error as the store keeps it."""
    return json_text(Error(type, message, traceback))


def lost_text(note: str | None, process: str, crashes: int) -> str:
    """The error of a job that is lost."""
    times = "its worker died" if crashes == 1 else f"its worker died for the {_ordinal(crashes)} time"
    return error_text("JobLost", f"{times} while running it, last {process}: {note or 'no cause is known'}")


def died_text(note: str, crashes: int) -> str:
    """The error of a job that is lost because the process that ran it died, though its worker lives."""
    times = "its process died" if crashes == 1 else f"its process died for the {_ordinal(crashes)} time"
    return error_text("JobLost", f"{times} while running it: {note}")


def interrupted_text(note: str) -> str:
    """The error of a job that began, was interrupted and begins again."""
    return error_text("Interrupted", f"{note}; it begins again, and this attempt is not charged")


def cut_text(note: str) -> str:
    """The error of a job that is lost because it was interrupted."""
    return error_text("JobLost", f'{note}; it may begin only once (on_lost="fail")')


def _ordinal(n: int) -> str:
    return {2: "second", 3: "third"}.get(n, f"{n}th")


Listing = Literal["jobs", "jobs_failing", "jobs_running", "jobs_tagged", "jobs_unsuccessful"]


def listing(where: JobFilter) -> Listing:
    """The statement that lists such jobs without reading a long backlog, or all that ever succeeded, for a few rows."""
    states = set(where.states)
    if where.tag is not None:
        return "jobs_tagged"
    if states == {State.RUNNING}:
        return "jobs_running"
    if states and min(states) > State.SUCCEEDED:
        return "jobs_unsuccessful"
    return "jobs" if where.error is None else "jobs_failing"


def filters(where: JobFilter) -> dict[str, str | int | None]:
    """The parameters of these statements, but for the states. Errors are kept as JSON, so what is looked for in them
    has to be escaped like them."""
    return {
        "queue": where.queue,
        "task": where.task,
        "tag": where.tag,
        "error": None if where.error is None else json_text(where.error)[1:-1],
        "args": where.args,
        "since": below(where.since),
        "until": below(where.until),
    }


def possible(ids: Iterable[int]) -> list[int]:
    """Those of `ids` that a job can have."""
    return [number for number in ids if number in IDS]


def below(before: int | None) -> int | None:
    """The bound of a page as the databases can read it."""
    return None if before is None else min(max(before, IDS[0]), IDS[-1])


def job_info(row: Sequence[Any]) -> JobInfo:
    """Make a JobInfo of a row of the statements `job` and `jobs`, which say less; their text may come as bytes."""
    (number, task, queue, state, priority, args, attempt, crashes, created_at, run_at, started_at, finished_at, worker,
     result, error, *more) = row  # fmt: skip
    info = JobInfo(
        id=number,
        task=readable(task),
        queue=_readable(queue),
        state=State(state),
        priority=Priority(min(max(priority, 0), 2)),
        args=readable(args),
        attempt=attempt + (started_at is not None),  # a row counts those that were charged
        crashes=crashes,
        created_at=created_at,
        run_at=run_at,
        started_at=started_at,
        finished_at=finished_at,
        worker=worker,
        result=_readable(result),
        error=None if error is None else read_error(readable(error)),
    )
    return _with_more(info, more) if more else info


def _with_more(info: JobInfo, more: Sequence[Any]) -> JobInfo:
    (flags, begin_by, unique, limit, blocked_on, options, fraction, note, tags, parents, children) = more
    return replace(
        info,
        flags=Flag(flags),
        begin_by=begin_by if begin_by is None or begin_by > 0 else None,
        unique=_readable(unique),
        limit=_readable(limit),
        blocked_on=_readable(blocked_on),
        options=_readable(options),
        progress=fraction,
        note=note or "",
        tags=tuple(msgspec.json.decode(tags)),
        parents=tuple(msgspec.json.decode(parents)),
        children=tuple(msgspec.json.decode(children)),
    )


def _readable(value: str | bytes | None) -> str | None:
    return None if value is None else readable(value)


def read_error(text: str) -> Error:
    """Read an error's JSON text; whatever else lies there is shown as it is."""
    try:
        return _decode_error(text)
    except msgspec.MsgspecError:
        return Error("Error", text)
