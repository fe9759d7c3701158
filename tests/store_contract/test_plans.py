"""What a claim reads: the ready index and nothing in flight, on both databases."""

from __future__ import annotations

import re

import psycopg
import pytest

from coserver.store.contract import Store
from coserver.store.pool import Pool, compiled
from coserver.store.statements import statement
from coserver.store.url import PostgresUrl
from tests.store_contract.helpers import QUEUE, TASK, Raw, claim, finish, job, join, ok


@pytest.mark.parametrize("name", ["best", "suspect"])
def test_the_claim_uses_the_ready_index_on_sqlite(sqlite_url: str, name: str) -> None:
    raw = Raw(sqlite_url)
    try:
        sql = re.sub(r":\w+|\?\d", "1", statement("sqlite", name))
        plan = " | ".join(str(row[3]) for row in raw(f"EXPLAIN QUERY PLAN {sql}"))
    finally:
        raw.close()
    index = "coserver_job_suspect" if name == "suspect" else "coserver_job_ready"
    assert f"INDEX {index} (queue=? AND task=?)" in plan
    assert "SCAN coserver" not in plan
    assert "TEMP B-TREE" not in plan


def test_the_claim_uses_the_ready_index_on_postgres(postgres_url: str) -> None:
    pool = Pool(postgres_url, postgres_url)
    connection = pool.connect()
    try:
        explain = b"EXPLAIN (GENERIC_PLAN) " + compiled("exchange")[0]
        plan = "\n".join(row[0] for row in connection.execute(explain, prepare=False).fetchall())
    finally:
        connection.close()
        pool.close()
    assert re.search(r"Index Scan using coserver_job_ready on coserver_job", plan)
    assert re.search(r"Index (Only )?Scan using coserver_job_suspect on coserver_job", plan)
    assert re.search(r"Index Scan using coserver_job_pkey on coserver_job f", plan)
    assert "Tid Scan on coserver_job j" in plan
    assert "Seq Scan" not in plan
    # Running jobs are looked at only for workers that died.
    assert len(re.findall("coserver_job_running", plan)) == 1


@pytest.mark.parametrize("planned", ["empty", "full"])
def test_a_claim_on_postgres_reads_what_it_claims_however_much_is_in_flight(
    postgres_url: str, planned: str
) -> None:
    """The cost follows the batch, not the backlog, also when the statement was planned on an empty table."""
    from coserver.store.postgres import PostgresStore

    store = PostgresStore(PostgresUrl(postgres_url))
    counter = psycopg.connect(postgres_url, autocommit=True)
    try:
        worker, other = join(store), join(store, "images/2")
        if planned == "empty":
            claim(store, worker)
        store.submit([job("a:foreign") for _ in range(2000)] + [job() for _ in range(2000)])
        claim(store, other, 1500)
        batch = claim(store, worker, 10)
        before = _reads(counter)
        finish(store, worker, *[ok(held) for held in batch])
        claim(store, worker, 10)
        assert _reads(counter) - before < 200
    finally:
        store.close()
        counter.close()


def _reads(connection: psycopg.Connection[tuple[object, ...]]) -> int:
    """Rows of the job table fetched so far, as the server's statistics have it."""
    connection.execute("SELECT pg_stat_force_next_flush()")
    connection.execute("SELECT pg_stat_clear_snapshot()")
    row = connection.execute(
        "SELECT coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) FROM pg_stat_user_tables "
        "WHERE relname = 'coserver_job'"
    ).fetchone()
    assert row is not None
    assert isinstance(row[0], int)
    return row[0]


def test_claiming_does_not_slow_down_with_foreign_and_running_jobs(store: Store) -> None:
    worker, other = join(store), join(store, "images/2")
    store.submit([job("a:foreign") for _ in range(3000)] + [job(queue="foreign") for _ in range(3000)])
    assert len(claim(store, other, 3000, pairs=[(QUEUE, "a:foreign")])) == 3000
    [number] = store.submit([job()])
    assert [held.id for held in claim(store, worker, pairs=[(QUEUE, TASK)])] == [number]
