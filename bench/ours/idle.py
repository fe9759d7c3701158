"""What a worker costs that has nothing to do."""

from __future__ import annotations

import time
from collections.abc import Sequence

from bench.databases import Database
from bench.jobs import noop
from bench.marks import Marks
from bench.ours.workers import workers
from bench.processes import cpu_seconds, proportional_mb, resident_mb, tree
from bench.scenario import RUN_LIMIT, Sizes
from coserver import Client, using

SETTLED = 3.0
"""Seconds after its last job when a worker counts as idle."""


def idle(database: Database, sizes: Sizes) -> Sequence[float]:
    """Return CPU in % of one core, and proportional and resident memory in MB, of a worker that has run one job."""
    url = database.fresh()
    with Marks(1) as marks, workers(url, 1, marks) as (worker,), Client(url) as client, using(client):
        noop.submit(0)
        marks.await_begun(1, RUN_LIMIT)
        time.sleep(SETTLED)
        pids = tree(worker.pid)
        used, begun = cpu_seconds(pids), time.monotonic()
        time.sleep(sizes.idle)
        used = cpu_seconds(pids) - used
        return 100 * used / (time.monotonic() - begun), proportional_mb(pids), resident_mb(pids)
