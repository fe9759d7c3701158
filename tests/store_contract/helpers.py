"""What the tests of the contract share."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import psycopg

from coserver.model.job import Claimed, Failed, NewJob, Outcome, Release, Retry, Succeeded, TaskDefaults
from coserver.store.contract import Exchange, Store, Want, WorkerIdentity
from coserver.store.driver import connect
from coserver.store.url import SQLiteUrl, parse_url

TASK = "shop.jobs:report"
QUEUE = "default"
PAIR = (QUEUE, TASK)
ERROR = '{"type":"ValueError","message":"no","traceback":"Traceback …"}'


def job(task: str = TASK, **more: Any) -> NewJob:
    """A job for the queue `default`, unless said otherwise."""
    return NewJob(task, **{"queue": QUEUE, **more})


def identity(
    name: str = "images/1",
    *,
    tasks: Sequence[str] = (TASK,),
    queues: Sequence[str] = (QUEUE,),
    token: str | None = None,
    wake: str | None = None,
    defaults: dict[str, TaskDefaults] | None = None,
) -> WorkerIdentity:
    return WorkerIdentity(name, "host", os.getpid(), tasks, queues, wake, token, defaults or {})


def join(store: Store, name: str = "images/1", *, lease: float = 60, **more: Any) -> int:
    """Register a worker."""
    return store.register(identity(name, **more), lease=lease)


def swap(
    store: Store,
    worker: int,
    done: Sequence[Outcome] = (),
    *,
    limit: int = 10,
    pairs: Sequence[tuple[str, str]] = (PAIR,),
    room: Sequence[tuple[str, int]] = (),
) -> Exchange:
    return store.exchange(worker, done, Want(limit, pairs, room))


def claim(store: Store, worker: int, limit: int = 10, **more: Any) -> list[Claimed]:
    return list(swap(store, worker, limit=limit, **more).claimed)


def finish(store: Store, worker: int, *outcomes: Outcome) -> Exchange:
    """Record only."""
    return store.exchange(worker, outcomes, Want(0, ()))


def ok(held: Claimed, result: str | None = None) -> Succeeded:
    return Succeeded(held.id, held.claim, result, 1_000, 2_000)


def bad(held: Claimed, error: str = ERROR) -> Failed:
    return Failed(held.id, held.claim, error, 1_000, 2_000)


def again(held: Claimed, delay: int = 0, error: str = ERROR) -> Retry:
    return Retry(held.id, held.claim, error, delay)


def back(held: Claimed) -> Release:
    return Release(held.id, held.claim)


def eventually(condition: Callable[[], Any], *, seconds: float = 20) -> Any:
    """Poll until `condition` is true and return what it gave."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


class Raw:
    """Plain SQL, through the library that the process already uses on the file."""

    def __init__(self, url: str) -> None:
        where = parse_url(url)
        self._sqlite = (
            connect(where.path, where.driver, create=False) if isinstance(where, SQLiteUrl) else None
        )
        self._postgres = None if isinstance(where, SQLiteUrl) else psycopg.connect(url, autocommit=True)

    def __call__(self, sql: str, *params: Any) -> list[tuple[Any, ...]]:
        """Run one statement whose parameters are written `?`."""
        if self._sqlite is not None:
            return self._sqlite.all(sql, params)
        assert self._postgres is not None
        cursor = self._postgres.execute(sql.replace("?", "%s"), params)
        return cursor.fetchall() if cursor.description is not None else []

    def close(self) -> None:
        for connection in (self._sqlite, self._postgres):
            if connection is not None:
                connection.close()
