"""Workers in the test's own process, and stores that fail on demand."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal, cast

from coserver.errors import StoreUnavailable
from coserver.model.job import JobInfo, NewJob, Outcome, Priority, State
from coserver.runtime.worker import Worker, WorkerSettings
from coserver.store import open_store
from coserver.store.contract import Exchange, Store, Want
from coserver.tasks.registry import registry
from tests.runtime import jobs

DEADLINE = 40.0

Fault = Literal["before", "after"] | None


def until(condition: Callable[[], bool], what: str, seconds: float = DEADLINE) -> None:
    """Wait until the condition holds; fail with `what` when it does not in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(0.005)


async def auntil(condition: Callable[[], bool], what: str, seconds: float = DEADLINE) -> None:
    """As `until`, while the event loop goes on."""
    end = time.monotonic() + seconds
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < end, f"never: {what}"
        await asyncio.sleep(0.005)


def submit(store: Store, task: str, *args: str, queue: str = "default", **rest: Any) -> list[int]:
    """Submit one job per text of arguments."""
    return store.submit([NewJob(task, text, queue, **rest) for text in args])


def info(store: Store, job: int) -> JobInfo:
    found = store.job(job)
    assert found is not None
    return found


def ended(store: Store, ids: Sequence[int]) -> bool:
    return all(info(store, job).state.final for job in ids)


async def results(store: Store, ids: Sequence[int]) -> list[JobInfo]:
    """Wait until the jobs have ended and return them."""
    pending = list(ids)

    def all_ended() -> bool:
        while pending and info(store, pending[-1]).state.final:
            pending.pop()
        return not pending

    await auntil(all_ended, f"jobs {ids} ended")
    return [info(store, job) for job in ids]


class Faulty:
    """A store whose exchanges fail when `fault` says so, before or after they are committed."""

    def __init__(self, store: Store) -> None:
        self.inner = store
        self.url = store.url
        self.fault: Callable[[int, Sequence[Outcome], Want], Fault] = lambda *_: None
        self.trips = 0
        self.parks = 0
        self.down = False
        self.renews = True
        self._numbers = itertools.count(1)

    def __getattr__(self, name: str) -> Any:
        if self.down:
            raise StoreUnavailable("cannot use the store: the test took it away; wait")
        return getattr(self.inner, name)

    def park(self, worker: int) -> bool:
        self.parks += 1
        return self.inner.park(worker)

    def renew(self, workers: Sequence[int], *, lease: float) -> list[int]:
        if self.down or not self.renews:
            raise StoreUnavailable("cannot use the store: the test took it away; wait")
        return self.inner.renew(workers, lease=lease)

    def exchange(self, worker: int, done: Sequence[Outcome], want: Want) -> Exchange:
        if self.down:
            raise StoreUnavailable("cannot use the store: the test took it away; wait")
        self.trips += 1
        fault = self.fault(next(self._numbers), done, want)
        if fault == "before":
            raise StoreUnavailable("cannot use the store: the test broke the connection; connect again")
        brought = self.inner.exchange(worker, done, want)
        if fault == "after":
            raise StoreUnavailable("cannot use the store: the test lost the reply; ask")
        return brought

    def as_store(self) -> Store:
        return cast(Store, self)


@asynccontextmanager
async def working(
    store: Store,
    queues: Mapping[str, int] | None = None,
    *,
    tasks: Sequence[str] | None = None,
    drain: float = 5.0,
    tended: Callable[[], bool] = lambda: False,
    **settings: Any,
) -> AsyncIterator[Worker]:
    """A worker for the block, drained at its end."""
    names = registry.names() if tasks is None else tasks
    local = store.url.startswith("sqlite:")
    given: dict[str, Any] = {
        "process": "test/1",
        "queues": queues or {"default": 10},
        "tasks": {name: task for name in names if (task := registry.get(name)) is not None},
        "lanes": 1 if local else 2,
        "probe": True,
        "listen": not local,
        **settings,
    }
    worker = Worker(store, WorkerSettings(**given), tended=tended)
    worker.start()
    try:
        yield worker
    finally:
        for gate in jobs.gates.values():
            gate.set()
        await worker.drain(drain)


def in_loop(test: Callable[[], Awaitable[None]]) -> None:
    """Run the body of a test in an event loop of its own."""

    async def body() -> None:
        await test()

    asyncio.run(body())


def fresh(url: str) -> Store:
    """A further connection to a store that others use too."""
    return open_store(url)


__all__ = [
    "DEADLINE",
    "Faulty",
    "NewJob",
    "Priority",
    "State",
    "auntil",
    "ended",
    "fresh",
    "in_loop",
    "info",
    "results",
    "submit",
    "until",
    "working",
]
