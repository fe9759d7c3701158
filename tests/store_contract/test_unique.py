"""Unique jobs: no second living one of a key, whoever submits at the same moment."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from coserver.errors import InvalidArguments
from coserver.model.job import Edge, Flag, State
from coserver.store import open_store
from coserver.store.contract import Store
from tests.store_contract.helpers import Raw, again, back, bad, claim, eventually, finish, job, join, ok


def test_a_second_job_of_a_living_key_is_not_made_but_found(store: Store) -> None:
    """J11: unique jobs by a partial unique index."""
    worker = join(store)
    [first] = store.submit([job(unique="a")])
    found, second, third = store.submit([job(unique="a"), job(), job(unique="b")])
    assert found == -first
    held = claim(store, worker)
    assert [one.id for one in held] == [first, second, third]
    assert store.submit([job(unique="a")]) == [-first]
    finish(store, worker, *map(ok, held))
    [again_] = store.submit([job(unique="a")])
    assert again_ > first
    done = store.job(first)
    assert done is not None
    assert (done.unique, done.state) == ("a", State.SUCCEEDED)


def test_the_same_key_within_one_submit_is_stored_once(store: Store) -> None:
    ids = store.submit([job(unique="a", args="[1]"), job(), job(unique="a", args="[2]"), job(unique="b")])
    assert ids[2] == -ids[0]
    assert store.counts().by_state[State.QUEUED] == 3
    found = store.job(ids[0])
    assert found is not None
    assert found.args == "[1]"


def test_children_may_wait_for_what_was_there_already(store: Store) -> None:
    worker = join(store)
    [first] = store.submit([job(unique="a")])
    found, number = store.submit([job(unique="a"), job(after=(Edge(0, here=True),))])
    assert found == -first
    [held] = claim(store, worker)
    finish(store, worker, ok(held, "7"))
    assert [one.result for one in store.inputs(number)] == ["7"]


@pytest.mark.parametrize("more", [{"held": True}, {"delay": 10**12}, {"after": (Edge(1),)}, {"queue": None}])
def test_a_key_is_taken_in_every_living_state(store: Store, more: dict[str, object]) -> None:
    store.submit([job()])
    [first] = store.submit([job(unique="a", **more)])
    assert store.submit([job(unique="a")]) == [-first]
    store.cancel([first])
    [second] = store.submit([job(unique="a")])
    assert second > first


def test_until_started_a_key_is_free_as_soon_as_the_job_is_claimed(store: Store) -> None:
    """J11: `unique_until = started`."""
    worker = join(store)
    [first] = store.submit([job(unique="a", until_started=True)])
    found = store.job(first)
    assert found is not None
    assert (found.flags, found.unique) == (Flag.UNTIL_STARTED, "a")
    assert store.submit([job(unique="a", until_started=True)]) == [-first]
    [held] = claim(store, worker)
    [second] = store.submit([job(unique="a", until_started=True)])
    assert second > first
    # It has no flag left that would make its end slow, and does not take its key back.
    found = store.job(first)
    assert found is not None
    assert (found.flags, found.unique) == (Flag(0), None)
    finish(store, worker, back(held))
    assert [one.id for one in claim(store, worker)] == [first, second]


def test_a_suspect_gives_its_key_free_too(store: Store) -> None:
    worker = join(store, token="t")
    [first] = store.submit([job(unique="a", until_started=True), job()])[:1]
    claim(store, worker, 1)
    store.bury("t", started=None, note="killed")
    [second] = store.submit([job(unique="a", until_started=True)])
    assert second > first


def test_a_retried_attempt_keeps_the_key(store: Store) -> None:
    worker = join(store)
    [first] = store.submit([job(unique="a")])
    [held] = claim(store, worker)
    finish(store, worker, again(held, 10**12))
    assert store.submit([job(unique="a")]) == [-first]


def test_what_is_put_back_takes_its_key_back_unless_another_has_it(store: Store) -> None:
    one = store.submit([job(unique="a")])[0]
    store.cancel([one])
    two = store.submit([job(unique="a")])[0]
    assert store.retry([one]) == []
    store.cancel([two])
    # Of two with the same key the older one comes back.
    assert store.retry([two, one]) == [one]
    assert store.submit([job(unique="a")]) == [-one]
    assert store.counts().by_state[State.CANCELLED] == 1


def test_plain_sql_cannot_make_a_second_one(store: Store, raw: Raw) -> None:
    raw("INSERT INTO coserver_job (task, unique_key) VALUES ('a:plain', 'a')")
    [(number,)] = raw("SELECT id FROM coserver_job")
    assert store.submit([job(unique="a")]) == [-number]
    with pytest.raises(Exception, match=r"(?i)unique"):
        raw("INSERT INTO coserver_job (task, unique_key) VALUES ('a:plain', 'a')")


@pytest.mark.parametrize("key", ["", "a\x00b", "\ud800", "x" * 501])
def test_a_key_that_cannot_be_stored_is_refused(store: Store, key: str) -> None:
    with pytest.raises(InvalidArguments, match="is no unique key"):
        store.submit([job(unique=key)])


def test_of_many_that_submit_a_key_at_once_one_makes_the_job(
    store: Store, another: Callable[[], Store]
) -> None:
    stores = [store, another(), another(), another()]
    start = threading.Barrier(4)

    def submit(one: Store, turn: int) -> list[int]:
        start.wait(30)
        # In different orders, so that two could wait for each other.
        keys = ["a", "b", "c", "d"] if stores.index(one) % 2 else ["d", "c", "b", "a"]
        ids = dict(zip(keys, one.submit([job(unique=f"{key}{turn}") for key in keys]), strict=True))
        return [ids[key] for key in "abcd"]

    with ThreadPoolExecutor(4) as threads:
        for turn in range(15):
            answers = list(threads.map(submit, stores, [turn] * 4))
            for column in zip(*answers, strict=True):
                assert len({abs(number) for number in column}) == 1
                assert sum(number > 0 for number in column) == 1


def test_submits_and_ends_of_one_key_meet(store: Store, another: Callable[[], Store]) -> None:
    """Whoever is refused finds a living job or makes one; never nothing, never two."""
    worker = join(store)
    second = another()
    made: list[int] = []
    stop = threading.Event()

    def produce() -> None:
        while not stop.is_set():
            [number] = second.submit([job(unique="a")])
            if number > 0:
                made.append(number)

    thread = threading.Thread(target=produce)
    thread.start()
    try:
        done: list[int] = []
        while len(done) < 40:
            held = claim(store, worker)
            assert len(held) <= 1
            finish(store, worker, *map(ok, held))
            done += [one.id for one in held]
    finally:
        stop.set()
        thread.join(30)
    assert done == made[:40]


def test_a_submit_waits_for_one_of_the_same_key_that_has_not_committed(postgres_url: str) -> None:
    store = open_store(postgres_url)
    other = psycopg.connect(postgres_url)
    watching = psycopg.connect(postgres_url, autocommit=True)
    try:
        with ThreadPoolExecutor(1) as thread:
            for commit in (True, False):
                row = other.execute(
                    "INSERT INTO coserver_job (task, unique_key) VALUES ('a:plain', 'a') RETURNING id"
                ).fetchone()
                assert row is not None
                submitting = thread.submit(store.submit, [job(unique="a")])
                eventually(
                    lambda: (
                        watching.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchone() is not None
                    )
                )
                if commit:
                    other.commit()
                    assert submitting.result(30) == [-row[0]]
                    store.cancel([row[0]])
                else:
                    other.rollback()
                    assert submitting.result(30)[0] > row[0]
    finally:
        other.close()
        watching.close()
        store.close()


def test_a_key_that_holds_until_the_start_does_so_after_a_retry_too(store: Store) -> None:
    worker = join(store)
    [number] = store.submit([job(unique="k", until_started=True, delay=10**12)])
    store.cancel([number])
    assert store.retry([number]) == [number]
    assert store.submit([job(unique="k", until_started=True)]) == [-number]
    [held] = claim(store, worker)
    [other] = store.submit([job(unique="k", until_started=True)])
    assert other > 0
    finish(store, worker, bad(held))
    assert store.retry([number]) == [number]  # its key went with its start
