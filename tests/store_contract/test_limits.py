"""Limits of what runs at once, site-wide: per queue and per key."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Sequence

import pytest

from coserver.errors import InvalidArguments
from coserver.model.job import Claimed, Flag, Limit, Outcome, State
from coserver.store.contract import Store
from tests.store_contract.helpers import (
    QUEUE,
    TASK,
    Raw,
    again,
    back,
    bad,
    claim,
    eventually,
    finish,
    job,
    join,
    ok,
    swap,
)

ONE_AT_A_TIME = Limit(f"queue:{QUEUE}", running=1)


def states(store: Store, ids: Sequence[int]) -> list[State]:
    found = [store.job(number) for number in ids]
    return [one.state for one in found if one is not None]


def test_a_queue_with_a_limit_lends_no_more_jobs_than_it_allows(store: Store) -> None:
    store.set_limits([Limit(f"queue:{QUEUE}", running=2)])
    worker = join(store)
    ids = store.submit([job() for _ in range(5)])
    assert states(store, ids) == [State.QUEUED] * 2 + [State.LIMITED] * 3
    first = claim(store, worker)
    assert [held.id for held in first] == ids[:2]
    assert claim(store, worker) == []
    assert [held.id for held in swap(store, worker, [ok(first[0])]).claimed] == [ids[2]]
    assert states(store, ids[3:]) == [State.LIMITED] * 2


def test_one_plain_submit_of_a_single_job_comes_under_the_limit_too(store: Store) -> None:
    store.set_limits([ONE_AT_A_TIME])
    ids = [store.submit([job()])[0] for _ in range(3)]
    assert states(store, ids) == [State.QUEUED, State.LIMITED, State.LIMITED]


def test_a_key_without_a_declaration_runs_one_job_at_a_time(store: Store) -> None:
    worker = join(store)
    ids = store.submit([job(limit="report"), job(limit="report"), job(limit="other"), job()])
    held = claim(store, worker)
    assert sorted(one.id for one in held) == [ids[0], ids[2], ids[3]]
    found = store.job(ids[1])
    assert found is not None
    assert (found.state, found.limit, found.blocked_on) == (State.LIMITED, "report", "report")
    finish(store, worker, ok(held[0]))
    assert states(store, ids[1:2]) == [State.QUEUED]


def test_a_limit_rules_every_key_of_its_name_by_itself(store: Store) -> None:
    store.set_limits([Limit("user", running=2)])
    worker = join(store)
    store.submit([job(limit=f"user:{n % 2}") for n in range(8)])
    held = claim(store, worker)
    assert len(held) == 4
    found = [store.job(one.id) for one in held]
    assert Counter(one.limit for one in found if one is not None) == {"user:0": 2, "user:1": 2}


def test_the_best_priority_is_let_in_first_and_then_the_oldest(store: Store) -> None:
    worker = join(store)
    ids = store.submit(
        [job(limit="a"), job(limit="a", priority=2), job(limit="a"), job(limit="a", priority=0)]
    )
    order = []
    held = claim(store, worker)
    while held:
        order += [one.id for one in held]
        held = list(swap(store, worker, [ok(one) for one in held]).claimed)
    assert order == [ids[3], ids[0], ids[2], ids[1]]


def test_a_job_under_two_limits_needs_a_slot_of_each(store: Store) -> None:
    store.set_limits([Limit(f"queue:{QUEUE}", running=2), Limit("user", running=1)])
    worker = join(store)
    ids = store.submit(
        [job(limit="user:1"), job(limit="user:1"), job(limit="user:2"), job(limit="user:3"), job()]
    )
    held = claim(store, worker)
    assert [one.id for one in held] == [ids[0], ids[2]]
    blocked = [store.job(number) for number in (ids[1], ids[3], ids[4])]
    assert [one.blocked_on for one in blocked if one is not None] == [
        "user:1",
        f"queue:{QUEUE}",
        f"queue:{QUEUE}",
    ]
    held = list(swap(store, worker, [ok(held[0])]).claimed)
    assert [one.id for one in held] == [ids[1]] or [one.id for one in held] == [ids[3]]


@pytest.mark.parametrize("end", [ok, bad, lambda held: again(held, 10_000_000_000)])
def test_every_way_to_end_a_run_frees_its_slot(store: Store, end: Callable[[Claimed], Outcome]) -> None:
    worker = join(store)
    ids = store.submit([job(limit="a"), job(limit="a")])
    held = claim(store, worker)
    assert [one.id for one in swap(store, worker, [end(held[0])]).claimed] == [ids[1]]


def test_a_job_handed_back_keeps_its_slot_and_one_retried_at_once_stands_behind(store: Store) -> None:
    worker = join(store)
    ids = store.submit([job(limit="a"), job(limit="a")])
    held = claim(store, worker)
    held = list(swap(store, worker, [back(held[0])]).claimed)
    assert [one.id for one in held] == ids[:1]
    held = list(swap(store, worker, [again(held[0])]).claimed)
    assert [one.id for one in held] == ids[1:]
    assert states(store, ids[:1]) == [State.LIMITED]


def test_cancelling_frees_the_slot_of_a_queued_job_and_the_place_of_a_limited_one(store: Store) -> None:
    ids = store.submit([job(limit="a") for _ in range(3)])
    store.cancel(ids[:2])
    assert states(store, ids) == [State.CANCELLED, State.CANCELLED, State.QUEUED]


def test_a_dead_workers_jobs_keep_their_slots_and_lost_ones_free_them(store: Store) -> None:
    doomed, worker = join(store, token="t"), join(store)
    ids = store.submit([job(limit="a", max_crashes=1), job(limit="a")])
    claim(store, doomed)
    store.bury("t", started=[], note="")
    assert states(store, ids) == [State.QUEUED, State.LIMITED]
    [held] = claim(store, worker)
    assert held.id == ids[0]
    finish(store, worker, back(held))
    doomed = join(store, token="u")
    claim(store, doomed)
    store.bury("u", started=[ids[0]], note="killed")
    assert states(store, ids) == [State.LOST, State.QUEUED]


def test_a_crashed_job_goes_through_its_limit_again_and_comes_first(store: Store) -> None:
    doomed, worker = join(store, token="t"), join(store)
    ids = store.submit([job(limit="a"), job(limit="a")])
    claim(store, doomed)
    store.bury("t", started=[ids[0]], note="")
    [held] = claim(store, worker)
    assert (held.id, held.crashes) == (ids[0], 1)


def test_scheduled_held_and_retried_jobs_come_under_the_limit_when_they_become_ready(store: Store) -> None:
    store.set_limits([ONE_AT_A_TIME])
    worker = join(store)
    [first, held, late] = store.submit([job(), job(held=True), job(delay=1_000)])
    assert store.release_held([held]) == [held]
    eventually(lambda: store.tick().promoted or states(store, [late]) == [State.LIMITED])
    assert states(store, [first, held, late]) == [State.QUEUED, State.LIMITED, State.LIMITED]
    [got] = claim(store, worker)
    finish(store, worker, bad(got))
    assert store.retry([first]) == [first]
    assert states(store, [first, held, late]) == [State.LIMITED, State.QUEUED, State.LIMITED]


def test_rows_of_plain_sql_come_under_both_limits(store: Store, raw: Raw) -> None:
    store.set_limits([Limit("queue:mail", running=2), Limit("user", running=1)])
    worker = join(store, queues=["mail"])
    for user in ("user:1", "user:1", None, None):
        raw("INSERT INTO coserver_job (task, queue, limit_key) VALUES (?, 'mail', ?)", TASK, user)
    pair = ("mail", TASK)
    held = eventually(lambda: claim(store, worker, pairs=[pair]))
    assert [one.id for one in held] == [1, 3]


def test_a_limit_key_that_is_a_queues_is_refused(store: Store, raw: Raw) -> None:
    with pytest.raises(InvalidArguments, match="is that of a queue"):
        store.submit([job(limit="queue:mail")])
    join(store)
    raw("INSERT INTO coserver_job (task, limit_key) VALUES (?, 'queue:mail')", TASK)
    eventually(lambda: store.tick().routed)
    assert states(store, [1]) == [State.FAILED]


def test_what_waits_comes_under_a_new_limit_at_once_and_what_runs_counts(store: Store) -> None:
    worker = join(store)
    ids = store.submit([job() for _ in range(6)])
    held = claim(store, worker, 2)
    store.set_limits([Limit(f"queue:{QUEUE}", running=3)])
    assert states(store, ids) == [State.RUNNING] * 2 + [State.QUEUED] + [State.LIMITED] * 3
    more = claim(store, worker)
    assert [one.id for one in more] == [ids[2]]
    got = swap(store, worker, [ok(held[0]), ok(held[1])])
    assert (got.stale, [one.id for one in got.claimed]) == ([], ids[3:5])


def test_a_changed_limit_counts_at_once_and_a_dropped_one_no_more(store: Store) -> None:
    worker = join(store)
    store.set_limits([ONE_AT_A_TIME])
    ids = store.submit([job() for _ in range(6)])
    store.set_limits([Limit(f"queue:{QUEUE}", running=2)])
    assert len(claim(store, worker)) == 2
    store.set_limits([])
    assert store.limits() == []
    assert [one.id for one in claim(store, worker)] == ids[2:]


def test_a_raised_limit_of_keys_lets_in_who_waits_at_any_of_them(store: Store) -> None:
    ids = store.submit([job(limit=f"user:{n % 3}") for n in range(9)])
    store.set_limits([Limit("user", running=2)])
    assert states(store, ids) == [State.QUEUED] * 6 + [State.LIMITED] * 3


def test_limits_are_told_by_name_and_those_to_keep_stay(store: Store) -> None:
    both = [Limit("a", running=1), Limit("queue:mail", 2, 10, 1_000_000)]
    store.set_limits(both)
    assert store.limits() == both
    store.set_limits([Limit("b", running=3)], keep=["a"])
    assert store.limits() == [Limit("a", running=1), Limit("b", running=3)]


@pytest.mark.parametrize(
    "limit",
    [
        Limit("", running=1),
        Limit("queue", running=1),
        Limit("user:7", running=1),
        Limit("a", running=0),
        Limit("a", starts=5),
        Limit("a", starts=5, period=0),
    ],
)
def test_limits_that_bound_nothing_are_refused(store: Store, limit: Limit) -> None:
    with pytest.raises(InvalidArguments, match="cannot declare the limit"):
        store.set_limits([limit])


def test_ends_of_jobs_leave_no_slots_behind(store: Store, raw: Raw) -> None:
    store.set_limits([ONE_AT_A_TIME])
    worker = join(store)
    store.submit([job(limit=f"k:{n % 2}") for n in range(6)])
    held = claim(store, worker)
    while held:
        held = list(swap(store, worker, [ok(one) for one in held]).claimed)
    assert raw("SELECT count(*) FROM coserver_slot") == [(0,)]
    assert raw("SELECT count(*) FROM coserver_gate") == [(0,)]
    assert raw("SELECT count(*) FROM coserver_done WHERE state = 10") == [(6,)]


def test_a_job_with_slots_carries_the_flag_until_it_has_none(store: Store) -> None:
    worker = join(store)
    [number] = store.submit([job(limit="a")])
    found = store.job(number)
    assert found is not None
    assert found.flags == Flag.SLOTS
    [held] = claim(store, worker)
    finish(store, worker, again(held, 10_000_000))
    found = store.job(number)
    assert found is not None
    assert found.flags == Flag(0)


LIMITS = {f"queue:{QUEUE}": 3, "a": 2, "b:1": 1, "b:2": 1}


def test_limits_are_never_exceeded_whatever_many_do_at_once(
    store: Store, another: Callable[[], Store], raw: Raw
) -> None:
    """Eight threads claim, finish, hand back, retry, cancel and submit under two limits each; a ninth looks at the
    rows all the time. No deadlock, nobody forgotten."""
    store.set_limits([Limit(f"queue:{QUEUE}", running=3), Limit("a", running=2)])
    chance = random.Random(7)
    keys = [None, "a", "b:1", "b:2"]
    total = 240
    for _ in range(8):
        store.submit([job(limit=chance.choice(keys)) for _ in range(total // 8)])
    lock = threading.Lock()
    running: Counter[str] = Counter()
    wrong: list[str] = []
    over = threading.Event()

    def count(held: Claimed, key: str | None, by: int) -> None:
        with lock:
            for name in (f"queue:{QUEUE}", key):
                if name is not None:
                    running[name] += by
                    if running[name] > LIMITS[name]:
                        wrong.append(f"{running[name]} of {name}")

    def work(own: Store, seed: int) -> None:
        chance = random.Random(seed)
        worker = join(own, f"w/{seed}")
        done: list[Outcome] = []
        while not over.is_set():
            got = swap(own, worker, done, limit=chance.randint(1, 3))
            if got.stale:
                wrong.append(f"stale {got.stale}")
            done = []
            for held in got.claimed:
                found = own.job(held.id)
                key = None if found is None else found.limit
                count(held, key, 1)
                end = chance.choice([ok, ok, ok, bad, back, again, lambda one: again(one, 1_000)])
                done.append(end(held))
                count(held, key, -1)
            if not got.claimed and not done:
                own.park(worker)

    def look() -> None:
        while not over.is_set():
            for key, n in raw(
                "SELECT limit_key, count(*) FROM coserver_job WHERE state = 6 GROUP BY limit_key"
            ):
                if key is not None and n > LIMITS[key]:
                    wrong.append(f"{n} run of {key}")
            for key, n in raw(
                "SELECT s.key, count(*) FROM coserver_slot s JOIN coserver_job j ON j.id = s.job GROUP BY s.key"
            ):
                if n > LIMITS[key]:
                    wrong.append(f"{n} slots of {key}")
            [(n,)] = raw("SELECT count(*) FROM coserver_job WHERE state = 6")
            if n > LIMITS[f"queue:{QUEUE}"]:
                wrong.append(f"{n} run in the queue")

    failures: list[BaseException] = []

    def guarded(body: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            try:
                body()
            except BaseException as error:
                failures.append(error)
                over.set()

        return run

    stores = [another() for _ in range(4)]
    threads = [
        threading.Thread(target=guarded(lambda own=stores[n % 4], n=n: work(own, n)))  # type: ignore[misc]
        for n in range(8)
    ]
    threads.append(threading.Thread(target=guarded(look)))
    for thread in threads:
        thread.start()
    try:
        extra = store.submit([job(limit="a") for _ in range(20)])
        store.cancel(extra[:10])
        eventually(lambda: over.is_set() or _ended(store) == total + 20, seconds=60)
    finally:
        over.set()
        for thread in threads:
            thread.join(30)
    assert failures == []
    assert wrong == []
    assert raw("SELECT count(*) FROM coserver_slot") == [(0,)]


def _ended(store: Store) -> int:
    return sum(n for state, n in store.counts().by_state.items() if state.final)


def test_what_a_file_says_is_written_when_it_is_new_and_never_comes_back(store: Store) -> None:
    one, two = [Limit("a", running=1)], [Limit("a", running=2)]
    assert store.set_limits(one, once=True)
    assert not store.set_limits(one, once=True)
    store.set_limits([Limit("a", running=9)])
    assert not store.set_limits(one, once=True)
    assert store.limits() == [Limit("a", running=9)]
    assert store.set_limits(two, once=True)
    assert store.limits() == two
