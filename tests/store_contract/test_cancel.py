"""Cancelling: what does not run ends, what runs is asked to stop, and its worker hears of it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from coserver.model.job import Cancelled, Claimed, Edge, Flag, Interrupted, On, State, TakeOver
from coserver.store.contract import Held, Store
from tests.store_contract.helpers import ERROR, Raw, again, back, bad, claim, finish, job, join, ok, swap


def state(store: Store, number: int) -> State:
    found = store.job(number)
    assert found is not None
    return found.state


def stopped(held: Claimed, error: str | None = None) -> Cancelled:
    return Cancelled(held.id, held.claim, error, 1_000, 2_000)


def test_what_does_not_run_ends_as_cancelled_whatever_it_waits_for(store: Store, raw: Raw) -> None:
    """J6: a waiting job can be cancelled."""
    raw("INSERT INTO coserver_job (task) VALUES ('a:plain')")
    [(new,)] = raw("SELECT id FROM coserver_job")
    queued, held, scheduled, waiting = store.submit(
        [job(), job(held=True), job(delay=10**12), job(after=(Edge(0, here=True),))]
    )
    numbers = [new, queued, held, scheduled]
    assert store.cancel([*numbers, 99, 2**70]) == dict.fromkeys(numbers, State.CANCELLED)
    assert {state(store, number) for number in [*numbers, waiting]} == {State.CANCELLED}
    assert store.counts().by_state[State.CANCELLED] == 5
    assert store.cancel(numbers) == {}


def test_a_running_job_is_asked_and_its_worker_sees_it(store: Store) -> None:
    worker, other = join(store), join(store, "images/2")
    store.submit([job(), job()])
    one, two = claim(store, worker)
    assert store.cancels(worker) == []
    assert store.cancel([two.id]) == {two.id: State.RUNNING}
    assert store.cancel([two.id]) == {two.id: State.RUNNING}
    assert store.cancels(worker) == [Held(two.id, two.claim)]
    assert store.cancels(other) == []
    found = store.job(two.id)
    assert found is not None
    assert found.flags == Flag.CANCEL
    assert finish(store, worker, ok(one), stopped(two)).stale == []
    found = store.job(two.id)
    assert found is not None
    assert (found.state, found.started_at, found.finished_at) == (State.CANCELLED, 1_000, 2_000)
    assert found.error is None
    assert store.cancels(worker) == []
    assert finish(store, worker, stopped(two, ERROR)).stale == []
    assert finish(store, worker, ok(two)).stale == [two.id]


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (ok, State.SUCCEEDED),
        (bad, State.FAILED),
        (again, State.CANCELLED),
        (lambda held: again(held, 10**12), State.CANCELLED),
        (back, State.CANCELLED),
        (stopped, State.CANCELLED),
        (lambda held: TakeOver(held.id, held.claim, held.id + 1, 1_000), State.CANCELLED),
    ],
)
def test_what_was_asked_to_stop_ends_honestly_and_does_not_come_back(
    store: Store, outcome: Callable[[Claimed], Cancelled], expected: State
) -> None:
    worker = join(store)
    store.submit([job(), job(delay=10**12)])
    [held] = claim(store, worker)
    store.cancel([held.id])
    assert finish(store, worker, outcome(held)).stale == []
    assert state(store, held.id) == expected
    assert claim(store, worker) == []


def test_a_worker_that_dies_or_leaves_does_not_bring_back_what_was_asked_to_stop(store: Store) -> None:
    store.submit([job(), job(), job(), job()])
    dead, leaver = join(store, token="t"), join(store, "images/2")
    one, two = claim(store, dead, 2)
    three, four = claim(store, leaver, 2)
    waiting, callback = store.submit([job(after=(Edge(one.id),)), job(after=(Edge(three.id, On.FAILURE),))])
    store.cancel([one.id, three.id])
    rescue = store.bury("t", started=[], note="killed")
    assert (rescue.uncharged, rescue.crashed, rescue.lost) == ([two.id], [], [])
    store.leave(leaver)
    ends = {one.id: State.CANCELLED, two.id: State.QUEUED, three.id: State.CANCELLED, four.id: State.QUEUED}
    assert {number: state(store, number) for number in ends} == ends
    assert (state(store, waiting), state(store, callback)) == (State.CANCELLED, State.QUEUED)


def test_a_job_that_takes_over_from_another_can_be_cancelled_alone(store: Store) -> None:
    worker = join(store)
    one, two = store.submit([job(), job(delay=10**12)])
    [held] = claim(store, worker)
    finish(store, worker, TakeOver(held.id, held.claim, two, 1_000))
    assert store.cancel([one]) == {one: State.CANCELLED}
    assert (state(store, one), state(store, two)) == (State.CANCELLED, State.SCHEDULED)


def test_a_cancelled_job_can_be_put_back(store: Store) -> None:
    worker = join(store)
    [number] = store.submit([job(args='["' + "x" * 5000 + '"]')])
    store.cancel([number])
    assert store.retry([number]) == [number]
    [held] = claim(store, worker)
    assert (held.id, len(held.args)) == (number, 5004)


def test_a_cancel_and_a_claim_agree(store: Store, another: Callable[[], Store]) -> None:
    """However they meet, a job is either cancelled and runs nowhere, or runs and its worker is told."""
    worker = join(store)
    second = another()
    with ThreadPoolExecutor(1) as thread:
        for _ in range(30):
            [number] = store.submit([job()])
            cancelling = thread.submit(second.cancel, [number])
            held = claim(store, worker)
            answer = cancelling.result(30)[number]
            if answer == State.RUNNING:
                assert [one.id for one in held] == [number]
                assert [one.id for one in store.cancels(worker)] == [number]
                finish(store, worker, *map(stopped, held))
            else:
                assert held == []
            assert state(store, number) == State.CANCELLED


def test_a_cancel_and_a_finish_agree(store: Store, another: Callable[[], Store]) -> None:
    worker = join(store)
    second = another()
    with ThreadPoolExecutor(1) as thread:
        for _ in range(30):
            [number] = store.submit([job()])
            held = claim(store, worker)
            cancelling = thread.submit(second.cancel, [number])
            assert finish(store, worker, *map(ok, held)).stale == []
            assert cancelling.result(30) in ({}, {number: State.RUNNING})
            assert state(store, number) == State.SUCCEEDED


def test_the_worker_is_roused_by_its_socket(sqlite_url: str, tmp_path: Path) -> None:
    from coserver.store import open_store

    store = open_store(sqlite_url)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
            listening.bind(str(tmp_path / "wake"))
            listening.settimeout(30)
            worker = join(store, wake=str(tmp_path / "wake"))
            store.submit([job()])
            [held] = claim(store, worker)
            store.cancel([held.id])
            assert listening.recv(10) == b"c"
    finally:
        store.close()


def test_who_listens_hears_of_it_though_no_worker_is_parked(store: Store) -> None:
    worker = join(store)
    store.submit([job()])
    [held] = claim(store, worker)
    listener = store.listener()
    heard = threading.Event()

    def listen() -> None:
        while not listener.wait(30, guesses=False):
            pass
        heard.set()

    thread = threading.Thread(target=listen)
    thread.start()
    try:
        store.cancel([held.id])
        assert heard.wait(30)
    finally:
        listener.close()
        thread.join(30)


def test_flagged_outcomes_in_a_large_batch_go_their_way_beside_the_others(store: Store) -> None:
    worker = join(store)
    store.submit([job() for _ in range(50)])
    held = claim(store, worker, 50)
    asked = {one.id for one in held[::7]}
    store.cancel(sorted(asked))
    outcomes = [again(one) if one.id in asked else ok(one, '"' + "y" * 3000 + '"') for one in held]
    got = swap(store, worker, outcomes)
    assert (got.stale, list(got.claimed)) == ([], [])
    ends = store.counts().by_state
    assert (ends[State.CANCELLED], ends[State.SUCCEEDED]) == (len(asked), 50 - len(asked))


# -- interrupted ------------------------------------------------------------------------------------------------------


def interrupted(held: Claimed) -> Interrupted:
    return Interrupted(held.id, held.claim, "it had to stop")


def test_what_is_interrupted_goes_back_to_its_place_uncharged_and_says_so(store: Store, raw: Raw) -> None:
    worker = join(store)
    one, two = store.submit([job(limit="a"), job()])
    [held] = claim(store, worker, 1)
    assert finish(store, worker, interrupted(held)).stale == []
    left = store.job(one)
    assert left is not None
    assert (left.state, left.attempt, left.crashes, left.started_at) == (State.QUEUED, 0, 0, None)
    assert left.error is not None
    assert left.error.type == "Interrupted"
    assert left.error.message.startswith("it had to stop; it begins again")
    assert raw("SELECT count(*) FROM coserver_slot WHERE job IS NOT NULL") == [(1,)]
    first, second = claim(store, worker)
    assert (first.id, second.id) == (one, two)
    assert finish(store, worker, interrupted(held)).stale == [one]
    finish(store, worker, ok(first), ok(second))
    done = store.job(one)
    assert done is not None
    assert (done.state, done.error) == (State.SUCCEEDED, None)


def test_what_may_begin_only_once_is_lost_when_it_is_interrupted(store: Store) -> None:
    worker = join(store)
    parent, child, alert = store.submit(
        [
            job(max_crashes=1),
            job(after=(Edge(0, here=True),)),
            job(after=(Edge(0, On.FAILURE, here=True),)),
        ]
    )
    [held] = claim(store, worker)
    finish(store, worker, interrupted(held))
    assert [state(store, number) for number in (parent, child, alert)] == [
        State.LOST,
        State.CANCELLED,
        State.QUEUED,
    ]
    lost = store.job(parent)
    assert lost is not None
    assert lost.error is not None
    assert (lost.error.type, lost.crashes) == ("JobLost", 0)
    assert 'it had to stop; it may begin only once (on_lost="fail")' in lost.error.message


def test_what_was_asked_to_stop_and_is_interrupted_ends_as_cancelled(store: Store) -> None:
    worker = join(store)
    ids = store.submit([job(), job(max_crashes=1)])
    held = claim(store, worker)
    store.cancel(ids)
    finish(store, worker, *map(interrupted, held))
    assert [state(store, number) for number in ids] == [State.CANCELLED, State.CANCELLED]
