"""What only the SQLite store has: boots, forks, busy files, grouped commits, two libraries."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from coserver.errors import StoreUnavailable
from coserver.model.job import NewJob, State
from coserver.store import open_store, sqlite_file
from coserver.store.clock import Clock
from coserver.store.contract import Store, WorkerIdentity
from coserver.store.sqlite import SQLiteStore
from coserver.store.url import SQLiteUrl
from tests.store_contract.helpers import Raw, claim, eventually, job, join


class Time:
    """A clock in the test's hands."""

    def __init__(self) -> None:
        self.now = 1_000_000_000_000_000
        self.up = 5_000_000

    def clock(self, boot_id: str = "this") -> Clock:
        return Clock(lambda: self.now, lambda: self.up, boot_id)


@pytest.fixture
def store(sqlite_url: str) -> Iterator[Store]:
    opened = open_store(sqlite_url)
    yield opened
    opened.close()


def at(url: str, clock: Clock) -> SQLiteStore:
    return SQLiteStore(SQLiteUrl(url.removeprefix("sqlite:")), clock=clock)


def test_a_lease_ends_by_the_boots_clock_and_not_by_the_walls(sqlite_url: str) -> None:
    time_ = Time()
    store = at(sqlite_url, time_.clock())
    worker, sibling = join(store, lease=60), join(store, "images/2", lease=600)
    store.submit([job()])
    claim(store, worker)
    time_.now += 3600_000_000
    assert claim(store, sibling) == []
    time_.up += 60_000_000
    assert claim(store, sibling) == []
    time_.up += 1
    assert [held.crashes for held in claim(store, sibling)] == [1]
    store.close()


def test_every_lease_of_an_earlier_boot_is_over(sqlite_url: str) -> None:
    time_ = Time()
    before = at(sqlite_url, time_.clock("before"))
    worker = join(before, lease=1e6)
    before.submit([job()])
    claim(before, worker)
    before.close()
    store = at(sqlite_url, time_.clock("after"))
    assert store.tick().rescued == 1
    assert store.renew([worker], lease=60) == [worker]
    store.close()


def test_delays_go_by_the_walls_clock(sqlite_url: str) -> None:
    time_ = Time()
    store = at(sqlite_url, time_.clock())
    worker = join(store)
    [number] = store.submit([job(delay=10_000_000)])
    assert store.tick().next_due == 10_000_000
    time_.now += 9_999_999
    assert claim(store, worker) == []
    time_.now += 1
    assert [held.id for held in claim(store, worker)] == [number]
    store.close()


def test_a_file_that_stays_locked_is_unavailable_and_says_so(
    store: Store, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_file, "PATIENCE", 0.2)
    holder = apsw.Connection(sqlite_url.removeprefix("sqlite:"))
    holder.execute("BEGIN IMMEDIATE")
    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match="somebody has held its lock"):
        store.submit([job()])
    assert time.monotonic() - began >= 0.2
    assert store.counts() is not None  # readers wait for nobody
    holder.execute("ROLLBACK")
    holder.close()
    assert len(store.submit([job()])) == 1


def test_a_writer_waits_for_another_to_end(store: Store, sqlite_url: str) -> None:
    holder = apsw.Connection(sqlite_url.removeprefix("sqlite:"))
    holder.execute("BEGIN IMMEDIATE")
    got: list[int] = []
    thread = threading.Thread(target=lambda: got.extend(store.submit([job()])))
    thread.start()
    thread.join(0.1)
    assert got == []
    holder.execute("COMMIT")
    holder.close()
    thread.join(20)
    assert len(got) == 1


def test_submits_that_come_while_another_commits_share_one_commit(store: Store, sqlite_url: str) -> None:
    holder = apsw.Connection(sqlite_url.removeprefix("sqlite:"))
    watcher = apsw.Connection(sqlite_url.removeprefix("sqlite:"))
    holder.execute("BEGIN IMMEDIATE")
    threads = [threading.Thread(target=lambda: store.submit([job()])) for _ in range(16)]
    for thread in threads:
        thread.start()
    # One leads and waits for the file, the others wait for it.
    eventually(lambda: store._group.waiting == 15)  # type: ignore[attr-defined]
    commits = 0
    version = watcher.pragma("data_version")
    holder.execute("ROLLBACK")
    holder.close()
    while any(thread.is_alive() for thread in threads):
        now = watcher.pragma("data_version")
        commits += now != version
        version = now
    assert store.counts().by_state[State.QUEUED] == 16
    assert commits <= 2
    watcher.close()


def test_a_failing_commit_fails_every_submit_of_its_group(
    store: Store, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_file, "PATIENCE", 0.1)
    holder = apsw.Connection(sqlite_url.removeprefix("sqlite:"))
    holder.execute("BEGIN IMMEDIATE")
    failed: list[str] = []

    def submit() -> None:
        try:
            store.submit([job()])
        except StoreUnavailable as error:
            failed.append(str(error))

    threads = [threading.Thread(target=submit) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    holder.execute("ROLLBACK")
    holder.close()
    assert len(failed) == 8
    assert len(store.submit([job()])) == 1
    assert store.counts().by_state[State.QUEUED] == 1


def test_the_file_keeps_its_promises_to_power_loss_unless_told_otherwise(sqlite_url: str) -> None:
    for option, level in (("", 2), ("?synchronous=NORMAL", 1)):
        store = open_store(sqlite_url + option)
        worker = join(store)
        store.submit([job()])
        claim(store, worker)  # commits without a sync, then goes back
        writer = store._file._writer  # type: ignore[attr-defined]
        assert writer.all("PRAGMA synchronous") == [(level,)]
        assert writer.all("PRAGMA journal_mode") == [("wal",)]
        store.close()


def test_both_libraries_read_each_others_files(tmp_path: Path) -> None:
    url = f"sqlite:{tmp_path / 'site.db'}"
    first = open_store(f"{url}?driver=sqlite3")
    first.migrate()
    first.submit([job(args='["é"]')])
    first.close()
    second = open_store(url)
    assert [held.args for held in claim(second, join(second))] == ['["é"]']
    second.close()


def test_a_submit_rouses_a_worker_that_reads_its_queue_and_no_other(tmp_path: Path) -> None:
    store = SQLiteStore(SQLiteUrl(str(tmp_path / "site.db")))
    store.migrate()
    doors = {}
    for name, queue in (("mail", "mail"), ("images", "images"), ("more", "images")):
        doors[name] = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        doors[name].bind(str(tmp_path / name))
        doors[name].setblocking(False)
        who = WorkerIdentity(name, "host", 1, ["shop:send"], [queue], wake=str(tmp_path / name))
        store.park(store.register(who, lease=60))
    store.submit([NewJob("shop:send", queue="mail")])
    heard = {name for name, door in doors.items() if _heard(door)}
    assert heard == {"mail"}
    for door in doors.values():
        door.close()
    store.close()


def _heard(door: socket.socket) -> bool:
    try:
        return bool(door.recv(1))
    except BlockingIOError:
        return False


@pytest.mark.parametrize("driver", ["apsw", "sqlite3"])
def test_text_that_is_not_utf8_where_no_producer_writes_is_trouble_in_words(
    sqlite_url: str, driver: str
) -> None:
    store = open_store(f"{sqlite_url}?driver={driver}")
    raw = Raw(f"{sqlite_url}?driver={driver}")
    worker = join(store)
    store.submit([job()])
    raw("UPDATE coserver_job SET options = CAST(x'ff' AS TEXT)")
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="it holds text that is not UTF-8; mend or delete the row"):
            claim(store, worker)
    raw("UPDATE coserver_job SET options = NULL")
    assert len(claim(store, worker)) == 1
    raw.close()
    store.close()


def test_a_file_whose_text_is_not_utf8_altogether_is_refused(tmp_path: Path) -> None:
    """Its bytes would be read as something else."""
    path = tmp_path / "old.db"
    other = apsw.Connection(str(path))
    other.execute("PRAGMA encoding = 'UTF-16le'; CREATE TABLE mine (name TEXT)").fetchall()
    other.close()
    store = open_store(f"sqlite:{path}")
    with pytest.raises(StoreUnavailable, match="it keeps its text as UTF-16le; name another file"):
        store.migrate()
    store.close()
