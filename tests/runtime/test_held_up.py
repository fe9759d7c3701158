"""Outcomes that have to wait for somebody else's transaction."""

from __future__ import annotations

import asyncio

import psycopg

from coserver.model.job import Edge, NewJob, State
from coserver.store import open_store
from coserver.tasks.declaration import task
from tests.runtime.workers import auntil, in_loop, info, results, submit, working

gate = asyncio.Event()


@task(name="held_up")
async def held_up(number: int) -> int:
    await gate.wait()
    return number


def test_an_open_transaction_that_awaits_a_running_job_holds_up_its_end_alone(postgres_url: str) -> None:
    async def test() -> None:
        gate.clear()
        store = open_store(postgres_url)
        try:
            ids = submit(store, "held_up", *(f"[{number}]" for number in range(20)))
            async with working(store, {"default": 50}, tasks=["held_up"]) as worker:
                await auntil(lambda: info(store, ids[0]).state is State.RUNNING, "it runs")
                with psycopg.connect(postgres_url) as user:
                    [child] = store.submit_on(
                        user, [NewJob("held_up", "[0]", "default", after=(Edge(ids[0]),))]
                    )
                    gate.set()
                    await results(store, ids[1:])
                    await results(store, submit(store, "held_up", *["[1]"] * 20))
                    assert info(store, ids[0]).state is State.RUNNING
                    assert worker.figures().done == 1
                    user.commit()
                assert [one.result for one in await results(store, [ids[0], child])] == ["0", "0"]
        finally:
            store.close()

    in_loop(test)
