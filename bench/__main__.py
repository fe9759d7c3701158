"""`make bench`, or `python -m bench [--quick] [--only sqlite|postgresql] [--out FILE]`.

Every run makes each measurement once, ours and the bare loop's in turn, so that slow drift of the machine meets all of
them alike; the table shows medians.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench import bare, machine, ours
from bench.databases import Database, Postgres, SQLite
from bench.report import Measurement, Report


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured."""

    runs: int
    jobs: int
    singles: int
    waits: int
    rate: float


FULL = Sizes(runs=5, jobs=60_000, singles=2_000, waits=300, rate=50.0)
QUICK = Sizes(runs=1, jobs=1_000, singles=50, waits=10, rate=50.0)


def main() -> int:
    """Measure and print; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a first impression in seconds")
    parser.add_argument("--only", choices=["sqlite", "postgresql"], help="measure one database")
    parser.add_argument("--runs", type=int, help="how often each number is measured")
    parser.add_argument("--out", type=Path, help="also write every measurement to this file, as JSON lines")
    given = parser.parse_args()
    sizes = QUICK if given.quick else FULL
    if given.runs is not None:
        sizes = Sizes(given.runs, sizes.jobs, sizes.singles, sizes.waits, sizes.rate)
    with ExitStack() as stack:
        out = stack.enter_context(given.out.open("w")) if given.out else None
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="coserver-bench-")))
        report = Report(out)
        about = machine.describe(directory)
        report.line({"kind": "machine", **about})
        _print_facts("machine", about)
        databases: list[Database] = []
        if given.only != "postgresql":
            databases.append(SQLite(directory))
        if given.only != "sqlite":
            databases.append(Postgres())
        for database in databases:
            stack.callback(database.close)
            facts = database.settings(database.fresh())
            report.line({"kind": "database", "database": database.name, **facts})
            _print_facts(database.name, facts)
        _print_facts(
            "each number",
            {
                "jobs to drain": f"{sizes.jobs:,}",
                "concurrency": str(ours.CONCURRENCY),
                "runs": str(sizes.runs),
                "load for latency": f"{sizes.waits} jobs at {sizes.rate:.0f}/s",
            },
        )
        for run in range(1, sizes.runs + 1):
            for database in databases:
                print(f"run {run} of {sizes.runs}: {database.name}", file=sys.stderr, flush=True)
                _measure(report, database, run, sizes)
    print()
    print(report.table())
    return 0


def _measure(report: Report, database: Database, run: int, sizes: Sizes) -> None:
    name = database.name

    def rate(what: str, by: str, value: float) -> None:
        report.add(Measurement(name, what, by, run, value, "jobs/s"))

    url = database.fresh()
    rate("enqueue, one commit each", "coserver", ours.enqueue_single(url, sizes.singles))
    url = _prepared(database)
    rate("enqueue, one commit each", "bare", bare.enqueue_single(name, url, sizes.singles))
    url = database.fresh()
    rate("enqueue, 1000 per commit", "coserver", ours.enqueue_bulk(url, sizes.jobs))
    rate("drain, 1 process", "coserver", ours.drain(database, url, sizes.jobs, processes=1))
    url = _prepared(database)
    rate("enqueue, 1000 per commit", "bare", bare.enqueue_bulk(name, url, sizes.jobs))
    rate("drain, 1 process", "bare", bare.drain(name, url, sizes.jobs))
    for plain, processes, what in (
        (False, 2, "drain, 2 processes"),
        (True, 1, "drain plain functions, 1 process"),
        (True, 2, "drain plain functions, 2 processes"),
    ):
        url = database.fresh()
        ours.enqueue_bulk(url, sizes.jobs, plain=plain)
        rate(what, "coserver", ours.drain(database, url, sizes.jobs, processes=processes))
    for by, values in (
        ("coserver", ours.latency(database.fresh(), sizes.waits, sizes.rate)),
        ("bare", bare.latency(name, _prepared(database), sizes.waits, sizes.rate)),
    ):
        for what, value in zip(("p50", "p95", "p99"), ours.percentiles(values), strict=True):
            report.add(Measurement(name, f"enqueue to start, {what}", by, run, value, "ms"))


def _prepared(database: Database) -> str:
    url = database.fresh()
    by_hand = bare.loop(database.name, url)
    by_hand.prepare()
    by_hand.close()
    return url


def _print_facts(title: str, facts: dict[str, str]) -> None:
    print(f"{title}: " + "; ".join(f"{name} {value}" for name, value in facts.items()))


if __name__ == "__main__":
    sys.exit(main())
