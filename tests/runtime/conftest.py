from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from coserver.store import open_store
from coserver.store.contract import Store
from tests.postgres import Server
from tests.runtime import jobs


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a fresh store, once per kind."""
    if request.param == "sqlite":
        made = f"sqlite:{tmp_path / 'jobs.db'}"
        store = open_store(made)
        store.migrate()
        store.close()
        yield made
        return
    server: Server = request.getfixturevalue("server")
    made = server.create()
    yield made
    server.drop(made)


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    opened = open_store(url)
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def _clean_slate() -> None:
    jobs.reset()
