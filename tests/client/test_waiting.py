"""The watch: one thread that learns of ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import wait
from itertools import pairwise

import pytest

from coserver.client import waiting
from coserver.client.waiting import LATEST, SOONEST, Watch
from coserver.errors import StoreUnavailable
from coserver.model.job import JobInfo, Priority, State
from coserver.store.contract import Settled
from tests.client.conftest import until


def info(id: int) -> JobInfo:
    return JobInfo(id, "add", "default", State.SUCCEEDED, Priority.NORMAL, "[]", 0, 0, 1)


class Rows:
    """What the watch sees of a store: ended jobs, looks counted, a listener that hears what it is told to."""

    def __init__(self, *, deaf: bool = False, loud: bool = False) -> None:
        self.ended: set[int] = set()
        self.gone: set[int] = set()
        self.looks: list[tuple[float, list[int]]] = []
        self.listeners = 0
        self.broken: Exception | None = None
        self._deaf, self._loud = deaf, loud
        self._news = threading.Event()

    def end(self, id: int) -> None:
        self.ended.add(id)
        self._news.set()

    def settled(self, ids: Sequence[int]) -> list[Settled]:
        if self.broken is not None:
            raise self.broken
        self.looks.append((time.monotonic(), list(ids)))
        return [Settled(one, 1, State.SUCCEEDED) for one in ids if one in self.ended]

    def job(self, id: int) -> JobInfo | None:
        return None if id in self.gone else info(id)

    def listener(self, *, ends: bool = False) -> Rows:
        assert ends
        self.listeners += 1
        return self

    def wait(self, timeout: float) -> bool:
        if self._loud:
            return True
        if self._deaf:
            time.sleep(timeout)
            return False
        heard = self._news.wait(timeout)
        self._news.clear()
        return heard

    def close(self) -> None:
        self.listeners -= 1


def test_an_end_is_handed_to_all_who_wait_for_it_and_to_nobody_else() -> None:
    rows = Rows()
    watch = Watch(lambda: rows)
    one, two, other = watch.enter(1), watch.enter(1), watch.enter(2)
    rows.end(1)
    assert one.result(20) == two.result(20) == info(1)
    assert not other.done()
    rows.end(2)
    assert other.result(20) == info(2)
    watch.close()
    assert rows.listeners == 0


def test_an_end_that_the_listener_misses_is_found_by_polling() -> None:
    rows = Rows(deaf=True)
    watch = Watch(lambda: rows)
    ended = watch.enter(1)
    until(lambda: len(rows.looks) > 8)
    rows.end(1)
    started = time.monotonic()
    assert ended.result(20) == info(1)
    assert time.monotonic() - started < 20 * LATEST
    watch.close()


def test_the_pauses_grow_while_nothing_ends() -> None:
    rows = Rows(deaf=True)
    watch = Watch(lambda: rows)
    watch.enter(1)
    until(lambda: len(rows.looks) >= 9)
    watch.close()
    times = [at for at, _ in rows.looks]
    pauses = [after - before for before, after in pairwise(times)]
    assert all(pause >= SOONEST for pause in pauses)
    assert pauses[7] >= LATEST * 0.9 > pauses[0]


def test_a_busy_store_does_not_make_the_watch_spin() -> None:
    rows = Rows(loud=True)
    watch = Watch(lambda: rows)
    watch.enter(1)
    until(lambda: len(rows.looks) >= 20)
    watch.close()
    times = [at for at, _ in rows.looks]
    assert times[19] - times[0] >= 19 * SOONEST * 0.99


def test_a_job_that_vanishes_is_told_as_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "GONE_EVERY", 0.01)
    rows = Rows()
    rows.gone = {25}
    watch = Watch(lambda: rows)
    futures = [watch.enter(number) for number in range(30)]
    assert futures[25].result(20) is None
    assert sum(future.done() for future in futures) == 1
    watch.close()


def test_the_thread_leaves_when_nobody_waits_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "LINGER", 0.01)
    rows = Rows()
    watch = Watch(lambda: rows)
    for number in (1, 2):
        ended = watch.enter(number)
        rows.end(number)
        assert ended.result(20) == info(number)
        until(lambda: watch._thread is None)
        until(lambda: rows.listeners == 0)
    watch.close()


def test_many_ids_are_asked_for_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "AT_ONCE", 10)
    rows = Rows()
    rows.ended = set(range(25))
    watch = Watch(lambda: rows)
    futures = [watch.enter(number) for number in range(25)]
    wait(futures, timeout=20)
    assert [future.result(0) for future in futures] == [info(number) for number in range(25)]
    assert max(len(ids) for _, ids in rows.looks) <= 10
    watch.close()


def test_trouble_of_the_store_is_every_waiters_answer_and_the_next_one_tries_again() -> None:
    rows = Rows()
    rows.broken = StoreUnavailable("cannot reach it")
    watch = Watch(lambda: rows)
    ended = watch.enter(1)
    with pytest.raises(StoreUnavailable, match="cannot reach it"):
        ended.result(20)
    assert rows.listeners == 0
    rows.broken = None
    rows.end(1)
    assert watch.enter(1).result(20) == info(1)
    watch.close()


def test_who_left_is_not_asked_for_any_more() -> None:
    rows = Rows()
    watch = Watch(lambda: rows)
    first, second = watch.enter(1), watch.enter(2)
    watch.leave(1, first)
    watch.leave(1, first)
    seen = len(rows.looks)
    until(lambda: len(rows.looks) > seen + 2)
    assert rows.looks[-1][1] == [2]
    rows.end(1)
    rows.end(2)
    assert second.result(20) == info(2)
    assert not first.done()
    watch.close()


def test_closing_answers_everybody_who_still_waits() -> None:
    rows = Rows()
    watch = Watch(lambda: rows)
    ended = watch.enter(1)
    watch.close()
    with pytest.raises(StoreUnavailable, match="closed meanwhile"):
        ended.result(20)
    with pytest.raises(StoreUnavailable, match="the client is closed"):
        watch.enter(2)
    watch.close()
