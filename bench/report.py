"""What was measured, and what follows from it: medians, ranges, ratios, aims. Pure, but for the lines it writes."""

from __future__ import annotations

import json
import math
import statistics
import threading
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, TextIO

from bench.rows import MS, OURS, RATE, ROWS, SECONDS, Aim, Row


@dataclass(frozen=True, slots=True)
class Figure:
    """One value of one run; infinite when it did not come to pass within the time that it was given."""

    by: str
    store: str
    row: str
    run: int
    value: float
    unit: str


@dataclass(frozen=True, slots=True)
class Note:
    """Why somebody was not measured."""

    by: str
    store: str
    text: str


@dataclass(frozen=True, slots=True)
class Span:
    """A row of one contestant over all runs."""

    median: float
    least: float
    most: float
    runs: int


class Report:
    """Collects facts, figures and notes, and writes each at once to `out`, if given. Any thread may add."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out
        self._lock = threading.Lock()
        self.facts: dict[str, dict[str, str]] = {}
        self.figures: list[Figure] = []
        self.notes: list[Note] = []

    @classmethod
    def read(cls, lines: Iterable[str]) -> Report:
        """Return the report that an earlier one wrote."""
        report = cls()
        for line in lines:
            record: dict[str, Any] = json.loads(line)
            match record.pop("kind"):
                case "facts":
                    report.facts[record["about"]] = record["facts"]
                case "figure":
                    value = record.pop("value")
                    report.figures.append(Figure(value=math.inf if value is None else value, **record))
                case "note":
                    report.notes.append(Note(**record))
        return report

    def tell(self, about: str, facts: dict[str, str]) -> None:
        """Keep what the figures were measured on."""
        with self._lock:
            self.facts[about] = facts
            self._write({"kind": "facts", "about": about, "facts": facts})

    def add(self, figure: Figure) -> None:
        """Keep one figure."""
        with self._lock:
            self.figures.append(figure)
            value = figure.value if math.isfinite(figure.value) else None
            self._write({"kind": "figure", **asdict(figure), "value": value})

    def note(self, note: Note) -> None:
        """Keep one note; the same one twice is one."""
        with self._lock:
            if note not in self.notes:
                self.notes.append(note)
                self._write({"kind": "note", **asdict(note)})

    def _write(self, record: dict[str, object]) -> None:
        if self._out is not None:
            print(json.dumps(record), file=self._out, flush=True)

    # What follows ---------------------------------------------------------------------------------------------

    def contestants(self) -> list[tuple[str, str]]:
        """Return who was measured, as (name, store), in the order in which they came."""
        return list(dict.fromkeys((figure.by, figure.store) for figure in self.figures))

    def stores(self) -> list[str]:
        """Return the stores that coserver was measured on."""
        return [store for by, store in self.contestants() if by == OURS]

    def span(self, by: str, store: str, row: str) -> Span | None:
        """Return a contestant's row over all runs, None when it was not measured."""
        values = [one.value for one in self.figures if (one.by, one.store, one.row) == (by, store, row)]
        if not values:
            return None
        return Span(statistics.median(values), min(values), max(values), len(values))

    def median(self, by: str, store: str, row: str) -> float | None:
        span = self.span(by, store, row)
        return None if span is None else span.median

    def aim(self, row: Row, store: str) -> Aim | None:
        """Return what a row of ours shall reach on a store, None where nothing is aimed at."""
        aiming = row.aims.get(store)
        return None if aiming is None else aiming(lambda by, name: self.median(by, store, name))

    def ratio(self, row: Row, store: str, rival: tuple[str, str]) -> float | None:
        """Return how many times the rival's figure ours is, None unless both were measured."""
        ours = self.median(OURS, store, row.name)
        theirs = self.median(*rival, row.rivals)
        return None if ours is None or not theirs or math.isinf(theirs) else ours / theirs

    def missed(self) -> list[tuple[str, Row, float, Aim]]:
        """Return the aims that were not reached, as (store, row, median, aim)."""
        return [
            (store, row, median, aim)
            for store in self.stores()
            for row in ROWS
            if (aim := self.aim(row, store)) is not None
            and (median := self.median(OURS, store, row.name)) is not None
            and not aim.met(median)
        ]


def shown(value: float, unit: str) -> str:
    """Return a value with as many digits as mean something."""
    if math.isinf(value):
        return "never"
    if unit == RATE or value >= 100:
        return f"{value:,.0f}"
    if unit == SECONDS and value < 1:
        return f"{value:.3f}"
    if unit == MS or value < 10:
        return f"{value:.2f}"
    return f"{value:.1f}"
