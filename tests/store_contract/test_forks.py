"""A store that is carried through a fork is used again in the child without harm to the parent."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import pytest

from coserver.model.job import State
from coserver.store.contract import Store
from tests.store_contract.helpers import claim, finish, job, join, ok

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")


def in_child(action: Callable[[], object]) -> int:
    """Run `action` in a forked child; return its process number."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            action()
            status = 0
        finally:
            os._exit(status)
    return child


def succeeded(child: int) -> bool:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_child_of_a_fork_uses_the_store_and_so_does_its_parent(store: Store) -> None:
    worker = join(store)
    store.submit([job()])
    store.probe()
    store.counts()

    def use() -> None:
        assert len({store.submit([job()])[0] for _ in range(50)}) == 50
        store.counts()
        store.probe()
        store.close()

    child = in_child(use)
    for _ in range(50):
        store.submit([job()])
    assert succeeded(child)
    batch = claim(store, worker, 500)
    assert len(batch) == 101
    finish(store, worker, *[ok(held) for held in batch])
    assert store.counts().by_state[State.SUCCEEDED] == 101


def test_a_child_forked_while_threads_use_the_store_does_not_hang(store: Store) -> None:
    ended = threading.Event()

    def write() -> None:
        while not ended.is_set():
            store.submit([job()])

    def read() -> None:
        listener = store.listener()
        while not ended.is_set():
            store.counts()
            store.probe()
            listener.wait(0.001)
        listener.close()

    threads = [threading.Thread(target=run) for run in (write, write, read)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(10):
            assert succeeded(in_child(lambda: store.submit([job()])))
    finally:
        ended.set()
        for thread in threads:
            thread.join()
