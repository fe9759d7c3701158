"""Celery on Redis."""

from __future__ import annotations

import os
import time

import redis
from celery import Celery

from bench.marks import begin, end, mark

BEST = os.environ["BENCH_SETTINGS"] == "best"
app = Celery("bench", broker=os.environ["BENCH_STORE"])
if BEST:
    app.conf.update(task_ignore_result=True, worker_prefetch_multiplier=128, worker_disable_rate_limits=True)


@app.task(name="noop")
def noop(number):
    mark(number)


@app.task(name="sleep2")
def sleep2(number):
    begin(number)
    time.sleep(2)
    end(number)


TASKS = {"noop": noop, "sleep2": sleep2}


def prepare():
    redis.from_url(os.environ["BENCH_STORE"]).flushdb()


class Producer:
    def one(self, task, number):
        TASKS[task].delay(number)


def workers(processes, at_once):
    lean = ["--without-gossip", "--without-mingle", "--without-heartbeat"] if BEST else []
    return [
        ["celery", "-A", f"{__name__}:app", "worker", "-l", "WARNING", "-c", str(at_once or processes), *lean]
    ]
