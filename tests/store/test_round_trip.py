"""Statements sent together, with the library under the driver."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from coserver.errors import StoreRefused, StoreUnavailable
from coserver.store import open_store
from coserver.store.pool import Pool, run
from coserver.store.round_trip import round_trip

JOB: dict[str, Any] = {
    "task": "shop.jobs:report",
    "args": '["é"]',
    "options": None,
    "priority": 1,
    "max_crashes": 3,
    "queue": "default",
    "run_at": None,
    "delay": None,
}


@pytest.fixture
def pool(postgres_url: str) -> Iterator[Pool]:
    store = open_store(postgres_url)
    store.migrate()
    store.close()
    pool = Pool(postgres_url, "the store")
    yield pool
    pool.close()


def stored(pool: Pool) -> int:
    with pool.connection() as connection:
        return connection.execute("SELECT count(*) FROM coserver_job").fetchone()[0]  # type: ignore[index]


def test_rows_come_back_per_statement_and_each_is_a_transaction(pool: Pool) -> None:
    with pool.connection() as connection:
        for _ in range(2):  # the second time they are prepared already
            ids, nobody, more = round_trip(
                connection, ("insert_one", JOB), ("notify", {}), ("insert_one", JOB)
            )
            assert [one[1] for one in (*ids, *more)] == [b"0", b"0"]
            assert nobody == []
            assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        transactions = connection.execute("SELECT count(DISTINCT xmin::text) FROM coserver_job").fetchone()
    assert transactions == (4,)


def test_an_error_leaves_the_others_done_and_the_connection_in_use(pool: Pool) -> None:
    wrong = {**JOB, "priority": "urgent"}
    with pytest.raises(StoreRefused, match="urgent"), pool.connection() as connection:
        pid = connection.info.backend_pid
        round_trip(connection, ("insert_one", JOB), ("insert_one", wrong), ("notify", {}))
    assert stored(pool) == 1
    with pool.connection() as connection:
        assert connection.info.backend_pid == pid
        assert len(round_trip(connection, ("insert_one", JOB))[0]) == 1
        assert run(connection, "counts", {})


def test_a_statement_that_could_not_be_prepared_is_prepared_again(pool: Pool) -> None:
    with pool.connection() as connection:
        connection.execute("ALTER TABLE coserver_job RENAME TO hidden")
    with pytest.raises(StoreUnavailable), pool.connection() as connection:
        round_trip(connection, ("insert_one", JOB))
    with pool.connection() as connection:
        connection.execute("ALTER TABLE hidden RENAME TO coserver_job")
        assert len(round_trip(connection, ("insert_one", JOB))[0]) == 1


def test_text_that_the_server_would_cut_is_refused(pool: Pool) -> None:
    with pytest.raises(StoreRefused, match="NUL"), pool.connection() as connection:
        round_trip(connection, ("insert_one", {**JOB, "options": "a\0b"}))
    with pytest.raises(StoreRefused), pool.connection() as connection:
        round_trip(connection, ("insert_one", {**JOB, "options": "\ud800"}))
    assert stored(pool) == 0


def test_a_connection_that_the_server_ended_is_an_error_and_replaced(pool: Pool) -> None:
    with pool.connection() as connection:
        pid = connection.info.backend_pid
    with psycopg.connect(pool._url, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 10000)", [pid])
    with pytest.raises(StoreUnavailable), pool.connection() as connection:
        round_trip(connection, ("insert_one", JOB), ("notify", {}))
    with pool.connection() as connection:
        assert connection.info.backend_pid != pid
        assert len(round_trip(connection, ("insert_one", JOB))[0]) == 1
