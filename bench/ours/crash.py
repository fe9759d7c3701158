"""How long the jobs of a killed worker wait until another one runs them: a real site, with defaults."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from bench.databases import Database
from bench.jobs import gate, sleep2
from bench.marks import Marks
from bench.ours.site import site
from bench.scenario import RUN_LIMIT, Sizes
from coserver import Client, using

_SERVICES = """
[service.victim]
queues = { default = 10 }
[service.other]
queues = { default = 100, gates = 100 }
concurrency = 100
"""
HELD, ROOM, JOBS = 10, 100, 100


def takeover(database: Database, sizes: Sizes) -> Sequence[float]:
    """One worker runs 10 of 100 two-second jobs, another one the rest; the first is killed. Returns the seconds until
    the last of its ten jobs has begun again."""
    url = database.fresh()
    with (
        Marks(ROOM + JOBS) as marks,
        site(url, marks, _SERVICES) as directory,
        Client(url) as client,
        using(client),
    ):
        return (_takeover(marks, directory / "open", sizes.takeover),)


def _takeover(marks: Marks, opening: Path, limit: float) -> float:
    # Jobs that wait at a gate fill the other worker while the victim takes what it can hold. Then the gate opens, and
    # the other one takes the rest.
    gate.options(queue="gates").submit_many([gate.bind(number, str(opening)) for number in range(ROOM)])
    marks.await_begun(ROOM, RUN_LIMIT)
    first, last = ROOM + HELD, ROOM + JOBS
    sleep2.submit_many([sleep2.bind(number) for number in range(ROOM, first)])
    marks.await_begun(first, RUN_LIMIT)
    opening.touch()
    sleep2.submit_many([sleep2.bind(number) for number in range(first, last)])
    marks.await_begun(last, RUN_LIMIT)
    other = marks.all()[0].process
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
