"""Migrations: the schema is their sum, they run once whoever calls, and a newer store is left alone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from coserver.errors import SchemaMismatch
from coserver.store import open_store
from coserver.store.contract import SchemaStatus, Store
from coserver.store.statements import migrations
from tests.postgres import Server
from tests.store_contract.helpers import Raw, job, join

ROOT = Path(__file__).parents[2]
NAMES = [step.name for step in migrations("sqlite")]
LATEST = migrations("sqlite")[-1].version


@pytest.fixture(params=["sqlite", "sqlite3", "postgres"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a store that has no tables yet."""
    if request.param == "postgres":
        server: Server = request.getfixturevalue("postgres")
        url = server.create(schema=False)
        yield url
        server.drop(url)
    else:
        yield f"sqlite:{tmp_path / 'new.db'}" + ("?driver=sqlite3" if request.param == "sqlite3" else "")


@pytest.fixture
def empty(empty_url: str) -> Iterator[Store]:
    store = open_store(empty_url)
    yield store
    store.close()


def test_both_dialects_have_the_same_migrations() -> None:
    assert [step.name for step in migrations("postgres")] == NAMES
    assert [step.version for step in migrations("sqlite")] == list(range(1, LATEST + 1))


def test_an_empty_store_has_version_zero_and_all_migrations_pending(empty: Store) -> None:
    assert empty.schema() == SchemaStatus(0, LATEST, NAMES)


def test_asking_for_the_schema_makes_no_file(tmp_path: Path) -> None:
    store = open_store(f"sqlite:{tmp_path / 'absent.db'}")
    assert store.schema().version == 0
    store.close()
    assert list(tmp_path.iterdir()) == []


def test_migrating_applies_everything_once(empty: Store) -> None:
    assert empty.migrate() == NAMES
    assert empty.migrate() == []
    assert empty.schema() == SchemaStatus(LATEST, LATEST, [])
    assert join(empty) == 1
    assert empty.submit([job()]) == [1]


def test_a_store_without_tables_names_the_command_that_makes_them(empty: Store) -> None:
    for call in (
        lambda: empty.submit([job()]),
        lambda: empty.job(1),
        empty.counts,
        empty.tick,
        lambda: join(empty),
    ):
        with pytest.raises(SchemaMismatch, match="no tables of coserver yet; run `coserver db migrate`"):
            call()


def test_a_store_that_was_without_tables_works_once_they_are_there(empty: Store, empty_url: str) -> None:
    with pytest.raises(SchemaMismatch):
        empty.counts()
    other = open_store(empty_url)
    other.migrate()
    other.close()
    assert empty.submit([job()]) == [1]


def test_a_newer_store_is_refused_and_left_as_it_is(store: Store, raw: Raw, store_url: str) -> None:
    raw("UPDATE coserver_meta SET value = '7' WHERE key = 'schema'")
    fresh = open_store(store_url)
    message = (
        "cannot use the store: its schema is version 7, newer than this coserver's "
        f"{LATEST}; upgrade coserver"
    )
    for call in (
        lambda: fresh.submit([job()]),
        fresh.migrate,
        fresh.counts,
        lambda: join(fresh),
        fresh.probe,
    ):
        with pytest.raises(SchemaMismatch) as caught:
            call()
        assert str(caught.value) == message
    assert fresh.schema().version == 7
    fresh.close()
    assert raw("SELECT value FROM coserver_meta WHERE key = 'schema'") == [("7",)]


def test_migrating_from_several_processes_at_once_is_safe(empty: Store, empty_url: str) -> None:
    program = (
        "import sys; from coserver.store import open_store; store = open_store(sys.argv[1]); "
        "print(*store.migrate()); store.submit([]); print(store.schema().version); store.close()"
    )
    running = [
        subprocess.Popen(
            [sys.executable, "-c", program, empty_url],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(6)
    ]
    answers = [process.communicate(timeout=60) for process in running]
    assert [error for _, error in answers] == [b""] * 6
    lines = [output.decode().split() for output, _ in answers]
    assert sorted(name for line in lines for name in line[:-1]) == NAMES
    assert {line[-1] for line in lines} == {str(LATEST)}


def test_the_tables_are_the_same_in_both_dialects(sqlite_url: str, postgres_url: str) -> None:
    """N16: same tables, same columns; what differs is named here."""
    only_sqlite = {("coserver_worker", "boot")}
    lite, post = Raw(sqlite_url), Raw(postgres_url)
    try:
        tables = [name for (name,) in lite("SELECT name FROM sqlite_master WHERE type = 'table'")]
        ours = {
            (table, column)
            for table in tables
            if table.startswith("coserver_")
            for (column,) in lite("SELECT name FROM pragma_table_info(?)", table)
        }
        theirs = set(
            post(
                "SELECT table_name::text, column_name::text FROM information_schema.columns "
                "WHERE table_schema = 'public'"
            )
        )
        lite_indexes = {name for (name,) in lite("SELECT name FROM sqlite_master WHERE type = 'index'")}
        post_indexes = {
            name for (name,) in post("SELECT indexname::text FROM pg_indexes WHERE schemaname = 'public'")
        }
    finally:
        lite.close()
        post.close()
    assert ours - theirs == only_sqlite
    assert theirs - ours == set()
    partial = {name for name in lite_indexes if name.startswith("coserver_job")}
    assert partial == {
        name for name in post_indexes if name.startswith("coserver_job") and "pkey" not in name
    }
