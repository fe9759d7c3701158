"""The caller's own connection to a store's PostgreSQL database.

Theory. Whether a connection leads to the store's tables is asked on every use, since its search path may change in
between; the answer comes with one short statement, which also begins the transaction of a connection that begins by
itself. Then the same rules run as on the store's own connections, only through cursors made here, which neither the
connection's row factory nor its cursor factory touches, and prepared only if the connection's own threshold says so.

What may be refused halfway stands in a savepoint. A connection in autocommit mode that has no transaction open gets one
for the length of the call.

The rules are synchronous. On an asynchronous connection they run in a thread, and each of their statements is awaited
in the caller's loop, where the connection belongs.

At the isolation levels *repeatable read* and *serializable* the server may refuse to serialize, as it may with any
other statement there; that error belongs to the caller, who repeats the transaction.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from threading import Event
from typing import Any, TypeVar

import psycopg
from psycopg.pq import PipelineStatus, TransactionStatus
from psycopg.rows import tuple_row

from coserver.errors import UsageError
from coserver.store.foreign import Foreign, closed, other_database
from coserver.store.pool import PostgresSession, Row, compiled, sent
from coserver.store.schema import check_version
from coserver.store.session import Value
from coserver.store.statements import migrations

T = TypeVar("T")

Execute = Callable[[bytes, Sequence[Any]], list[Row]]
"""Run one statement with `$1` for its first parameter; return its rows."""

_SAVEPOINT = b"coserver_within"

MIGRATION_LOCK = 0x636F736572766572
"""The number of the advisory lock under which migrations run ("coserver")."""


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Which tables a connection means (see the statement of that name): `tables` None when its search path leads to
    none; `database` is the name for people."""

    tables: int | None
    number: int
    started: int
    database: str


class Home:
    """Where a store is, asked on a connection of its own."""

    def __init__(self, url: str, ask: Callable[[], Whereabouts]) -> None:
        self.url = url
        self._ask = ask
        self._known: Whereabouts | None = None

    def known(self, *, again: bool = False) -> Whereabouts:
        """Return where it is; `again`: look anew, since the server may have started once more."""
        found = self._known
        if found is None or again:
            found = self._known = self._ask()
        return found


class ForeignSession(PostgresSession):
    """A `store.session.Session` in the caller's transaction."""

    lingers = True

    def __init__(self, execute: Execute) -> None:
        self._execute = execute
        self.now = self.rows("clock")[0][0]

    def run(self, name: str, params: Mapping[str, Any]) -> list[Row]:
        """Run one statement whose parameters are as the driver takes them."""
        return call(self._execute, name, params)

    def rows(self, name: str, /, **params: Value) -> list[Row]:
        """As `Session.rows`."""
        return self.run(name, {key: sent(value) for key, value in params.items()})


def call(execute: Execute, name: str, params: Mapping[str, Any]) -> list[Row]:
    """Run one statement of ours."""
    sql, names = compiled(name)
    values = [params[key] for key in names]
    # Numbers go as text whose type the statement says, as everywhere (see `store.pool`).
    return execute(sql, [str(value) if type(value) is int else value for value in values])


def migrate_postgres(found: Foreign) -> list[str]:
    """Apply pending migrations in the transaction of the caller's connection, whatever its database is."""

    def body(execute: Execute) -> list[str]:
        execute(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})".encode(), ())
        there = call(execute, "meta_exists", {})[0][0]
        version = int(call(execute, "meta_get", {"key": "schema"})[0][0]) if there else 0
        check_version("of this connection", version, "postgres", older=True)
        pending = [step for step in migrations("postgres") if step.version > version]
        for step in pending:
            execute(step.sql.encode(), ())
            call(execute, "meta_set", {"key": "schema", "value": str(step.version)})
        return [step.name for step in pending]

    connection = _usable(found)
    return _within(_execute(connection), _begins(connection), body, apart=True)


def on_postgres(home: Home, found: Foreign, body: Callable[[Execute], T], *, apart: bool) -> T:
    """Run `body` in the transaction of the caller's connection. `apart`: in a savepoint, since it may be refused after
    its first statement. Raises `UsageError` when the connection is none of this store's."""
    connection = _postgres(home, found)
    execute = _execute(connection)
    begins = _begins(connection)
    check(home, execute)
    return _within(execute, begins, body, apart=apart)


def _execute(connection: Any) -> Execute:

    def execute(sql: bytes, values: Sequence[Any]) -> list[Row]:
        with psycopg.RawCursor(connection, row_factory=tuple_row) as cursor:
            cursor.execute(sql, values or None, binary=bool(values))
            return cursor.fetchall() if cursor.description is not None else []

    return execute


async def on_postgres_async(home: Home, found: Foreign, body: Callable[[Execute], T], *, apart: bool) -> T:
    """As `on_postgres`, also for an asynchronous connection."""
    if found.driver != "psycopg-async":
        return on_postgres(home, found, body, apart=apart)
    connection = _postgres(home, found)

    async def execute(sql: bytes, values: Sequence[Any]) -> list[Row]:
        async with psycopg.AsyncRawCursor(connection, row_factory=tuple_row) as cursor:
            await cursor.execute(sql, values or None, binary=bool(values))
            return await cursor.fetchall() if cursor.description is not None else []

    begins = _begins(connection)

    def rule(ask: Execute) -> T:
        check(home, ask)
        return _within(ask, begins, body, apart=apart)

    try:
        return await _in_thread(rule, execute)
    except asyncio.CancelledError:
        if begins and not connection.closed:  # the statement was cancelled, but not the transaction
            await connection.rollback()
        raise


def _postgres(home: Home, found: Foreign) -> Any:
    if found.driver not in ("psycopg", "psycopg-async"):
        raise other_database(home.url, "SQLite")
    return _usable(found)


def _usable(found: Foreign) -> Any:
    connection = found.connection
    if connection.closed:
        raise closed("connection")
    if connection.pgconn.pipeline_status != PipelineStatus.OFF:
        raise UsageError(
            "cannot submit on this connection: it is in pipeline mode, where a job's number is not known yet; submit "
            "before or after the pipeline"
        )
    if connection.info.transaction_status == TransactionStatus.INERROR:
        raise UsageError(
            "cannot submit on this connection: its transaction has failed; roll it back, or to a savepoint, first"
        )
    return connection


def _begins(connection: Any) -> bool:
    """Whether a transaction has to be begun here, and ended."""
    idle = connection.info.transaction_status == TransactionStatus.IDLE
    return idle and bool(connection.autocommit)


def _within(execute: Execute, begins: bool, body: Callable[[Execute], T], *, apart: bool) -> T:
    if begins:
        return _bracketed(execute, b"BEGIN", [b"COMMIT"], [b"ROLLBACK"], lambda: body(execute))
    if not apart:
        return body(execute)
    release = b"RELEASE SAVEPOINT " + _SAVEPOINT
    back = [b"ROLLBACK TO SAVEPOINT " + _SAVEPOINT, release]
    return _bracketed(execute, b"SAVEPOINT " + _SAVEPOINT, [release], back, lambda: body(execute))


def _bracketed(
    execute: Execute, begin: bytes, end: Iterable[bytes], back: Iterable[bytes], body: Callable[[], T]
) -> T:
    execute(begin, ())
    try:
        result = body()
        for sql in end:
            execute(sql, ())
    except BaseException as error:
        for sql in back:
            try:
                execute(sql, ())
            except Exception:  # the connection broke: the transaction is gone with it
                raise error from None
        raise
    return result


def whereabouts(execute: Execute) -> Whereabouts:
    """Ask a connection which tables it means."""
    return Whereabouts(*call(execute, "whereabouts", {})[0])


def check(home: Home, execute: Execute) -> None:
    """Raise `UsageError` unless the connection means the store's tables."""
    there = whereabouts(execute)
    here = home.known()
    if there != here:
        here = home.known(again=True)
    if (there.number, there.started) != (here.number, here.started):
        raise other_database(home.url, f"the database {there.database}, another one")
    if there.tables is None or there.tables != here.tables:
        raise UsageError(
            "cannot submit on this connection: its search_path leads to "
            f"{'no' if there.tables is None else 'other'} tables of coserver; put the schema of the store's own first"
        )


# -- across the loop ------------------------------------------------------------------------------------------------


class _Bridge:
    """Lets a rule that runs in a thread have its statements executed in the caller's loop, one at a time."""

    def __init__(self, execute: Callable[[bytes, Sequence[Any]], Coroutine[Any, Any, list[Row]]]) -> None:
        self._execute = execute
        self._loop = asyncio.get_running_loop()
        self._flying: Future[list[Row]] | None = None
        self._left = Event()

    def ask(self, sql: bytes, values: Sequence[Any]) -> list[Row]:
        """As `Execute`, in the thread. Raises CancelledError after `leave`."""
        if self._left.is_set():
            raise CancelledError
        flying = self._flying = asyncio.run_coroutine_threadsafe(self._execute(sql, values), self._loop)
        if self._left.is_set():
            flying.cancel()
        return flying.result()

    def leave(self) -> None:
        """Cancel the statement under way, and execute no other."""
        self._left.set()
        if self._flying is not None:
            self._flying.cancel()


async def _in_thread(
    rule: Callable[[Execute], T], execute: Callable[[bytes, Sequence[Any]], Coroutine[Any, Any, list[Row]]]
) -> T:
    """Run a synchronous rule in a thread. Cancelled, it returns only when nothing uses the connection any more."""
    bridge = _Bridge(execute)
    thread = asyncio.ensure_future(asyncio.to_thread(rule, bridge.ask))
    try:
        return await asyncio.shield(thread)
    except asyncio.CancelledError:
        bridge.leave()
        await asyncio.wait([thread])
        if not thread.cancelled():
            thread.exception()  # of the cancelling
        raise
