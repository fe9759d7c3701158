"""The connections of one process to one SQLite file, and the transactions on them.

Theory. SQLite has one writer at a time. Within a process all threads share one writing connection behind a lock; other
processes are waited for by trying again at short random intervals, up to ten seconds, more often the longer one has
waited already; and who has written for a millisecond pauses while others wait (see `courtesy`), so that none starves. A
change is one `BEGIN IMMEDIATE` transaction: a deferred one that turns into a writer halfway cannot wait for its lock.
Readers have a connection of their own and wait for nobody.

A connection must not be carried through a fork. The child starts with none; what it inherited is kept untouched,
because closing it could disturb the parent.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable
from math import inf
from pathlib import Path
from typing import Any, TypeVar

from coserver.errors import StoreRefused, StoreUnavailable
from coserver.store.contract import SchemaStatus
from coserver.store.courtesy import Line
from coserver.store.driver import Busy, Database, Refused, Row, Trouble, connect
from coserver.store.fork import watch_forks
from coserver.store.schema import MIN_PROTOCOL, check_version, least_of, schema_status
from coserver.store.statements import Migration, migrations, statement
from coserver.store.url import SQLiteUrl

PATIENCE = 10.0
"""Seconds that a transaction waits for other processes before the store counts as unavailable."""

TURN = 0.001
"""Who has written for so many seconds without a break lets somebody else go first."""
AT_ONCE = 0.002
"""Seconds without writing that are a break."""
OLD = 0.008
"""Who has waited for so many seconds tries more often."""

T = TypeVar("T")

_inherited: list[object] = []
"""What forked children found open; see the theory above."""


class SQLiteFile:
    """One file as this process uses it. `chance` gives random numbers from 0 to 1 for the intervals of waiting."""

    def __init__(self, where: SQLiteUrl, chance: Callable[[], float]) -> None:
        self.url = where.masked
        self._where = where
        self._chance = chance
        self._closed = False
        self._start()
        watch_forks(self)

    def _start(self) -> None:
        self._write_lock = threading.Lock()
        self._read_lock = threading.Lock()
        self._writer: Database | None = None
        self._reader: Database | None = None
        self._line = Line(self._where.path)
        # When, on the monotonic clock, the last transaction of this process ended, and the first of its turn began.
        self._wrote = self._turn = -inf

    def fork_locks(self) -> Iterable[threading.Lock]:
        return self._write_lock, self._read_lock

    def forked(self) -> None:
        _inherited.extend((self._writer, self._reader))
        self._line.close()
        self._start()

    def close(self) -> None:
        """Close both connections; later calls raise StoreUnavailable."""
        self._closed = True
        with self._write_lock, self._read_lock:
            for opened in (self._reader, self._writer):
                if opened is not None:
                    opened.close()
            self._writer = self._reader = None
            self._line.close()

    def write(self, body: Callable[[Database], T], *, durable: bool = True) -> T:
        """Run `body` in one transaction and return what it returned.

        `body` may run several times. `durable` False: the commit need not have reached the disk on return.
        """
        with self._write_lock:
            if self._writer is None:
                self._writer = self.open()
            database = self._writer
            lazy = not durable and self._where.synchronous == "FULL"
            self._let_others_go_first()
            try:
                return self.patiently(lambda: _transaction(database, body, lazy), self._line.wait)
            except StoreUnavailable:
                self._writer = None
                database.close()
                self._line.close()
                raise
            finally:
                self._line.leave()
                self._wrote = time.monotonic()

    def read(self, name: str, /, **params: Any) -> list[Row]:
        """Run one reading statement."""
        with self._read_lock:
            if self._reader is None:
                self._reader = self.open()
            reader = self._reader
            try:
                return self.patiently(lambda: reader.all(statement("sqlite", name), params))
            except StoreUnavailable:
                self._reader = None
                reader.close()
                raise

    def open(self, *, create: bool = False, check: bool = True) -> Database:
        """Open a connection that the caller owns; `check`: only to a store whose schema is this coserver's."""
        if self._closed:
            raise StoreUnavailable(f"cannot use the store {self.url}: it was closed; open it anew")
        if check and self._missing():
            check_version(self.url, 0, "sqlite")
        database = self.patiently(lambda: connect(self._where.path, self._where.driver, create=create))
        try:
            self.patiently(lambda: self._prepare(database))
            if check:
                self.patiently(lambda: checked_version(self.url, database))
        except BaseException:
            database.close()
            raise
        return database

    def patiently(self, action: Callable[[], T], waits: Callable[[], None] | None = None) -> T:
        """Do `action`, again and again while others hold the lock that it needs. It must leave nothing half done.
        `waits` is called before each wait."""
        began = time.monotonic()
        while True:
            try:
                return action()
            except Busy:
                waited = time.monotonic() - began
                if waited > PATIENCE:
                    raise StoreUnavailable(
                        f"cannot use the store {self.url}: somebody has held its lock for {PATIENCE:.0f} s; "
                        "see which process, or connection of this one, has a transaction open"
                    ) from None
                if waits is not None:
                    waits()
                time.sleep(self._pause(waited))
            except Refused as refused:
                raise StoreRefused(f"cannot record in the store {self.url}: {refused}") from refused
            except Trouble as trouble:
                raise StoreUnavailable(f"cannot open the store {self.url}: {trouble}") from trouble

    def _pause(self, waited: float) -> float:
        """How long to wait before the next attempt, by how long one has waited already: the old are quicker."""
        pause = 0.0001 + 0.0008 * self._chance()
        return pause if waited < OLD else pause / 4

    def _let_others_go_first(self) -> None:
        now = time.monotonic()
        if now - self._wrote > AT_ONCE:
            self._turn = now
        elif now - self._turn > TURN and self._line.others():
            time.sleep(self._pause(0))
            self._turn = time.monotonic()

    def _missing(self) -> bool:
        """Whether the file could be made but is not there."""
        path = Path(self._where.path)
        return not path.exists() and path.parent.is_dir()

    def _prepare(self, database: Database) -> None:
        encoding = database.all("PRAGMA encoding")[0][0]
        if encoding != "UTF-8":  # text is read as bytes where it need not be valid
            raise Trouble(f"it keeps its text as {encoding}; name another file")
        database.all("PRAGMA journal_mode = WAL")
        database.all(f"PRAGMA synchronous = {self._where.synchronous}")
        database.all("PRAGMA cache_size = -8000")
        database.all("PRAGMA temp_store = MEMORY")
        database.all("PRAGMA wal_autocheckpoint = 4000")

    def migrate(self) -> list[str]:
        """See `contract.Schema`."""
        make_for_its_directory(Path(self._where.path))
        database = self.open(create=True, check=False)
        try:
            return [step.name for step in migrations("sqlite") if self._apply(database, step)]
        finally:
            database.close()

    def _apply(self, database: Database, step: Migration) -> bool:
        def body(database: Database) -> bool:
            return apply(self.url, database, step)

        return self.patiently(lambda: _transaction(database, body, False))

    def schema(self) -> SchemaStatus:
        """See `contract.Schema`."""
        try:
            database = self.open(check=False)
        except StoreUnavailable:
            if self._missing() and not self._closed:
                return schema_status(0, "sqlite")
            raise
        try:
            return schema_status(self.patiently(lambda: version_of(database)), "sqlite")
        finally:
            database.close()


def make_for_its_directory(path: Path) -> None:
    """As root, make a file that is not there yet for whom its directory is made: owner, group, and whether the group
    may read and write. Without this root's first `up` would leave a store that no service of another user may write.

    The two files that SQLite writes beside it follow it. Does nothing for other users, and leaves errors to SQLite.
    """
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return
    try:
        folder = path.parent.stat()
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError:
        return
    try:
        os.fchown(file, folder.st_uid, folder.st_gid)
        os.fchmod(file, 0o600 | folder.st_mode & 0o060)
    finally:
        os.close(file)


def apply(url: str, database: Database, step: Migration) -> bool:
    """Apply a migration in the open transaction of `database`, unless it was before; whether that was so."""
    version = checked_version(url, database, older=True)
    if version >= step.version:
        return False
    database.script(step.sql)
    database.all(statement("sqlite", "meta_set"), {"key": "schema", "value": str(step.version)})
    return True


def version_of(database: Database) -> int:
    """Return the version of the tables, 0 when there are none."""
    if database.all(statement("sqlite", "meta_exists"))[0][0] == 0:
        return 0
    return int(database.all(statement("sqlite", "meta_get"), {"key": "schema"})[0][0])


def checked_version(url: str, database: Database, *, older: bool = False) -> int:
    """Return the version of the tables, if this coserver can work with them; else raise as `check_version`."""
    version = version_of(database)
    rows = database.all(statement("sqlite", "meta_get"), {"key": MIN_PROTOCOL}) if version else ()
    check_version(url, version, "sqlite", older=older, least=least_of(rows))
    return version


def _transaction(database: Database, body: Callable[[Database], T], lazy: bool) -> T:
    if lazy:
        database.all("PRAGMA synchronous = NORMAL")
    try:
        database.all("BEGIN IMMEDIATE")
        try:
            result = body(database)
            database.all("COMMIT")
        except BaseException:
            database.rollback()
            raise
        return result
    finally:
        if lazy:
            database.all("PRAGMA synchronous = FULL")


class Watch:
    """Sees whether anything was committed to a file, by `PRAGMA data_version` on a connection that never writes."""

    def __init__(self, file: SQLiteFile) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._database: Database | None = None
        self._version = 0
        watch_forks(self)

    def fork_locks(self) -> Iterable[threading.Lock]:
        return (self._lock,)

    def forked(self) -> None:
        _inherited.append(self._database)
        self._lock, self._database = threading.Lock(), None

    def changed(self) -> bool:
        """Whether anything was committed since the last call; True also when that cannot be told."""
        with self._lock:
            fresh = self._database is None
            if self._database is None:
                self._database = self._file.open()
            try:
                before, self._version = self._version, self._database.all("PRAGMA data_version")[0][0]
            except Busy:
                return True
            except Trouble as trouble:
                self._database.close()
                self._database = None
                raise StoreUnavailable(f"cannot use the store {self._file.url}: {trouble}") from trouble
            return fresh or before != self._version

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        with self._lock:
            if self._database is not None:
                self._database.close()
                self._database = None


class SQLiteListener:
    """Looks at the file's data version at intervals that begin short and grow to 20 ms."""

    def __init__(self, file: SQLiteFile) -> None:
        self._closed = threading.Event()
        self._watch = Watch(file)
        self._watch.changed()

    def wait(self, timeout: float, *, guesses: bool = True) -> bool:  # noqa: ARG002 - all that a file gives is guesses
        deadline = time.monotonic() + timeout
        pause = 0.0005
        while not self._closed.is_set():
            try:
                if self._watch.changed():
                    return True
            except StoreUnavailable:
                pause = 0.02
            left = deadline - time.monotonic()
            if left <= 0:
                break
            self._closed.wait(min(pause, left))
            pause = min(pause * 1.3, 0.02)
        return False

    def close(self) -> None:
        self._closed.set()
        self._watch.close()
