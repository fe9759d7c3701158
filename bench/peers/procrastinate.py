"""Procrastinate on PostgreSQL."""

from __future__ import annotations

import asyncio
import os

import procrastinate

from bench.marks import begin, end, mark

BEST = os.environ["BENCH_SETTINGS"] == "best"
app = procrastinate.App(
    connector=procrastinate.PsycopgConnector(conninfo=os.environ["BENCH_STORE"], min_size=4, max_size=20)
)


@app.task(name="noop")
async def noop(number):
    mark(number)


@app.task(name="sleep2", retry=True)
async def sleep2(number):
    begin(number)
    await asyncio.sleep(2)
    end(number)


TASKS = {"noop": noop, "sleep2": sleep2}


async def prepare():
    async with app.open_async():
        made = await app.connector.execute_query_one_async("SELECT to_regclass('procrastinate_jobs') AS made")
        if made["made"] is None:
            await app.schema_manager.apply_schema_async()
        await app.connector.execute_query_async(
            "TRUNCATE procrastinate_jobs, procrastinate_events, procrastinate_workers, "
            "procrastinate_periodic_defers CASCADE"
        )


class Producer:
    async def open(self):
        await app.open_async()

    async def close(self):
        await app.close_async()

    async def one(self, task, number):
        await TASKS[task].defer_async(number=number)

    async def many(self, task, numbers):
        await TASKS[task].batch_defer_async(*[{"number": number} for number in numbers])


def workers(processes, at_once):
    options = ["-c", str(at_once or (30 if BEST else 1)), *(["--delete-jobs", "always"] if BEST else [])]
    return [["procrastinate", "--app", f"{__name__}.app", "worker", *options] for _ in range(processes)]
