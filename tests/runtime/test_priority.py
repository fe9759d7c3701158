"""Better jobs go before worse ones that a worker holds already, with real stores."""

from __future__ import annotations

import pytest

from coserver.model.job import Priority, State
from coserver.runtime.isolated import Isolation
from coserver.store.contract import Store
from tests.runtime import jobs
from tests.runtime.test_isolated import TASKS
from tests.runtime.workers import auntil, in_loop, info, results, submit, working


@pytest.mark.parametrize("task", ["pace", "pace_plain"])
def test_a_better_job_begins_next_although_the_worker_holds_a_batch_of_worse_ones(
    store: Store, task: str
) -> None:
    """The worker has claimed ahead, being used to short jobs; then its jobs get long, and a better one is stored."""

    async def test() -> None:
        warm = submit(store, task, *['["warm",0]'] * 300, priority=Priority.LOW)
        async with working(store, {"default": 1}, threads=1):
            await results(store, warm)
            jobs.order.clear()
            low = submit(store, task, *['["low",0.03]'] * 12, priority=Priority.LOW)
            await auntil(lambda: "low" in jobs.order, "the first runs")
            held = sum(info(store, job).state is State.RUNNING for job in low)
            assert held > 1  # claimed ahead
            before = len(jobs.order)
            (high,) = submit(store, task, '["high",0]', priority=Priority.HIGH)
            await results(store, [high])
            await results(store, low)
        # One may run while the better one is stored, and one may have begun at that very moment.
        assert jobs.order.index("high") <= before + 1

    in_loop(test)


def test_a_better_job_waits_for_a_few_milliseconds_of_short_ones_at_most(store: Store) -> None:
    async def test() -> None:
        low = submit(store, "pace", *['["low",0]'] * 6000, priority=Priority.LOW)
        async with working(store, {"default": 1}):
            await auntil(lambda: len(jobs.order) > 500, "they run")
            (high,) = submit(store, "pace", '["high",0]', priority=Priority.HIGH)
            (done,) = await results(store, [high])
            await results(store, low)
        assert done.started_at is not None
        assert done.started_at - done.created_at < 2_000_000  # with busy machines in mind

    in_loop(test)


def test_a_better_isolated_job_passes_those_that_wait_for_a_process(store: Store) -> None:
    async def test() -> None:
        warm = submit(store, "apart_add", *["[1,1]"] * 50, priority=Priority.LOW)
        async with working(store, {"default": 1}, isolation=Isolation(1, tasks=TASKS)):
            await results(store, warm)
            low = submit(store, "apart_nap", *["[0.05]"] * 20, priority=Priority.LOW)
            await auntil(lambda: info(store, low[0]).state.final, "they run")
            (high,) = submit(store, "apart_nap", "[0]", priority=Priority.HIGH)
            (done,) = await results(store, [high])
            assert sum(info(store, job).state.final for job in low) < 15
            await results(store, low)
        assert done.state is State.SUCCEEDED

    in_loop(test)
