"""The index: a SQLite file of the librarian's own, with full-text search.

Several processes write it at the same time while others search. So each file is one short transaction, which first
takes back whatever was known of that file: indexing it twice leaves what indexing it once does, and a job that is
cut off leaves nothing. In WAL mode nobody who reads ever waits.
"""

import fcntl
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from librarian.reading import Definition, terms

STATE = Path(os.environ.get("LIBRARIAN_STATE", ".coserver"))
INDEX = STATE / "library.db"

SCHEMA = """
PRAGMA journal_mode = WAL;
CREATE TABLE IF NOT EXISTS file (
    path TEXT PRIMARY KEY,
    module TEXT NOT NULL,
    digest TEXT,                  -- of the text that was indexed; NULL until then
    problem TEXT                  -- why it cannot be indexed, if so
);
CREATE TABLE IF NOT EXISTS definition (
    id INTEGER PRIMARY KEY,
    path TEXT NOT NULL REFERENCES file,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS file_module ON file (module);
CREATE INDEX IF NOT EXISTS definition_path ON definition (path);
CREATE VIRTUAL TABLE IF NOT EXISTS entry USING fts5 (name, doc, words, prefix = '3');
"""

# One who is looked for by name comes first, then the library before its tests; a match in the name weighs most.
SEARCH = """
SELECT kind, definition.name, file.module, file.path, first, last,
       snippet(entry, 1, char(2), char(3), '…', 30) AS excerpt
FROM entry JOIN definition ON definition.id = entry.rowid JOIN file USING (path)
WHERE entry MATCH :match
ORDER BY '.' || definition.name NOT LIKE '%.' || :last, file.module GLOB '*test*', bm25(entry, 20, 4, 1), definition.id
LIMIT :limit OFFSET :offset
"""

MARKED = "\x02", "\x03"
"""What stands before and after each found word of an excerpt."""


@dataclass(frozen=True)
class Found:
    """One definition that a search has found."""

    kind: str
    name: str
    module: str
    path: str
    first: int
    last: int
    excerpt: str


@dataclass(frozen=True)
class Progress:
    """How far the index is: files in all, indexed, and unreadable; definitions found in them."""

    files: int
    indexed: int
    unreadable: int
    definitions: int

    @property
    def done(self) -> bool:
        """Whether every file has been looked at."""
        return 0 < self.files <= self.indexed + self.unreadable


def prepare() -> None:
    """Create the index unless it is there. Every process of the site does this first (`setup` in coserver.toml)."""
    STATE.mkdir(parents=True, exist_ok=True)
    with _alone():
        _connection().executescript(SCHEMA)


# Writing -------------------------------------------------------------------------------------------------------


def expect(modules: dict[str, str]) -> None:
    """Say which files (path → module) there are; what is known of others is forgotten."""
    with _writing() as db:
        known = {path for (path,) in db.execute("SELECT path FROM file")}
        for gone in known - modules.keys():
            _forget(db, gone)
            db.execute("DELETE FROM file WHERE path = ?", (gone,))
        new = [(path, module) for path, module in modules.items() if path not in known]
        db.executemany("INSERT INTO file (path, module) VALUES (?, ?)", new)


def put(path: str, module: str, digest: str, definitions: Iterable[Definition]) -> None:
    """Replace all that is known of a file."""
    with _writing() as db:
        _replace(db, path, module, digest=digest, problem=None)
        (highest,) = db.execute("SELECT coalesce(max(id), 0) FROM definition").fetchone()
        numbered = list(enumerate(definitions, start=highest + 1))
        db.executemany(
            "INSERT INTO definition VALUES (?, ?, ?, ?, ?, ?)",
            [(number, path, one.kind, one.name, one.first, one.last) for number, one in numbered],
        )
        db.executemany(
            "INSERT INTO entry (rowid, name, doc, words) VALUES (?, ?, ?, ?)",
            [(number, one.name, one.doc, one.words) for number, one in numbered],
        )


def put_problem(path: str, module: str, problem: str) -> None:
    """Record why a file cannot be indexed."""
    with _writing() as db:
        _replace(db, path, module, digest=None, problem=problem)


def _replace(
    db: sqlite3.Connection, path: str, module: str, *, digest: str | None, problem: str | None
) -> None:
    _forget(db, path)
    db.execute("INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?)", (path, module, digest, problem))


def _forget(db: sqlite3.Connection, path: str) -> None:
    db.execute("DELETE FROM entry WHERE rowid IN (SELECT id FROM definition WHERE path = ?)", (path,))
    db.execute("DELETE FROM definition WHERE path = ?", (path,))


# Reading -------------------------------------------------------------------------------------------------------


def digest(path: str) -> str | None:
    """Return the digest of a file's text as it was indexed, or None."""
    db = _connection()
    row = db.execute("SELECT digest FROM file WHERE path = ?", (path,)).fetchone()
    return row["digest"] if row else None


def path_of(module: str) -> str | None:
    """Return the file of a module, or None when it is not in the library."""
    db = _connection()
    row = db.execute("SELECT path FROM file WHERE module = ?", (module,)).fetchone()
    return row["path"] if row else None


def search(query: str, *, limit: int, offset: int = 0) -> tuple[int, list[Found]]:
    """Return how many definitions hold every word of the query, and some of them, best first.

    The last word may be the beginning of one.
    """
    words = terms(query)
    if not words:
        return 0, []
    match = " ".join(f'"{word}"' for word in words) + "*"
    db = _connection()
    total = db.execute("SELECT count(*) FROM entry WHERE entry MATCH ?", (match,)).fetchone()[0]
    said = {"match": match, "last": words[-1], "limit": limit, "offset": offset}
    return total, [Found(**row) for row in db.execute(SEARCH, said)]


def problems() -> list[tuple[str, str]]:
    """Return (path, problem) of each file that cannot be indexed."""
    db = _connection()
    rows = db.execute("SELECT path, problem FROM file WHERE problem IS NOT NULL ORDER BY path")
    return [(row["path"], row["problem"]) for row in rows]


def progress() -> Progress:
    """Return how far the index is."""
    db = _connection()
    row = db.execute(
        "SELECT count(*), count(digest), count(problem), (SELECT count(*) FROM definition) FROM file"
    ).fetchone()
    return Progress(*row)


class _Connections(threading.local):
    """A connection for each thread, kept open: the last one to close would tidy up the file each time."""

    db: sqlite3.Connection | None = None


_of_thread = _Connections()


def _connection() -> sqlite3.Connection:
    if _of_thread.db is None:
        _of_thread.db = sqlite3.connect(INDEX, timeout=30, isolation_level=None)
        _of_thread.db.row_factory = sqlite3.Row
        _of_thread.db.execute("PRAGMA synchronous = NORMAL")
    return _of_thread.db


@contextmanager
def _writing() -> Iterator[sqlite3.Connection]:
    db = _connection()
    with _alone():
        db.execute("BEGIN IMMEDIATE")
        try:
            yield db
        except BaseException:
            db.execute("ROLLBACK")
            raise
        db.execute("COMMIT")


@contextmanager
def _alone() -> Iterator[None]:
    """Keep all other writers out, those of other processes as well.

    SQLite would do so by itself, but lets them ask again and again; a lock makes them stand in line. Besides, SQLite
    before 3.51.3 has a race in which two writers in WAL mode may damage the file, and most Pythons bring an older one.
    """
    with open(INDEX.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
