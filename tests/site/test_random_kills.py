"""Whatever is killed at whatever moment: no job is lost, none ends twice, nothing leaks and nothing is left."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.site.live import LiveSite, alive, until

JOBS = """
import asyncio, time
from coserver import task

@task
async def quick(i: int) -> int:
    return i

@task
async def nap(i: int) -> int:
    await asyncio.sleep(0.02)
    return i

@task(retries=2)
def stumble(i: int) -> int:
    time.sleep(0.001)
    if i % 50 == 0:
        raise ValueError(i)
    return i
"""

SUBMIT = """
import sys, time
from coserver.errors import CoserverError
from work import nap, quick, stumble

until, accepted = time.monotonic() + float(sys.argv[1]), 0
with open("accepted", "w") as told:
    while time.monotonic() < until:
        for task in (quick, nap, stumble):
            jobs = task.submit_many(task.bind(i) for i in range(1, 41))
            print(*[job.id for job in jobs], sep="\\n", file=told, flush=True)
        time.sleep(0.05)
"""

SITE = """
[site]
name = "shaken"
[app]
path = ["."]
tasks = ["work"]
[service.work]
queues = { default = 16 }
processes = 3
restart = { backoff = "10ms..100ms", give_up = "never" }
[service.talker]
command = ["sh", "-c", "i=0; while true; do echo line $$i; i=$$((i+1)); sleep 0.01; done"]
"""


def shake(site: LiveSite, seconds: float, seed: int) -> None:
    chance = random.Random(seed)
    site.write(SITE, work=JOBS, submit=SUBMIT)
    site.up()
    producer = site.foreground("run", "--service", "work", "python", "submit.py", str(seconds))
    ends = time.monotonic() + seconds
    killed = dict.fromkeys(("worker", "node", "output"), 0)
    while time.monotonic() < ends:
        try:
            match what := chance.choice(["worker", "worker", "worker", "node", "output"]):
                case "worker":
                    victim = site.pids().get(f"work/{chance.randint(1, 3)}")
                case "node":
                    victim = site.node_pid()
                case _:
                    victim = site.output_pid()
        except (KeyError, OSError, ValueError, AssertionError):
            continue  # asked between two nodes
        if victim is not None and alive(victim):
            os.kill(victim, signal.SIGKILL)
            killed[what] += 1
        time.sleep(chance.uniform(0.0, 0.5))
    text, _ = producer.communicate(timeout=120)
    assert producer.returncode == 0, text
    assert all(killed.values()), killed
    accepted = {int(line) for line in (site.directory / "accepted").read_text().split()}
    assert accepted
    until(
        lambda: site.sql("SELECT count(*) FROM coserver_job") == [(0,)], "nothing is left to do", patience=120
    )
    done = site.sql("SELECT id, state FROM coserver_done")
    assert len(done) == len({number for number, _ in done}), "a job ended twice"
    assert {number for number, _ in done} >= accepted, "an accepted job was lost"
    talker = site.pids()["talker/1"]
    descriptors = len(list(Path(f"/proc/{site.keeper_pid()}/fd").iterdir()))
    assert descriptors < 60, "the keeper leaks descriptors"
    site.down()
    assert not alive(talker)
    numbers = [
        int(line.split()[1]) for line in site.log("talker/1").splitlines() if line.startswith(b"line ")
    ]
    assert numbers == list(range(len(numbers))), "a line of output is missing or doubled"
    until(lambda: not site.marked(), "nothing is left")


def test_random_kills_lose_and_double_nothing(site: LiveSite) -> None:
    shake(site, 12.0, seed=1)


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(3))
def test_minutes_of_random_kills_lose_and_double_nothing(site: LiveSite, seed: int) -> None:
    shake(site, 180.0, seed=seed + 100)
