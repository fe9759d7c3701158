"""The two databases as the crash test looks at them, beside coserver's own ways."""

from __future__ import annotations

from typing import Any, Protocol

import apsw
import psycopg
from psycopg.rows import dict_row


class Base(Protocol):
    """A look at a store's tables from outside."""

    url: str

    def rows(self, query: str) -> list[dict[str, Any]]:
        """Ask in a transaction of its own."""

    def together(self, *queries: str) -> list[list[dict[str, Any]]]:
        """Ask several things of one and the same moment."""

    def damage(self) -> str:
        """What the database says of its own files; nothing when they are sound."""


LEDGER = "CREATE TABLE crash_ledger (what text NOT NULL, token text NOT NULL)"


class SQLiteBase:
    """A file, read by the library that the rest of the process uses on it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._path = url.removeprefix("sqlite:")

    def rows(self, query: str) -> list[dict[str, Any]]:
        """As `Base.rows`."""
        return self.together(query)[0]

    def together(self, *queries: str) -> list[list[dict[str, Any]]]:
        """As `Base.together`."""
        connection = apsw.Connection(self._path, flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            connection.set_busy_timeout(30_000)
            with connection:
                return [_rows(connection.execute(query)) for query in queries]
        finally:
            connection.close(True)

    def damage(self) -> str:
        """As `Base.damage`."""
        [row] = self.rows("PRAGMA integrity_check")
        return "" if row["integrity_check"] == "ok" else str(row["integrity_check"])


def _rows(cursor: apsw.Cursor) -> list[dict[str, Any]]:
    found = []
    for row in cursor:
        names = [column[0] for column in cursor.get_description()]
        found.append(dict(zip(names, row, strict=True)))
    return found


class PostgresBase:
    """A database of a server that may be away."""

    def __init__(self, url: str) -> None:
        self.url = url

    def rows(self, query: str) -> list[dict[str, Any]]:
        """As `Base.rows`."""
        return self.together(query)[0]

    def together(self, *queries: str) -> list[list[dict[str, Any]]]:
        """As `Base.together`."""
        with psycopg.connect(
            self.url, row_factory=dict_row, connect_timeout=10, application_name="crash-test"
        ) as connection:
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            return [connection.execute(query.encode()).fetchall() for query in queries]

    def damage(self) -> str:
        """As `Base.damage`: its indexes against its tables."""
        return ""
