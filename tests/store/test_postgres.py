"""What only the PostgreSQL store has: sessions, locks, notifications, estates that stay open for a while."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator

import psycopg
import pytest

from coserver.errors import StoreUnavailable
from coserver.model.job import State
from coserver.store import open_store, pool, vacuum
from coserver.store.contract import Rescue, Store, Want
from coserver.store.pool import IDLE, Pool, run
from coserver.store.postgres import GRACE, Batch, PostgresStore, _exchange_params
from coserver.store.url import PostgresUrl
from tests.store_contract.helpers import PAIR, Raw, claim, eventually, finish, job, join, ok, swap


@pytest.fixture
def store(postgres_url: str) -> Iterator[Store]:
    opened = open_store(postgres_url)
    yield opened
    opened.close()


@pytest.fixture
def raw(postgres_url: str) -> Iterator[Raw]:
    connection = Raw(postgres_url)
    yield connection
    connection.close()


def test_a_claimer_passes_over_what_another_is_claiming_and_does_not_wait(
    store: Store, postgres_url: str
) -> None:
    worker = join(store)
    store.submit([job() for _ in range(10)])
    with psycopg.connect(postgres_url) as other:
        other.execute("SELECT 1 FROM coserver_job WHERE id <= 4 FOR UPDATE")
        assert [held.id for held in claim(store, worker, 3)] == [5, 6, 7]
        other.rollback()
    assert [held.id for held in claim(store, worker, 3)] == [1, 2, 3]


def test_nobody_is_notified_while_no_worker_is_parked(store: Store, postgres_url: str) -> None:
    worker = join(store)
    with psycopg.connect(postgres_url, autocommit=True) as listening:
        listening.execute("LISTEN coserver")
        store.submit([job()])
        store.park(worker)
        assert len(claim(store, worker)) == 1
        store.submit([job()])
        assert list(listening.notifies(timeout=0.2)) == []
        claim(store, worker)
        store.park(worker)
        store.submit([job()])
        assert len(list(listening.notifies(timeout=20, stop_after=1))) == 1


def test_a_claim_that_commits_after_its_worker_was_buried_is_freed_uncharged(
    store: Store, postgres_url: str
) -> None:
    """N11: what was under way when the kernel reported the death is nobody's loss and nobody's fault."""
    worker, sibling = join(store, token="t"), join(store, "images/2")
    store.submit([job()])
    under_way = Pool(postgres_url, postgres_url)
    connection = under_way.connect()
    connection.execute("BEGIN")
    claimed = run(connection, "exchange", _exchange_params(worker, Batch(), Want(10, [PAIR])))
    assert len(claimed) == 2
    assert store.bury("t", started=[], note="killed") == Rescue([], [], [])
    connection.execute("COMMIT")
    connection.close()
    under_way.close()
    assert len(store.held(worker)) == 1
    assert [(held.id, held.crashes) for held in claim(store, sibling)] == [(1, 0)]


def test_an_estate_stays_open_for_the_grace_and_then_is_closed_and_folded(store: Store, raw: Raw) -> None:
    worker = join(store, token="t")
    store.submit([job()])
    finish(store, worker, *[ok(held) for held in claim(store, worker)])
    store.bury("t", started=[], note="killed")
    store.tick()
    assert raw("SELECT state FROM coserver_worker") == [(1,)]
    assert raw("SELECT worker, n FROM coserver_count") == [(worker, 1)]
    raw("UPDATE coserver_worker SET ended_at = ended_at - ?", (GRACE + 1) * 1_000_000)
    sibling = join(store, "images/2")
    claim(store, sibling)  # without a node nobody ticks, so an exchange closes estates as well
    assert raw("SELECT state FROM coserver_worker ORDER BY id") == [(2,), (0,)]
    assert raw("SELECT worker, n FROM coserver_count") == [(0, 1)]
    assert store.counts().by_state[State.SUCCEEDED] == 1


def test_many_threads_share_a_bounded_number_of_idle_connections(store: Store, raw: Raw) -> None:
    store.counts()
    barrier = threading.Barrier(IDLE + 4)

    def call() -> None:
        barrier.wait()
        for _ in range(5):
            store.submit([job()])

    threads = [threading.Thread(target=call) for _ in range(IDLE + 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert isinstance(store, PostgresStore)
    assert 1 <= len(store._pool._idle) <= IDLE
    assert store.counts().by_state[State.QUEUED] == 5 * (IDLE + 4)


def test_a_statement_that_takes_too_long_is_ended_by_the_server(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "_SETTINGS", pool._SETTINGS.replace("'30s'", "'100ms'"))
    store = PostgresStore(PostgresUrl(postgres_url))
    store.counts()
    with psycopg.connect(postgres_url) as holder:
        holder.execute("LOCK TABLE coserver_job")
        with pytest.raises(StoreUnavailable, match="a statement took longer than"):
            store.submit([job()])
        holder.rollback()
    assert len(store.submit([job()])) == 1
    store.close()


def test_statements_are_prepared_once_whatever_the_size_of_numbers(store: Store) -> None:
    for delay in (1, 2**20, 2**40):
        store.submit([job(delay=delay)])
    assert isinstance(store, PostgresStore)
    with store._pool.connection() as connection:
        rows = connection.execute(
            "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE 'WITH stored AS%'"
        ).fetchall()
    assert rows == [(1,)]


def test_a_tick_has_many_dead_rows_vacuumed_and_does_not_wait_for_it(
    store: Store, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vacuum, "SECONDS", 0.0)
    worker = join(store)
    store.submit([job() for _ in range(20_000)])
    batch = claim(store, worker, 20_000)
    while batch:
        batch = list(swap(store, worker, [ok(held) for held in batch], limit=20_000).claimed)
    store.submit([job() for _ in range(20_000)])
    claim(store, worker, 20_000)
    eventually(lambda: store.counts() and dead(raw) >= 60_000)
    eventually(lambda: store.tick() and dead(raw) < 10_000)
    store.tick()
    assert len(store.held(worker)) == 20_000


def dead(raw: Raw) -> int:
    raw("SELECT pg_stat_force_next_flush()")
    [[rows]] = raw("SELECT n_dead_tup FROM pg_stat_user_tables WHERE relname = 'coserver_job'")
    assert isinstance(rows, int)
    return rows


def test_a_missing_driver_names_the_extra_that_brings_it() -> None:
    program = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from coserver.store import open_store; from coserver.errors import StoreUnavailable\n"
        "try: open_store('postgresql://me:secret@db/shop')\n"
        "except StoreUnavailable as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("cannot open the store postgresql://me:***@db/shop: ")
    assert done.stdout.endswith("install it with: pip install 'psycopg[binary]'\n")
