"""The promise kept in SQL: one contract, two databases."""

from __future__ import annotations

from coserver.errors import StoreUnavailable
from coserver.store.contract import Store
from coserver.store.url import PostgresUrl, SQLiteUrl, parse_url

__all__ = ["open_store"]


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
