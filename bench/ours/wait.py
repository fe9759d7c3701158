"""How long one waits for a job on an idle worker: until it begins, and until its result is there."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

from bench.databases import Database
from bench.jobs import noop
from bench.marks import Marks
from bench.ours.workers import workers
from bench.scenario import RUN_LIMIT, Sizes
from coserver import Client, using


def start(database: Database, sizes: Sizes) -> Sequence[float]:
    """From before `submit` to the job's first line; returns p50 and p99 in ms."""
    url = database.fresh()
    with Marks(sizes.waits + 2) as marks:
        with workers(url, 1, marks), Client(url) as client, using(client):
            for number in range(2):  # the first ones find a worker that is still starting
                noop.submit(number)
                marks.await_begun(number + 1, RUN_LIMIT)
            sent = {}
            for number in range(2, sizes.waits + 2):
                time.sleep(1 / sizes.rate)
                sent[number] = time.monotonic_ns()
                noop.submit(number)
            marks.await_begun(sizes.waits + 2, RUN_LIMIT)
        return percentiles(
            [(one.began - sent[one.number]) / 1e6 for one in marks.all() if one.number in sent]
        )


def reply(database: Database, sizes: Sizes) -> Sequence[float]:
    """From before `submit` until `result` returns, one after the other; returns p50 and p99 in ms."""
    url = database.fresh()
    with Marks(1) as marks, workers(url, 1, marks), Client(url) as client, using(client):
        noop.submit(0).result(timeout=RUN_LIMIT)
        times = []
        for _ in range(sizes.waits):
            time.sleep(1 / sizes.rate)
            begun = time.perf_counter()
            noop.submit(0).result(timeout=RUN_LIMIT)
            times.append((time.perf_counter() - begun) * 1000)
        return percentiles(times)


def percentiles(values: Sequence[float]) -> tuple[float, float]:
    """Return the 50th and the 99th percentile."""
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return cuts[49], cuts[98]
