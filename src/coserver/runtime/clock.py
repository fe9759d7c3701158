"""The two clocks of a node: one to measure with, one to show."""

from __future__ import annotations

import time


def boot_now() -> float:
    """Return seconds since the machine started. Never jumps, counts suspension, and is the same in every process."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def monotonic_now() -> float:
    """Return seconds of the clock that the keeper stamps ends with; it stands still while the machine sleeps."""
    return time.monotonic()


def wall_now() -> int:
    """Return µs since 1970 UTC, for records that people read."""
    return time.time_ns() // 1000
