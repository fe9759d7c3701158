"""What a site costs that has nothing to do: its worker, and the keeper and the node beside it."""

from __future__ import annotations

import time
from collections.abc import Sequence

from bench.databases import Database
from bench.jobs import noop
from bench.marks import Marks
from bench.ours.site import site
from bench.processes import cpu_seconds, parent, proportional_mb, resident_mb, tree
from bench.scenario import RUN_LIMIT, Sizes
from coserver import Client, using

SETTLED = 3.0
"""Seconds after its last job when a worker counts as idle."""


def idle(database: Database, sizes: Sizes) -> Sequence[float]:
    """Return CPU in % of one core, proportional and resident memory in MB of a worker that has run one job, then CPU
    and proportional memory of its keeper and its node together."""
    url = database.fresh()
    with Marks(1) as marks, site(url, marks, "[service.idle]\nqueues = { default = 10 }\n"):
        with Client(url) as client, using(client):
            noop.submit(0)
            marks.await_begun(1, RUN_LIMIT)
        time.sleep(SETTLED)
        worker = tree(marks.all()[0].process)
        others = [pid for pid in tree(parent(worker[0])) if pid not in worker]
        (used, used_by_others), took = _used(worker, others, sizes.idle)
        return (
            100 * used / took,
            proportional_mb(worker),
            resident_mb(worker),
            100 * used_by_others / took,
            proportional_mb(others),
        )


def _used(worker: Sequence[int], others: Sequence[int], seconds: float) -> tuple[tuple[float, float], float]:
    """Return the CPU seconds of both within so many seconds, and how many seconds these were."""
    before, begun = (cpu_seconds(worker), cpu_seconds(others)), time.monotonic()
    time.sleep(seconds)
    return (cpu_seconds(worker) - before[0], cpu_seconds(others) - before[1]), time.monotonic() - begun
