"""Connections to PostgreSQL: one per calling thread at a time, kept for the next call.

Every connection is in autocommit mode, so that a single statement is one round trip, and has settings under which our
statements always take their indexes: tables that grow from nothing to millions of rows within a minute are planned
when they are empty. A statement may run for `STATEMENT_SECONDS`, then the server ends it; so whoever died longer ago
than that has no statement under way.

A failed connection is closed, and with it all idle ones, since a server that went away took them all; the next call
connects anew. A child of a fork leaves the inherited connections alone and makes its own.

A connection may also die in silence: a firewall forgot it, a pooler hangs, a host is gone. The kernel notices some of
that, and late; so no call waits for an answer for ever. Most have as long as a statement may run. Calls that are short
by nature, such as the renewal of leases, may be made with less patience (`SHORTLY`); when one of these is not
answered, the others that wait for as long give up, too.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import psycopg
from psycopg import conninfo

from coserver.errors import StoreRefused, StoreUnavailable
from coserver.store.fork import watch_forks
from coserver.store.session import Value
from coserver.store.statements import statement

Row = tuple[Any, ...]
Connection = psycopg.Connection[Row]

STATEMENT_SECONDS = 30
ANSWER = STATEMENT_SECONDS + 5.0
"""Seconds within which every call has an answer, or there will be none."""
SHORTLY = 4.0
"""The same for a call that a server in working order answers at once."""
IDLE = 8
"""How many unused connections are kept."""

_CONNECTING: dict[str, str | int] = {
    "connect_timeout": 5,
    "client_encoding": "UTF8",
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
"""What the URL may override: how long to wait for a server, and how soon a network that went away is noticed."""

_SETTINGS = (
    "SET default_transaction_isolation = 'read committed'; "
    "SET application_name = 'coserver'; SET plan_cache_mode = force_generic_plan; SET jit = off; "
    "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; "
    f"SET statement_timeout = '{STATEMENT_SECONDS}s'; SET client_min_messages = warning; "
    # What a host that vanished has locked is free again soon.
    "SET idle_in_transaction_session_timeout = '10s'; "
    "SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3"
)

_REFUSED = ("21", "22", "23", "54", "P0")
"""Classes of SQLSTATE by which the server says that what it was told cannot be stored."""

_inherited: list[psycopg.Connection[Any]] = []
"""What forked children found open."""


def inherit(*connections: psycopg.Connection[Any] | None) -> None:
    """Keep what a forked child found open as it is: closing it would end the parent's session."""
    _inherited.extend(connection for connection in connections if connection is not None)


class NoAnswer(psycopg.OperationalError):
    """The server has left a call unanswered for so long that the connection counts as dead."""


_SILENCE = (NoAnswer, psycopg.errors.ConnectionTimeout)


class _Patience:
    """Since when a server is known to leave calls unanswered; shared by the connections of a pool."""

    silent = 0.0  # the moment of the last call that was given up


class PatientConnection(psycopg.Connection[Row]):
    """Waits for an answer no longer than `answer` seconds (None: for ever). `prepared`: see `round_trip`."""

    answer: float | None = None
    patience = _Patience()
    prepared: set[bytes]

    def wait(self, gen: Generator[Any, Any, Any], *rest: Any, **more: Any) -> Any:
        if self.answer is not None:
            gen = _within(gen, self.answer, self.patience)
        try:
            return super().wait(gen, *rest, **more)
        except NoAnswer:
            self.pgconn.finish()  # else whoever ends a transaction or pipeline would wait once more
            raise


def _within(gen: Generator[Any, Any, Any], seconds: float, patience: _Patience) -> Generator[Any, Any, Any]:
    """Go through what waits for an answer; the driver also comes by, ten times a second, while there is none."""
    began = time.monotonic()
    try:
        waits = next(gen)
        while True:
            ready = yield waits
            if not ready:
                waited = time.monotonic() - began
                if waited > seconds:
                    patience.silent = time.monotonic()
                    raise NoAnswer(f"no answer for {waited:.0f} s")
                if waited > SHORTLY and patience.silent > began:
                    raise NoAnswer(f"no answer for {waited:.0f} s")
            waits = gen.send(ready)
    except StopIteration as end:
        return end.value


class Pool:
    """Connections to one database. `shown` is its URL as messages may show it."""

    def __init__(self, url: str, shown: str) -> None:
        self._url = url
        self.shown = shown
        self._lock = threading.Lock()
        self._idle: list[PatientConnection] = []
        self._patience = _Patience()
        self._closed = False
        watch_forks(self)

    def fork_locks(self) -> Iterable[threading.Lock]:
        return (self._lock,)

    def forked(self) -> None:
        inherit(*self._idle)
        self._lock, self._idle = threading.Lock(), []

    @contextmanager
    def connection(self, answer: float | None = ANSWER) -> Iterator[PatientConnection]:
        """Lend a connection whose calls wait `answer` seconds for their answers (None: for ever); every error of the
        driver comes out as StoreUnavailable, or as StoreRefused if it is about what the server was told."""
        connection = self._take()
        connection.answer = answer
        try:
            yield connection
        except psycopg.Error as error:
            if connection.closed or isinstance(error, psycopg.OperationalError):
                connection.close()
                self._forget()
            else:
                self._give(connection)
            if _refuses(error):
                raise self._refused(error) from error
            raise self.unavailable(error, "use") from error
        except (UnicodeEncodeError, OverflowError) as error:
            connection.close()
            raise self._refused(error) from error
        except BaseException:
            connection.close()
            raise
        self._give(connection)

    def connect(self) -> PatientConnection:
        """Open a connection that the caller owns. It waits SHORTLY for its answers."""
        try:
            given = conninfo.conninfo_to_dict(self._url)
            for key, value in _CONNECTING.items():
                given.setdefault(key, value)
            opened = PatientConnection.connect(**given, autocommit=True, cursor_factory=psycopg.RawCursor)  # type: ignore[arg-type]
        except psycopg.Error as error:
            if isinstance(error, _SILENCE):
                self._patience.silent = time.monotonic()
            raise self.unavailable(error, "open") from error
        opened.answer, opened.patience, opened.prepared = SHORTLY, self._patience, set()
        opened.prepare_threshold = 0
        opened.prepared_max = 200
        try:
            opened.execute(_SETTINGS, prepare=False)
        except psycopg.Error as error:
            opened.close()
            raise self.unavailable(error, "open") from error
        return opened

    def close(self) -> None:
        """Close the idle connections now and the lent ones when they come back."""
        self._closed = True
        self._forget()

    def unavailable(self, error: Exception, verb: str) -> StoreUnavailable:
        """Say an error of the driver in words."""
        if isinstance(error, _SILENCE):
            verb = "reach"
        return StoreUnavailable(f"cannot {verb} the store {self.shown}: {_explain(error)}")

    def _refused(self, error: Exception) -> StoreRefused:
        text = _tail(" ".join(str(error).split()))
        return StoreRefused(f"cannot record in the store {self.shown}: {text}; see what its tables allow")

    def _take(self) -> PatientConnection:
        if self._closed:
            raise StoreUnavailable(f"cannot use the store {self.shown}: it was closed; open it anew")
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return self.connect()

    def _give(self, connection: PatientConnection) -> None:
        with self._lock:
            if not self._closed and len(self._idle) < IDLE and not connection.closed:
                self._idle.append(connection)
                return
        connection.close()

    def _forget(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()


@cache
def compiled(name: str) -> tuple[bytes, tuple[str, ...]]:
    """The statement with `$1` for its first parameter, and the parameters' names in order."""
    names: list[str] = []

    def number(found: re.Match[str]) -> str:
        if found[1] not in names:
            names.append(found[1])
        return f"${names.index(found[1]) + 1}"

    return re.sub(r"%\((\w+)\)s", number, statement("postgres", name)).encode(), tuple(names)


def run(connection: Connection, name: str, params: Mapping[str, Any]) -> list[Row]:
    """Run one statement of ours, prepared; return its rows."""
    cursor = connection.cursor(binary=True)
    queue_up(cursor, name, params)
    return cursor.fetchall() if cursor.description is not None else []


def queue_up(cursor: psycopg.Cursor[Row], name: str, params: Mapping[str, Any]) -> None:
    """Execute one statement of ours, prepared, whose rows the caller fetches (in a pipeline: later).

    Numbers go as text whose type the statement says, because the driver would choose a type by size and so prepare
    the same statement several times.
    """
    sql, names = compiled(name)
    values = [params[key] for key in names]
    cursor.execute(sql, [str(value) if type(value) is int else value for value in values], prepare=True)


class PostgresSession:
    """A `store.session.Session` on a connection whose transaction the caller has opened."""

    lingers = False

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.now: int = run(connection, "clock", {})[0][0]

    def rows(self, name: str, /, **params: Value) -> list[Row]:
        """As `Session.rows`."""
        return run(self._connection, name, {key: sent(value) for key, value in params.items()})

    def places(self, n: int) -> list[int]:
        """As `Session.places`."""
        return [row[0] for row in self.rows("line", n=n)] if n else []

    def ids(self, n: int) -> list[int]:
        """As `Session.ids`."""
        return sorted(row[0] for row in self.rows("fresh_ids", n=n))


def sent(value: Value) -> Any:
    """Return a parameter as the driver takes it."""
    if isinstance(value, (list, tuple)):
        if all(type(one) is int for one in value):
            return int_array(list(value))
        return text_array([None if one is None else str(one) for one in value])
    return value


def _refuses(error: psycopg.Error) -> bool:
    """Whether an error is about what was told, rather than about the connection or the server."""
    if error.sqlstate is None:  # the library's own: a NUL in a text, say
        return isinstance(error, psycopg.DataError)
    return error.sqlstate.startswith(_REFUSED)


def _explain(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    lower = text.lower()
    if "password authentication failed" in lower or "no password supplied" in lower:
        return "the server refuses the user or its password; mend them in the store's URL"
    if "does not exist" in lower and "database" in lower:
        return f"{_tail(text)}; create it with createdb, or name another"
    if "does not exist" in lower and "role" in lower:
        return f"{_tail(text)}; create it with createuser, or name another"
    if "connection refused" in lower or "no such file or directory" in lower:
        return "no server listens there; start PostgreSQL, or mend host and port in the store's URL"
    if "could not translate host name" in lower or "name or service not known" in lower or "resolve" in lower:
        return "its host is not known; mend the host in the store's URL"
    if "timeout expired" in lower or isinstance(error, _SILENCE):
        return "the server does not answer; see that host and port are reachable"
    if "permission denied" in lower:
        return f"{_tail(text)}; grant the user what it needs"
    if "too many clients" in lower or "remaining connection slots" in lower:
        return "the server has no connection left; raise max_connections, or use a pooler"
    if isinstance(error, psycopg.errors.QueryCanceled):
        return f"a statement took longer than {STATEMENT_SECONDS} s; see who holds locks on its tables"
    if "shutting down" in lower or "starting up" in lower or "recovery mode" in lower:
        return "the server is just being stopped or started; wait, or see its log"
    if isinstance(error, psycopg.OperationalError):
        return f"the connection broke ({_tail(text)}); the next call connects anew"
    if isinstance(error, psycopg.ProgrammingError) and getattr(error, "sqlstate", None) is None:
        # The library's own words quote what they do not understand, and that may be a password.
        return (
            "its URL is not understood; write postgresql://USER:PASSWORD@HOST/NAME, "
            "special characters of the password as %XX"
        )
    return f"{_tail(text)}; see the server's log"


def _tail(text: str) -> str:
    """The server's own words, without the addresses that libpq puts before them and its guesses after them."""
    text = text.partition(" This probably means")[0]
    return text.rpartition("FATAL: ")[2].strip().rstrip(".") if "FATAL: " in text else text.rstrip(".")


def int_array(values: list[int]) -> str:
    """A list of numbers as PostgreSQL reads an array; several times as fast as the driver's own way."""
    return "{" + str(values)[1:-1] + "}"


def text_array(values: list[str | None]) -> str:
    """A list of texts as PostgreSQL reads an array."""
    return (
        "{"
        + ",".join(
            [
                "NULL" if value is None else '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
                for value in values
            ]
        )
        + "}"
    )
