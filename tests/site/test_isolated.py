"""Isolated jobs and worn processes in a real site."""

from __future__ import annotations

import itertools
import os
import signal
from pathlib import Path
from statistics import median

from coserver import Client
from coserver.model.job import State
from tests.site.live import LiveSite, alive, until

WORK = """
import os, subprocess, sys, time
from pathlib import Path
from coserver import task

@task(isolate=True)
def long(name: str) -> str:
    program = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"], start_new_session=True)
    with open(f"begun-{name}", "a") as file:
        file.write(f"{os.getpid()} {os.getppid()} {program.pid}\\n")
    while not Path("gate").exists():
        time.sleep(0.01)
    return "done"

@task
async def short(number: int) -> int:
    with open("ended", "a") as file:
        file.write(f"{time.monotonic_ns()} {os.getpid()}\\n")
    return number
"""

SITE = """
[site]
name = "isolated"
store = "STORE"
[app]
path = ["."]
tasks = ["work"]
[service.work]
queues = { default = 4 }
KEYS
"""


def lines(path: Path) -> list[list[int]]:
    found = path.read_text().splitlines() if path.exists() else []
    return [[int(word) for word in line.split()] for line in found]


def test_a_killed_worker_takes_its_processes_along_and_their_jobs_run_again_charged_once(
    site: LiveSite, store_url: str
) -> None:
    site.write(SITE.replace("STORE", store_url).replace("KEYS", "isolated = 1"), work=WORK)
    site.up()
    begun = site.directory / "begun-a"
    with Client(store_url) as client:
        job = client.submit("work:long", ["a"])
        waiting = [client.submit("work:long", ["b"]) for _ in range(3)]
        ((process, worker, program),) = until(lambda: lines(begun), "it runs")
        assert worker == site.pids()["work/1"]
        os.kill(worker, signal.SIGKILL)
        until(lambda: not alive(process), "the process beside the worker is gone")
        until(lambda: not alive(program), "what the job had started is gone")
        until(lambda: len(lines(begun)) == 2, "it runs again")
        (site.directory / "gate").touch()
        for each in [job, *waiting]:
            until(lambda each=each: each.info().state.final, "it ends")  # type: ignore[misc]
        assert (job.info().state, job.info().crashes) == (State.SUCCEEDED, 1)
        assert {(each.info().state, each.info().crashes) for each in waiting} == {(State.SUCCEEDED, 0)}


def test_a_site_that_goes_down_leaves_no_process_beside_a_worker(site: LiveSite, sqlite_url: str) -> None:
    site.write(SITE.replace("STORE", sqlite_url).replace("KEYS", "stop.timeout = '2s'"), work=WORK)
    site.up()
    with Client(sqlite_url) as client:
        job = client.submit("work:long", ["a"])
        ((process, _, program),) = until(lambda: lines(site.directory / "begun-a"), "it runs")
        site.down()
        assert not alive(process)
        assert not alive(program)
        assert (job.info().state, job.info().crashes) == (State.QUEUED, 0)


def test_worn_processes_make_room_for_fresh_ones_at_once_and_no_job_is_charged(
    site: LiveSite, sqlite_url: str
) -> None:
    """With a single process, of which nobody takes the work meanwhile."""
    site.write(SITE.replace("STORE", sqlite_url).replace("KEYS", "max_jobs = 20"), work=WORK)
    site.up()
    with Client(sqlite_url) as client:
        jobs = [client.submit("work:short", [number]) for number in range(100)]
        for job in jobs:
            until(lambda job=job: job.info().state.final, "it ends")  # type: ignore[misc]
        assert {(job.info().state, job.info().attempt, job.info().crashes) for job in jobs} == {
            (State.SUCCEEDED, 1, 0)
        }
    ended = lines(site.directory / "ended")
    assert len(ended) == 100
    assert len({pid for _, pid in ended}) >= 3
    gaps = [(at - before) / 1e9 for (before, one), (at, other) in itertools.pairwise(ended) if one != other]
    assert median(gaps) < 1.0, gaps
    assert "has done its part; a fresh process takes over" in site.node_log()
    assert "starts again in" not in site.node_log()
    status = site.process("work/1")
    assert status["restarts"] == 0
