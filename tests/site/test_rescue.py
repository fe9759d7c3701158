"""A worker process dies: its node knows from the kernel, and somebody else runs its jobs at once."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from coserver import Client
from tests.site.live import LiveSite, until

WORK = """
import asyncio, os, time
from coserver import task

@task
async def long(number: int) -> None:
    with open("begun", "a") as file:
        file.write(f"{time.monotonic_ns()} {os.getpid()}\\n")
    await asyncio.sleep(1)
"""

SITE = """
[site]
name = "rescue"
store = "STORE"
[app]
path = ["."]
tasks = ["work"]
[service.work]
queues = { default = 4 }
processes = 2
"""


def begun(path: Path) -> list[list[str]]:
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def test_n11_a_dead_workers_job_runs_on_another_within_100_ms(site: LiveSite, store_url: str) -> None:
    """Several deaths, of which the quickest rescue counts: a busy machine may be late, a poll never is that quick."""
    site.write(SITE.replace("STORE", store_url), work=WORK)
    site.up()
    path = site.directory / "begun"
    took = []
    with Client(store_url) as client:
        for number in range(4):
            path.unlink(missing_ok=True)
            job = client.submit("work:long", [number])
            ((_, pid),) = until(lambda: begun(path), "it runs")
            killed = time.monotonic_ns()
            os.kill(int(pid), signal.SIGKILL)
            _, (again, other) = until(lambda: len(begun(path)) == 2 and begun(path), "it runs elsewhere")
            assert other != pid
            took.append((int(again) - killed) / 1e6)
            until(lambda job=job: job.info().state.final, "it ends")
            assert job.info().crashes == 1
            until(lambda: len(site.pids()) == 2, "the dead process is replaced")
    assert min(took) < 100, took
