"""Contestants, their scenarios, and how much is measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Self

from bench.rows import Row

GROUPS = ("drain", "submit", "start", "idle", "crash")
"""In the order in which they are measured."""

RUN_LIMIT = 120.0
"""Seconds after which somebody who drains or answers is given up."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured. `backlog`: jobs that lie beside those that are drained; `idle` and `takeover`: seconds."""

    runs: int = 3
    jobs: int = 60_000
    backlog: int = 1_000_000
    submits: int = 2_000
    waits: int = 300
    rate: float = 50.0
    idle: float = 20.0
    takeover: float = 90.0

    def scaled(self, factor: float) -> Self:
        """Return the sizes with this part of the jobs and times, but enough of each for a figure."""
        return replace(
            self,
            jobs=max(200, int(self.jobs * factor)),
            backlog=max(500, int(self.backlog * factor)),
            submits=max(40, int(self.submits * factor)),
            waits=max(10, int(self.waits * factor)),
            idle=max(1.0, self.idle * factor),
            takeover=max(10.0, self.takeover * factor),
        )


FULL = Sizes()
QUICK = Sizes(runs=1, jobs=20_000, backlog=100_000, submits=500, waits=50, rate=50.0, idle=3.0, takeover=15.0)


@dataclass(frozen=True, slots=True)
class Scenario:
    """`measure` returns one value for each of the rows. `once`: in the first run only. `together`: at the same time as
    the others of its group that say so, because it takes long and leaves the machine idle."""

    group: str
    rows: tuple[Row, ...]
    measure: Callable[[], Sequence[float]]
    once: bool = False
    together: bool = False


@dataclass(frozen=True, slots=True)
class Contestant:
    """Somebody who can be measured. `name` appears in tables; `store` is what kind of store its jobs lie in."""

    name: str
    store: str
    scenarios: tuple[Scenario, ...]
