"""The contract runs on every database, and on SQLite through both of its libraries."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from coserver.store import open_store
from coserver.store.contract import Store
from tests.store_contract.helpers import Raw


@pytest.fixture(params=["sqlite", "sqlite3", "postgres"])
def store_url(request: pytest.FixtureRequest) -> str:
    """The URL of a fresh store with its tables, once per database and driver."""
    url: str = request.getfixturevalue("postgres_url" if request.param == "postgres" else "sqlite_url")
    return f"{url}?driver=sqlite3" if request.param == "sqlite3" else url


@pytest.fixture
def another(store_url: str) -> Iterator[Callable[[], Store]]:
    """Open the same store once more, as another process would."""
    opened: list[Store] = []

    def open_again() -> Store:
        opened.append(open_store(store_url))
        return opened[-1]

    yield open_again
    for store in opened:
        store.close()


@pytest.fixture
def raw(store_url: str) -> Iterator[Raw]:
    """Plain SQL on the same store, in a transaction of its own per statement."""
    connection = Raw(store_url)
    yield connection
    connection.close()
