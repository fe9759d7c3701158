"""The caller's own connection to a store's SQLite file.

Theory. The connection has to be of the library by which the store is opened, since two in one process corrupt the file
(`store.one_library`), and has to have the store's file as its main database. Python's `sqlite3` begins a transaction by
itself before some statements and not before others, so it is begun here in any case if it has not begun, as the
connection's mode wants it: left open for the caller to commit, or, in autocommit, ended at once. Within a transaction
all of it stands in a savepoint, so that what is refused halfway leaves nothing behind.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import apsw

from coserver.errors import UsageError
from coserver.store.driver import Database, Params, Row, split
from coserver.store.foreign import Foreign, closed, other_database
from coserver.store.sqlite_file import apply, checked_version, version_of
from coserver.store.statements import migrations
from coserver.store.url import SQLiteUrl

T = TypeVar("T")

_SAVEPOINT = "coserver_within"


def migrate_sqlite(found: Foreign) -> list[str]:
    """Apply pending migrations in the transaction of the caller's connection, whatever its database is."""

    def body(database: Database) -> list[str]:
        return _make_tables("of this connection", database)

    database = _OfApsw(found.connection) if found.driver == "apsw" else _OfStdlib(found.connection)
    applied, _ = _within(database, body)
    return applied


def _make_tables(url: str, database: Database) -> list[str]:
    return [step.name for step in migrations("sqlite") if apply(url, database, step)]


def on_sqlite(where: SQLiteUrl, found: Foreign, body: Callable[[Database], T]) -> tuple[T, bool]:
    """Run `body` in the transaction of the caller's connection; return what it returned, and whether that is
    committed, because the caller's connection commits each statement. Raises `UsageError` when it is none of this
    store's."""
    if found.driver not in ("sqlite3", "apsw"):
        raise other_database(where.masked, "PostgreSQL")
    try:
        if found.driver == "apsw":
            return _run(where, found.driver, _OfApsw(found.connection), body)
        with _plain_text(found.connection):
            return _run(where, found.driver, _OfStdlib(found.connection), body)
    except apsw.ConnectionClosedError:
        raise closed("connection") from None
    except sqlite3.ProgrammingError as error:
        if "closed" in str(error):
            raise closed("connection") from None
        raise


async def on_sqlite_async(where: SQLiteUrl, found: Foreign, body: Callable[[Database], T]) -> tuple[T, bool]:
    """As `on_sqlite`, also for a connection of aiosqlite: there all of it runs in the connection's own thread."""
    if found.driver != "aiosqlite":
        return on_sqlite(where, found, body)
    lent: Any = found.connection
    try:
        inner = Foreign("sqlite3", lent._conn)
    except ValueError:
        raise closed("connection") from None
    done: tuple[T, bool] = await lent._execute(on_sqlite, where, inner, body)
    return done


def _run(where: SQLiteUrl, driver: str, database: _Borrowed, body: Callable[[Database], T]) -> tuple[T, bool]:
    _check(where, database)
    if driver != where.driver:
        raise UsageError(
            f"cannot submit on this connection: it is of {_library(driver)}, and {where.masked} is opened by "
            f"{_library(where.driver)}; two SQLite libraries in one process corrupt a file, so {_mend(where)}"
        )
    if version_of(database):
        checked_version(where.masked, database)
        return _within(database, body)

    def with_tables(database: Database) -> T:
        _make_tables(where.masked, database)
        return body(database)

    return _within(database, with_tables)


def _within(database: _Borrowed, body: Callable[[Database], T]) -> tuple[T, bool]:
    """Run `body` in the connection's transaction, or in one that begins as the connection's mode wants it."""
    within = database.in_transaction
    alone = not within and database.autocommits
    database.all(f"SAVEPOINT {_SAVEPOINT}" if within else "BEGIN IMMEDIATE")
    try:
        result = body(database)
        if alone:
            database.all("COMMIT")
    except BaseException:
        # Some errors of SQLite end the whole transaction by themselves.
        if within and database.in_transaction:
            database.all(f"ROLLBACK TO {_SAVEPOINT}")
            database.all(f"RELEASE {_SAVEPOINT}")
        elif not within:
            database.rollback()
        raise
    if within:
        database.all(f"RELEASE {_SAVEPOINT}")
    return result, alone


def _check(where: SQLiteUrl, database: Database) -> None:
    """Raise unless the connection's main database is the store's file."""
    file = next((row[2] for row in database.all("PRAGMA database_list") if row[1] == "main"), "")
    if not file:
        raise other_database(where.masked, "a database in memory")
    try:
        same = Path(file).samefile(where.path)
    except OSError:
        same = False
    if not same:
        raise other_database(where.masked, file)


def _library(driver: str) -> str:
    return "apsw" if driver == "apsw" else "Python's sqlite3"


def _mend(where: SQLiteUrl) -> str:
    if where.driver == "apsw":
        return f"name the store as sqlite:{where.path}?driver=sqlite3"
    return "open your connection by sqlite3, or name the store without ?driver=sqlite3"


class _Borrowed:
    """What both kinds share. Errors of the driver come out as they are."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        return bool(self._connection.in_transaction)

    @property
    def autocommits(self) -> bool:
        """Whether a statement outside of a transaction is committed at once."""
        return True

    def all(self, sql: str, params: Params = ()) -> list[Row]:
        """As `Database.all`."""
        raise NotImplementedError

    def many(self, sql: str, rows: Iterable[Params]) -> int:
        """As `Database.many`."""
        raise NotImplementedError

    def script(self, sql: str) -> None:
        """As `Database.script`."""
        for statement in split(sql):
            self.all(statement)

    def rollback(self) -> None:
        """As `Database.rollback`."""
        if self.in_transaction:
            self.all("ROLLBACK")

    def close(self) -> None:
        """It is the caller's."""


class _OfStdlib(_Borrowed):
    """A connection of `sqlite3`, whatever its cursors and rows are."""

    @property
    def autocommits(self) -> bool:
        # From Python 3.12 on there is a mode besides; the older one goes by the isolation level.
        mode = getattr(self._connection, "autocommit", -1)
        return mode is True or (mode is not False and self._connection.isolation_level is None)

    def _cursor(self) -> sqlite3.Cursor:
        cursor = sqlite3.Cursor(self._connection)
        cursor.row_factory = None
        return cursor

    def all(self, sql: str, params: Params = ()) -> list[Row]:
        cursor = self._cursor()
        try:
            return cursor.execute(sql, params).fetchall()
        finally:
            cursor.close()

    def many(self, sql: str, rows: Iterable[Params]) -> int:
        before: int = self._connection.total_changes
        cursor = self._cursor()
        try:
            cursor.executemany(sql, rows)
        finally:
            cursor.close()
        changed: int = self._connection.total_changes - before
        return changed


class _OfApsw(_Borrowed):
    """A connection of `apsw`, whatever traces its cursors' statements and rows."""

    def _cursor(self) -> apsw.Cursor:
        cursor: apsw.Cursor = apsw.Cursor(self._connection)
        cursor.row_trace = _row_as_it_is
        cursor.exec_trace = _run_as_it_is
        return cursor

    def all(self, sql: str, params: Params = ()) -> list[Row]:
        cursor = self._cursor()
        try:
            return list(cursor.execute(sql, params))
        finally:
            cursor.close(True)

    def many(self, sql: str, rows: Iterable[Params]) -> int:
        before: int = self._connection.total_changes()
        cursor = self._cursor()
        try:
            cursor.executemany(sql, rows)
        finally:
            cursor.close(True)
        changed: int = self._connection.total_changes() - before
        return changed


def _row_as_it_is(_cursor: object, row: Row) -> Row:
    return row


def _run_as_it_is(_cursor: object, _sql: str, _params: object) -> bool:
    return True


@contextmanager
def _plain_text(connection: sqlite3.Connection) -> Iterator[None]:
    """Have texts come as `str` for as long as the block takes."""
    factory = connection.text_factory
    if factory is str:
        yield
        return
    connection.text_factory = str
    try:
        yield
    finally:
        connection.text_factory = factory
