"""PgQueuer on PostgreSQL, with asyncpg and uvloop."""

from __future__ import annotations

import asyncio
import os
import sys

import asyncpg
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver, AsyncpgPoolDriver
from pgqueuer.queries import Queries

from bench.marks import begin, end, mark

STORE = os.environ["BENCH_STORE"]
BEST = os.environ["BENCH_SETTINGS"] == "best"
BATCH = 250 if BEST else 10


async def prepare():
    connection = await asyncpg.connect(STORE)
    queries = Queries(AsyncpgDriver(connection))
    if await connection.fetchval("SELECT to_regclass('pgqueuer')") is not None:
        await queries.uninstall()
    await queries.install()
    await connection.close()


class Producer:
    async def open(self):
        self._connection = await asyncpg.connect(STORE)
        self._queries = Queries(AsyncpgDriver(self._connection))

    async def close(self):
        await self._connection.close()

    async def one(self, task, number):
        await self._queries.enqueue(task, b"%d" % number)

    async def many(self, task, numbers):
        payloads = [b"%d" % number for number in numbers]
        await self._queries.enqueue([task] * len(payloads), payloads, [0] * len(payloads))


def workers(processes, at_once):
    batch = at_once // 2 if at_once else BATCH
    return [["python", "-m", __name__, str(batch), str(at_once or 0)] for _ in range(processes)]


async def work(batch, at_once):
    if BEST:
        driver = AsyncpgPoolDriver(await asyncpg.create_pool(STORE, min_size=2, max_size=8))
    else:
        driver = AsyncpgDriver(await asyncpg.connect(STORE))
    queue = PgQueuer(driver)

    @queue.entrypoint("noop")
    async def noop(job):
        mark(int(job.payload))

    @queue.entrypoint("sleep2")
    async def sleep2(job):
        begin(int(job.payload))
        await asyncio.sleep(2)
        end(int(job.payload))

    await queue.run(batch_size=batch, max_concurrent_tasks=at_once or None)


if __name__ == "__main__":
    uvloop.run(work(int(sys.argv[1]), int(sys.argv[2])))
