"""When an ended process starts again: the restart policy.

Theory. Three questions are asked in order whenever a run has ended and nobody asked it to.

1. Should it run at all? `when` says: `always`; `on-failure`, unless the exit status is one of `expected`;
   `never`.
2. Has it failed too often? Every unasked end counts, successes too: a program that leaves with 0 at once is as
   broken as one that crashes. When `give_up` ends lie within its window, the process is FATAL and stays so until
   an operator starts it. The window holds only the times of ends, so it forgets by itself.
3. How long to wait? The delay doubles with each end in a row, from `backoff_first` to `backoff_max`, and each is
   drawn from the upper half of its range ("equal jitter"), so that a hundred processes that fell together do not
   rise together. The row is over, and the delay starts small again, once a run has been up for `stable` seconds.
   The first end after a stable run restarts at once: a worker that was healthy for an hour and crashed should be
   back in milliseconds.

Times are seconds of a monotonic clock; chance is an argument. Nothing here reads a clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

When = Literal["always", "on-failure", "never"]

STABLE_AFTER = 10.0
"""Seconds of uptime after which earlier ends no longer count towards the backoff."""


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """How a service's processes come back.

    `backoff_first` and `backoff_max` are seconds; `give_up` is (ends, window in seconds) or None for never;
    `expected` are exit statuses that are no failure.
    """

    when: When = "always"
    backoff_first: float = 0.1
    backoff_max: float = 60.0
    give_up: tuple[int, float] | None = (5, 60.0)
    expected: frozenset[int] = frozenset({0})


@dataclass(frozen=True, slots=True)
class Record:
    """What has to be remembered between runs: unasked ends within the window, and how many came in a row."""

    ends: tuple[float, ...] = field(default=())
    row: int = 0


@dataclass(frozen=True, slots=True)
class Again:
    """Start again after `delay` seconds."""

    delay: float


@dataclass(frozen=True, slots=True)
class Done:
    """The policy does not want it running any more; its end was no failure of the site."""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """It ended `count` times within `window` seconds."""

    count: int
    window: float


Verdict = Again | Done | GiveUp


def decide(
    policy: RestartPolicy,
    record: Record,
    *,
    now: float,
    uptime: float,
    status: int | None,
    chance: float,
) -> tuple[Record, Verdict]:
    """Say what follows an unasked end.

    `uptime` is how long the run lasted in seconds, `status` its exit status or None when a signal ended it (or
    it could not be started), `chance` a number in [0, 1).
    """
    row = 0 if uptime >= STABLE_AFTER else record.row
    window = policy.give_up[1] if policy.give_up else 0.0
    ends = (*(end for end in record.ends if now - end < window), now) if policy.give_up else ()
    after = Record(ends, row + 1)
    if policy.when == "never" or (policy.when == "on-failure" and status in policy.expected):
        return after, Done()
    if policy.give_up and len(ends) >= policy.give_up[0]:
        return after, GiveUp(len(ends), window)
    return after, Again(delay_after(policy, row, chance))


def delay_after(policy: RestartPolicy, row: int, chance: float) -> float:
    """Return the seconds to wait when `row` ends came before this one without a stable run between them."""
    if row == 0:
        return 0.0
    # An exponent beyond 64 is over every limit and would overflow a float.
    full = min(policy.backoff_max, policy.backoff_first * 2.0 ** min(row - 1, 64))
    return full * (0.5 + chance / 2)
