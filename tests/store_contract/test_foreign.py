"""Jobs on the caller's own connection: they come with its commit and go with its rollback, whoever made it."""

from __future__ import annotations

import asyncio
import socket
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiosqlite
import apsw
import psycopg
import pytest
import sqlalchemy as sa
from psycopg.rows import dict_row
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from coserver.client import Client
from coserver.errors import InvalidArguments, UsageError
from coserver.model.job import Edge, JobFilter, Limit, On, State, Succeeded
from coserver.store import open_store
from coserver.store.contract import Store
from tests.postgres import Server
from tests.store_contract.foreign import KINDS, path_of
from tests.store_contract.helpers import bad, claim, eventually, finish, job, join, ok

_ALL = JobFilter()


@dataclass
class Shop:
    """A store beside the caller's own tables."""

    store: Store
    url: str
    open: Callable[[], Any]

    def living(self) -> int:
        return sum(self.store.counts().by_state.values())


@pytest.fixture(params=KINDS, ids=lambda kind: f"{kind[0]}-{kind[1].__name__}")
def shop(request: pytest.FixtureRequest) -> Iterator[Shop]:
    database, kind = request.param
    url: str = request.getfixturevalue("postgres_url" if database == "postgres" else "sqlite_url")
    if database == "sqlite3":
        url += "?driver=sqlite3"
    store = open_store(url)
    yield Shop(store, url, lambda: kind(url))
    store.close()


# -- coming and going -----------------------------------------------------------------------------------------------


def test_n4_a_job_comes_with_the_callers_commit(shop: Shop) -> None:
    """N4."""
    with shop.open() as caller:
        caller.begin()
        caller.execute("CREATE TABLE photo (name text)")
        caller.execute("INSERT INTO photo VALUES ('a.png')")
        [number] = shop.store.submit_on(caller.given, [job(args='["a.png"]')])
        if not shop.url.startswith("postgres"):  # there another connection waits for the table's lock
            assert shop.store.job(number) is None
        caller.commit()
        found = shop.store.job(number)
        assert found is not None and (found.state, found.args) == (State.QUEUED, '["a.png"]')


def test_n4_a_job_goes_with_the_callers_rollback(shop: Shop) -> None:
    """N4."""
    with shop.open() as caller:
        caller.begin()
        shop.store.submit_on(caller.given, [job(), job()])
        caller.rollback()
        assert shop.living() == 0


def test_a_job_goes_with_a_savepoint_and_what_was_before_it_stays(shop: Shop) -> None:
    with shop.open() as caller:
        caller.begin()
        [kept] = shop.store.submit_on(caller.given, [job()])
        caller.execute("SAVEPOINT mine")
        shop.store.submit_on(caller.given, [job()])
        caller.execute("ROLLBACK TO SAVEPOINT mine")
        caller.commit()
        assert [one.id for one in shop.store.jobs(_ALL, limit=9)] == [kept]


def test_what_is_refused_halfway_leaves_the_callers_transaction_as_it_was(shop: Shop) -> None:
    with shop.open() as caller:
        caller.begin()
        [kept] = shop.store.submit_on(caller.given, [job()])
        with pytest.raises(InvalidArguments, match="does not exist"):
            shop.store.submit_on(caller.given, [job(), job(after=(Edge(999_999),))])
        [also] = shop.store.submit_on(caller.given, [job(unique="k")])
        caller.commit()
        assert sorted(one.id for one in shop.store.jobs(_ALL, limit=9)) == [kept, also]


def test_without_a_transaction_a_connection_that_commits_each_statement_stores_the_job_at_once(
    shop: Shop,
) -> None:
    with shop.open() as caller:
        [plain] = shop.store.submit_on(caller.given, [job()])
        [slow] = shop.store.submit_on(caller.given, [job(tags=("red",))])
        with pytest.raises(InvalidArguments):
            shop.store.submit_on(caller.given, [job(), job(after=(Edge(999_999),))])
        assert shop.living() == (2 if caller.alone else 0)
        if not caller.alone:
            caller.commit()
        assert {one.id for one in shop.store.jobs(_ALL, limit=9)} == {plain, slow}


def test_everything_that_a_submit_may_say_holds_there_too(shop: Shop) -> None:
    shop.store.set_limits([Limit("api", 1, None, None)])
    worker = join(shop.store)
    [parent] = shop.store.submit([job()])
    with shop.open() as caller:
        caller.begin()
        ids = shop.store.submit_on(
            caller.given,
            [
                job(unique="key", tags=("red",)),
                job(unique="key"),
                job(after=(Edge(parent, On.SUCCESS),)),
                job(held=True),
                job(limit="api"),
                job(limit="api"),
                job(delay=3_600_000_000),
                job(args='["' + "x" * 5000 + '"]'),
            ],
        )
        caller.commit()
    first, twin, child, held, one, two, later, large = ids
    assert twin == -first
    states = {number: shop.store.job(number).state for number in ids if number > 0}  # type: ignore[union-attr]
    assert (states[child], states[held], states[later]) == (State.WAITING, State.HELD, State.SCHEDULED)
    assert shop.store.job(first).tags == ("red",)  # type: ignore[union-attr]
    assert len(shop.store.job(large).args) > 5000  # type: ignore[union-attr]
    shop.store.tick()
    assert {shop.store.job(one).state, shop.store.job(two).state} == {State.QUEUED, State.LIMITED}  # type: ignore[union-attr]
    claimed = {each.id: each for each in claim(shop.store, worker)}
    assert set(claimed) == {parent, first, one, large}
    finish(shop.store, worker, ok(claimed[parent]))
    assert shop.store.job(child).state == State.QUEUED  # type: ignore[union-attr]


def test_a_worker_that_sleeps_is_found_by_the_next_tick(shop: Shop, tmp_path: Path) -> None:
    """Level-triggered: whoever was parked when the caller committed is roused by whoever looks next."""
    bell = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    bell.bind(str(tmp_path / "wake"))
    bell.settimeout(10)
    worker = join(shop.store, wake=str(tmp_path / "wake"))
    listener = shop.store.listener()
    postgres = shop.url.startswith("postgres")
    try:
        with shop.open() as caller:
            if not postgres:
                assert not shop.store.park(worker)
            caller.begin()
            shop.store.submit_on(caller.given, [job()])
            if postgres:  # it parks between the caller's submit and its commit: nobody can have told it
                assert not shop.store.park(worker)
            caller.commit()
        if postgres:
            while listener.wait(0.2):
                pass
        shop.store.tick()
        assert listener.wait(10, guesses=False) if postgres else bell.recv(1)
    finally:
        listener.close()
        bell.close()


# -- finishing ------------------------------------------------------------------------------------------------------


def test_a_job_is_finished_by_the_callers_commit_and_only_once(shop: Shop) -> None:
    worker = join(shop.store)
    shop.store.submit([job()])
    [held] = claim(shop.store, worker)
    with shop.open() as caller:
        caller.begin()
        assert shop.store.finish_on(caller.given, worker, ok(held, '"in it"'))
        caller.rollback()
        assert shop.store.job(held.id).state == State.RUNNING  # type: ignore[union-attr]
        caller.begin()
        assert shop.store.finish_on(caller.given, worker, ok(held, '"in it"'))
        caller.commit()
    found = shop.store.job(held.id)
    assert found is not None and (found.state, found.result) == (State.SUCCEEDED, '"in it"')
    assert finish(shop.store, worker, ok(held, '"told once more"')).stale == []
    assert shop.store.job(held.id).result == '"in it"'  # type: ignore[union-attr]
    assert finish(shop.store, worker, bad(held)).stale == [held.id]


def test_a_finish_is_fenced(shop: Shop) -> None:
    worker, other = join(shop.store), join(shop.store, "images/2")
    shop.store.submit([job()])
    [held] = claim(shop.store, worker)
    with shop.open() as caller:
        caller.begin()
        assert not shop.store.finish_on(caller.given, other, ok(held))
        assert not shop.store.finish_on(caller.given, worker, Succeeded(held.id, held.claim + 1, None, 1, 2))
        caller.commit()
    assert shop.store.job(held.id).state == State.RUNNING  # type: ignore[union-attr]


def test_finishing_releases_what_waited(shop: Shop) -> None:
    worker = join(shop.store)
    [parent] = shop.store.submit([job()])
    [child] = shop.store.submit([job(after=(Edge(parent),))])
    [held] = claim(shop.store, worker)
    with shop.open() as caller:
        caller.begin()
        assert shop.store.finish_on(caller.given, worker, ok(held))
        caller.commit()
    assert shop.store.job(child).state == State.QUEUED  # type: ignore[union-attr]


def test_a_finish_in_an_open_transaction_keeps_nobody_waiting(postgres_url: str) -> None:
    """Neither the worker's other finishes nor those of other callers; and the counters stay right."""
    store = open_store(postgres_url)
    try:
        worker = join(store)
        store.submit([job() for _ in range(5)])
        [child] = store.submit([job(after=(Edge(1),))])
        one, two, three, *_ = claim(store, worker)
        with psycopg.connect(postgres_url) as first, psycopg.connect(postgres_url) as second:
            first.execute("SET statement_timeout = '10s'")
            second.execute("SET statement_timeout = '10s'")
            assert store.finish_on(first, worker, bad(one))
            assert store.finish_on(second, worker, bad(two))
            assert finish(store, worker, bad(three)).stale == []
            store.tick()
            assert store.counts().by_state[State.FAILED] == 1
            second.commit()
            assert store.counts().by_state[State.FAILED] == 2
            store.tick()
            first.commit()
        assert store.job(child).state == State.CANCELLED  # type: ignore[union-attr]
        for _ in range(2):
            ended = store.counts().by_state
            assert (ended[State.FAILED], ended[State.CANCELLED]) == (3, 1)
            store.tick()
        with psycopg.connect(postgres_url) as raw:
            assert raw.execute("SELECT count(*) FROM coserver_count WHERE worker < 0").fetchone() == (0,)
        assert store.retry([one.id]) == [one.id]
        assert store.counts().by_state[State.FAILED] == 2
    finally:
        store.close()


# -- asynchronous connections ---------------------------------------------------------------------------------------


@asynccontextmanager
async def async_psycopg(url: str) -> AsyncIterator[tuple[Any, Any]]:
    async with await psycopg.AsyncConnection.connect(url, row_factory=dict_row) as connection:
        yield connection, connection
        await connection.rollback()


@asynccontextmanager
async def async_psycopg_cursor(url: str) -> AsyncIterator[tuple[Any, Any]]:
    async with async_psycopg(url) as (connection, _):
        yield connection.cursor(), connection


@asynccontextmanager
async def async_aiosqlite(url: str) -> AsyncIterator[tuple[Any, Any]]:
    async with aiosqlite.connect(path_of(url)) as connection:
        yield connection, connection


@asynccontextmanager
async def async_alchemy(url: str) -> AsyncIterator[tuple[Any, Any]]:
    engine = _async_engine(url)
    try:
        async with engine.connect() as connection:
            yield connection, connection
    finally:
        await engine.dispose()


@asynccontextmanager
async def async_alchemy_session(url: str) -> AsyncIterator[tuple[Any, Any]]:
    engine = _async_engine(url)
    try:
        async with AsyncSession(engine) as session:
            yield session, session
    finally:
        await engine.dispose()


def _async_engine(url: str) -> Any:
    if url.startswith("sqlite:"):
        return create_async_engine(f"sqlite+aiosqlite:///{path_of(url)}")
    return create_async_engine(url.replace("postgresql://", "postgresql+psycopg://"))


ASYNC = [
    *[("sqlite3", kind) for kind in (async_aiosqlite, async_alchemy, async_alchemy_session)],
    *[
        ("postgres", kind)
        for kind in (async_psycopg, async_psycopg_cursor, async_alchemy, async_alchemy_session)
    ],
]


@pytest.fixture(params=ASYNC, ids=lambda kind: f"{kind[0]}-{kind[1].__name__}")
def async_shop(request: pytest.FixtureRequest) -> Iterator[Shop]:
    database, kind = request.param
    url: str = request.getfixturevalue("postgres_url" if database == "postgres" else "sqlite_url")
    if database == "sqlite3":
        url += "?driver=sqlite3"
    store = open_store(url)
    yield Shop(store, url, lambda: kind(url))
    store.close()


def test_a_job_comes_and_goes_with_an_asynchronous_transaction(async_shop: Shop) -> None:
    store = async_shop.store
    worker = join(store)

    async def work() -> tuple[int, int]:
        async with async_shop.open() as (given, connection):
            await store.asubmit_on(given, [job()])
            await connection.rollback()
            [plain] = await store.asubmit_on(given, [job()])
            with pytest.raises(InvalidArguments):
                await store.asubmit_on(given, [job(), job(after=(Edge(999_999),))])
            [slow] = await store.asubmit_on(given, [job(unique="k", tags=("red",))])
            await connection.commit()
            [held, _] = claim(store, worker)
            assert await store.afinish_on(given, worker, ok(held, "1"))
            await connection.commit()
            assert held.id == plain
            return plain, slow

    plain, slow = asyncio.run(work())
    assert {one.id: one.state for one in store.jobs(_ALL, limit=9)} == {
        plain: State.SUCCEEDED,
        slow: State.RUNNING,
    }


def test_an_asynchronous_connection_is_refused_where_nothing_can_be_awaited(async_shop: Shop) -> None:
    async def work() -> None:
        async with async_shop.open() as (given, _):
            with pytest.raises(UsageError, match="asynchronous"):
                async_shop.store.submit_on(given, [job()])

    asyncio.run(work())


def test_a_synchronous_connection_works_in_a_coroutine(sqlite_url: str) -> None:
    store = open_store(f"{sqlite_url}?driver=sqlite3")
    connection = sqlite3.connect(path_of(sqlite_url))
    try:
        [number] = asyncio.run(store.asubmit_on(connection, [job()]))
        connection.commit()
        assert store.job(number) is not None
    finally:
        connection.close()
        store.close()


def test_a_cancelled_submit_leaves_the_connection_to_its_owner(postgres_url: str) -> None:
    store = open_store(postgres_url)

    async def work(autocommit: bool) -> None:
        async with (
            await psycopg.AsyncConnection.connect(postgres_url) as holder,
            await psycopg.AsyncConnection.connect(postgres_url, autocommit=autocommit) as connection,
        ):
            await store.asubmit_on(holder, [job(unique="k")])
            waiting = asyncio.ensure_future(store.asubmit_on(connection, [job(unique="k")]))
            async with await psycopg.AsyncConnection.connect(postgres_url, autocommit=True) as watcher:
                while not await _blocked(watcher):  # noqa: ASYNC110 - the database is what has to come to it
                    await asyncio.sleep(0.01)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            if not autocommit:
                await connection.rollback()
            found = await (await connection.execute("SELECT 1")).fetchall()
            assert found == [(1,)]
            await holder.rollback()

    try:
        asyncio.run(work(False))
        asyncio.run(work(True))
        assert store.jobs(_ALL, limit=9) == []
    finally:
        store.close()


async def _blocked(watcher: psycopg.AsyncConnection[Any]) -> bool:
    sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    row = await (await watcher.execute(sql)).fetchone()
    return row is not None and row[0] > 0


# -- what is refused ------------------------------------------------------------------------------------------------


@pytest.fixture
def other_url(postgres: Server) -> Iterator[str]:
    url = postgres.create()
    yield url
    postgres.drop(url)


def test_a_connection_to_another_database_is_refused(postgres_url: str, other_url: str) -> None:
    store = open_store(postgres_url)
    try:
        with psycopg.connect(other_url) as connection, pytest.raises(UsageError, match="another one"):
            store.submit_on(connection, [job()])
        with psycopg.connect(postgres_url) as connection:
            connection.execute("SET search_path = nowhere")
            with pytest.raises(UsageError, match="search_path"):
                store.submit_on(connection, [job()])
        lite = sqlite3.connect(":memory:")
        with pytest.raises(UsageError, match="SQLite"):
            store.submit_on(lite, [job()])
        lite.close()
    finally:
        store.close()


def test_the_same_database_is_known_by_whatever_address(postgres_url: str) -> None:
    store = open_store(postgres_url)
    try:
        with psycopg.connect(postgres_url.replace("127.0.0.1", "localhost")) as connection:
            assert store.submit_on(connection, [job()])
    finally:
        store.close()


def test_a_connection_to_another_file_is_refused(sqlite_url: str, postgres_url: str, tmp_path: Path) -> None:
    store = open_store(f"{sqlite_url}?driver=sqlite3")
    try:
        for place, words in ((str(tmp_path / "other.db"), "other.db"), (":memory:", "in memory")):
            connection = sqlite3.connect(place)
            with pytest.raises(UsageError, match=words):
                store.submit_on(connection, [job()])
            connection.close()
        with psycopg.connect(postgres_url) as elsewhere, pytest.raises(UsageError, match="PostgreSQL"):
            store.submit_on(elsewhere, [job()])
        link = tmp_path / "link.db"
        link.symlink_to(path_of(sqlite_url))
        connection = sqlite3.connect(link)
        assert store.submit_on(connection, [job()])
        connection.close()
    finally:
        store.close()


def test_the_other_sqlite_library_is_refused(sqlite_url: str) -> None:
    by_apsw, by_stdlib = open_store(sqlite_url), open_store(f"{sqlite_url}?driver=sqlite3")
    try:
        lite = sqlite3.connect(path_of(sqlite_url))
        with pytest.raises(UsageError, match=r"\?driver=sqlite3"):
            by_apsw.submit_on(lite, [job()])
        lite.close()
        other = apsw.Connection(path_of(sqlite_url))
        with pytest.raises(UsageError, match="two SQLite libraries"):
            by_stdlib.submit_on(other, [job()])
        other.close()
    finally:
        by_apsw.close()
        by_stdlib.close()


def test_a_store_without_tables_gets_them_in_the_callers_transaction(tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE mine (x)")
    connection.execute("INSERT INTO mine VALUES (1)")  # whoever else would make them now would have to wait
    store = open_store(f"sqlite:{path}?driver=sqlite3")
    store.submit_on(connection, [job()])
    connection.rollback()
    assert store.schema().version == 0

    connection.execute("INSERT INTO mine VALUES (1)")
    (number,) = store.submit_on(connection, [job()])
    connection.commit()
    kept = store.job(number)
    assert kept is not None and kept.state is State.QUEUED
    connection.close()
    store.close()


def test_the_first_use_of_a_client_may_be_in_a_transaction(tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE mine (x)")
    connection.execute("INSERT INTO mine VALUES (1)")
    with Client(f"sqlite:{path}?driver=sqlite3") as client:
        submitted = client.submit("shop:report", connection=connection)
        connection.commit()
        assert submitted.info().state is State.NEW
    connection.close()


def test_what_is_no_connection_that_we_know_is_refused_in_words(store: Store) -> None:
    import pymysql

    mysql = pymysql.Connection(defer_connect=True)
    for given, words in ((mysql, "MySQL"), (object(), "no database connection"), ("default", "psycopg 3")):
        with pytest.raises(UsageError, match=words):
            store.submit_on(given, [job()])
    engine = sa.create_engine("sqlite://")
    with pytest.raises(UsageError, match="Engine"):
        store.submit_on(engine, [job()])
    engine.dispose()


def test_a_closed_or_failed_connection_is_refused(postgres_url: str, sqlite_url: str) -> None:
    store = open_store(postgres_url)
    with psycopg.connect(postgres_url) as connection:
        with pytest.raises(psycopg.errors.UndefinedTable):
            connection.execute("SELECT * FROM nowhere")
        with pytest.raises(UsageError, match="has failed"):
            store.submit_on(connection, [job()])
        connection.rollback()
        with connection.pipeline(), pytest.raises(UsageError, match="pipeline"):
            store.submit_on(connection, [job()])
    with pytest.raises(UsageError, match="closed"):
        store.submit_on(connection, [job()])
    store.close()
    for driver, made in (("sqlite3", sqlite3.connect), ("apsw", apsw.Connection)):
        lite = open_store(f"{sqlite_url}?driver={driver}")
        opened: Any = made(path_of(sqlite_url) + ".other")
        opened.close()
        with pytest.raises(UsageError, match="closed"):
            lite.submit_on(opened, [job()])
        lite.close()


def test_the_callers_own_errors_come_out_as_its_driver_raises_them(
    sqlite_url: str, postgres_url: str
) -> None:
    store = open_store(f"{sqlite_url}?driver=sqlite3")
    first, second = (sqlite3.connect(path_of(sqlite_url), timeout=0) for _ in range(2))
    store.submit_on(first, [job()])
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        store.submit_on(second, [job()])
    assert not second.in_transaction
    first.close()
    second.close()
    store.close()
    store = open_store(postgres_url)
    with psycopg.connect(postgres_url) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.execute("SELECT 1 FROM coserver_job")
        store.submit([job(unique="k")])
        with pytest.raises(psycopg.errors.SerializationFailure):
            store.submit_on(connection, [job(unique="k")])
        connection.rollback()
        assert store.submit_on(connection, [job(unique="k")])[0] < 0
    store.close()


def test_a_delay_counts_from_the_submit_not_from_the_begin_of_the_transaction(postgres_url: str) -> None:
    store = open_store(postgres_url)
    with psycopg.connect(postgres_url) as connection:
        [[begun]] = connection.execute("SELECT (date_part('epoch', now()) * 1000000)::bigint").fetchall()
        connection.execute("SELECT pg_sleep(0.05)")
        [number] = store.submit_on(connection, [job(delay=3_600_000_000)])
        connection.commit()
    found = store.job(number)
    assert found is not None and found.run_at is not None
    assert found.run_at - begun >= 3_600_000_000 + 50_000
    store.close()


def test_nothing_of_the_callers_settings_changes(postgres_url: str) -> None:
    store = open_store(postgres_url)
    worker = join(store)
    store.park(worker)
    with psycopg.connect(postgres_url, row_factory=dict_row, prepare_threshold=None) as connection:
        connection.execute("SET search_path = public, pg_catalog")
        connection.commit()
        before = connection.execute("SELECT name, setting FROM pg_settings ORDER BY name").fetchall()
        store.submit_on(connection, [job()])
        store.submit_on(connection, [job(tags=("red",))])
        after = connection.execute("SELECT name, setting FROM pg_settings ORDER BY name").fetchall()
        assert after == before
        assert connection.execute("SELECT count(*) FROM pg_prepared_statements").fetchall() == [{"count": 0}]
        connection.commit()
    store.close()


def test_workers_are_told_by_the_commit(postgres_url: str) -> None:
    store = open_store(postgres_url)
    listener = store.listener()
    with psycopg.connect(postgres_url) as connection:
        store.submit_on(connection, [job()])
        connection.commit()
        assert not listener.wait(0.1, guesses=False)  # nobody is parked
        worker = join(store)
        claim(store, worker)
        assert not store.park(worker)
        store.submit_on(connection, [job()])
        assert not listener.wait(0.1, guesses=False)
        connection.commit()
        eventually(lambda: listener.wait(5, guesses=False))
    listener.close()
    store.close()
