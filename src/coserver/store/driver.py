"""The two SQLite libraries behind one narrow face.

apsw brings a current SQLite and is the default. `sqlite3`, the standard library's, is for applications that keep their
own tables in the same file, because **one process may open one file through one SQLite library only**; whoever would be
the second is refused (see `store.one_library`).

A connection is used by one thread at a time; the caller sees to that.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import apsw

from coserver.store.one_library import Opened, alone, look_around

Row = tuple[Any, ...]
Params = Sequence[Any] | Mapping[str, Any]


class Busy(Exception):
    """Another connection holds the lock that this statement needs; nothing was changed."""


class Trouble(Exception):
    """The database failed: `cause; mend`, ready for a message."""


class Refused(Trouble):
    """It refused what it was told, and would do so again."""


_BAD_TEXT = "it holds text that is not UTF-8; mend or delete the row that was put in"

_RAISED = (UnicodeError, OverflowError)
"""What both libraries raise besides their own errors: text that cannot be read or written, numbers beyond 64 bits."""


class Database(Protocol):
    """One connection in autocommit mode; `begin` and `commit` are ordinary statements."""

    def all(self, sql: str, params: Params = ()) -> list[Row]:
        """Run one statement and return its rows."""

    def many(self, sql: str, rows: Iterable[Params]) -> int:
        """Run one statement once per row and return how many rows it changed altogether."""

    def script(self, sql: str) -> None:
        """Run several statements that take no parameters."""

    def rollback(self) -> None:
        """End the open transaction, if there still is one (some errors end it themselves)."""

    def close(self) -> None:
        """Close the connection."""


class Apsw:
    """A connection of apsw."""

    def __init__(self, path: str, *, create: bool) -> None:
        flags = apsw.SQLITE_OPEN_READWRITE | (apsw.SQLITE_OPEN_CREATE if create else 0)
        with alone():
            look_around(path, "apsw")
            try:
                self._connection = apsw.Connection(path, flags=flags, statementcachesize=200)
                self._connection.set_busy_timeout(0)
            except apsw.Error as error:
                raise _trouble(path, _apsw_name(error), str(error)) from error
            self._opened = Opened(path, "apsw")
        self._path = path

    def all(self, sql: str, params: Params = ()) -> list[Row]:
        try:
            return self._connection.execute(sql, params).fetchall()
        except (apsw.Error, *_RAISED) as error:
            raise self._translate(error) from error

    def many(self, sql: str, rows: Iterable[Params]) -> int:
        before = self._connection.total_changes()
        try:
            self._connection.executemany(sql, rows)
        except (apsw.Error, *_RAISED) as error:
            raise self._translate(error) from error
        return self._connection.total_changes() - before

    def script(self, sql: str) -> None:
        self.all(sql)

    def rollback(self) -> None:
        if self._connection.in_transaction:
            self.all("ROLLBACK")

    def close(self) -> None:
        self._connection.close(True)
        self._opened.release()

    def _translate(self, error: Exception) -> Exception:
        if isinstance(error, apsw.BusyError | apsw.LockedError):
            return Busy()
        if not isinstance(error, apsw.Error):
            return _foreign(error)
        return _trouble(self._path, _apsw_name(error), str(error))


class Stdlib:
    """A connection of the standard library's sqlite3."""

    def __init__(self, path: str, *, create: bool) -> None:
        if not create and not Path(path).exists():
            raise _trouble(path, "SQLITE_CANTOPEN", "unable to open database file")
        with alone():
            look_around(path, "sqlite3")
            try:
                self._connection = sqlite3.connect(
                    path, timeout=0, isolation_level=None, check_same_thread=False, cached_statements=200
                )
            except sqlite3.Error as error:
                raise _trouble(path, _stdlib_name(error), str(error)) from error
            self._opened = Opened(path, "sqlite3")
        self._path = path

    def all(self, sql: str, params: Params = ()) -> list[Row]:
        try:
            return self._connection.execute(sql, params).fetchall()
        except (sqlite3.Error, *_RAISED) as error:
            raise self._translate(error) from error

    def many(self, sql: str, rows: Iterable[Params]) -> int:
        before = self._connection.total_changes
        try:
            self._connection.executemany(sql, rows)
        except (sqlite3.Error, *_RAISED) as error:
            raise self._translate(error) from error
        return self._connection.total_changes - before

    def script(self, sql: str) -> None:
        # executescript would commit the open transaction first, so the statements go one by one.
        for statement in split(sql):
            self.all(statement)

    def rollback(self) -> None:
        if self._connection.in_transaction:
            self.all("ROLLBACK")

    def close(self) -> None:
        self._connection.close()
        self._opened.release()

    def _translate(self, error: Exception) -> Exception:
        if not isinstance(error, sqlite3.Error):
            return _foreign(error)
        if str(error).startswith("Could not decode to UTF-8"):
            return Trouble(_BAD_TEXT)
        name = _stdlib_name(error)
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return Busy()
        return _trouble(self._path, name, str(error))


def split(sql: str) -> Iterator[str]:
    """Yield the statements of a text, each of which ends its line."""
    statement = ""
    for line in sql.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def connect(path: str, driver: str, *, create: bool) -> Database:
    """Open `path` with one of the two libraries. `create` False: a missing file is `Trouble`."""
    return Apsw(path, create=create) if driver == "apsw" else Stdlib(path, create=create)


def _apsw_name(error: apsw.Error) -> str:
    return "SQLITE_" + type(error).__name__.removesuffix("Error").upper()


def _stdlib_name(error: sqlite3.Error) -> str:
    return getattr(error, "sqlite_errorname", "SQLITE_ERROR")


def _foreign(error: Exception) -> Trouble:
    """Say in words what the library could not carry over."""
    if isinstance(error, UnicodeDecodeError):
        return Trouble(_BAD_TEXT)
    return Refused(f"{error}; it takes text that is UTF-8 and numbers of 64 bits")


def _trouble(path: str, name: str, text: str) -> Trouble:
    """Say in words what SQLite's error code means for this file."""
    file = Path(path)
    folder = file.parent
    match name.removeprefix("SQLITE_").partition("_")[0]:
        case "CANTOPEN" if file.is_dir():
            return Trouble(f"{file} is a directory; name a file")
        case "CANTOPEN" if not folder.is_dir():
            return Trouble(f"the directory {folder} does not exist; create it")
        case "CANTOPEN" | "READONLY" | "PERM" | "AUTH":
            blocked = file if file.exists() and not os.access(file, os.R_OK | os.W_OK) else folder
            return Trouble(
                f"{blocked} may not be read and written by this user ({text}); "
                "allow it, because SQLite writes the file and two more beside it"
            )
        case "NOTADB":
            return Trouble(f"{file} is not an SQLite database; name another file or move this one away")
        case "CORRUPT":
            return Trouble(f"{file} is damaged ({text}); restore it from a backup")
        case "CONSTRAINT" | "MISMATCH" | "RANGE" | "TOOBIG":
            return Refused(f"{text}; see what its tables allow")
        case "FULL":
            return Trouble("no space is left on the disk; free some")
        case _:
            return Trouble(f"{text}; see that {file} is a healthy SQLite database on a local disk")
