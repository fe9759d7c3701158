"""A client on either database, and a hand that plays the worker in single steps."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from coserver.client import Client
from coserver.model.job import Claimed, Failed, Outcome, Succeeded
from coserver.store import open_store
from coserver.store.contract import Store, Want, WorkerIdentity
from coserver.tasks.registry import registry


class Hand:
    """Claims and finishes jobs of the queue `default`, one at a time, when told to."""

    def __init__(self, url: str, *tasks: str) -> None:
        self.store: Store = open_store(url)
        self._pairs = [("default", task) for task in tasks]
        self._worker = self.store.register(
            WorkerIdentity("hand/1", "localhost", 1, list(tasks), ["default"]), lease=60
        )

    def claim(self) -> Claimed:
        found = self.store.exchange(self._worker, [], Want(1, self._pairs))
        return found.claimed[0]

    def succeed(self, result: object = None) -> int:
        """Finish the next job with a result; return its number."""
        job = self.claim()
        return self.end(
            job, Succeeded(job.id, job.claim, None if result is None else json.dumps(result), 1, 2)
        )

    def fail(self, type: str, message: str, traceback: str = "") -> int:
        """Fail the next job for good; return its number."""
        job = self.claim()
        error = json.dumps({"type": type, "message": message, "traceback": traceback})
        return self.end(job, Failed(job.id, job.claim, error, 1, 2))

    def end(self, job: Claimed, outcome: Outcome) -> int:
        self.store.exchange(self._worker, [outcome], Want(0, []))
        return job.id

    def close(self) -> None:
        self.store.leave(self._worker)
        self.store.close()


def until(condition: Callable[[], object]) -> None:
    """Look until something is so; fail after 20 s."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.fixture(autouse=True)
def _forget_tasks() -> Iterator[None]:
    before, registry._by_name = registry._by_name, {}
    yield
    registry._by_name = before


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty store without tables, on each database."""
    if request.param == "sqlite":
        yield f"sqlite:{tmp_path / 'site.db'}?synchronous=NORMAL"
        return
    server = request.getfixturevalue("postgres")
    found = server.create(schema=False)
    yield found
    server.drop(found)


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with Client(url) as client:
        yield client


@pytest.fixture
def hand(client: Client, url: str) -> Iterator[Hand]:
    client.counts()  # makes the tables
    hand = Hand(url, "add", "later")
    yield hand
    hand.close()
