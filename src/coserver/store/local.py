"""What a node must remember by itself: operators' intents, run numbers, states of rest and ends of runs.

Theory. A supervisor has to work while the site's store is down, and its memory concerns this host alone. It therefore
keeps a small SQLite file of its own. What is *alive* is not in it: the keeper knows that, and each child's note in the
keeper holds the state of its slot. Here stands what must outlive the children: what operators want (stronger than any
policy and older than any process), the number of every slot's newest run (never used twice), where a slot came to rest
(a backoff goes on after the node's death where it was), and the last ends of each slot.

One connection, used by the node's loop only; each write is its own transaction. `synchronous=NORMAL` on a WAL survives
the death of any process; a power failure may forget the last moments, and with them all processes are gone anyway.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import apsw

from coserver.errors import StoreUnavailable
from coserver.model.service import End

ENDS_KEPT = 50
"""Ends of runs remembered for each process."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS intent (
    name TEXT PRIMARY KEY, wanted TEXT NOT NULL, by TEXT NOT NULL, at INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS slot (
    process TEXT PRIMARY KEY, run INTEGER NOT NULL, rest TEXT) STRICT;
CREATE TABLE IF NOT EXISTS ended (
    process TEXT NOT NULL, run INTEGER NOT NULL, at INTEGER NOT NULL, status INTEGER, signal INTEGER, reason TEXT,
    PRIMARY KEY (process, run)) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
"""

Wanted = Literal["running", "stopped"]


@dataclass(frozen=True, slots=True)
class Intent:
    """What an operator wants of a service, who said so, and when (µs since 1970 UTC)."""

    wanted: Wanted
    by: str
    at: int


class LocalState:
    """The node's own memory, for its user alone: the secret is in it, and processes of other users may pass through
    the directory. Raises `StoreUnavailable` when the file cannot be opened or is no such file."""

    def __init__(self, path: Path) -> None:
        try:
            _make_private(path)
            self._db = apsw.Connection(str(path))
            self._db.set_busy_timeout(1000)
            # One by one: a statement that yields a row holds up those behind it until the row is fetched.
            for statement in ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=NORMAL", _SCHEMA):
                self._db.execute(statement).fetchall()
        except (apsw.Error, OSError) as error:
            cause = error.strerror if isinstance(error, OSError) else error
            raise StoreUnavailable(
                f"cannot open the node's own state {path}: {cause}; make its directory writable, or move the file away"
            ) from error

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def secret(self) -> bytes:
        """Return this site's secret on this node, from which the tokens of its processes are derived."""
        self._db.execute(
            "INSERT INTO meta VALUES ('secret', ?) ON CONFLICT DO NOTHING", (secrets.token_hex(32),)
        )
        return bytes.fromhex(self._value("SELECT value FROM meta WHERE name = 'secret'"))

    def _value(self, sql: str) -> str:
        return str(self._db.execute(sql).get)

    # Intents ------------------------------------------------------------------------------------------------

    def intents(self) -> dict[str, Intent]:
        """Return what operators have stated, by name of service or process."""
        rows = self._db.execute("SELECT name, wanted, by, at FROM intent")
        return {name: Intent(wanted, by, at) for name, wanted, by, at in rows}

    def intend(self, name: str, intent: Intent) -> None:
        """Remember what an operator wants, in place of what was wanted before."""
        self._db.execute(
            "INSERT INTO intent VALUES (?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET "
            "wanted = excluded.wanted, by = excluded.by, at = excluded.at",
            (name, intent.wanted, intent.by, intent.at),
        )

    def drop_intent(self, name: str) -> None:
        """Forget what an operator wanted of one service or process."""
        self._db.execute("DELETE FROM intent WHERE name = ?", (name,))

    def forget_intents(self) -> None:
        """Drop all intents: what the configuration says holds again."""
        self._db.execute("DELETE FROM intent")

    # Slots --------------------------------------------------------------------------------------------------

    def slots(self) -> dict[str, tuple[int, str | None]]:
        """Return for each process its newest run's number and, if it was left at rest, its slot as JSON text."""
        return {process: (run, rest) for process, run, rest in self._db.execute("SELECT * FROM slot")}

    def begin(self, process: str, run: int) -> None:
        """Use up a run number. To be called before the keeper is asked for the process."""
        self._db.execute(
            "INSERT INTO slot VALUES (?, ?, NULL) ON CONFLICT (process) DO UPDATE SET run = excluded.run, rest = NULL",
            (process, run),
        )

    def rest(self, process: str, run: int, slot: str) -> None:
        """Remember a slot in which nothing runs."""
        self._db.execute(
            "INSERT INTO slot VALUES (?, ?, ?) ON CONFLICT (process) DO UPDATE SET run = excluded.run, "
            "rest = excluded.rest",
            (process, run, slot),
        )

    # Ends ---------------------------------------------------------------------------------------------------

    def ended(self, process: str, run: int, end: End) -> None:
        """Record how a run ended; told twice (a node died before it acknowledged), it is recorded once."""
        self._db.execute(
            "INSERT INTO ended VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (process, run, end.at, end.status, end.signal, end.reason),
        )
        self._db.execute("DELETE FROM ended WHERE process = ? AND run <= ?", (process, run - ENDS_KEPT))

    def ends(self, process: str) -> Iterator[tuple[int, End]]:
        """Yield (run, end) of a process, newest first."""
        rows = self._db.execute(
            "SELECT run, at, status, signal, reason FROM ended WHERE process = ? ORDER BY run DESC",
            (process,),
        )
        for run, at, status, signal, reason in rows:
            yield run, End(at, status, signal, reason)


def _make_private(path: Path) -> None:
    """Make the file, or what another umask left of it, readable by nobody else; SQLite gives the two beside it the
    same rights. What exists is changed by its name: to close a descriptor of it would drop SQLite's locks."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        for file in (path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")):
            try:
                if file.stat().st_mode & 0o077:
                    file.chmod(0o600)
            except FileNotFoundError:
                pass
