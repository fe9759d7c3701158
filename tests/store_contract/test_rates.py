"""Rates: at most so many starts in any period, site-wide."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import pairwise

from coserver.model.job import Claimed, Limit, Outcome, State
from coserver.store.contract import Store
from tests.store_contract.helpers import (
    QUEUE,
    Raw,
    again,
    back,
    claim,
    eventually,
    finish,
    job,
    join,
    ok,
    swap,
)

HOUR = 3_600_000_000
KEY = f"queue:{QUEUE}"


def within(starts: Sequence[int], period: int) -> int:
    """The most starts that lie in any one period."""
    ordered = sorted(starts)
    return max(
        (sum(1 for other in ordered if start <= other <= start + period) for start in ordered), default=0
    )


def started(store: Store, held: Claimed) -> int:
    found = store.job(held.id)
    assert found is not None
    assert found.started_at is not None
    return found.started_at


def test_a_rate_lets_so_many_jobs_begin_and_no_more_within_its_period(store: Store) -> None:
    store.set_limits([Limit(KEY, starts=3, period=HOUR)])
    worker = join(store)
    store.submit([job() for _ in range(5)])
    held = claim(store, worker)
    assert len(held) == 3
    got = swap(store, worker, [ok(one) for one in held])
    assert list(got.claimed) == []
    assert got.next_due is not None
    assert 0 < got.next_due <= HOUR + 1


def test_the_next_job_begins_when_time_alone_lets_it(store: Store) -> None:
    """The store says when; nobody else has to do anything."""
    period = 300_000
    store.set_limits([Limit(KEY, starts=1, period=period)])
    worker = join(store)
    store.submit([job() for _ in range(3)])
    starts: list[int] = []
    done: list[Outcome] = []
    while len(starts) < 3:
        got = swap(store, worker, done)
        starts += [started(store, held) for held in got.claimed]
        done = [ok(held) for held in got.claimed]
        if not got.claimed:
            assert not store.park(worker) or got.next_due is None or got.next_due < period
            assert got.next_due is not None
            time.sleep(got.next_due / 1e6)
    gaps = [later - before for before, later in pairwise(starts)]
    assert min(gaps) > period
    assert max(gaps) < period * 10


def test_a_tick_lets_in_what_a_rate_allows_by_now(store: Store) -> None:
    store.set_limits([Limit(KEY, starts=1, period=100_000)])
    worker = join(store)
    ids = store.submit([job(), job()])
    [held] = claim(store, worker)
    finish(store, worker, ok(held))
    last = store.job(ids[1])
    assert last is not None
    assert last.state == State.LIMITED
    eventually(lambda: store.tick() and store.job(ids[1]).state == State.QUEUED)  # type: ignore[union-attr]


def test_jobs_let_in_and_not_yet_begun_count_as_starts(store: Store) -> None:
    """They may begin at any moment, even all at the end of a period and before the next."""
    store.set_limits([Limit(KEY, starts=2, period=50_000)])
    worker = join(store)
    store.submit([job() for _ in range(6)])
    time.sleep(0.06)  # the period alone frees nothing while nobody has begun
    store.tick()
    assert len(claim(store, worker)) == 2


def test_what_is_handed_back_has_not_begun(store: Store) -> None:
    store.set_limits([Limit(KEY, starts=1, period=HOUR)])
    worker = join(store)
    store.submit([job()])
    [held] = claim(store, worker)
    [held] = swap(store, worker, [back(held)]).claimed
    assert held.attempt == 0


def test_retries_and_runs_after_a_crash_are_starts_of_their_own(store: Store) -> None:
    store.set_limits(
        [Limit("a", running=5, starts=1, period=HOUR), Limit("b", running=5, starts=1, period=HOUR)]
    )
    worker = join(store, token="t")
    [first, second] = store.submit([job(limit="a"), job(limit="b")])
    held = {one.id: one for one in claim(store, worker)}
    finish(store, worker, again(held[first]))
    store.bury("t", started=[second], note="killed")
    for number in (first, second):
        found = store.job(number)
        assert found is not None
        assert found.state == State.LIMITED
    assert claim(store, join(store)) == []


def test_a_rate_and_a_bound_of_what_runs_hold_together(store: Store) -> None:
    store.set_limits([Limit(KEY, running=2, starts=3, period=HOUR)])
    worker = join(store)
    store.submit([job() for _ in range(6)])
    held = claim(store, worker)
    assert len(held) == 2
    held = list(swap(store, worker, [ok(one) for one in held]).claimed)
    assert len(held) == 1
    assert list(swap(store, worker, [ok(held[0])]).claimed) == []


def test_starts_are_forgotten_when_they_are_a_period_old(store: Store, raw: Raw) -> None:
    store.set_limits([Limit(KEY, starts=100, period=1_000)])
    worker = join(store)
    for _ in range(5):
        store.submit([job(), job()])
        for held in eventually(lambda: claim(store, worker)):
            finish(store, worker, ok(held))
    [(kept,)] = raw("SELECT count(*) FROM coserver_slot")
    assert kept <= 4


def test_rates_hold_in_every_window_whatever_many_do_at_once(
    store: Store, another: Callable[[], Store]
) -> None:
    """Six threads of two rates; every start is the store's own time of it."""
    period = 150_000
    rates = {"a": 5, "b": 2}
    store.set_limits([Limit(name, running=50, starts=n, period=period) for name, n in rates.items()])
    for _ in range(10):
        store.submit([job(limit=key) for key in ("a", "a", "b")])
    starts: defaultdict[str, list[int]] = defaultdict(list)
    lock = threading.Lock()
    over = threading.Event()
    failures: list[BaseException] = []

    def work(own: Store, name: str) -> None:
        try:
            worker = join(own, name)
            done: list[Outcome] = []
            while not over.is_set():
                got = swap(own, worker, done, limit=4)
                done = [ok(held) for held in got.claimed]
                for held in got.claimed:
                    found = own.job(held.id)
                    assert found is not None
                    assert found.limit is not None
                    assert found.started_at is not None
                    with lock:
                        starts[found.limit].append(found.started_at)
        except BaseException as error:
            failures.append(error)
            over.set()

    stores = [another() for _ in range(3)]
    threads = [threading.Thread(target=work, args=(stores[n % 3], f"w/{n}")) for n in range(6)]
    for thread in threads:
        thread.start()
    try:
        eventually(lambda: over.is_set() or sum(map(len, starts.values())) == 30, seconds=60)
    finally:
        over.set()
        for thread in threads:
            thread.join(30)
    assert failures == []
    assert {key: len(found) for key, found in starts.items()} == {"a": 20, "b": 10}
    for key, most in rates.items():
        assert within(starts[key], period) <= most
