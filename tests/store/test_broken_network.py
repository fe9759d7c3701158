"""The store on PostgreSQL while the network to it breaks, in order or in silence."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator

import pytest

from coserver.errors import StoreUnavailable
from coserver.store import open_store, pool, postgres
from coserver.store.contract import Listener, Store
from coserver.store.postgres import PostgresStore
from tests.proxy import Proxy, proxy
from tests.store_contract.helpers import eventually, job, join


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Patience of one second instead of four."""
    monkeypatch.setattr(pool, "SHORTLY", 1.0)
    monkeypatch.setattr(postgres, "SHORTLY", 1.0)


@pytest.fixture
def store(postgres_url: str) -> Iterator[Store]:
    """The same store by the direct way."""
    opened = open_store(postgres_url)
    yield opened
    opened.close()


@pytest.fixture
def way(postgres_url: str) -> Iterator[Proxy]:
    """A network to a fresh database."""
    with proxy(postgres_url) as made:
        yield made


@pytest.fixture
def far(way: Proxy) -> Iterator[Store]:
    """The store at its far end."""
    opened = open_store(way.url)
    yield opened
    opened.close()


def test_a_cut_connection_is_an_error_once_and_the_next_call_connects_anew(way: Proxy, far: Store) -> None:
    worker = join(far)
    way.cut()
    with pytest.raises(StoreUnavailable, match="cannot use the store"):
        eventually(lambda: far.renew([worker], lease=60))
    way.restore()
    assert far.renew([worker], lease=60) == []


def test_a_renewal_that_is_not_answered_is_given_up_soon_and_frees_whoever_else_waits(
    way: Proxy, far: Store
) -> None:
    """Others would wait as long as a statement may run; here the firewall forgot all connections, but new ones work."""
    assert isinstance(far, PostgresStore)
    worker = join(far)
    errors: list[StoreUnavailable] = []

    def submit() -> None:
        try:
            far.submit([job()])
        except StoreUnavailable as error:
            errors.append(error)

    with far._pool.connection(), far._pool.connection():
        pass
    way.stall(only_present=True)
    began = time.monotonic()
    submits = threading.Thread(target=submit)
    submits.start()
    eventually(lambda: len(far._pool._idle) == 1)
    with pytest.raises(StoreUnavailable, match="does not answer"):
        far.renew([worker], lease=60)
    submits.join(20)
    assert 1 <= time.monotonic() - began < 5
    assert "does not answer" in str(errors[0])
    assert far.renew([worker], lease=60) == []


def heard(store: Store, listener: Listener, seconds: float = 30.0) -> None:
    """The listener hears a submit."""
    store.submit([job()])
    end = time.monotonic() + seconds
    while not listener.wait(0.2, guesses=False):
        assert time.monotonic() < end, "it does not hear"


@pytest.mark.parametrize("how", ["cut", "stall"])
def test_a_listener_connects_anew_however_its_connection_dies(
    way: Proxy, store: Store, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "PULSE", 0.3)
    worker = join(store)
    store.park(worker)
    far = open_store(way.url)
    listener = far.listener()
    while listener.wait(0.2, guesses=False):
        pass
    heard(store, listener)
    getattr(way, how)()
    time.sleep(0.1)
    before = way.connections
    end = time.monotonic() + 2
    while time.monotonic() < end:
        listener.wait(0.2, guesses=False)
    assert way.connections - before < 20
    way.restore()
    eventually(lambda: listener.wait(0.2, guesses=False))
    heard(store, listener)
    listener.close()
    far.close()


def test_a_listener_that_is_not_passed_notifications_says_so_once_and_hears_again_when_it_is(
    way: Proxy, store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(postgres, "PULSE", 0.05)
    monkeypatch.setattr(postgres, "SHORTLY", 0.1)
    monkeypatch.setattr(postgres, "DEAFEST", 0.2)
    far = open_store(way.url)
    listener = far.listener()
    way.mute()
    with caplog.at_level(logging.WARNING):
        before = way.connections
        eventually(lambda: listener.wait(0.05, guesses=False) and way.connections >= before + 4)
        assert ["passes no notifications on" in one.getMessage() for one in caplog.records] == [True]
        way.restore()
        eventually(lambda: not listener.wait(0.05, guesses=False) and len(caplog.records) > 1)
    assert [one.getMessage().rpartition(" ")[2] for one in caplog.records][1:] == ["again"]
    listener.close()
    far.close()


def test_closing_a_listener_does_not_wait_for_a_server_that_is_silent(way: Proxy, far: Store) -> None:
    listener = far.listener()
    way.stall()
    waits = threading.Thread(target=listener.wait, args=(60.0,))
    waits.start()
    began = time.monotonic()
    listener.close()
    assert time.monotonic() - began < 2
    waits.join(20)
    assert not waits.is_alive()


def test_the_server_ends_a_transaction_whose_host_has_vanished(far: Store) -> None:
    assert isinstance(far, PostgresStore)
    with far._pool.connection() as connection:
        shown = connection.execute("SHOW idle_in_transaction_session_timeout").fetchall()
    assert shown == [("10s",)]
