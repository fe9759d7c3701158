"""One open transaction of either database, as the rules that both follow see it.

Theory. What happens once per job on the fast path is written twice, in each database's own best way (`sqlite`,
`postgres`). What happens to few jobs but must happen in the same way (graphs of jobs, cancelling, limits) is written
once, as Python over named statements: a session runs the statement of that name in its database's dialect, within the
transaction that the caller opened and ends. A statement takes named parameters; a list goes as a JSON array to SQLite
(`json_each`) and as an array to PostgreSQL (`unnest`), so both read it as one column.

On PostgreSQL others write at the same time. Whoever locks rows of jobs in a session locks them in the order of their
ids, and limit keys after jobs in the order of their names, so that two sessions never wait for each other in a circle.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from coserver.store.statements import statement

if TYPE_CHECKING:  # a worker on PostgreSQL has no use for SQLite's libraries in its memory
    from coserver.store.driver import Database, Row

Value = int | float | str | bool | Sequence[Any] | None


class Session(Protocol):
    """See the module's theory. `now` is the store's time (µs UTC), the same throughout the transaction. `lingers`: it
    may stay open for long, because a caller of ours ends it; others must not have to wait for it without need."""

    now: int
    lingers: bool

    def rows(self, name: str, /, **params: Value) -> list[Row]:
        """Run the statement of that name and return its rows."""

    def places(self, n: int) -> list[int]:
        """Take `n` fresh places at the end of the line."""

    def ids(self, n: int) -> list[int]:
        """Take `n` fresh ids for new jobs, ascending."""


class SQLiteSession:
    """A session on SQLite: the one writer, in its transaction."""

    lingers = False  # others wait for any writer alike

    def __init__(self, database: Database, now: int) -> None:
        self.now = now
        self._database = database

    def rows(self, name: str, /, **params: Value) -> list[Row]:
        """As `Session.rows`."""
        return self._database.all(
            statement("sqlite", name), {key: _plain(value) for key, value in params.items()}
        )

    def places(self, n: int) -> list[int]:
        """As `Session.places`."""
        if n == 0:
            return []
        before: int = self.rows("line", n=n)[0][0]
        return list(range(before + 1, before + 1 + n))

    def ids(self, n: int) -> list[int]:
        """As `Session.ids`; places come from the same counter."""
        return self.places(n)


_encode = msgspec.json.Encoder().encode


def _plain(value: Value) -> Any:
    return _encode(value).decode() if isinstance(value, (list, tuple)) else value
