"""coserver's own numbers, through the public calls and real worker processes without a node."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.databases import Database
from bench.jobs import MARK, mark, noop, noop_plain
from coserver import Client, using
from coserver.runtime.spec import ENVIRONMENT, ServiceSpec, encode

CONCURRENCY = 100
BULK = 1000


def enqueue_single(url: str, count: int) -> float:
    """Return jobs per second, one `submit` and so one durable commit each, from one thread."""
    with Client(url) as client, using(client):
        noop.submit(0)
        begun = time.perf_counter()
        for number in range(count):
            noop.submit(number)
        return count / (time.perf_counter() - begun)


def enqueue_bulk(url: str, count: int, *, plain: bool = False) -> float:
    """Return jobs per second by `submit_many` of a thousand each; binding them is counted."""
    task: Any = noop_plain if plain else noop
    with Client(url) as client, using(client):
        begun = time.perf_counter()
        for first in range(0, count, BULK):
            task.submit_many([task.bind(number) for number in range(first, min(first + BULK, count))])
        return count / (time.perf_counter() - begun)


def drain(database: Database, url: str, count: int, *, processes: int) -> float:
    """Return jobs per second from the first job's beginning until the last result is recorded."""
    connection = database.connect(url)
    try:
        with workers(url, processes):
            while _recorded(connection) < count:
                time.sleep(0.01)
            ended = time.time_ns() // 1000
        begun = connection.execute("SELECT min(started_at) FROM coserver_done").fetchone()[0]
        return count / ((ended - begun) / 1e6)
    finally:
        connection.close()


def latency(url: str, count: int, rate: float) -> list[float]:
    """Return milliseconds from before a `submit` to the first line of its job, on one idle worker."""
    with tempfile.NamedTemporaryFile(prefix="coserver-marks-") as marks:
        path = Path(marks.name)
        with workers(url, 1, BENCH_MARKS=marks.name), Client(url) as client, using(client):
            for number in (-2, -1):  # the first ones find a worker that is still starting
                mark.submit(number)
                _await_marks(path, number + 3)
            sent = {}
            for number in range(count):
                time.sleep(1 / rate)
                sent[number] = time.monotonic_ns()
                mark.submit(number)
            _await_marks(path, count + 2)
        seen = dict(MARK.iter_unpack(path.read_bytes()))
        return [(seen[number] - sent[number]) / 1e6 for number in range(count)]


def _await_marks(path: Path, count: int) -> None:
    while path.stat().st_size < count * MARK.size:
        time.sleep(0.005)


def _recorded(connection: Any) -> int:
    found: int = connection.execute(
        "SELECT coalesce(sum(n), 0) FROM coserver_count WHERE state = 10"
    ).fetchone()[0]
    return found


@contextmanager
def workers(url: str, processes: int, **environment: str) -> Iterator[None]:
    """Worker processes with retries, results, leases and the files of started jobs, for the block."""
    with tempfile.TemporaryDirectory(prefix="coserver-bench-") as home:
        started = [_start(url, home, number + 1, environment) for number in range(processes)]
        try:
            yield
        finally:
            for process in started:
                process.send_signal(signal.SIGTERM)
            for process in started:
                process.wait(30)


def _start(url: str, home: str, number: int, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    spec = ServiceSpec(
        site="bench",
        service="bench",
        process=f"bench/{number}",
        store=url,
        path=(str(Path(__file__).parent.parent),),
        tasks=("bench.jobs",),
        queues=(("default", CONCURRENCY),),
        started=f"{home}/started{number}",
        wake=home,
    )
    return subprocess.Popen(
        [sys.executable, "-m", "coserver.runtime.process"],
        env={**os.environ, **environment, ENVIRONMENT: encode(spec)},
        stdin=subprocess.DEVNULL,
    )


def percentiles(values: list[float]) -> tuple[float, float, float]:
    """Return the 50th, 95th and 99th percentile."""
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return cuts[49], cuts[94], cuts[98]
