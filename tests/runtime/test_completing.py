"""A job that ends in the transaction of its own function: exactly once, or not at all."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import aiosqlite
import apsw
import psycopg
import pytest

from coserver.errors import JobNoLongerHeld, UsageError
from coserver.model.job import State
from coserver.store import open_store
from coserver.store.contract import Store
from coserver.store.url import SQLiteUrl, parse_url
from coserver.tasks.current import CurrentJob, current_job
from coserver.tasks.declaration import task
from tests.runtime.workers import auntil, in_loop, results, submit, working

where = ""
"""The URL of the store that the tasks' own table lies beside."""
between: list[Callable[[], None]] = []
"""What happens to a job between its work and its end."""


def connect() -> Any:
    parsed = parse_url(where)
    if not isinstance(parsed, SQLiteUrl):
        return psycopg.connect(where)
    if parsed.driver == "sqlite3":
        return closing(sqlite3.connect(parsed.path, timeout=10))
    connection = apsw.Connection(parsed.path)
    connection.set_busy_timeout(10_000)
    return closing(connection)


def commit(connection: Any) -> None:
    if isinstance(connection, apsw.Connection):
        connection.execute("COMMIT")
    else:
        connection.commit()


@task(name="pay", retries=2)
def pay(amount: int, then: str = "") -> str:
    with connect() as connection:
        if isinstance(connection, apsw.Connection):
            connection.execute("BEGIN IMMEDIATE")
        connection.execute(f"INSERT INTO payment VALUES ({int(amount)})")
        for step in between:
            step()
        current_job().complete(connection=connection, result=f"paid {amount}")
        if then == "fail once" and current_job().attempt == 1:
            raise ValueError("rolled back")
        commit(connection)
    if then == "fail after":
        raise ValueError("too late to matter")
    return "not this"


@task(name="pay_async")
async def pay_async(amount: int) -> None:
    if where.startswith("postgresql"):
        async with await psycopg.AsyncConnection.connect(where) as connection:
            await connection.execute("INSERT INTO payment VALUES (%s)", (amount,))
            await current_job().acomplete(connection=connection, result=amount)
        return
    async with aiosqlite.connect(parse_url(where).path) as lite:  # type: ignore[union-attr]
        await lite.execute("INSERT INTO payment VALUES (?)", (amount,))
        await current_job().acomplete(connection=lite, result=amount)
        await lite.commit()


@pytest.fixture(params=["sqlite3", "apsw", "postgres"])
def shop(request: pytest.FixtureRequest) -> Iterator[Store]:
    global where
    url: str = request.getfixturevalue("postgres_url" if request.param == "postgres" else "sqlite_url")
    where = url if request.param == "postgres" else f"{url}?driver={request.param}"
    with connect() as connection:
        connection.execute("CREATE TABLE payment (amount integer)")
        if not isinstance(connection, apsw.Connection):
            connection.commit()
    store = open_store(where)
    yield store
    store.close()
    between.clear()


def payments() -> list[int]:
    with connect() as connection:
        return [row[0] for row in connection.execute("SELECT amount FROM payment").fetchall()]


def test_what_a_function_writes_and_the_end_of_its_job_are_one(
    shop: Store, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        ids = submit(shop, "pay", "[1]", "[2]")
        async with working(shop, tasks=["pay"]):
            done = await results(shop, ids)
        assert [one.state for one in done] == [State.SUCCEEDED] * 2
        assert sorted(one.result or "" for one in done) == ['"paid 1"', '"paid 2"']
        assert all(one.created_at <= (one.started_at or 0) <= (one.finished_at or 0) for one in done)
        assert sorted(payments()) == [1, 2]

    with caplog.at_level(logging.WARNING):
        in_loop(test)
    assert caplog.records == []


def test_a_rollback_takes_the_end_back_and_the_job_runs_again(shop: Store) -> None:
    async def test() -> None:
        [number] = submit(shop, "pay", '[3, "fail once"]')
        async with working(shop, tasks=["pay"]):
            [done] = await results(shop, [number])
        assert (done.state, done.attempt, done.result) == (State.SUCCEEDED, 2, '"paid 3"')
        assert payments() == [3]

    in_loop(test)


def test_what_goes_wrong_after_the_commit_changes_nothing(shop: Store) -> None:
    async def test() -> None:
        [number] = submit(shop, "pay", '[4, "fail after"]')
        async with working(shop, tasks=["pay"]):
            [done] = await results(shop, [number])
        assert (done.state, done.result) == (State.SUCCEEDED, '"paid 4"')
        assert payments() == [4]

    in_loop(test)


def test_who_lost_the_job_meanwhile_rolls_back(shop: Store) -> None:
    """The first worker counts as dead and a second one runs the job: only what that one wrote stays."""
    if not where.startswith("postgresql"):
        pytest.skip("on SQLite nobody can take a job away while its function's transaction holds the file")

    async def test() -> None:
        reached, go_on = threading.Event(), threading.Event()

        def wait() -> None:
            between.clear()
            reached.set()
            assert go_on.wait(30)

        between.append(wait)
        [number] = submit(shop, "pay", "[5]")
        first = open_store(where)
        try:
            async with working(first, tasks=["pay"], token="first"):
                await auntil(reached.is_set, "the first worker is at it")
                shop.bury("first", started=[number], note="killed")
                async with working(shop, tasks=["pay"]):
                    [done] = await results(shop, [number])
                    go_on.set()
            assert (done.state, done.result) == (State.SUCCEEDED, '"paid 5"')
            assert payments() == [5]
        finally:
            go_on.set()
            first.close()

    in_loop(test)


def test_a_job_that_is_held_no_longer_cannot_be_completed(shop: Store) -> None:
    class Gone:
        def complete(self, connection: Any, outcome: Any) -> bool:
            return False

        async def acomplete(self, connection: Any, outcome: Any) -> bool:
            return False

    job = CurrentJob(7, 1, "pay", "default", completer=Gone())
    with pytest.raises(JobNoLongerHeld, match=r"cannot complete job 7: .*; roll the transaction back"):
        job.complete(connection=None)


def test_a_coroutine_completes_its_job_on_an_asynchronous_connection(shop: Store) -> None:
    if "driver=apsw" in where:
        pytest.skip("apsw's own asynchronous connections are none that a store takes")

    async def test() -> None:
        [number] = submit(shop, "pay_async", "[6]")
        async with working(shop, tasks=["pay_async"]):
            [done] = await results(shop, [number])
        assert (done.state, done.result) == (State.SUCCEEDED, "6")
        assert payments() == [6]

    in_loop(test)


def test_without_a_worker_there_is_nothing_to_complete() -> None:
    CurrentJob(7, 1, "pay", "default").complete(connection=None, result=object)


def test_a_job_in_a_process_of_its_own_cannot_be_completed_from_there() -> None:
    class Apart:
        cancelled = False

        def progress(self, fraction: float | None, note: str) -> None:
            raise AssertionError

    with pytest.raises(UsageError, match="process of its own"):
        CurrentJob(7, 1, "pay", "default", None, Apart()).complete(connection=None)
