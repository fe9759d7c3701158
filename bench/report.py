"""Measurements, and how they are shown: as JSON lines and as one table."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TextIO


@dataclass(frozen=True, slots=True)
class Measurement:
    """One number of one run. `what` names the row, `by` is "coserver" or "bare", `unit` "jobs/s" or "ms"."""

    database: str
    what: str
    by: str
    run: int
    value: float
    unit: str


class Report:
    """Collects measurements and writes each at once to `out`, if given."""

    def __init__(self, out: TextIO | None) -> None:
        self._out = out
        self.measurements: list[Measurement] = []

    def add(self, measurement: Measurement) -> None:
        """Keep one measurement."""
        self.measurements.append(measurement)
        self.line({"kind": "measurement", **asdict(measurement)})

    def line(self, record: dict[str, object]) -> None:
        """Write one JSON line."""
        if self._out is not None:
            print(json.dumps(record), file=self._out, flush=True)

    def table(self) -> str:
        """Return the table: the median of each row's runs, their range, and the ratio to the bare loop."""
        rows = [("database", "measured", "coserver", "range", "bare loop", "range", "ratio")]
        for database, what, unit in dict.fromkeys((m.database, m.what, m.unit) for m in self.measurements):
            ours, bare = self._values(database, what, "coserver"), self._values(database, what, "bare")
            ratio = f"{statistics.median(ours) / statistics.median(bare):.2f}" if ours and bare else ""
            rows.append((database, f"{what}, {unit}", *_shown(ours, unit), *_shown(bare, unit), ratio))
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = [_line(row, widths) for row in rows]
        lines.insert(1, "|".join(["", *("-" * (width + 2) for width in widths), ""]))
        return "\n".join(lines)

    def _values(self, database: str, what: str, by: str) -> list[float]:
        return [m.value for m in self.measurements if (m.database, m.what, m.by) == (database, what, by)]


def _shown(values: Sequence[float], unit: str) -> tuple[str, str]:
    if not values:
        return "", ""
    form = "{:,.0f}" if unit == "jobs/s" else "{:.2f}"
    spread = f"{form.format(min(values))}–{form.format(max(values))}" if len(values) > 1 else ""
    return form.format(statistics.median(values)), spread


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [
        cell.ljust(width) if column < 2 else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
    return "| " + " | ".join(cells) + " |"
