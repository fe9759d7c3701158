"""Dramatiq on Redis."""

from __future__ import annotations

import os
import time

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker

from bench.marks import begin, end, mark

dramatiq.set_broker(RedisBroker(url=os.environ["BENCH_STORE"]))


@dramatiq.actor
def noop(number):
    mark(number)


@dramatiq.actor
def sleep2(number):
    begin(number)
    time.sleep(2)
    end(number)


TASKS = {"noop": noop, "sleep2": sleep2}


def prepare():
    redis.from_url(os.environ["BENCH_STORE"]).flushdb()


class Producer:
    def one(self, task, number):
        TASKS[task].send(number)


def workers(processes, at_once):
    prefetch = ["env", "dramatiq_queue_prefetch=256"] if os.environ["BENCH_SETTINGS"] == "best" else []
    return [[*prefetch, "dramatiq", __name__, "-p", str(processes), "-t", str(at_once or 8)]]
