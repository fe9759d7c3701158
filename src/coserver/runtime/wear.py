"""When a process of our own has done its part and a fresh one should take over.

Theory. Libraries leak, heaps fragment, and some programs are better for being begun anew now and then. A process is
worn when it has run so many jobs, lived so long, or grown so large as its service says. Then it leaves in order: it
claims nothing more, lets what runs finish, and ends with a status (`model.statuses.RECYCLED`) by which its node knows
that this was no failure. So that the processes of a service do not all leave at once, each draws its own limits at its
start, up to a tenth more or less.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass

from coserver.model.units import format_seconds, format_size

SPREAD = 0.1
"""Part of a limit by which a process may draw another."""


@dataclass(frozen=True, slots=True)
class Wear:
    """Limits of one process: jobs run, age in seconds, resident memory in bytes; None is no limit."""

    jobs: int | None = None
    age: float | None = None
    memory: int | None = None

    def __bool__(self) -> bool:
        return self != Wear()

    def drawn(self, chance: Callable[[], float]) -> Wear:
        """Return these limits for one process; `chance` in [0, 1). Memory is what a host can bear, so it is not
        spread."""
        return Wear(
            None if self.jobs is None else max(1, round(self.jobs * _spread(chance()))),
            None if self.age is None else self.age * _spread(chance()),
            self.memory,
        )

    def reached(self, *, jobs: int, age: float, memory: int | None) -> str | None:
        """Say in words which limit is reached; None while none is. Memory counts once a job has run: before, a fresh
        process would be no better."""
        if self.jobs is not None and jobs >= self.jobs:
            return f"has run {jobs} jobs"
        if self.age is not None and age >= self.age:
            return f"is {format_seconds(round(age))} old"
        if self.memory is not None and memory is not None and memory > self.memory and jobs:
            return f"takes {format_size(memory)} of memory"
        return None


def _spread(chance: float) -> float:
    return 1 - SPREAD + 2 * SPREAD * chance


def resident(pid: int | None = None) -> int | None:
    """Return how many bytes of memory a process (None: this one) takes; None where nobody tells."""
    try:
        with open(f"/proc/{'self' if pid is None else pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        pass
    if pid is not None or sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
