"""What several rooms share: the two real databases, and how patient hypothesis is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from coserver.store import open_store
from coserver.store.contract import Store
from tests.postgres import Server

# How long an example takes says more about how busy the machine is than about the code.
settings.register_profile("coserver", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("coserver")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """One PostgreSQL server for the whole session, started when the first test asks."""
    server = Server()
    yield server
    server.close()


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """The URL of a fresh SQLite store with its tables."""
    url = f"sqlite:{tmp_path / 'site.db'}"
    store = open_store(url)
    store.migrate()
    store.close()
    return url


@pytest.fixture
def postgres_url(postgres: Server) -> Iterator[str]:
    """The URL of a fresh PostgreSQL store with its tables."""
    url = postgres.create()
    yield url
    postgres.drop(url)


@pytest.fixture(params=["sqlite", "postgres"])
def store_url(request: pytest.FixtureRequest) -> str:
    """The URL of a fresh store with its tables, once per database."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    """A fresh store with its tables, once per database."""
    opened = open_store(store_url)
    yield opened
    opened.close()
