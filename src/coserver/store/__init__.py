"""The promise kept in SQL: one contract, two databases."""

from __future__ import annotations

from typing import Any

from coserver.errors import StoreUnavailable
from coserver.store.contract import Store
from coserver.store.url import PostgresUrl, SQLiteUrl, parse_url

__all__ = ["migrate_on", "open_store"]


def open_store(url: str) -> Store:
    """Return the store at `url`: `sqlite:PATH[?driver=apsw|sqlite3][&synchronous=FULL|NORMAL]` or `postgresql://…`.

    Nothing is opened and nothing is created before the first call; tables come by `migrate`. UsageError if the URL
    names no kind of store, StoreUnavailable if its driver is not installed.
    """
    match parse_url(url):
        case SQLiteUrl() as where:
            from coserver.store.sqlite import SQLiteStore

            return SQLiteStore(where)
        case PostgresUrl() as where:
            try:
                from coserver.store.postgres import PostgresStore
            except ImportError as error:
                raise StoreUnavailable(
                    f"cannot open the store {where.masked}: {error}; install it with: pip install 'psycopg[binary]'"
                ) from error
            return PostgresStore(where)


def migrate_on(connection: Any) -> list[str]:
    """Make or bring up to date the tables in the database of the caller's own connection, inside its open transaction;
    return the names of the migrations applied. Raises UsageError for a connection that cannot be used."""
    from coserver.store.foreign import recognise

    found = recognise(connection)
    if found.driver == "psycopg":
        from coserver.store.foreign_postgres import migrate_postgres

        return migrate_postgres(found)
    from coserver.store.foreign_sqlite import migrate_sqlite

    return migrate_sqlite(found)
