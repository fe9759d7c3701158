"""Copies of stores in use, on both databases."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import threading
from pathlib import Path

import psycopg
import pytest

from coserver.errors import BackupFailed, StoreUnavailable, UsageError
from coserver.model.job import JobFilter, NewJob, State
from coserver.store import open_store
from coserver.store.backup import backup
from tests.postgres import Server


@pytest.mark.parametrize("driver", ["apsw", "sqlite3"])
def test_a_copy_of_a_store_in_use_is_of_one_moment_and_a_store_itself(
    sqlite_url: str, tmp_path: Path, driver: str
) -> None:
    """Every submit of the writer stores two jobs, so a copy of one moment holds an even number; it holds at least what
    was acknowledged before it was begun."""
    url = f"{sqlite_url}?driver={driver}"
    store = open_store(url)
    stop = threading.Event()
    acknowledged = 0

    def write() -> None:
        nonlocal acknowledged
        while not stop.is_set():
            acknowledged += len(store.submit([NewJob("a"), NewJob("b", f'["{"x" * 5000}"]')]))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        made = [(acknowledged, backup(url, tmp_path / f"copy-{n}.db")) for n in range(5)]
    finally:
        stop.set()
        writer.join()
        written = store.counts().by_state[State.NEW]
        store.close()
    for n, (before, one) in enumerate(made):
        path = tmp_path / f"copy-{n}.db"
        assert (one.store, one.size) == (sqlite_url, path.stat().st_size)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        copy = open_store(f"sqlite:{path}?driver={driver}")
        held = copy.counts().by_state.get(State.NEW, 0)
        assert held % 2 == 0
        assert before <= held <= written
        [number] = copy.submit([NewJob("c", queue="q")])
        assert copy.jobs(JobFilter(task="c"), limit=2)[0].id == number > held
        copy.close()
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


def test_a_file_that_is_there_is_replaced_only_when_asked_for(sqlite_url: str, tmp_path: Path) -> None:
    to = tmp_path / "copy.db"
    to.write_text("precious")
    with pytest.raises(UsageError, match=r"it exists; name another file, or say --force"):
        backup(sqlite_url, to)
    assert to.read_text() == "precious"
    backup(sqlite_url, to, force=True)
    assert to.read_bytes().startswith(b"SQLite format 3")


@pytest.mark.parametrize(
    "way",
    [
        "name",
        "other path",
        "symlink",
        "its place",
        "hard link",
        "-wal",
        "-shm",
        "-journal",
        "link to -wal",
        "its symlink",
    ],
)
@pytest.mark.parametrize("force", [True, False])
def test_the_store_is_never_replaced_by_its_copy_whatever_it_is_called(
    sqlite_url: str, tmp_path: Path, way: str, force: bool
) -> None:
    path = Path(sqlite_url.removeprefix("sqlite:"))
    store = open_store(sqlite_url)
    [number] = store.submit([NewJob("a", queue="q")])
    to = tmp_path / "copy.db"
    url = sqlite_url
    match way:
        case "name":
            to = path
        case "other path":
            (tmp_path / "aside").mkdir()
            to = tmp_path / "aside" / ".." / path.relative_to(tmp_path)
        case "symlink":
            to.symlink_to(path)
        case "its place":
            (tmp_path / "dir").symlink_to(path.parent)
            to = tmp_path / "dir" / f"{path.name}-journal"
        case "hard link":
            to.hardlink_to(path)
        case "link to -wal":
            to.hardlink_to(f"{path}-wal")
        case "its symlink":
            (tmp_path / "way.db").symlink_to(path)
            url, to = f"sqlite:{tmp_path / 'way.db'}", Path(f"{path}-wal")
        case end:
            to = Path(f"{path}{end}")
    try:
        with pytest.raises(UsageError, match="that is the store itself, or belongs to it; name another file"):
            backup(url, to, force=force)
        assert store.submit([NewJob("b", queue="q")])[0] > number
    finally:
        store.close()
    again = open_store(sqlite_url)
    found = again.job(number)
    again.close()
    assert found is not None
    assert found.task == "a"


def test_no_other_database_in_use_is_replaced_nor_what_is_no_file(sqlite_url: str, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    store = open_store(f"sqlite:{other}")
    store.migrate()
    store.submit([NewJob("a")])
    try:
        with pytest.raises(
            UsageError, match=r"other\.db-wal lies beside it, so a database of that name is in use"
        ):
            backup(sqlite_url, other, force=True)
    finally:
        store.close()
    backup(sqlite_url, other, force=True)
    assert list(tmp_path.glob("other.db*")) == [other]
    with pytest.raises(UsageError, match="it is no regular file; name a file"):
        backup(sqlite_url, tmp_path, force=True)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="it is no regular file; name a file"):
        backup(sqlite_url, tmp_path / "pipe", force=True)


def test_a_copy_that_failed_leaves_what_was_there(tmp_path: Path) -> None:
    to = tmp_path / "copy.db"
    to.write_text("precious")
    with pytest.raises(StoreUnavailable, match="cannot back up the store"):
        backup(f"sqlite:{tmp_path / 'none.db'}", to, force=True)
    assert to.read_text() == "precious"
    with pytest.raises(StoreUnavailable):
        backup(f"sqlite:{tmp_path / 'none.db'}", tmp_path / "other.db")
    assert list(tmp_path.iterdir()) == [to]


def test_a_damaged_store_is_noticed(sqlite_url: str, tmp_path: Path) -> None:
    store = open_store(sqlite_url)
    store.submit([NewJob(f"task:{n}", queue="q") for n in range(2_000)])
    store.close()
    path = Path(sqlite_url.removeprefix("sqlite:"))
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        [(root,)] = connection.execute(
            "SELECT rootpage FROM sqlite_schema WHERE name = 'coserver_job_ready'"
        ).fetchall()
    connection.close()
    with path.open("r+b") as file:
        file.seek(4096 * (root - 1))
        file.write(b"\xff" * 4096)
    with pytest.raises((BackupFailed, StoreUnavailable), match=r"damaged|not sound"):
        backup(sqlite_url, tmp_path / "copy.db")
    assert not (tmp_path / "copy.db").exists()


def test_a_directory_that_is_not_there_is_named(sqlite_url: str, tmp_path: Path) -> None:
    with pytest.raises(BackupFailed, match=r"No such file or directory; see that its directory is there"):
        backup(sqlite_url, tmp_path / "no" / "copy.db")


def test_a_postgres_store_comes_back_from_its_archive(
    postgres: Server, postgres_url: str, tmp_path: Path
) -> None:
    store = open_store(postgres_url)
    [first] = store.submit([NewJob("a", '["b"]', queue="q", tags=("spring",))])
    store.close()
    with psycopg.connect(postgres_url) as connection:
        connection.execute("CREATE TABLE of_the_application (n int)")
    binaries = str(postgres.binary("pg_dump").parent)
    to = tmp_path / "copy.dump"
    made = backup(postgres_url, to, environ=os.environ | {"PATH": binaries})
    assert made.size == to.stat().st_size
    assert "of-the-tests" not in made.store
    empty = postgres.create(schema=False)
    try:
        done = subprocess.run(
            [postgres.binary("pg_restore"), "--dbname", empty, "--no-owner", to],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        back = open_store(empty)
        found = back.job(first)
        assert found is not None
        assert (found.args, found.tags, found.state) == ('["b"]', ("spring",), State.QUEUED)
        assert back.submit([NewJob("c", queue="q")])[0] > first
        back.close()
        with psycopg.connect(empty) as connection:
            names = connection.execute("SELECT to_regclass('of_the_application')").fetchone()
            assert names == (None,)
    finally:
        postgres.drop(empty)


def test_without_pg_dump_it_says_what_to_install(postgres_url: str, tmp_path: Path) -> None:
    with pytest.raises(BackupFailed, match="pg_dump is not on PATH; install") as caught:
        backup(postgres_url, tmp_path / "copy.dump", environ={"PATH": str(tmp_path)})
    assert "of-the-tests" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_what_pg_dump_complains_of_is_passed_on_without_the_password(
    postgres: Server, tmp_path: Path
) -> None:
    path = {"PATH": str(postgres.binary("pg_dump").parent)}
    with pytest.raises(BackupFailed, match=r'pg_dump said: .*"nowhere" does not exist') as caught:
        backup(postgres.url("nowhere"), tmp_path / "copy.dump", environ=path)
    assert "of-the-tests" not in str(caught.value)
    with pytest.raises(BackupFailed, match=r"pg_dump said: .*no matching tables"):
        backup(postgres.url("postgres"), tmp_path / "copy.dump", environ=path)
    assert list(tmp_path.iterdir()) == []
