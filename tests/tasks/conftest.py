"""Tests here declare tasks freely: what they register is forgotten afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from coserver.model.job import JobInfo, NewJob, State
from coserver.tasks.registry import registry


@pytest.fixture(autouse=True)
def _forget_tasks() -> Iterator[None]:
    before = dict(registry._by_name)
    yield
    registry._by_name = before


class Kept:
    """A submitter that keeps what it is given, for tests of everything before a store."""

    def __init__(self) -> None:
        self.jobs: list[NewJob] = []
        self.connection: Any = None

    def enqueue(self, jobs: Sequence[NewJob], *, connection: Any = None) -> list[int]:
        first = len(self.jobs) + 1
        self.jobs.extend(jobs)
        self.connection = connection
        return list(range(first, len(self.jobs) + 1))

    async def aenqueue(self, jobs: Sequence[NewJob], *, connection: Any = None) -> list[int]:
        return self.enqueue(jobs, connection=connection)

    def cancel(self, ids: Sequence[int]) -> dict[int, State]:
        return dict.fromkeys(ids, State.CANCELLED)

    async def acancel(self, ids: Sequence[int]) -> dict[int, State]:
        return self.cancel(ids)

    def release(self, ids: Sequence[int]) -> list[int]:
        return list(ids)

    async def arelease(self, ids: Sequence[int]) -> list[int]:
        return self.release(ids)

    def look(self, id: int) -> JobInfo | None:
        return None

    async def alook(self, id: int) -> JobInfo | None:
        return None

    def wait(self, id: int, timeout: float | None) -> JobInfo | None:
        return None

    async def await_end(self, id: int, timeout: float | None) -> JobInfo | None:
        return None


@pytest.fixture
def kept() -> Kept:
    return Kept()
