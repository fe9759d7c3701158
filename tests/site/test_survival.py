"""Killing any part of a site: what lives goes on, what ended is known, nothing is doubled or lost."""

from __future__ import annotations

import os
import re
import signal
import statistics
import time

import pytest

from tests.site.live import LiveSite, alive, command, until

JOBS = """
import time
from coserver import task

@task
async def quick(i: int) -> int:
    return i

@task
def nap(seconds: float) -> None:
    time.sleep(seconds)
"""

SITE = """
[site]
name = "survivor"
[app]
path = ["."]
tasks = ["work"]
[service.work]
queues = { default = 4 }
processes = 2
[service.talker]
command = ["python3", "-u", "-c", '''
import itertools, time
for i in itertools.count():
    print("line", i)
    time.sleep(0.0005)
''']
[service.leaver]
command = ["sh", "-c", "sleep 1000; exit 7"]
restart = { when = "never" }
"""

SUBMIT = """
import sys
from work import quick
n = int(sys.argv[1])
for start in range(0, n, 1000):
    quick.submit_many(quick.bind(i) for i in range(start, start + 1000))
"""


def lines_are_complete(text: bytes) -> int:
    numbers = [int(n) for n in re.findall(rb"^line (\d+)$", text, re.M)]
    assert numbers == list(range(len(numbers))), "a line is missing, doubled or split"
    return len(numbers)


def finished(site: LiveSite) -> int:
    jobs = site.status()["jobs"]
    return 0 if jobs is None else int(jobs["succeeded"])


def test_a_node_killed_ten_times_under_load_is_not_noticed(site: LiveSite) -> None:
    site.write(SITE, work=JOBS, submit=SUBMIT)
    site.up()
    before = site.pids()
    producer = site.foreground("run", "--service", "work", "python", "submit.py", "20000")
    waits: list[float] = []
    for turn in range(10):
        node = site.node_pid()
        os.kill(node, signal.SIGKILL)
        if turn == 4:
            # An exit while there is no node must be reported by the next one, with its code.
            os.kill(next(iter(children(before["leaver/1"]))), signal.SIGTERM)
        began = time.monotonic()
        until(
            lambda old=node: site.run("status", "-q", check=None).returncode != 5 and site.node_pid() != old,
            "a new node",
        )
        waits.append(time.monotonic() - began)
    assert statistics.median(waits) < 2.0
    producer.communicate(timeout=60)
    assert producer.returncode == 0
    until(lambda: finished(site) == 20000, "all jobs are done")
    after = site.pids()
    assert {name: pid for name, pid in before.items() if name != "leaver/1"} == after
    assert site.process("leaver/1")["state"] == "exited"
    assert site.process("leaver/1")["why"] == "exit status 7"
    assert all(p["restarts"] == 0 for s in site.status()["services"] for p in s["processes"])
    site.down()
    assert lines_are_complete(site.log("talker/1")) > 1000
    assert site.sql("SELECT count(*), count(DISTINCT id) FROM coserver_done") == [(20000, 20000)]
    assert site.sql("SELECT count(*) FROM coserver_job") == [(0,)]


def children(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(word) for word in file.read().split()]


def test_output_killed_again_and_again_loses_no_line(site: LiveSite) -> None:
    site.write(SITE, work=JOBS)
    site.up()
    before = site.pids()
    for _ in range(5):
        seen = len(site.log("talker/1"))
        killed = site.output_pid()
        os.kill(killed, signal.SIGKILL)
        until(lambda seen=seen: len(site.log("talker/1")) > seen + 100, "output goes on")
        until(lambda killed=killed: not alive(killed), "it is gone")
    assert site.pids() == before
    site.down()
    assert lines_are_complete(site.log("talker/1")) > 100


def test_a_killed_keeper_stops_everything_and_the_next_up_doubles_nothing(site: LiveSite) -> None:
    site.write(SITE, work=JOBS)
    site.up()
    before = set(site.pids().values())
    node = site.node_pid()
    os.kill(site.keeper_pid(), signal.SIGKILL)
    # At once, while the old node is still stopping everything: the new site waits for it.
    site.up()
    assert not any(alive(pid) for pid in (*before, node))
    after = site.pids()
    assert not before & set(after.values())
    of_the_site = [pid for pid in site.marked() if b"itertools" in command(pid)]
    assert of_the_site == [after["talker/1"]]


@pytest.mark.parametrize("by", ["up", "down"])
def test_keeper_and_node_killed_together_leave_nothing_that_the_next_up_or_down_does_not_clear(
    site: LiveSite, by: str
) -> None:
    site.write(SITE, work=JOBS)
    site.up()
    before = set(site.pids().values())
    keeper, node = site.keeper_pid(), site.node_pid()
    os.kill(node, signal.SIGSTOP)
    os.kill(keeper, signal.SIGKILL)
    os.kill(node, signal.SIGKILL)
    assert any(alive(pid) for pid in before)
    if by == "down":
        assert "left over from" in site.run("down").stderr
        assert not any(alive(pid) for pid in before)
        return
    told = site.up().stderr
    assert "left over from" in told
    assert not any(alive(pid) for pid in before)
    assert len([pid for pid in site.marked() if b"itertools" in command(pid)]) == 1


def test_a_killed_workers_jobs_all_run_again_without_waiting_for_a_lease(site: LiveSite) -> None:
    """J11: on one host the death is learnt from the kernel, not from a lease."""
    site.write(
        SITE.replace("default = 4", "default = 8"),
        work="""
import os, time
from coserver import task

@task
def mark(name: str) -> None:
    with open(name, "a") as file:
        file.write(f"{os.getpid()} {time.time_ns()}\\n")
    while not os.path.exists("go"):
        time.sleep(0.01)
""",
    )
    site.up()
    submit = "from work import mark; mark.submit_many(mark.bind(f'mark-{i}') for i in range(8))"
    site.run("run", "--service", "work", "python", "-c", submit)
    marks = [site.directory / f"mark-{i}" for i in range(8)]
    until(lambda: all(mark.exists() and mark.stat().st_size for mark in marks), "all have begun")
    # Either worker has room for all eight, so whichever dies, the other can begin what it had.
    holders = [int(mark.read_text().split()[0]) for mark in marks]
    victim = holders[0]
    killed_at = time.time_ns()
    os.kill(victim, signal.SIGKILL)
    lines = 8 + holders.count(victim)
    until(
        lambda: sum(len(mark.read_text().splitlines()) for mark in marks) == lines, "what it had runs again"
    )
    (site.directory / "go").touch()
    until(lambda: finished(site) == 8, "all are done")
    late = []
    for mark in marks:
        first, *again = [line.split() for line in mark.read_text().splitlines()]
        if int(first[0]) == victim:
            assert again, f"{mark.name} was lost"
            late.append((int(again[0][1]) - killed_at) / 1e6)
        else:
            assert not again, "a job of a living worker ran twice"
    assert late
    # How fast the first one is, N11 says in test_rescue; here none may wait for a lease, which lasts a minute.
    assert max(late) < 30_000
    assert site.sql("SELECT count(*), count(DISTINCT id) FROM coserver_done") == [(8, 8)]


def test_without_a_keeper_each_service_is_stopped_in_its_own_way_and_strays_too(site: LiveSite) -> None:
    site.write(
        '[service.int]\ncommand = "python3 -u says.py"\nstop = { signal = "INT" }\n'
        '[service.forker]\ncommand = "python3 forker.py"\n',
        says="""
import signal, sys, time
signal.signal(signal.SIGINT, lambda *_: (print("asked by INT", flush=True), sys.exit(0)))
print("ready", flush=True)
time.sleep(1000)
""",
        forker="""
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        open("stray", "w").write(str(os.getpid()))
        os.execve("/bin/sleep", ["sleep", "1000"], {})
    os._exit(0)
time.sleep(1000)
""",
    )
    site.up()
    until(lambda: b"ready" in site.log("int/1"), "it runs")
    until(
        lambda: (site.directory / "stray").exists() and (site.directory / "stray").read_text(),
        "the stray is there",
    )
    stray = int((site.directory / "stray").read_text())
    node = site.node_pid()
    os.kill(site.keeper_pid(), signal.SIGKILL)
    until(lambda: not alive(node), "the node has stopped everything")
    assert b"asked by INT" in site.log("int/1")
    assert not alive(stray)
    until(lambda: not site.marked(), "nothing is left")
