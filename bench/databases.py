"""The two databases that are measured, with the durability that an installation has by default."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, Protocol

import apsw
import psycopg
from tests.postgres import Server

from coserver.store import open_store

DURABLE = {
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "shared_buffers": "128MB",
    "max_wal_size": "1GB",
}


class Database(Protocol):
    """A kind of database. `name` is how tables call it."""

    name: str

    def fresh(self) -> str:
        """Make an empty store; return its URL."""

    def settings(self, url: str) -> dict[str, str]:
        """Return the version and the settings that decide over durability, as the database itself states them."""

    def empty(self) -> str:
        """Make a database without any table; return its URL."""

    def connect(self, url: str) -> Any:
        """Return a plain connection in autocommit mode with an `execute`."""

    def close(self) -> None:
        """Remove everything."""


class SQLite:
    """Files in a directory of ours."""

    name = "SQLite"

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._numbers = itertools.count(1)

    def fresh(self) -> str:
        return _migrated(self.empty())

    def empty(self) -> str:
        return f"sqlite:{self._directory / f'store{next(self._numbers)}.db'}"

    def settings(self, url: str) -> dict[str, str]:
        connection = self.connect(url)
        try:
            return {
                "SQLite": apsw.sqlite_lib_version(),
                "journal_mode": str(connection.execute("PRAGMA journal_mode").get),
                "synchronous": "FULL (for every commit that carries a job or a result)",
            }
        finally:
            connection.close()

    def connect(self, url: str) -> apsw.Connection:
        connection = apsw.Connection(url.removeprefix("sqlite:"))
        connection.set_busy_timeout(10_000)
        return connection

    def close(self) -> None:
        pass


class Postgres:
    """A server of our own."""

    name = "PostgreSQL"

    def __init__(self) -> None:
        self._server = Server(DURABLE)

    def fresh(self) -> str:
        return _migrated(self.empty())

    def empty(self) -> str:
        return self._server.create(schema=False)

    def settings(self, url: str) -> dict[str, str]:
        with self.connect(url) as connection:
            return {
                name: connection.execute(f"SHOW {name}").fetchone()[0]
                for name in (
                    "server_version",
                    "fsync",
                    "synchronous_commit",
                    "full_page_writes",
                    "shared_buffers",
                )
            }

    def connect(self, url: str) -> Any:
        return psycopg.connect(url, autocommit=True)

    def close(self) -> None:
        self._server.close()


def _migrated(url: str) -> str:
    store = open_store(url)
    store.migrate()
    store.close()
    return url
