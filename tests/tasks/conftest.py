"""Tests here declare tasks freely: what they register is forgotten afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from coserver.model.job import JobInfo, NewJob
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

    def enqueue(self, jobs: Sequence[NewJob]) -> list[int]:
        first = len(self.jobs) + 1
        self.jobs.extend(jobs)
        return list(range(first, len(self.jobs) + 1))

    async def aenqueue(self, jobs: Sequence[NewJob]) -> list[int]:
        return self.enqueue(jobs)

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
