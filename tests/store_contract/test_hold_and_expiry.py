"""Jobs that wait to be released, and jobs that come too late."""

from __future__ import annotations

import time

import psycopg
import pytest

from coserver.errors import InvalidArguments, SchemaMismatch
from coserver.model.job import Edge, JobInfo, On, State, TakeOver
from coserver.store import open_store
from coserver.store.contract import PROTOCOL, Store
from coserver.store.records import PASSED_OVER
from tests.store_contract.helpers import Raw, again, claim, eventually, finish, job, join, ok, swap


def info(store: Store, number: int) -> JobInfo:
    found = store.job(number)
    assert found is not None
    return found


def now() -> int:
    return time.time_ns() // 1000


SECOND = 1_000_000
HOUR = 3600 * SECOND


def test_a_held_job_waits_until_it_is_released(store: Store) -> None:
    """J2: add now, release later."""
    worker = join(store)
    one, two, three = store.submit([job(held=True), job(held=True, delay=10**12), job()])
    assert [held.id for held in claim(store, worker)] == [three]
    assert store.counts().by_state[State.HELD] == 2
    assert store.release_held([one, two, three, 99, 2**70]) == [one, two]
    assert (info(store, one).state, info(store, two).state) == (State.QUEUED, State.SCHEDULED)
    assert store.release_held([one, two]) == []
    assert [held.id for held in claim(store, worker)] == [one]


def test_a_released_job_stands_at_the_end_of_its_line(store: Store) -> None:
    worker = join(store)
    one, two = store.submit([job(held=True), job()])
    store.release_held([one])
    assert [held.id for held in claim(store, worker)] == [two, one]


def test_a_held_child_waits_for_both_in_either_order(store: Store) -> None:
    worker = join(store)
    [parent] = store.submit([job()])
    one, two = store.submit([job(held=True, after=(Edge(parent),)), job(held=True, after=(Edge(parent),))])
    assert store.release_held([one]) == [one]
    assert info(store, one).state == State.WAITING
    [held] = claim(store, worker)
    finish(store, worker, ok(held))
    assert (info(store, one).state, info(store, two).state) == (State.QUEUED, State.HELD)
    assert store.release_held([two]) == [two]
    assert [held.id for held in claim(store, worker)] == [one, two]


def test_a_held_child_whose_parent_fails_is_cancelled(store: Store) -> None:
    [parent] = store.submit([job()])
    [number] = store.submit([job(held=True, after=(Edge(parent),))])
    store.cancel([parent])
    assert info(store, number).state == State.CANCELLED


def test_a_held_job_of_an_unknown_task_becomes_new(store: Store) -> None:
    [number] = store.submit([job("a:unknown", queue=None, held=True)])
    store.release_held([number])
    assert info(store, number).state == State.NEW
    other = join(store, tasks=["a:unknown"])
    assert [held.id for held in claim(store, other, pairs=[("default", "a:unknown")])] == [number]


# -- expiry -----------------------------------------------------------------------------------------------------------


def test_a_job_that_has_not_begun_in_time_expires_and_is_never_claimed(store: Store) -> None:
    """J3: `begin_by`."""
    worker = join(store)
    late, fine, plain = store.submit([job(begin_by=now() - SECOND), job(begin_by=now() + HOUR), job()])
    assert [held.id for held in claim(store, worker)] == [fine, plain]
    done = info(store, late)
    assert done.state == State.EXPIRED
    assert done.error is not None
    assert done.error.type == "JobExpired"
    assert store.counts().by_state[State.EXPIRED] == 1


def test_the_tick_expires_in_every_state_but_running(store: Store, raw: Raw) -> None:
    past = now() - SECOND
    raw("INSERT INTO coserver_job (task, begin_by) VALUES ('a:plain', ?)", past)
    numbers = store.submit(
        [
            job(begin_by=past, held=True),
            job(begin_by=past, delay=10**12),
            job(begin_by=past),
            job(delay=10**12),
            job(begin_by=past, after=(Edge(3, here=True),)),
        ]
    )
    store.tick()
    ends = [info(store, number).state for number in numbers]
    assert ends == [State.EXPIRED, State.EXPIRED, State.EXPIRED, State.SCHEDULED, State.EXPIRED]
    assert store.counts().by_state[State.NEW] == 0


def test_time_to_begin_counts_from_when_the_job_is_due(store: Store) -> None:
    worker = join(store)
    before = now()
    at_once, later, held = store.submit(
        [job(begin_within=HOUR), job(begin_within=HOUR, delay=HOUR), job(begin_within=HOUR, held=True)]
    )
    one, two = info(store, at_once).begin_by, info(store, later).begin_by
    assert one is not None
    assert two is not None
    assert before + HOUR <= one <= now() + HOUR
    assert before + 2 * HOUR <= two <= now() + 2 * HOUR
    assert info(store, held).begin_by is None
    store.tick()
    released = now()
    store.release_held([held])
    three = info(store, held).begin_by
    assert three is not None
    assert released + HOUR <= three <= now() + HOUR
    assert [one.id for one in claim(store, worker)] == [at_once, held]


def test_what_expires_says_when_it_does(store: Store) -> None:
    worker = join(store)
    [number] = store.submit([job(begin_within=300_000, queue="elsewhere")])
    due = swap(store, worker).next_due
    assert due is not None
    assert 0 <= due <= 300_000
    tick = store.tick().next_due
    assert tick is not None
    assert tick <= 300_000
    assert not store.park(worker)
    eventually(lambda: store.park(worker))
    assert claim(store, worker) == []
    assert info(store, number).state == State.EXPIRED
    assert swap(store, worker).next_due is None


def test_children_of_an_expired_job_follow(store: Store) -> None:
    worker = join(store)
    numbers = store.submit(
        [
            job(begin_by=now() - SECOND),
            job(after=(Edge(0, here=True),)),
            job(after=(Edge(0, On.FAILURE, here=True),)),
        ]
    )
    assert [held.id for held in [*claim(store, worker), *claim(store, worker)]] == [numbers[2]]
    assert [info(store, number).state for number in numbers] == [
        State.EXPIRED,
        State.CANCELLED,
        State.RUNNING,
    ]


def test_what_has_begun_once_never_expires(store: Store, raw: Raw) -> None:
    worker = join(store, token="t")
    later, over, crashed = store.submit([job(begin_within=HOUR) for _ in range(3)])
    one, two, _ = claim(store, worker)
    [other] = store.submit([job(delay=10**12)])
    finish(store, worker, again(one, 10**12), TakeOver(two.id, two.claim, other, 1_000))
    store.bury("t", started=[crashed], note="killed")
    raw("UPDATE coserver_job SET begin_by = 1 WHERE begin_by IS NOT NULL")
    store.tick()
    assert [info(store, number).state for number in (later, over, crashed)] == [
        State.SCHEDULED,
        State.WAITING,
        State.QUEUED,
    ]


def test_more_than_one_exchange_expires_are_not_claimed_meanwhile(store: Store) -> None:
    worker = join(store)
    [fine] = store.submit([job(), *[job(begin_by=now() - SECOND) for _ in range(700)]])[:1]
    assert [held.id for held in claim(store, worker, 1000)] == [fine]
    assert 0 < store.counts().by_state[State.EXPIRED] < 700
    assert claim(store, worker, 1000) == []
    assert store.counts().by_state[State.EXPIRED] == 700


def test_a_late_job_whose_row_somebody_holds_stops_no_other_claim(postgres_url: str) -> None:
    """Whoever submits a child locks its parent for as long as the transaction is open."""
    store = open_store(postgres_url)
    try:
        worker = join(store)
        [late] = store.submit([job(begin_within=100_000)])
        with psycopg.connect(postgres_url) as user:
            store.submit_on(user, [job(after=(Edge(late),))])
            eventually(lambda: swap(store, worker).next_due == PASSED_OVER)
            assert store.tick().next_due == PASSED_OVER
            eventually(lambda: not store.park(worker))
            fine = store.submit([job(), job()])
            assert [held.id for held in claim(store, worker)] == fine
            user.rollback()
        eventually(lambda: claim(store, worker) == [] and info(store, late).state == State.EXPIRED)
        assert swap(store, worker).next_due is None
    finally:
        store.close()


def test_an_expired_job_that_is_put_back_has_no_time_limit_any_more(store: Store) -> None:
    worker = join(store)
    [number] = store.submit([job(begin_by=now() - SECOND)])
    store.tick()
    assert store.retry([number]) == [number]
    assert [held.id for held in claim(store, worker)] == [number]


@pytest.mark.parametrize("more", [{"begin_by": 1, "begin_within": 1}, {"begin_within": 0}, {"begin_by": -5}])
def test_times_that_make_no_sense_are_refused(store: Store, more: dict[str, int]) -> None:
    with pytest.raises(InvalidArguments, match="begin"):
        store.submit([job(**more)])


# -- what else belongs to a job ---------------------------------------------------------------------------------------


def test_a_job_tells_all_that_it_was_given(store: Store) -> None:
    [number] = store.submit(
        [job(tags=("b", "a", "b"), limit="api", options='{"timeout":5}', unique="k", begin_by=now() + HOUR)]
    )
    found = info(store, number)
    assert (found.tags, found.limit, found.options, found.unique) == (
        ("a", "b"),
        "api",
        '{"timeout":5}',
        "k",
    )
    assert found.begin_by is not None
    assert store.cancel([number]) == {number: State.CANCELLED}
    done = info(store, number)
    assert (done.tags, done.limit, done.options, done.unique) == (
        ("a", "b"),
        "api",
        '{"timeout":5}',
        "k",
    )


@pytest.mark.parametrize("more", [{"tags": ("ok", "")}, {"limit": "a\nb"}])
def test_tags_and_keys_are_names(store: Store, more: dict[str, object]) -> None:
    with pytest.raises(InvalidArguments, match=r"is no (tag|limit key)"):
        store.submit([job(**more)])


def test_a_worker_that_the_store_asks_more_of_cannot_register(store: Store, raw: Raw) -> None:
    """N11: an incompatible worker refuses to claim."""
    raw("INSERT INTO coserver_meta (key, value) VALUES ('min_protocol', ?)", str(PROTOCOL + 1))
    with pytest.raises(SchemaMismatch, match=r"cannot work on the store: .*upgrade coserver"):
        join(store)
    assert raw("SELECT count(*) FROM coserver_worker") == [(0,)]
    raw("UPDATE coserver_meta SET value = ? WHERE key = 'min_protocol'", str(PROTOCOL))
    worker = join(store)
    assert raw("SELECT protocol FROM coserver_worker WHERE id = ?", worker) == [(PROTOCOL,)]


def test_a_late_job_whose_child_somebody_holds_stops_no_claim_and_no_other_expiry(postgres_url: str) -> None:
    store = open_store(postgres_url)
    try:
        worker = join(store)
        late, other = store.submit([job(begin_by=now() + SECOND), job(begin_by=now() + SECOND)])
        [child] = store.submit([job(after=(Edge(late),))])
        with psycopg.connect(postgres_url) as user:
            store.submit_on(user, [job(after=(Edge(child),))])
            [fine] = store.submit([job(delay=2 * SECOND)])

            def expired() -> bool:
                assert claim(store, worker, pairs=[("elsewhere", "a:b")]) == []
                return info(store, other).state == State.EXPIRED

            eventually(expired)
            assert info(store, late).state == State.QUEUED
            assert [held.id for held in eventually(lambda: claim(store, worker))] == [fine]
            user.rollback()
        eventually(lambda: claim(store, worker) == [] and info(store, late).state == State.EXPIRED)
        assert info(store, child).state == State.CANCELLED
    finally:
        store.close()


def test_a_dead_workers_job_that_somebody_holds_keeps_its_others_from_nobody(postgres_url: str) -> None:
    store = open_store(postgres_url)
    try:
        dead, worker = join(store, token="t"), join(store)
        one, two, three = store.submit([job() for _ in range(3)])
        assert len(claim(store, dead)) == 3
        with psycopg.connect(postgres_url) as user:
            store.submit_on(user, [job(after=(Edge(two),))])
            assert sorted(store.bury("t", started=[], note="killed").uncharged) == [one, three]
            assert [held.id for held in claim(store, worker)] == [one, three]
            assert info(store, two).state == State.RUNNING
            user.rollback()
        assert [held.id for held in claim(store, worker)] == [two]
    finally:
        store.close()
