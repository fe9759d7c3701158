"""Who waits for ends of jobs hears of them at once, however a job ends."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from coserver.model.job import JobFilter
from coserver.store.contract import Store
from tests.store_contract.helpers import claim, finish, job, join, ok


def succeed(store: Store) -> None:
    worker = join(store)
    finish(store, worker, ok(claim(store, worker)[0]))


def cancel(store: Store) -> None:
    store.cancel([one.id for one in store.jobs(JobFilter(), limit=10)])


@pytest.mark.parametrize("end", [succeed, cancel])
def test_an_end_is_heard_of_at_once(
    store: Store, another: Callable[[], Store], end: Callable[[Store], None]
) -> None:
    waiting = another()
    listener = waiting.listener(ends=True)
    store.submit([job()])
    while listener.wait(0.1):
        pass
    end(store)
    began = time.monotonic()
    assert listener.wait(20)
    assert time.monotonic() - began < 10
    listener.close()


@pytest.mark.parametrize("store_url", ["postgres"], indirect=True)
def test_of_nothing_else(store: Store, another: Callable[[], Store]) -> None:
    waiting = another()
    listener = waiting.listener(ends=True)
    store.submit([job(), job()])
    worker = join(store)
    first, _ = claim(store, worker)
    assert not listener.wait(0.2)
    finish(store, worker, ok(first))
    assert listener.wait(20)
    listener.close()
