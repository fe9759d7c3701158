"""The hand-written loop of `bench.bare` once more, on asyncpg and uvloop: what another driver would bring."""

from __future__ import annotations

import asyncio
import os
import sys

import asyncpg
import msgspec
import uvloop

from bench.marks import begin, end, mark

STORE = os.environ["BENCH_STORE"]
BATCH = 500
TABLE = """
DROP TABLE IF EXISTS bare;
CREATE TABLE bare (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, state smallint NOT NULL DEFAULT 0,
                   args text NOT NULL, result text);
CREATE INDEX bare_ready ON bare (id) WHERE state = 0;
"""
EXCHANGE = """
WITH ended AS (
    UPDATE bare SET state = 2, result = d.result FROM unnest($1::bigint[], $2::text[]) AS d (id, result)
     WHERE bare.id = d.id AND bare.state = 1
), picked AS (
    SELECT id FROM bare WHERE state = 0 ORDER BY id LIMIT $3 FOR UPDATE SKIP LOCKED
)
UPDATE bare SET state = 1 FROM picked WHERE bare.id = picked.id RETURNING bare.id, bare.args
"""


async def prepare():
    connection = await asyncpg.connect(STORE)
    await connection.execute(TABLE)
    await connection.close()


class Producer:
    async def open(self):
        self._connection = await asyncpg.connect(STORE)

    async def close(self):
        await self._connection.close()

    async def one(self, task, number):
        await self._connection.execute("INSERT INTO bare (args) VALUES ($1)", f'["{task}",{number}]')
        await self._connection.execute("NOTIFY bare")

    async def many(self, task, numbers):
        args = [f'["{task}",{number}]' for number in numbers]
        await self._connection.execute("INSERT INTO bare (args) SELECT unnest($1::text[])", args)


def workers(processes, at_once):
    return [["python", "-m", __name__, str(at_once or BATCH)] for _ in range(processes)]


async def noop(number):
    mark(number)
    return number


async def sleep2(number):
    begin(number)
    await asyncio.sleep(2)
    end(number)


TASKS = {"noop": noop, "sleep2": sleep2}
decode = msgspec.json.Decoder(tuple[str, int]).decode


async def run(job, args, done):
    task, number = decode(args)
    done.append((job, str(await TASKS[task](number))))


async def work(batch):
    connection = await asyncpg.connect(STORE)
    called = asyncio.Event()
    await connection.add_listener("bare", lambda *_: called.set())
    exchange = await connection.prepare(EXCHANGE)
    done = []
    while True:
        called.clear()
        claimed = await exchange.fetch([job for job, _ in done], [result for _, result in done], batch)
        done = []
        tasks = [asyncio.create_task(run(job, args, done)) for job, args in claimed]
        if tasks:
            await asyncio.gather(*tasks)
        else:
            await called.wait()


if __name__ == "__main__":
    uvloop.run(work(int(sys.argv[1])))
