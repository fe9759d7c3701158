"""Connections that are not ours: what a caller hands in, down to the driver's own connection.

Theory. A job that is stored inside the caller's transaction comes and goes with it, so nobody ever runs a job about a
row that was rolled back, and no committed row lacks its job. For that the store has to write through the caller's own
connection. Callers hold connections of many makers, but all of them end in one of a few drivers, whose connection is
what `store.foreign_sqlite` and `store.foreign_postgres` work on:

    Django's wrapper ─────────────┐
    SQLAlchemy Session ─▶ Connection ─▶ psycopg Connection, sqlite3 Connection
    a cursor of psycopg, sqlite3 ─┘
    SQLAlchemy AsyncSession ─▶ AsyncConnection ─▶ psycopg AsyncConnection, aiosqlite Connection

Libraries that the process has not imported cannot have made the object, so nothing is imported here: classes are looked
up among the loaded modules. An object that wraps a connection is asked in its own public way, and told that its
transaction has begun, if it keeps account of that.

What the store does on such a connection it does with cursors of its own, and it leaves every setting as it was. It
never commits what the caller began. Errors of the driver come out as the driver raised them, because whoever repeats a
transaction that could not be serialized, or waits for a lock, looks for those.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, Literal

from coserver.errors import UsageError

Driver = Literal["sqlite3", "apsw", "aiosqlite", "psycopg", "psycopg-async"]

ASYNCHRONOUS = ("aiosqlite", "psycopg-async")

KNOWN = "give one of psycopg 3, sqlite3, apsw, SQLAlchemy or Django to the store's database"

_OTHERS = {
    "psycopg2": "psycopg2, which is not supported; use psycopg 3 (in SQLAlchemy postgresql+psycopg://)",
    "asyncpg": "asyncpg, which is not supported; use psycopg 3 (in SQLAlchemy postgresql+psycopg://)",
    "pg8000": "pg8000, which is not supported; use psycopg 3 (in SQLAlchemy postgresql+psycopg://)",
    "pysqlite3": "pysqlite3, a third SQLite library; use sqlite3",
    **dict.fromkeys(
        ("MySQLdb", "pymysql", "aiomysql", "asyncmy", "mysql", "mariadb"),
        "MySQL, and jobs are kept in SQLite or PostgreSQL; submit without connection= after your commit",
    ),
    **dict.fromkeys(
        ("oracledb", "cx_Oracle", "pyodbc", "pymssql"),
        "a database that keeps no jobs; submit without connection= after your commit",
    ),
}
"""What we recognise and cannot use, by the package of its class."""


@dataclass(frozen=True, slots=True)
class Foreign:
    """A connection of the caller's: `connection` is the driver's own."""

    driver: Driver
    connection: Any


def recognise(given: Any) -> Foreign:
    """Return the driver's connection in what a caller of `submit_on` handed in. Raises `UsageError`."""
    found = _driver(given) or _wrapped(given)
    if found is None:
        raise _unknown(given)
    if found.driver in ASYNCHRONOUS:
        raise UsageError(
            f"cannot submit on {_shown(given)}: it is asynchronous; use `await task.asubmit(…)`, or a connection that "
            "is not"
        )
    return found


async def arecognise(given: Any) -> Foreign:
    """As `recognise`, also for asynchronous connections."""
    found = _driver(given) or await _wrapped_async(given) or _wrapped(given)
    if found is None:
        raise _unknown(given)
    return found


def is_a(given: object, module: str, *names: str) -> bool:
    """Whether an object is of one of these classes of a module, without importing it."""
    loaded = sys.modules.get(module)
    classes = tuple(one for name in names if isinstance(one := getattr(loaded, name, None), type))
    return isinstance(given, classes)


def _driver(given: Any) -> Foreign | None:
    """Recognise what the drivers themselves make."""
    if is_a(given, "sqlite3", "Connection"):
        return Foreign("sqlite3", given)
    if is_a(given, "sqlite3", "Cursor"):
        return Foreign("sqlite3", given.connection)
    if is_a(given, "psycopg", "Connection"):
        return Foreign("psycopg", given)
    if is_a(given, "psycopg", "Cursor"):
        return Foreign("psycopg", given.connection)
    if is_a(given, "psycopg", "AsyncConnection"):
        return Foreign("psycopg-async", given)
    if is_a(given, "psycopg", "AsyncCursor"):
        return Foreign("psycopg-async", given.connection)
    if is_a(given, "apsw", "Connection"):
        return Foreign("apsw", given)
    if is_a(given, "apsw", "Cursor"):
        return Foreign("apsw", given.connection)
    if is_a(given, "aiosqlite", "Connection"):
        return Foreign("aiosqlite", given)
    return None


def _wrapped(given: Any) -> Foreign | None:
    """Recognise Django's and SQLAlchemy's connections."""
    if is_a(given, "django.utils.connection", "ConnectionProxy"):
        given = sys.modules["django.db"].connections[given._alias]
    if is_a(given, "django.db.backends.base.base", "BaseDatabaseWrapper"):
        return _of_django(given)
    if is_a(given, "sqlalchemy.orm.scoping", "scoped_session"):
        given = given()
    if is_a(given, "sqlalchemy.orm", "Session"):
        given = _of_session(given)
    if is_a(given, "sqlalchemy.engine", "Connection"):
        return _of_sqlalchemy(given)
    if is_a(given, "sqlalchemy.ext.asyncio", "AsyncConnection", "AsyncSession", "async_scoped_session"):
        raise UsageError(
            f"cannot submit on {_shown(given)}: it is asynchronous; use `await task.asubmit(…)`, or a connection that "
            "is not"
        )
    if is_a(given, "sqlalchemy.engine", "Engine"):
        raise UsageError(
            "cannot submit on an Engine: it is no connection and has no transaction; give its Connection or Session"
        )
    return None


async def _wrapped_async(given: Any) -> Foreign | None:
    """Recognise SQLAlchemy's asynchronous connections."""
    if is_a(given, "sqlalchemy.ext.asyncio", "async_scoped_session"):
        given = given()
    if is_a(given, "sqlalchemy.ext.asyncio", "AsyncSession"):
        given = await given.run_sync(_of_session)
        return await _run_in_greenlet(given)
    if is_a(given, "sqlalchemy.ext.asyncio", "AsyncConnection"):
        found: Foreign = await given.run_sync(_of_sqlalchemy)
        return found
    return None


async def _run_in_greenlet(connection: Any) -> Foreign:
    """Unwrap the synchronous face of an asynchronous connection, which works within a greenlet only."""
    found: Foreign = await sys.modules["sqlalchemy.util"].greenlet_spawn(_of_sqlalchemy, connection)
    return found


def _of_django(wrapper: Any) -> Foreign:
    wrapper.validate_thread_sharing()
    wrapper.validate_no_broken_transaction()
    wrapper.ensure_connection()
    return _inner(wrapper.connection, f"Django's connection {wrapper.alias!r}")


def _of_session(session: Any) -> Any:
    """Return the connection that a Session works on now; it begins if it has not begun."""
    try:
        return session.connection()
    except sys.modules["sqlalchemy.exc"].UnboundExecutionError as error:
        raise UsageError(
            "cannot submit on a Session of several databases: it does not say which; give "
            "session.connection(bind_arguments=…)"
        ) from error


def _of_sqlalchemy(connection: Any) -> Foreign:
    if connection.closed:
        raise closed("connection of SQLAlchemy")
    if not connection.in_transaction():
        if not hasattr(connection, "commit"):
            raise UsageError(
                "cannot submit on a connection of SQLAlchemy 1.4 outside of a transaction: nothing would commit it; "
                "begin one, or upgrade to 2.0"
            )
        connection.begin()  # as its first execute() would: its commit() does nothing otherwise
    return _inner(connection.connection.driver_connection, "a connection of SQLAlchemy")


def _inner(connection: Any, of: str) -> Foreign:
    found = _driver(connection)
    if found is None:
        other = _named_other(connection)
        if other is not None:
            raise UsageError(f"cannot submit on {of}: it is of {other}")
        raise UsageError(f"cannot submit on {of}: its driver is {_shown(connection)}; {KNOWN}")
    return found


def _named_other(given: object) -> str | None:
    for kind in type(given).__mro__:
        other = _OTHERS.get(kind.__module__.partition(".")[0])
        if other is not None:
            return other
    return None


def _unknown(given: object) -> UsageError:
    other = _named_other(given)
    if other is not None:
        return UsageError(f"cannot submit on {_shown(given)}: it is of {other}")
    return UsageError(
        f"cannot submit on {_shown(given)}: it is no database connection that is known; {KNOWN}"
    )


def _shown(given: object) -> str:
    # Not its repr: that may hold an address with a password.
    kind = type(given)
    return f"{kind.__module__}.{kind.__qualname__}" if kind.__module__ != "builtins" else f"{kind.__name__}"


def closed(what: str) -> UsageError:
    """The error of a connection that is closed."""
    return UsageError(f"cannot submit on this {what}: it is closed; give an open one")


class OtherDatabase(UsageError):
    """A connection leads to another database than the store's."""


def other_database(url: str, which: str) -> OtherDatabase:
    """The error of a connection to another database than the store `url`, in words."""
    return OtherDatabase(
        f"cannot submit on this connection: it leads to {which}, and jobs are kept in {url}; give a connection to "
        "that, or submit without connection= after your commit"
    )
