"""The clocks of a store on one host.

Wall time (µs UTC) says when a job is due. Leases must not depend on it, since it can jump: they end at a moment of
this boot's own clock and are void in any other boot. That clock stands still while the machine sleeps: nobody could
renew a lease meanwhile, and a laptop that wakes up must not find every running job charged with a crash. Where the
system does not name its boots (macOS, Windows) leases fall back to wall time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Clock:
    """`wall` and `boot` return µs; `boot_id` names the boot that `boot` counts from."""

    wall: Callable[[], int]
    boot: Callable[[], int]
    boot_id: str


def _wall() -> int:
    return time.time_ns() // 1000


def system_clock() -> Clock:
    """The machine's own clocks."""
    try:
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        source = time.CLOCK_MONOTONIC
    except (OSError, AttributeError):
        return Clock(_wall, _wall, "wall")
    return Clock(_wall, lambda: time.clock_gettime_ns(source) // 1000, boot_id)
