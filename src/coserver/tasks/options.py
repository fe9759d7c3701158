"""What a submit may say beside the arguments: when, where, how urgent, how often, after what.

Theory. Every option unset means: as the task says. What the store has to know becomes fields of the new job; what only
the worker has to know (retries, timeout, where its arguments come from) travels with the job as JSON text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack

import msgspec

from coserver.errors import UsageError
from coserver.model import units
from coserver.model.job import Edge, On, Priority
from coserver.model.limit import refuse_key
from coserver.model.names import QUEUE_RULE, is_queue, shown
from coserver.model.retry import RetryPolicy
from coserver.tasks.retry import Retry

if TYPE_CHECKING:
    from coserver.tasks.handle import Job

PriorityName = Literal["high", "normal", "low"]
UniqueUntil = Literal["finished", "started"]
When = Literal["success", "failure", "end"]
Takes = Literal["result", "results", "failure"]

_PRIORITIES = {priority.name.lower(): priority for priority in Priority}
_WHEN = {"success": On.SUCCESS, "failure": On.FAILURE, "end": On.END}
NAME_KEPT = 500
"""Characters of a tag, a unique key or a limit key."""


@dataclass(frozen=True, slots=True)
class Options:
    """Checked options of a submit. `delay`, `begin_within` in µs, `run_at` in µs UTC, `timeout` in seconds; `retries`
    as JSON text for the worker; `unique` True: by the arguments."""

    priority: Priority | None = None
    delay: int | None = None
    run_at: int | None = None
    queue: str | None = None
    retries: str | None = None
    timeout: float | None = None
    held: bool | None = None
    begin_within: int | None = None
    unique: str | bool | None = None
    until_started: bool | None = None
    limit: str | None = None
    tags: tuple[str, ...] | None = None
    after: tuple[Edge, ...] | None = None
    takes: Takes | None = None
    connection: Any = None

    def over(self, under: Options) -> Options:
        """Return these options, with those of `under` where one is unset here."""
        if under is UNSET or self is under:
            return self
        if self is UNSET:
            return under
        chosen = Options(
            *(
                mine if (mine := getattr(self, field.name)) is not None else getattr(under, field.name)
                for field in fields(self)
            )
        )
        if (
            chosen.delay is not None and chosen.run_at is not None
        ):  # said in two places: the nearer one counts
            object.__setattr__(chosen, "run_at" if self.run_at is None else "delay", None)
        return chosen

    def text(self) -> str | None:
        """Return what the worker has to know, as JSON text; None when it is nothing."""
        if self.timeout is None and self.takes is None:
            return self.retries
        said = _Said() if self.retries is None else msgspec.json.decode(self.retries, type=_Said)
        said.timeout = self.timeout
        said.takes = self.takes
        return msgspec.json.encode(said).decode()

    def key(self, task: str, args: str) -> str | None:
        """Return the unique key of a job of this task with these arguments (JSON text), None when it has none."""
        if self.unique is None or self.unique is False:
            return None
        if self.unique is True:
            return f"{task}#{sha256(args.encode()).hexdigest()}"
        return f"{task} {self.unique}"


UNSET = Options()
"""Nothing said."""


class SubmitOptions(TypedDict, total=False):
    """What `Task.options` and `Client.submit` take, as a caller writes it; see there for the meanings."""

    priority: PriorityName | None
    delay: units.Duration | None
    at: datetime | None
    queue: str | None
    retries: int | Retry | None
    timeout: units.Duration | None
    hold: bool | None
    begin_by: units.Duration | None
    unique: str | bool | None
    unique_until: UniqueUntil | None
    limit: str | None
    tags: Sequence[str] | None
    after: Iterable[Job[Any]] | Job[Any] | None
    when: When | None
    connection: Any


_KNOWN = SubmitOptions.__optional_keys__


def options(**said: Unpack[SubmitOptions]) -> Options:
    """Check options as a caller writes them; None is as good as unset. Raises `UsageError`, and TypeError for an option
    that does not exist, as a call would."""
    given = {name: value for name, value in said.items() if value is not None}
    unknown = given.keys() - _KNOWN
    if unknown:
        raise TypeError(
            f"no such option of a submit: {', '.join(sorted(unknown))}; there are {', '.join(sorted(_KNOWN))}"
        )
    if "delay" in given and "at" in given:
        raise UsageError("cannot use delay= and at= together; give one of them")
    if "when" in given and "after" not in given:
        raise UsageError("cannot use when= without after=; name the jobs that it waits for")
    when = given.pop("when", "success")
    checked: dict[str, Any] = {}
    for name, value in given.items():
        field, check = _CHECKS[name]
        checked[field] = check(value)
    if "after" in given:
        checked["after"] = edges(given["after"], when)  # type: ignore[arg-type]
    return Options(**checked)


def edges(after: Iterable[Job[Any]] | Job[Any], when: When = "success") -> tuple[Edge, ...]:
    """Return what waiting for these jobs means to the store. Raises `UsageError`."""
    from coserver.tasks.handle import Job

    if when not in _WHEN:
        raise UsageError(f'cannot wait for {shown(when)} of a job; write "success", "failure" or "end"')
    stated: object = after
    given: Iterable[object] = (
        stated if isinstance(stated, Iterable) and not isinstance(stated, str) else [stated]
    )
    found = []
    for job in given:
        if not isinstance(job, Job):
            raise UsageError(
                f"cannot wait for {shown(job)}: it is no job; give what a submit returned, or client.job(NUMBER)"
            )
        found.append(Edge(job.id, _WHEN[when]))
    return tuple(found)


def begin_within_of(begin_by: units.Duration) -> int:
    """Return within how many µs a job has to begin once it is due. Raises `UsageError`."""
    return _microseconds(begin_by, "begin_by")


def unique_of(unique: str | bool) -> str | bool:
    """Check what makes jobs of a task the same: True for their arguments, or a key. Raises `UsageError`."""
    return unique if isinstance(unique, bool) else _name(unique, "unique key")


def refuse_idle(said: Options, under: Options = UNSET) -> None:
    """Raise `UsageError` for options of a submit, over those of its task, of which one can have no effect."""
    unique = under.unique if said.unique is None else said.unique
    if said.until_started is not None and not unique:
        raise UsageError(
            "cannot use unique_until= without unique=; say what is unique: a key, or True for the arguments"
        )


def until_started_of(unique_until: UniqueUntil) -> bool:
    """Return whether a unique key is free again when the job starts. Raises `UsageError`."""
    if unique_until not in ("finished", "started"):
        raise UsageError(f'cannot use {shown(unique_until)} as unique_until; write "finished" or "started"')
    return unique_until == "started"


def limit_of(limit: str) -> str:
    """Check a limit key, such as "api" or "user:7". Raises `UsageError`."""
    name = _name(limit, "limit key")
    reason = refuse_key(name)
    if reason is not None:
        raise UsageError(f"cannot use {shown(name)} as a limit key: it {reason}")
    return name


def _tags(tags: Sequence[str]) -> tuple[str, ...]:
    if isinstance(tags, str):
        raise UsageError(f"cannot use {shown(tags)} as tags: it is a single text; write tags=[{shown(tags)}]")
    given: object = tags
    if not isinstance(given, Iterable):
        raise UsageError(
            f'cannot use {shown(tags)} as tags: it is no list; write one, such as tags=["spring"]'
        )
    return tuple(dict.fromkeys(_name(tag, "tag") for tag in tags))


def _name(name: object, what: str) -> str:
    if not isinstance(name, str) or not name.strip() or not name.isprintable() or len(name) > NAME_KEPT:
        raise UsageError(f"cannot use {shown(name)} as a {what}; write 1 to {NAME_KEPT} printable characters")
    return name


def _moment(at: datetime) -> int:
    given: object = at
    if not isinstance(given, datetime):
        raise UsageError(
            f"cannot use {shown(at)} as the time of a job: it is no datetime; give one that says its time zone, "
            'such as datetime.fromisoformat("2026-01-31T12:00+00:00")'
        )
    if given.tzinfo is None:
        raise UsageError(
            f"cannot use {at!r} as the time of a job: it says no time zone; give a datetime with tzinfo, such as "
            "datetime.now(UTC) + timedelta(hours=1)"
        )
    return int(given.timestamp() * 1e6)


def priority_named(name: object) -> Priority:
    """Return the priority of that name. Raises `UsageError`."""
    found = _PRIORITIES.get(name) if isinstance(name, str) else None
    if found is None:
        raise UsageError(f'cannot use {shown(name)} as a priority; write "high", "normal" or "low"')
    return found


def queue_named(name: object) -> str:
    """Return the name of a queue that jobs are put into. Raises `UsageError` for one that no configuration can name."""
    if not isinstance(name, str) or not is_queue(name):
        raise UsageError(f"cannot use {shown(name)} as a queue: {QUEUE_RULE}; write a name such as 'mail'")
    return name


def queue_known(name: object) -> str:
    """Return the name of a queue that may be there, however it came to be. Raises `UsageError` for what is no name."""
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        raise UsageError(f"cannot use {shown(name)} as a queue: it is no name; write one such as 'mail'")
    return name


def flag_of(name: str, value: object) -> bool:
    """Return whether an option that is on or off is on. Raises `UsageError` for what is neither."""
    if not isinstance(value, bool):
        raise UsageError(f"cannot use {shown(value)} as {name}; write True or False")
    return value


def retry(retries: int | Retry) -> Retry:
    """Return a retry policy for a number of retries. Raises `UsageError`."""
    return retries if isinstance(retries, Retry) else Retry(retries)


def policy_over(policy: RetryPolicy, text: str | None) -> RetryPolicy:
    """Return a task's policy with what a job's options say instead. Unreadable options say nothing."""
    said = _read(text)
    if said is None:
        return policy
    return RetryPolicy(
        policy.retries if said.retries is msgspec.UNSET else said.retries,
        policy.first if said.first is None else said.first,
        policy.longest if said.longest is None else said.longest,
        policy.on,
        policy.never,
    )


def timeout_over(timeout: float | None, text: str | None) -> float | None:
    """Return a task's timeout in seconds, or what a job's options say instead. Unreadable options say nothing."""
    said = _read(text)
    return timeout if said is None or said.timeout is None else said.timeout


def takes(text: str | None) -> Takes | None:
    """Return what of the jobs it waited for a job gets as its only argument, by its options; None for its own."""
    said = _read(text)
    return None if said is None else said.takes


class _Said(msgspec.Struct, omit_defaults=True):
    """A job's options on the wire. `retries` null: for ever; `timeout` in seconds."""

    retries: int | msgspec.UnsetType | None = msgspec.UNSET
    first: float | None = None
    longest: float | None = None
    timeout: float | None = None
    takes: Takes | None = None


_decode = msgspec.json.Decoder(_Said).decode


def _read(text: str | None) -> _Said | None:
    if text is None:
        return None
    try:
        return _decode(text)
    except (msgspec.DecodeError, UnicodeError):
        return None


def refuse_text(text: str) -> str | None:
    """Return why nobody can read a job's options (JSON text), None if they can be read."""
    try:
        msgspec.json.decode(text, type=_Said)
    except (msgspec.DecodeError, UnicodeError) as error:
        return f"they are not what options are ({error}); write a JSON object such as " + '{"retries": 3}'
    return None


def _retries_text(retries: int | Retry) -> str:
    if not isinstance(retries, Retry):
        said = _Said(Retry(retries).retries)
    else:
        if retries.on != (Exception,) or retries.never != ():
            raise UsageError(
                "cannot send on= or never= of a Retry with a job: exception classes do not travel; state them at @task"
            )
        policy = retries.policy()
        said = _Said(policy.retries, policy.first, policy.longest)
    return msgspec.json.encode(said).decode()


def timeout_of(timeout: units.Duration) -> float:
    """Return a timeout in seconds. Raises `UsageError` for none and for what is no duration."""
    try:
        seconds = units.seconds(timeout)
    except ValueError as error:
        raise UsageError(f"{error} (timeout of a job)") from None
    if seconds <= 0:
        raise UsageError(
            f'cannot use {shown(timeout)} as the timeout of a job: it is over at once; write 30 or "2m"'
        )
    return seconds


def _microseconds(duration: units.Duration, what: str) -> int:
    try:
        return units.microseconds(duration)
    except ValueError as error:
        raise UsageError(f"{error} ({what} of a job)") from None


def _as_given(value: Any) -> Any:
    return value


_CHECKS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "priority": ("priority", priority_named),
    "delay": ("delay", lambda value: _microseconds(value, "delay")),
    "at": ("run_at", _moment),
    "queue": ("queue", queue_named),
    "retries": ("retries", _retries_text),
    "timeout": ("timeout", timeout_of),
    "hold": ("held", lambda value: flag_of("hold", value)),
    "begin_by": ("begin_within", begin_within_of),
    "unique": ("unique", unique_of),
    "unique_until": ("until_started", until_started_of),
    "limit": ("limit", limit_of),
    "tags": ("tags", _tags),
    "after": ("after", _as_given),
    "connection": ("connection", _as_given),
}
"""For each option: the field of `Options` that it becomes, and how it is checked."""
