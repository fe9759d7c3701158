"""What becomes of the processes beside a worker, of what they left behind, and of what is remembered of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from coserver.model.job import State
from coserver.store.contract import Store
from tests.runtime import apart
from tests.runtime.test_isolated import alive, apart_working
from tests.runtime.workers import auntil, in_loop, results, submit


@pytest.mark.parametrize("escaped", [False, True], ids=["in its group", "in a session of its own"])
def test_a_program_that_goes_on_printing_after_its_job_died_stops_nobody(
    store: Store, tmp_path: Path, escaped: bool
) -> None:
    async def test() -> None:
        began = tmp_path / "began"
        args = json.dumps({"started": str(began), "escaped": escaped})
        (bad,) = submit(store, "apart_chatter", args, max_crashes=1)
        async with apart_working(store, 1):
            (lost,) = await results(store, [bad])
            (after,) = await results(store, submit(store, "apart_add", "[1,2]"))
        assert lost.state is State.LOST
        assert after.result == "3"
        program = int(apart.lines(began)[0])
        await auntil(lambda: not alive(program), "what it started is dead")

    in_loop(test)


def test_what_has_ended_in_a_process_is_watched_by_no_deadline(store: Store) -> None:
    async def test() -> None:
        ids = submit(store, "apart_hour", *["{}"] * 300)
        ids += submit(store, "apart_hour", '{"dies": true}', max_crashes=1)
        async with apart_working(store) as worker:
            await results(store, ids)
            assert not len(worker._deadlines)

    in_loop(test)
