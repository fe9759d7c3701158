"""Whether other processes wait to write to an SQLite file, so that who has just written lets one of them go first.

Theory. SQLite has one writer and no queue before it: whoever waits tries again and again, and a process that writes one
transaction after the other is always back sooner than those, so that some wait for hundreds of others. Hence who waits
says so, by a shared lock, and who has written and wants to write again looks whether anybody holds one. Nothing waits
for these locks, the kernel drops them with their process, and where there can be none everything goes on without: so
nobody can stand in anybody's way.

The locks are of the kind that belongs to an opening of a file (`flock`), on the store's log. SQLite's own are of the
other kind (`fcntl`), which closing any descriptor of a file undoes; it takes them on the store and on the index of the
log, never on the log.
"""

from __future__ import annotations

import os
from contextlib import suppress
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, LOCK_UN, flock


class Line:
    """Those who wait to write, as one process sees them. `path` is that of the store. For one thread at a time."""

    def __init__(self, path: str) -> None:
        self._path = f"{path}-wal"
        self._file: int | None = None
        self._waiting = False

    def wait(self) -> None:
        """Say that this process waits, until `leave`."""
        if not self._waiting:
            with suppress(OSError):
                self._lock(LOCK_SH)
                self._waiting = True

    def leave(self) -> None:
        """It waits no longer."""
        if self._waiting:
            self._waiting = False
            with suppress(OSError):
                self._lock(LOCK_UN)

    def others(self) -> bool:
        """Whether another process waits."""
        try:
            self._lock(LOCK_EX)
            self._lock(LOCK_UN)
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False

    def close(self) -> None:
        """Close the log; the next call opens it anew."""
        file, self._file, self._waiting = self._file, None, False
        if file is not None:
            os.close(file)

    def _lock(self, kind: int) -> None:
        if self._file is None:
            self._file = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        flock(self._file, kind | LOCK_NB)
