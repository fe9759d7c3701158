"""Huey on Redis and on SQLite."""

from __future__ import annotations

import os
import time

from huey import RedisHuey, SqliteHuey

from bench.marks import begin, end, mark

STORE = os.environ["BENCH_STORE"]
if STORE.startswith("sqlite:"):
    # It syncs every commit unless told otherwise.
    huey = SqliteHuey("bench", filename=STORE.removeprefix("sqlite:"), results=False)
else:
    huey = RedisHuey("bench", url=STORE, results=False)


@huey.task()
def noop(number):
    mark(number)


@huey.task()
def sleep2(number):
    begin(number)
    time.sleep(2)
    end(number)


TASKS = {"noop": noop, "sleep2": sleep2}


def prepare():
    huey.flush()


class Producer:
    def one(self, task, number):
        TASKS[task](number)


def workers(processes, at_once):
    kind = ["-k", "thread", "-w", str(at_once)] if at_once else ["-k", "process", "-w", str(processes)]
    best = os.environ["BENCH_SETTINGS"] == "best"
    polling = ["-d", "0.01", "-m", "0.05"] if best and STORE.startswith("sqlite:") else []
    return [["huey_consumer", f"{__name__}.huey", "-q", *kind, *polling]]
