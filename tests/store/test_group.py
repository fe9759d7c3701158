"""Group commit alone: threads that submit at once, and a commit that a test holds back."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from coserver.errors import StoreRefused, StoreUnavailable
from coserver.model.job import State
from coserver.store.group import GroupCommit
from coserver.store.sqlite import SQLiteStore
from coserver.store.url import SQLiteUrl, parse_url
from tests.store_contract.helpers import job


class Commits:
    """Commits numbers; the first waits until it may, a negative number is refused, and zero is a broken disk."""

    def __init__(self) -> None:
        self.groups: list[list[list[int]]] = []
        self.begun = threading.Event()
        self.may = threading.Event()

    def __call__(self, submissions: list[Sequence[int]]) -> list[list[int]]:
        self.groups.append([list(one) for one in submissions])
        if len(self.groups) == 1:
            self.begun.set()
            assert self.may.wait(30)
        numbers = [number for one in submissions for number in one]
        if 0 in numbers:
            raise StoreUnavailable("cannot use the store: the disk is gone")
        if min(numbers) < 0:
            raise StoreRefused("cannot record in the store: it is negative")
        return [[10 * number for number in one] for one in submissions]


def outcomes(*submissions: list[int]) -> tuple[list[object], list[list[list[int]]]]:
    """What came of submissions that all wait for the same commit, and the groups that were committed after it."""
    commits = Commits()
    group = GroupCommit(commits, most=100)
    with ThreadPoolExecutor(len(submissions) + 1) as threads:
        first = threads.submit(group.submit, [1])
        assert commits.begun.wait(30)
        waiting: list[Future[list[int]]] = []
        for one in submissions:
            waiting.append(threads.submit(group.submit, one))
            deadline = time.monotonic() + 30
            while group.waiting < len(waiting):
                assert time.monotonic() < deadline
                time.sleep(0.001)
        commits.may.set()
        assert first.result(30) == [10]
        found: list[object] = [one.exception(30) or one.result() for one in waiting]
    return found, commits.groups[1:]


def test_who_comes_meanwhile_is_committed_together() -> None:
    assert outcomes([2], [3, 4]) == ([[20], [30, 40]], [[[2], [3, 4]]])


def test_who_is_refused_fails_alone() -> None:
    found, groups = outcomes([2], [-1], [3, 4], [5, -5])
    assert (found[0], found[2]) == ([20], [30, 40])
    assert isinstance(found[1], StoreRefused)
    assert isinstance(found[3], StoreRefused)
    assert groups == [[[2], [-1], [3, 4], [5, -5]], [[2]], [[-1]], [[3, 4]], [[5, -5]]]


def test_a_store_that_cannot_be_reached_fails_all_that_are_left() -> None:
    found, _ = outcomes([2], [0], [3])
    assert all(type(one) is StoreUnavailable for one in found)
    found, _ = outcomes([2], [-1], [0], [3])
    assert type(found[0]) is StoreUnavailable  # together with the broken one nothing is known to be refused


def test_a_number_that_no_row_can_hold_harms_no_other_thread(sqlite_url: str) -> None:
    where = parse_url(sqlite_url)
    assert isinstance(where, SQLiteUrl)
    store = SQLiteStore(where)
    try:
        store.submit([job()])
        with ThreadPoolExecutor(8) as threads:
            good = [threads.submit(store.submit, [job()]) for _ in range(50)]
            bad = [threads.submit(store.submit, [job(run_at=2**63)]) for _ in range(10)]
            good += [threads.submit(store.submit, [job()]) for _ in range(50)]
            assert all(isinstance(one.exception(60), StoreRefused) for one in bad)
            assert all(len(one.result(60)) == 1 for one in good)
        assert store.counts().by_state[State.QUEUED] == 101
    finally:
        store.close()
