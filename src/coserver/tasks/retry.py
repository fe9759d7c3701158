"""How a task says that it wants to be tried again."""

from __future__ import annotations

from dataclasses import dataclass

from coserver.errors import UsageError
from coserver.model import units
from coserver.model.names import shown
from coserver.model.retry import RetryPolicy

Errors = type[BaseException] | tuple[type[BaseException], ...]


@dataclass(frozen=True, slots=True)
class Retry:
    """A retry policy: `retries=Retry(3, backoff="1s..10m", on=(OSError,), never=(FileNotFoundError,))`.

    `retries`: how many attempts follow the first one; None never gives up. `backoff`: the wait before the first retry
    and the longest one, between which it doubles; one duration alone is always waited. `on` and `never`: exception
    classes that are, and are not, worth another attempt. Raises `UsageError`.
    """

    retries: int | None
    backoff: units.Duration = "1s..10m"
    on: Errors = (Exception,)
    never: Errors = ()

    def __post_init__(self) -> None:
        self.policy()

    def policy(self) -> RetryPolicy:
        """Return what this says in the terms of `model.retry`."""
        given: object = self.retries
        if given is not None and not (isinstance(given, int) and not isinstance(given, bool) and given >= 0):
            raise UsageError(
                f"cannot use {shown(self.retries)} as a number of retries; write a whole number from 0, or Retry(None) "
                "to go on for ever"
            )
        try:
            if isinstance(self.backoff, str) and ".." in self.backoff:
                first, longest = units.seconds_range(self.backoff)
            else:
                first = longest = units.seconds(self.backoff)
        except ValueError as error:
            raise UsageError(f"{error} (backoff of a Retry)") from None
        return RetryPolicy(
            self.retries, first, longest, _classes("on", self.on), _classes("never", self.never)
        )


class RetryLater(Exception):
    """Raised by a task to be tried again after a time that it names: `raise RetryLater("30s", "rate limited")`.

    The attempt is charged like any other; with no retry left the job fails. `delay` is in seconds.
    """

    def __init__(self, delay: units.Duration, reason: str = "") -> None:
        self.delay = units.seconds(delay)
        self.reason = reason
        super().__init__(reason or f"asked to be tried again after {units.format_seconds(self.delay)}")

    def __reduce__(self) -> tuple[type[RetryLater], tuple[float, str]]:
        return self.__class__, (self.delay, self.reason)


RetryLater.__module__ = "coserver"  # its public name, as failed jobs show it


def _classes(name: str, given: Errors) -> tuple[type[BaseException], ...]:
    classes = given if isinstance(given, tuple) else (given,)
    for one in classes:
        if not _is_error_class(one):
            raise UsageError(f"cannot use {shown(one)} in {name}= of a Retry: it is no exception class")
    return classes


def _is_error_class(thing: object) -> bool:
    return isinstance(thing, type) and issubclass(thing, BaseException)
