"""What a PostgreSQL server that crashed may have forgotten: only what costs nothing but a second run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from coserver.model.job import Flag, State
from coserver.store import open_store
from tests.postgres import Server
from tests.store_contract.helpers import claim, job, join


@pytest.fixture
def server() -> Iterator[Server]:
    """One that brings to its disk as late as can be what need not be there at the commit."""
    made = Server({"wal_writer_delay": "10s", "wal_writer_flush_after": "1GB"})
    yield made
    made.close()


def test_a_claim_of_a_limited_job_outlives_a_crash_so_that_no_second_one_runs_beside_it(
    server: Server,
) -> None:
    """J9: a worker goes on with what it claimed; were that forgotten, others would run the job at the same time."""
    url = server.create()
    store = open_store(url)
    try:
        worker = join(store)
        limited, plain = store.submit([job(limit="user:7"), job()])
        assert {held.id for held in claim(store, worker)} == {plain, limited}
        server.crash()
        store.close()
        server.start()
        store = open_store(url)
        found = store.job(limited)
        assert found is not None
        assert (found.state, found.flags) == (State.RUNNING, Flag.SLOTS)
        store.submit([job(limit="user:7")])
        assert {held.id for held in claim(store, worker)} <= {plain}
    finally:
        store.close()
