"""Stores that cannot be used say why and what mends it, never in a driver's words alone."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from coserver.errors import StoreUnavailable, UsageError
from coserver.store import open_store
from coserver.store.contract import Store
from tests.postgres import PASSWORD, Server
from tests.store_contract.helpers import claim, finish, job, join, ok


def complaint(url: str) -> str:
    """What every first use of the store says; and it must be one and the same."""
    store = open_store(url)
    said = set()
    for call in (
        store.migrate,
        store.schema,
        lambda: store.submit([job()]),
        store.counts,
        lambda: join(store),
    ):
        with pytest.raises(StoreUnavailable) as caught:
            call()
        said.add(str(caught.value))
    store.close()
    assert len(said) == 1, said
    message = said.pop()
    assert message.startswith("cannot open the store ")
    assert PASSWORD not in message
    return message


@pytest.mark.parametrize("driver", ["", "?driver=sqlite3"])
def test_a_file_that_is_no_database(tmp_path: Path, driver: str) -> None:
    path = tmp_path / "site.db"
    path.write_bytes(b"name,price\n" * 1000)
    message = complaint(f"sqlite:{path}{driver}")
    assert message.endswith("is not an SQLite database; name another file or move this one away")
    assert path.read_bytes() == b"name,price\n" * 1000


@pytest.mark.parametrize("driver", ["", "?driver=sqlite3"])
def test_a_directory_that_does_not_exist(tmp_path: Path, driver: str) -> None:
    message = complaint(f"sqlite:{tmp_path}/nowhere/site.db{driver}")
    assert message.endswith(f"the directory {tmp_path}/nowhere does not exist; create it")


@pytest.mark.parametrize("driver", ["", "?driver=sqlite3"])
def test_a_directory_in_the_place_of_the_file(tmp_path: Path, driver: str) -> None:
    assert complaint(f"sqlite:{tmp_path}{driver}").endswith("is a directory; name a file")


@pytest.mark.parametrize("what", ["file", "directory"])
def test_files_that_this_user_may_not_write(what: str) -> None:
    folder = Path(tempfile.mkdtemp())
    path = folder / "site.db"
    store = open_store(f"sqlite:{path}")
    store.migrate()
    store.close()
    try:
        path.chmod(0o000 if what == "file" else 0o444)
        folder.chmod(0o555)
        message = _as_plain_user(lambda: complaint(f"sqlite:{path}"))
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)
    assert message.startswith(
        f"cannot open the store sqlite:{path}: {path} may not be read and written by this user"
    )


def _as_plain_user(action: Callable[[], str]) -> str:
    """Run `action` in a child that is not root and return what it returns."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            os.write(writing, action().encode())
        except BaseException as error:
            os.write(writing, repr(error).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        message = answer.read()
    os.waitpid(child, 0)
    return message


def test_a_damaged_database(sqlite_url: str) -> None:
    path = Path(sqlite_url.removeprefix("sqlite:"))
    store = open_store(sqlite_url)
    store.submit([job() for _ in range(3000)])
    store.close()
    content = bytearray(path.read_bytes())
    content[4096 * 3 :] = os.urandom(len(content) - 4096 * 3)
    path.write_bytes(content)
    store = open_store(sqlite_url)
    with pytest.raises(StoreUnavailable, match=r"is damaged .*; restore it from a backup"):
        claim(store, join(store), 3000)
    store.close()


def test_a_server_that_is_not_there() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    message = complaint(f"postgresql://me:{PASSWORD}@127.0.0.1:{port}/shop")
    assert message == (
        f"cannot open the store postgresql://me:***@127.0.0.1:{port}/shop: no server listens there; "
        "start PostgreSQL, or mend host and port in the store's URL"
    )


def test_a_wrong_password(postgres: Server) -> None:
    message = complaint(postgres.url("postgres", password="wrong-secret"))
    assert "the server refuses the user or its password; mend them" in message
    assert "wrong-secret" not in message


def test_no_password(postgres: Server) -> None:
    message = complaint(f"postgresql://coserver@127.0.0.1:{postgres.port}/postgres")
    assert "the server refuses the user or its password; mend them" in message


def test_no_such_database(postgres: Server) -> None:
    message = complaint(postgres.url("nowhere"))
    assert message.endswith('database "nowhere" does not exist; create it with createdb, or name another')


def test_a_host_that_is_not_known() -> None:
    message = complaint("postgresql://me@host.invalid/shop")
    assert message.endswith("its host is not known; mend the host in the store's URL")


def test_a_url_that_libpq_does_not_understand() -> None:
    message = complaint("postgresql://me@localhost/shop?colour=blue")
    assert "its URL is not understood" in message


@pytest.mark.parametrize(
    "url",
    [
        "",
        "site.db",
        "mysql://localhost/shop",
        "sqlite:",
        "sqlite::memory:",
        "sqlite:a.db?driver=other",
        "sqlite:a\0b",
    ],
)
def test_a_url_that_names_no_store_is_a_usage_error(url: str) -> None:
    with pytest.raises(UsageError, match="cannot use the store"):
        open_store(url)


def test_a_broken_connection_is_reported_once_and_the_next_call_works(
    postgres_url: str, postgres: Server
) -> None:
    store = open_store(postgres_url)
    worker = join(store)
    store.submit([job(), job()])
    [one, _] = claim(store, worker)
    _terminate(postgres, postgres_url)
    with pytest.raises(StoreUnavailable, match="the connection broke"):
        finish(store, worker, ok(one))
    assert finish(store, worker, ok(one)).stale == []
    assert len(store.held(worker)) == 1
    store.close()


def _terminate(postgres: Server, url: str) -> None:
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
            (url.rpartition("/")[2],),
        )


def test_a_listener_survives_a_broken_connection(postgres: Server, postgres_url: str) -> None:
    store = open_store(postgres_url)
    listener = store.listener()
    _terminate(postgres, postgres_url)
    # It may hear its own reconnection first.
    while listener.wait(0.3):
        pass
    store.submit([job()])
    assert listener.wait(20)
    listener.close()
    store.close()


def test_a_server_that_restarts_is_used_again(tmp_path: Path) -> None:
    server = Server()
    try:
        url = server.create()
        store = open_store(url)
        listener = store.listener()
        worker = join(store)
        numbers = store.submit([job(), job()])
        held = claim(store, worker)
        server.stop()
        for call in (lambda: finish(store, worker, ok(held[0])), lambda: store.submit([job()]), store.probe):
            with pytest.raises(
                StoreUnavailable, match=r"cannot (open|use) the store postgresql://coserver:\*\*\*@"
            ):
                call()
        assert listener.wait(0.2) is False
        server.start()
        assert [end.id for end in store.held(worker)] == numbers
        assert finish(store, worker, *[ok(one) for one in held]).stale == []
        assert listener.wait(20)
        listener.close()
        store.close()
    finally:
        server.close()


def test_what_stands_in_messages_and_urls_is_masked(store: Store) -> None:
    assert PASSWORD not in store.url
