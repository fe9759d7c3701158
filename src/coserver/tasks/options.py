"""What a submit may say beside the arguments: priority, delay, queue, retries, timeout.

Every option unset means: as the task says. What the worker has to know travels with the job as JSON text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from coserver.errors import UsageError
from coserver.model import units
from coserver.model.job import Priority
from coserver.model.retry import RetryPolicy
from coserver.tasks.retry import Retry

PriorityName = Literal["high", "normal", "low"]

_PRIORITIES = {priority.name.lower(): priority for priority in Priority}


@dataclass(frozen=True, slots=True)
class Options:
    """Checked options of a submit; `delay` in µs, `retries` as JSON text for the worker, `timeout` in seconds."""

    priority: Priority | None = None
    delay: int | None = None
    queue: str | None = None
    retries: str | None = None
    timeout: float | None = None

    def over(self, under: Options) -> Options:
        """Return these options, with those of `under` where one is unset here."""
        return Options(
            under.priority if self.priority is None else self.priority,
            under.delay if self.delay is None else self.delay,
            under.queue if self.queue is None else self.queue,
            under.retries if self.retries is None else self.retries,
            under.timeout if self.timeout is None else self.timeout,
        )

    def text(self) -> str | None:
        """Return what the worker has to know, as JSON text; None when it is nothing."""
        if self.timeout is None:
            return self.retries
        said = _Said() if self.retries is None else msgspec.json.decode(self.retries, type=_Said)
        said.timeout = self.timeout
        return msgspec.json.encode(said).decode()


def options(
    *,
    priority: PriorityName | None = None,
    delay: units.Duration | None = None,
    queue: str | None = None,
    retries: int | Retry | None = None,
    timeout: units.Duration | None = None,
) -> Options:
    """Check options as a caller writes them. Raises `UsageError`."""
    return Options(
        None if priority is None else priority_named(priority),
        None if delay is None else _delay(delay),
        None if queue is None else queue_named(queue),
        None if retries is None else _retries_text(retries),
        None if timeout is None else timeout_of(timeout),
    )


def priority_named(name: object) -> Priority:
    """Return the priority of that name. Raises `UsageError`."""
    found = _PRIORITIES.get(name) if isinstance(name, str) else None
    if found is None:
        raise UsageError(f'cannot use {name!r} as a priority; write "high", "normal" or "low"')
    return found


def queue_named(name: object) -> str:
    """Return the name of a queue. Raises `UsageError` for what cannot be one."""
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        raise UsageError(f"cannot use {name!r} as a queue; write a name, such as 'mail'")
    return name


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


Takes = Literal["result", "results", "failure"]


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


def _read(text: str | None) -> _Said | None:
    if text is None:
        return None
    try:
        return msgspec.json.decode(text, type=_Said)
    except (msgspec.DecodeError, UnicodeError):
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
            f'cannot use {timeout!r} as the timeout of a job: it is over at once; write 30 or "2m"'
        )
    return seconds


def _delay(delay: units.Duration) -> int:
    try:
        return units.microseconds(delay)
    except ValueError as error:
        raise UsageError(f"{error} (delay of a job)") from None


def refuse_unbuilt(what: str, given: dict[str, Any]) -> None:
    """Raise `UsageError` when an option is used whose feature does not exist yet: it must not be ignored."""
    for name, value in given.items():
        if value is not None and value is not False:
            raise UsageError(f"cannot {what}: {name}= is not supported yet; leave it out")
