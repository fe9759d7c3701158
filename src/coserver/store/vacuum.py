"""Keeping PostgreSQL's job table short: every job dies there twice within seconds (claimed, finished).

Theory. A claim reads the ready index from its beginning and passes over the entries of all that were claimed before
and not yet vacuumed, about a millisecond per 150,000. The server vacuums by itself, but once a minute at best, and a
busy site makes millions of dead rows in a minute. So whoever ticks looks now and then whether it is worth it, and has
the server vacuum on a connection of its own. Nobody waits for that: the next ticks look whether it has ended.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable

import psycopg

from coserver.store.fork import watch_forks
from coserver.store.pool import Connection, Pool, inherit, run
from coserver.store.statements import statement

SECONDS = 5.0
"""How often, at most, it is considered."""


class Vacuum:
    """At most one vacuum of this process at a time."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._lock = threading.Lock()
        self._running: Connection | None = None
        self._consider_at = 0.0
        watch_forks(self)

    def fork_locks(self) -> Iterable[threading.Lock]:
        return (self._lock,)

    def forked(self) -> None:
        inherit(self._running)
        self._lock, self._running = threading.Lock(), None

    def consider(self, connection: Connection) -> None:
        """Start a vacuum if it is time, worth it and none is running. `connection` is for the question only."""
        now = time.monotonic()
        with self._lock:
            if now < self._consider_at or self._busy():
                return
            self._consider_at = now + SECONDS
            if run(connection, "vacuum_due", {}) == [(True,)]:
                self._running = self._pool.connect()
                self._running.pgconn.send_query(statement("postgres", "vacuum").encode())

    def _busy(self) -> bool:
        if self._running is None:
            return False
        try:
            self._running.pgconn.consume_input()
            if self._running.pgconn.is_busy():
                return True
        except psycopg.Error:
            pass  # it broke off, which the next one makes good
        self._running.close()
        self._running = None
        return False

    def close(self) -> None:
        """Give up the connection; the server ends what it does."""
        with self._lock:
            if self._running is not None:
                self._running.close()
                self._running = None
