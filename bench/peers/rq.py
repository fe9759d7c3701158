"""RQ on Redis."""

from __future__ import annotations

import os
import time

import redis
from rq import Queue

from bench.marks import begin, end, mark

STORE = os.environ["BENCH_STORE"]
OPTIONS = {"result_ttl": 0} if os.environ["BENCH_SETTINGS"] == "best" else {}


def noop(number):
    mark(number)


def sleep2(number):
    begin(number)
    time.sleep(2)
    end(number)


def prepare():
    redis.from_url(STORE).flushdb()


class Producer:
    def __init__(self):
        self._queue = Queue("default", connection=redis.from_url(STORE))

    def one(self, task, number):
        self._queue.enqueue(f"{__name__}.{task}", number, **OPTIONS)

    def many(self, task, numbers):
        name = f"{__name__}.{task}"
        self._queue.enqueue_many([Queue.prepare_data(name, (number,), **OPTIONS) for number in numbers])


def workers(processes, at_once):
    simple = ["-w", "rq.worker.SimpleWorker"] if OPTIONS else []
    command = ["rq", "worker", "-u", STORE, "-q", "--disable-job-desc-logging", *simple]
    return [[*command, "-n", f"w{number}-{os.urandom(3).hex()}"] for number in range(at_once or processes)]
