"""Real worker processes without a node: they keep their own leases, rouse themselves, and note what they begin."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.marks import Marks
from bench.processes import spawn
from coserver.runtime.spec import ENVIRONMENT, ServiceSpec, encode

ROOT = Path(__file__).parent.parent.parent
CONCURRENCY = 100


@contextmanager
def workers(url: str, processes: int, marks: Marks) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Worker processes for the block."""
    with tempfile.TemporaryDirectory(prefix="coserver-bench-") as home:
        started = [_start(url, home, number + 1, marks) for number in range(processes)]
        try:
            yield started
        finally:
            for process in started:
                process.send_signal(signal.SIGTERM)
            for process in started:
                process.wait(60)


def _start(url: str, home: str, number: int, marks: Marks) -> subprocess.Popen[bytes]:
    spec = ServiceSpec(
        site="bench",
        service="bench",
        process=f"bench/{number}",
        store=url,
        path=(str(ROOT),),
        tasks=("bench.jobs",),
        queues=(("default", CONCURRENCY),),
        started=f"{home}/started{number}",
        wake=home,
    )
    return spawn(
        [sys.executable, "-m", "coserver.runtime.process"],
        {**marks.environment, ENVIRONMENT: encode(spec)},
    )
