"""What a claim reads: the ready index and nothing in flight, on both databases."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import psycopg
import pytest

from coserver.store import open_store
from coserver.store.contract import Store
from coserver.store.pool import Pool, compiled
from coserver.store.statements import Dialect, statement
from tests.postgres import Server
from tests.store_contract.helpers import QUEUE, TASK, Raw, back, claim, finish, job, join, ok


@pytest.mark.parametrize("name", ["best", "best_in_time", "suspect"])
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
    assert "Seq Scan" not in plan
    # Running jobs are looked at only for workers that died.
    assert len(re.findall("coserver_job_running", plan)) == 1


def _everything(dialect: Dialect) -> list[str]:
    names = [entry.name for entry in (files("coserver.store") / "sql" / dialect).iterdir()]
    return sorted(name.removesuffix(".sql") for name in names if name.endswith(".sql"))


def test_no_statement_reads_a_large_table_from_its_beginning_on_sqlite(sqlite_url: str) -> None:
    whole = {
        ("look", "coserver_job_new"),
        ("look", "coserver_job_suspect"),
        ("jobs_running", "coserver_job_running"),
        ("limit_adopt", "coserver_job_running"),
        ("limit_keys", "coserver_job_limited"),
        ("queue_counts", "coserver_job_running"),
    }
    raw = Raw(sqlite_url)
    try:
        for name in _everything("sqlite"):
            sql = re.sub(r":\w+|\?\d?", "1", statement("sqlite", name))
            for _, _, _, step in raw(f"EXPLAIN QUERY PLAN {sql}"):
                if name != "counts" and re.match(r"SCAN (coserver_(job|done|blob)|[jd]\b)", step):
                    assert (name, step.rpartition("INDEX ")[2]) in whole, (name, step)
    finally:
        raw.close()


LARGE = tuple(f"coserver_{name}" for name in ("job", "done", "blob", "dep", "tag", "progress"))
COUNTED = ("new", "held", "waiting", "limited", "scheduled", "ready", "suspect", "running")
WHOLE = {
    # Is there any at all? One row is read.
    ("exchange", "coserver_job_suspect"),
    ("exchange", "coserver_job_new"),
    # All of a kind are wanted.
    ("jobs_running", "coserver_job_running"),
    ("limit_adopt", "coserver_job_running"),
    ("queue_counts", "coserver_job_running"),
    *(("counts", f"coserver_job_{state}") for state in COUNTED),
}
"""Which statements may read an index from its beginning."""


@pytest.mark.parametrize("name", [name for name in _everything("postgres") if name != "vacuum"])
def test_every_statement_probes_by_an_index_even_if_planned_on_a_tiny_table(tiny: Pool, name: str) -> None:
    """Plans are kept: one made while a table was nearly empty has to be good when it is full."""
    with tiny.connection() as connection:
        explain = b"EXPLAIN (GENERIC_PLAN, FORMAT JSON) " + compiled(name)[0]
        [[plan]] = connection.execute(explain, prepare=False).fetchall()
    for node in _nodes(plan[0]["Plan"]):
        large = node.get("Relation Name") in LARGE
        if large and "Scan" in node["Node Type"]:
            assert node["Node Type"] != "Seq Scan", node
            assert "Index Cond" in node or (name, node.get("Index Name")) in WHOLE, node


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from _nodes(child)


@pytest.fixture(scope="module")
def tiny(postgres: Server) -> Iterator[Pool]:
    """A store that had its statistics taken while it held three jobs."""
    url = postgres.create()
    store = open_store(url)
    _make_tiny(store, url)
    store.close()
    pool = Pool(url, url)
    yield pool
    pool.close()
    postgres.drop(url)


def _make_tiny(store: Store, url: str) -> None:
    worker = join(store)
    store.submit([job() for _ in range(3)])
    finish(store, worker, *[ok(held) for held in claim(store, worker, 1)])
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")


@pytest.mark.parametrize("planned", ["never analysed", "tiny", "full"])
def test_a_claim_on_postgres_reads_what_it_claims_however_much_is_in_flight(
    postgres_url: str, planned: str
) -> None:
    """The cost follows the batch, not the backlog, whenever the statement was planned."""
    store = open_store(postgres_url)
    counter = psycopg.connect(postgres_url, autocommit=True)
    try:
        worker, other = join(store), join(store, "images/2")
        if planned == "tiny":
            _make_tiny(store, postgres_url)
        if planned != "full":
            finish(store, worker, *[ok(held) for held in claim(store, worker)])
        store.submit([job("a:foreign") for _ in range(2000)] + [job() for _ in range(2000)])
        claim(store, other, 1500)
        batch = claim(store, worker, 10)
        before = _reads(counter)
        finish(store, worker, *[ok(held) for held in batch])
        batch = claim(store, worker, 10)
        finish(store, worker, *[back(held) for held in batch])
        assert _reads(counter) - before < 300
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
