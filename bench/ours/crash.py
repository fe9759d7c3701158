"""How long the jobs of a killed worker wait until another one runs them: a real site, with defaults."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench.databases import Database
from bench.jobs import noop, sleep2
from bench.marks import Mark, Marks
from bench.ours.workers import ROOT
from bench.scenario import RUN_LIMIT, Sizes
from coserver import Client, using

_SITE = """
[site]
name = "bench"
store = "{url}"
[app]
path = ["{root}"]
tasks = ["bench.jobs"]
[defaults.service]
env = {{ {variable} = "{marks}" }}
[service.victim]
queues = {{ default = 10 }}
[service.other]
queues = {{ default = 100, hello = 1 }}
"""
JOBS, HELD = 100, 10
SETTLED = 0.5


def takeover(database: Database, sizes: Sizes) -> Sequence[float]:
    """One worker runs 10 of 100 two-second jobs, another one the rest; the first is killed. Returns the seconds until
    the last of its ten jobs has begun again."""
    url = database.fresh()
    with Marks(JOBS + 1) as marks, tempfile.TemporaryDirectory(prefix="coserver-bench-") as home:
        ((variable, path),) = marks.environment.items()
        Path(home, "coserver.toml").write_text(
            _SITE.format(url=url, root=ROOT, variable=variable, marks=path)
        )
        _coserver(home, "up", "-d")
        try:
            with Client(url) as client, using(client):
                return (_takeover(marks, sizes.takeover),)
        finally:
            _coserver(home, "down")


def _takeover(marks: Marks, limit: float) -> float:
    noop.options(queue="hello").submit(JOBS)
    other = _first(marks).process
    # It is stopped while the victim takes what it can hold, and then takes all that comes. Before that it shall have
    # come to rest, since whoever is stopped within a transaction keeps its locks.
    time.sleep(SETTLED)
    os.kill(other, signal.SIGSTOP)
    try:
        sleep2.submit_many([sleep2.bind(number) for number in range(HELD)])
        marks.await_begun(HELD, RUN_LIMIT)
    finally:
        os.kill(other, signal.SIGCONT)
    sleep2.submit_many([sleep2.bind(number) for number in range(HELD, JOBS)])
    marks.await_begun(JOBS, RUN_LIMIT)
    held = [one for one in marks.all() if one.process != other]
    if len(held) != HELD or any(one.ended for one in held):
        raise RuntimeError("the machine is too busy to hold ten two-second jobs at the same time")
    killed = time.monotonic_ns()
    os.kill(held[0].process, signal.SIGKILL)
    return run_again(marks, [one.number for one in held], killed, limit)


def run_again(marks: Marks, numbers: Sequence[int], killed: int, limit: float) -> float:
    """Wait until these jobs have begun again; return the seconds since `killed` (ns), infinite after `limit`."""
    while time.monotonic_ns() - killed < limit * 1e9:
        again = [one.again for one in marks.all() if one.number in numbers and one.again > killed]
        if len(again) == len(numbers):
            return (max(again) - killed) / 1e9
        time.sleep(0.01)
    return float("inf")


def _first(marks: Marks) -> Mark:
    deadline = time.monotonic() + RUN_LIMIT
    while not (found := marks.all()):
        if time.monotonic() > deadline:
            raise TimeoutError("no job began")
        time.sleep(0.01)
    return found[0]


def _coserver(home: str, *words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "coserver", *words],
        cwd=home,
        env={name: value for name, value in os.environ.items() if not name.startswith("COSERVER_")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"coserver {' '.join(words)} said: {done.stdout}")
