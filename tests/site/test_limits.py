"""Limits and pauses on a real site: several processes, one queue."""

from __future__ import annotations

from pathlib import Path

from coserver import Client
from coserver.store import open_store
from tests.site.live import LiveSite, until

WORK = """
import os, time
from coserver import task

@task
def step(number: int) -> None:
    with open("steps", "a") as file:
        file.write(f"{time.monotonic_ns()} begins {os.getpid()}\\n")
    time.sleep(0.05)
    with open("steps", "a") as file:
        file.write(f"{time.monotonic_ns()} ends {os.getpid()}\\n")
"""

SITE = """
[site]
name = "limits"
store = "STORE"
[app]
path = ["."]
tasks = ["work"]
[queue.default]
max_running = 1
[service.work]
queues = { default = 4 }
processes = 2
"""


def steps(path: Path) -> list[list[str]]:
    """What began and ended, in the order of time."""
    lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    return sorted((line for line in lines if len(line) == 3), key=lambda line: int(line[0]))


def test_a_queue_limited_to_one_never_runs_two_jobs_at_once_over_two_processes(
    site: LiveSite, store_url: str
) -> None:
    site.write(SITE.replace("STORE", store_url), work=WORK)
    site.up()
    path = site.directory / "steps"
    with Client(store_url) as client:
        for number in range(20):
            client.submit("work:step", [number])
        until(lambda: len(steps(path)) == 40, "all have run")
    assert [what for _, what, _ in steps(path)] == ["begins", "ends"] * 20


def test_a_paused_queue_stands_still_and_goes_on_when_it_is_resumed(site: LiveSite, store_url: str) -> None:
    site.write(SITE.replace("STORE", store_url), work=WORK)
    site.up()
    path = site.directory / "steps"
    store = open_store(store_url)
    try:
        with Client(store_url) as client:
            client.submit("work:step", [0])
            until(lambda: len(steps(path)) == 2, "the site works")
            store.pause_queue("default", by="somebody")
            job = client.submit("work:step", [1])
            until(lambda: store.queues()[0].paused_at, "it is paused")
            # A job of another process's making, seen and left alone, while the queue stands still.
            assert job.info().state.name in ("QUEUED", "LIMITED")
            assert len(steps(path)) == 2
            store.resume_queue("default")
            until(lambda: job.info().state.final, "it goes on")
            assert len(steps(path)) == 4
    finally:
        store.close()
