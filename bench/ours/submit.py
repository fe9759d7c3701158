"""How fast jobs are submitted: every one is on the disk when the call that submits it returns."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

from bench.databases import Database
from bench.jobs import noop
from bench.ours.workers import ROOT
from bench.scenario import Sizes
from coserver import Client, using

BULK = 1000
THREADS = PROCESSES = 8


def one_thread(database: Database, sizes: Sizes) -> Sequence[float]:
    """One `submit` per job; returns the rate."""
    with Client(database.fresh()) as client, using(client):
        noop.submit(0)
        begun = time.perf_counter()
        for number in range(sizes.submits):
            noop.submit(number)
        return (sizes.submits / (time.perf_counter() - begun),)


def many_threads(database: Database, sizes: Sizes) -> Sequence[float]:
    """The same in eight threads of one process; returns the rate of all."""
    each = sizes.submits // 2
    with Client(database.fresh()) as client:
        client.submit(noop.name, [0])
        line = threading.Barrier(THREADS + 1)

        def submit() -> None:
            with using(client):  # which threads do not inherit
                line.wait()
                for number in range(each):
                    noop.submit(number)

        threads = [threading.Thread(target=submit) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        line.wait()
        begun = time.perf_counter()
        for thread in threads:
            thread.join()
        return (THREADS * each / (time.perf_counter() - begun),)


def many_processes(database: Database, sizes: Sizes) -> Sequence[float]:
    """Eight processes; returns the rate of all, and p50, p99 and maximum of one `submit`, in ms."""
    url, each = database.fresh(), max(20, sizes.submits // 4)
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "bench.producer", url, str(each)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(PROCESSES)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            process.stdout.readline()  # it is ready
        begun = time.perf_counter()
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        times: list[float] = []
        for process in processes:
            assert process.stdout is not None
            times += json.loads(process.stdout.readline())
        took = time.perf_counter() - begun
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    cuts = statistics.quantiles(times, n=100, method="inclusive")
    return len(times) / took, cuts[49], cuts[98], max(times)


def many_per_call(database: Database, sizes: Sizes) -> Sequence[float]:
    """`submit_many` of a thousand each, binding and checking included; returns the rate."""
    url = database.fresh()
    begun = time.perf_counter()
    submit_many(url, noop, range(sizes.jobs))
    return (sizes.jobs / (time.perf_counter() - begun),)


def submit_many(url: str, task: Any, numbers: Iterable[int]) -> None:
    """Submit one job for each number, a thousand per transaction."""
    rest = iter(numbers)
    with Client(url) as client, using(client):
        while some := list(islice(rest, BULK)):
            task.submit_many([task.bind(number) for number in some])
