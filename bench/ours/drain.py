"""How fast queued jobs are worked off: from the first job's beginning until the last one's end is recorded."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from bench.databases import Database
from bench.jobs import noop
from bench.marks import Mark, Marks
from bench.ours.submit import submit_many
from bench.ours.workers import workers
from bench.scenario import RUN_LIMIT, Sizes


def drain(database: Database, sizes: Sizes, task: Any = noop) -> Sequence[float]:
    """One process; returns the rate."""
    rate, _ = _drain(database, database.fresh(), sizes.jobs, task, processes=1)
    return (rate,)


def drain_by_two(database: Database, sizes: Sizes) -> Sequence[float]:
    """Two processes; returns the rate, and the smaller share of the jobs that began while both were at work, in %."""
    rate, marks = _drain(database, database.fresh(), sizes.jobs, noop, processes=2)
    return rate, smaller_share(marks)


def smaller_share(marks: Sequence[Mark]) -> float:
    """Return which part of the jobs the slower of two processes began, in %, once both had begun one."""
    firsts: dict[int, int] = {}
    for one in sorted(marks, key=lambda one: one.began):
        firsts.setdefault(one.process, one.began)
    if len(firsts) < 2:
        return 0.0
    both = Counter(one.process for one in marks if one.began >= max(firsts.values()))
    return 100 * min(both.values()) / both.total()


class Backlog:
    """Stores with many jobs in them, made at first use and kept over all runs, since filling them takes longest."""

    def __init__(self, database: Database, sizes: Sizes) -> None:
        self._database = database
        self._sizes = sizes
        self._queued: str | None = None
        self._scheduled: str | None = None
        self._numbers = 0

    def among_queued(self) -> Sequence[float]:
        """One process works off the oldest of many queued jobs; returns the rate."""
        if self._queued is None:
            self._queued = self._database.fresh()
            self._fill(self._queued, self._sizes.backlog)
        self._fill(self._queued, self._sizes.jobs)  # as many as the run before took away
        rate, _ = _measured(self._database, self._queued, self._sizes.jobs, self._numbers, processes=1)
        return (rate,)

    def among_scheduled(self) -> Sequence[float]:
        """One process works off queued jobs while many others are scheduled for tomorrow; returns the rate."""
        if self._scheduled is None:
            self._scheduled = self._database.fresh()
            submit_many(self._scheduled, noop.options(delay="1d"), range(self._sizes.backlog))
        rate, _ = _drain(self._database, self._scheduled, self._sizes.jobs, noop, processes=1)
        return (rate,)

    def _fill(self, url: str, count: int) -> None:
        submit_many(url, noop, range(self._numbers, self._numbers + count))
        self._numbers += count


def _drain(
    database: Database, url: str, count: int, task: Any, *, processes: int
) -> tuple[float, Sequence[Mark]]:
    submit_many(url, task, range(count))
    return _measured(database, url, count, count, processes=processes)


def _measured(
    database: Database, url: str, count: int, numbers: int, *, processes: int
) -> tuple[float, Sequence[Mark]]:
    """Let workers take `count` jobs whose numbers are below `numbers`; return the rate and what they wrote."""
    connection = database.connect(url)
    try:
        before = _recorded(connection)
        with Marks(numbers) as marks:
            with workers(url, processes, marks):
                deadline = time.monotonic() + RUN_LIMIT
                while (recorded := _recorded(connection) - before) < count:
                    if time.monotonic() > deadline:
                        raise TimeoutError(f"only {recorded} of {count} jobs ended within {RUN_LIMIT:.0f} s")
                    time.sleep(0.005)
                ended = time.monotonic_ns()
            made = marks.all()
        first = min(one.began for one in made)
        return recorded / ((ended - first) / 1e9), made
    finally:
        connection.close()


def _recorded(connection: Any) -> int:
    """Return how many jobs have succeeded, as the store counts them."""
    counted = connection.execute("SELECT coalesce(sum(n), 0) FROM coserver_count WHERE state = 10")
    return int(counted.fetchone()[0])
