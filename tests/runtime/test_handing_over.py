"""A task that returns a job hands its own over to it: only to one of the same store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from coserver.client import Client
from coserver.model.job import NewJob, State
from coserver.store.contract import Store
from coserver.tasks.declaration import task
from coserver.tasks.handle import Job
from tests.runtime.test_isolated import apart_working, text
from tests.runtime.workers import fresh, in_loop, results, submit


@task(name="return_job")
async def return_job(url: str, job: int) -> Job[Any]:
    async with Client(url) as client:
        return client.job(job)


@task(name="return_job_plain")
def return_job_plain(url: str, job: int) -> Job[Any]:
    with Client(url) as client:
        return client.job(job)


@pytest.mark.parametrize("name", ["return_job", "return_job_plain", "apart_hand_over"])
def test_a_job_is_handed_over_within_its_store_alone(
    store: Store, store_url: str, tmp_path: Path, name: str
) -> None:
    """Another store has a job of the same number, too."""
    elsewhere = f"sqlite:{tmp_path}/elsewhere.db"
    other = fresh(elsewhere)
    try:
        other.migrate()
        other.submit([NewJob("nobody", "[]", "nowhere")])
    finally:
        other.close()

    async def test() -> None:
        (added,) = submit(store, "add", "[1,2]")
        assert added == 1
        ids = submit(store, name, text(store_url, added), text(elsewhere, 1))
        async with apart_working(store, 1):
            here, there = await results(store, ids)
        assert (here.state, here.result) == (State.SUCCEEDED, "3")
        assert there.state is State.FAILED
        assert there.error is not None
        assert there.error.type.endswith("UsageError")
        assert there.error.message.startswith(
            f"cannot take over job 1 of {elsewhere}: this job is in another store"
        )

    in_loop(test)
