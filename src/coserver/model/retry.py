"""When a failed job is tried again: the retry policy.

Theory. A job carries a budget, `retries`: how many further attempts follow the first one. Only an attempt that
ended in an error is charged; a job handed back unstarted, or interrupted by the death of its worker, is not (that
has its own counter and limit, see `model.job`). An exception is retried when it is an instance of one of `on`
and of none of `never`. The n-th retry waits `first × 2ⁿ⁻¹` seconds, at most `longest`, drawn from the upper half of
that range, so that a thousand jobs that failed together do not return together. `RetryLater` asks for a retry
itself and says when; it is charged like any other. No wait is longer than `LONGEST`.

Chance is an argument; nothing here reads a clock.
"""

from __future__ import annotations

from dataclasses import dataclass

LONGEST = 10 * 365 * 86_400.0
"""Seconds that a retry waits at most: a time that every database can hold."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """`retries` further attempts (None: for ever); waits in seconds; exception classes that count."""

    retries: int | None = 0
    first: float = 1.0
    longest: float = 600.0
    on: tuple[type[BaseException], ...] = (Exception,)
    never: tuple[type[BaseException], ...] = ()


def next_wait(
    policy: RetryPolicy, *, failed: int, error: BaseException, asked: float | None, chance: float
) -> float | None:
    """Return the seconds until the next attempt, or None when there is none.

    `failed` counts the attempts charged before this one, `asked` is what `RetryLater` named (seconds), `chance`
    lies in [0, 1).
    """
    if policy.retries is not None and failed >= policy.retries:
        return None
    if asked is not None:
        return min(asked, LONGEST)
    if not isinstance(error, policy.on) or isinstance(error, policy.never):
        return None
    full = min(LONGEST, policy.longest, policy.first * 2.0 ** min(failed, 64))
    return full * (0.5 + chance / 2)
