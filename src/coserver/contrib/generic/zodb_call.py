"""`zodb-call`: call a function on the root of a ZODB, in a transaction; the result is what it returns.

Theory. A database that nobody uses is closed, so that a FileStorage, which one process at a time may open, is free
between jobs; jobs that run at the same time in this process share it. Each call has a connection and a transaction of
its own. When another transaction has changed the same objects (a conflict), the call begins again on fresh ones, a
few times.

What the function returns is turned into plain data *inside* the transaction: objects of the database are out of reach
afterwards, and a result that cannot be kept undoes the changes instead of failing after them. After the commit a worker
may still die before it has recorded the job, which then runs once more; so write functions that bear it.
"""

from __future__ import annotations

import pkgutil
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import msgspec
import transaction
import zodburi
from ZODB.DB import DB

from coserver.errors import InvalidArguments
from coserver.tasks.arguments import result_text
from coserver.tasks.declaration import task
from coserver.tasks.retry import Retry

ATTEMPTS = 5
"""Times that a call is begun when others keep changing the same objects."""


class ZodbRefused(Exception):
    """The database or the function that the job names is not there."""


class _Databases:
    """The open databases of this process by URI, each with the number of its users."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[str, tuple[Any, int]] = {}

    @contextmanager
    def using(self, uri: str) -> Iterator[Any]:
        """Yield the database; it is open for the block."""
        # Opening under the lock: two who open one file at once would shut each other out.
        with self._lock:
            database, users = self._open.get(uri) or (_open(uri), 0)
            self._open[uri] = database, users + 1
        try:
            yield database
        finally:
            with self._lock:
                database, users = self._open.pop(uri)
                if users > 1:
                    self._open[uri] = database, users - 1
                else:
                    database.close()


_databases = _Databases()


@task(name="zodb-call", retries=Retry(0, never=(ZodbRefused, InvalidArguments)))
def zodb_call(uri: str, function: str, args: list[Any] | None = None) -> Any:
    """Call `function(root, *args)` in a transaction on the ZODB at `uri` and return its value.

    `uri`: as zodburi reads it, `file:///srv/data.fs`, `zeo://db:8100`. `function`: `module:name`. What the function
    raises undoes its changes. Raises `ZodbRefused`, and the database's own errors.
    """
    call = _function(function)
    manager = transaction.TransactionManager(explicit=True)
    with _databases.using(uri) as database, closing(database.open(manager)) as connection:
        for attempt in manager.attempts(ATTEMPTS):
            with attempt:
                text = result_text(call(connection.root(), *(args or ())))
    return None if text is None else msgspec.json.decode(text)


def _function(reference: str) -> Callable[..., Any]:
    try:
        found = pkgutil.resolve_name(reference)
    except (ImportError, AttributeError, ValueError) as error:
        raise ZodbRefused(
            f"cannot call {reference}: {error}; write module:function, and see that the worker's path has the module"
        ) from error
    if not callable(found):
        raise ZodbRefused(f"cannot call {reference}: it is no function; write module:function")
    return found  # type: ignore[no-any-return]


def _open(uri: str) -> Any:
    try:
        make, options = zodburi.resolve_uri(uri)
    except zodburi.NoResolverForScheme:
        raise ZodbRefused(
            f"cannot open the ZODB: nothing here reads {uri.partition(':')[0]!r} URIs; write file:///path/data.fs or "
            "zeo://host:port, or install the package that reads it"
        ) from None
    except (LookupError, ValueError, TypeError) as error:
        raise ZodbRefused(f"cannot open the ZODB: its URI is not usable ({error}); correct it") from None
    storage = make()
    try:
        return DB(storage, **options)
    except BaseException:
        storage.close()
        raise
