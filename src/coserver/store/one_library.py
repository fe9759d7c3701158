"""One SQLite library per process and file: a guard.

Theory. SQLite locks files by POSIX locks, which belong to the process: when any descriptor of a file is closed, all
locks that the process has on it are gone. Each SQLite library knows that of its own connections and defers closing, but
knows nothing of a second library in the same process. Two of them on one file drop each other's locks, another process
then takes the log for unused and deletes it, and the file is corrupt. A store is opened by apsw, which brings a library
of its own, or by Python's `sqlite3`, and applications open files of theirs; so whoever would be the second is refused:

- our own opening of a store looks for connections of the other library on that file, ours or the application's;
- while apsw has a store open here, an audit hook refuses `sqlite3.connect` for that file before it is opened;
- while sqlite3 has one open here, apsw's hook for new connections refuses. apsw has opened the file by then and closes
  it again, so the lock that sqlite3 loses by that is taken once more at once.

Files are compared by device and inode, so links and relative paths are no way around it. Other processes may use
whichever library they like.

Looking around, opening and making an entry of it are one step (`alone`), so that our own openings in several threads
do not take each other for somebody else's. apsw's connections tell nothing while a thread is using them, not even their
file; they are asked again for a while, and one that never answers is no reason to refuse.
"""

from __future__ import annotations

import gc
import os
import sqlite3
import sys
import threading
import time
import weakref
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import apsw

from coserver.errors import UsageError
from coserver.store.fork import watch_forks

File = tuple[int, int]
"""Device and inode."""

_SHARED = 0x4000_0002, 510
"""Where in a database file SQLite locks what it reads: first byte and length."""

PATIENCE = 5.0
"""Seconds for which a connection of apsw that is in use is asked again."""


class MixedLibraries(UsageError):
    """A second SQLite library was to open a file that the process has open already."""


class _Open:
    """What our own connections have open, by library."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.opening = threading.Lock()
        self.count: Counter[tuple[File, str]] = Counter()
        self.audits = self.hooks = False

    def fork_locks(self) -> Iterable[threading.Lock]:
        return self.opening, self.lock

    def forked(self) -> None:
        """What the parent opened is never used or closed here (see `store.fork`)."""
        self.lock, self.opening, self.count = threading.Lock(), threading.Lock(), Counter()


_open = _Open()
watch_forks(_open)


class Opened:
    """One connection's entry; `release` it when the connection is closed."""

    def __init__(self, path: str, driver: str) -> None:
        """To be made after opening. A file that is gone by now is nobody's."""
        self._key = None if (file := file_of(path)) is None else (file, driver)
        if self._key is None:
            return
        _watch(driver)
        with _open.lock:
            _open.count[self._key] += 1

    def release(self) -> None:
        """The connection is closed."""
        key, self._key = self._key, None
        if key is None:
            return
        with _open.lock:
            _open.count[key] -= 1
            if _open.count[key] <= 0:
                del _open.count[key]


@contextmanager
def alone() -> Iterator[None]:
    """Keep other openings of ours away, from looking around to the entry of what was opened."""
    with _open.opening:
        yield


def look_around(path: str, driver: str) -> None:
    """Raise `MixedLibraries` if the other library has this file open in this process. To be called before opening."""
    file = file_of(path)
    if file is None:
        return
    other = "sqlite3" if driver == "apsw" else "apsw"
    if (file, other) in _open.count:
        raise _mixed(path, driver, other, "coserver")
    if (file, driver) in _open.count:  # looked for then, and guarded since
        return
    theirs = _stdlib_has(file) if driver == "apsw" else _apsw_has(file, unknown=False)
    if theirs:
        raise _mixed(path, driver, other, "the application")


def file_of(path: str | bytes | os.PathLike[Any]) -> File | None:
    """Return which file a path, or a URI as SQLite takes it, leads to; None when there is none."""
    name = os.fsdecode(path)
    for candidate in (name, unquote(name.removeprefix("file:").partition("?")[0])):
        try:
            found = os.stat(candidate)  # noqa: PTH116 - asked in an audit hook, for any name
        except (OSError, ValueError):
            continue
        return found.st_dev, found.st_ino
    return None


def _mixed(path: str, driver: str, other: str, who: str) -> MixedLibraries:
    return MixedLibraries(
        f"cannot open {path} by {_name(driver)}: {who} has it open by {_name(other)} in this process, and two SQLite "
        "libraries in one process corrupt a file; name the store with ?driver=sqlite3 and open the file by sqlite3 "
        "everywhere, or open it by apsw everywhere"
    )


def _name(driver: str) -> str:
    return "apsw" if driver == "apsw" else "Python's sqlite3"


# -- connections of the application that are open already -----------------------------------------------------------


def _apsw_has(file: File, *, unknown: bool) -> bool:
    """Whether apsw has it open; `unknown` if some connection is in use for so long that it cannot be asked."""
    asked = [_file_of_apsw(connection) for connection in apsw.connections()]
    return file in asked or (_IN_USE in asked and unknown)


_IN_USE: File = (-1, -1)


def _file_of_apsw(connection: apsw.Connection) -> File | None:
    """Return the file of a connection that any thread may be using: None when it is closed, or _IN_USE."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return file_of(connection.filename)
        except apsw.ConnectionClosedError:
            return None
        except apsw.ThreadingViolationError:
            if time.monotonic() > deadline:
                return _IN_USE
            time.sleep(0.001)


def _stdlib_has(file: File) -> bool:
    """Whether sqlite3 has it open. A connection does not say of which file it is, least of all to another thread; but
    when some descriptor of the file is open that apsw does not explain, and connections are there, it is of them."""
    if not _descriptor_of(file):
        return False
    if not any(_alive(one) for one in gc.get_objects() if isinstance(one, sqlite3.Connection)):
        return False
    return not _apsw_has(file, unknown=True)


def _alive(connection: sqlite3.Connection) -> bool:
    try:
        return connection.total_changes >= 0
    except sqlite3.ProgrammingError:
        return False


def _descriptor_of(file: File) -> int | None:
    """Return a descriptor of the file that is open in this process, where the kernel tells."""
    try:
        names = os.listdir("/dev/fd")  # noqa: PTH208 - numbers
    except OSError:
        return None
    for name in names:
        try:
            found = os.fstat(int(name))
        except OSError:
            continue
        if (found.st_dev, found.st_ino) == file:
            return int(name)
    return None


# -- connections of the application that come later -----------------------------------------------------------------


def _watch(driver: str) -> None:
    if driver == "apsw" and not _open.audits:
        _open.audits = True
        sys.addaudithook(_audit)
    if driver == "sqlite3" and not _open.hooks:
        _open.hooks = True
        apsw.connection_hooks.append(_refuse_apsw)


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if event == "sqlite3.connect" and _open.count:
        file = file_of(args[0])
        if file is not None and (file, "apsw") in _open.count:
            raise _mixed(os.fsdecode(args[0]), "sqlite3", "apsw", "coserver")


def _refuse_apsw(connection: apsw.Connection) -> None:
    if not _open.count:
        return
    path = connection.filename
    file = file_of(path)
    if file is None or (file, "sqlite3") not in _open.count:
        return
    weakref.finalize(connection, _take_lock_again, file, path).atexit = False
    del connection  # the error's traceback would keep it alive
    raise _mixed(path, "apsw", "sqlite3", "coserver")


def _take_lock_again(file: File, path: str) -> None:
    """sqlite3 locks a file with a log for as long as it has it open; apsw's closing has undone that."""
    found = _descriptor_of(file)
    if found is None or not Path(path + "-wal").exists():
        return
    import fcntl

    try:
        fcntl.lockf(found, fcntl.LOCK_SH | fcntl.LOCK_NB, _SHARED[1], _SHARED[0])
    except OSError:
        pass  # somebody is converting the file at this moment, and waits for no reader that we know of
