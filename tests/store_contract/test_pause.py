"""Pausing and resuming queues, and what is told of them."""

from __future__ import annotations

import threading

import pytest

from coserver.errors import InvalidArguments
from coserver.model.job import Limit, State
from coserver.store.contract import Store
from tests.store_contract.helpers import QUEUE, TASK, bad, claim, finish, job, join, ok, swap


def test_nobody_takes_jobs_of_a_paused_queue_until_it_is_resumed(store: Store) -> None:
    worker = join(store, queues=[QUEUE, "mail"])
    store.submit([job(), job(queue="mail"), job()])
    pairs = [(QUEUE, TASK), ("mail", TASK)]
    store.pause_queue(QUEUE, by="ann")
    assert [held.id for held in claim(store, worker, pairs=pairs)] == [2]
    assert claim(store, worker, pairs=pairs) == []
    store.resume_queue(QUEUE)
    assert [held.id for held in claim(store, worker, pairs=pairs)] == [1, 3]


def test_what_is_claimed_goes_on_in_a_paused_queue(store: Store) -> None:
    worker = join(store)
    store.submit([job()])
    [held] = claim(store, worker)
    store.pause_queue(QUEUE, by="ann")
    assert finish(store, worker, ok(held)).stale == []


def test_a_worker_of_a_paused_queue_may_sleep(store: Store) -> None:
    worker = join(store)
    store.submit([job() for _ in range(3)])
    store.pause_queue(QUEUE, by="ann")
    got = swap(store, worker)
    assert (list(got.claimed), got.next_due) == ([], None)
    assert not store.park(worker)
    store.resume_queue(QUEUE)
    assert store.park(worker)


def test_a_job_that_killed_workers_is_not_claimed_from_a_paused_queue_either(store: Store) -> None:
    join(store, token="t")
    doomed = join(store, token="t")
    worker = join(store)
    store.submit([job()])
    claim(store, doomed)
    store.bury("t", started=[1], note="killed")
    store.pause_queue(QUEUE, by="ann")
    assert claim(store, worker) == []
    assert not store.park(worker)
    store.resume_queue(QUEUE)
    assert [held.crashes for held in claim(store, worker)] == [1]


def test_resuming_rouses_who_listens(store: Store) -> None:
    worker = join(store)
    store.submit([job()])
    store.pause_queue(QUEUE, by="ann")
    assert claim(store, worker) == []
    store.park(worker)
    listener = store.listener()
    heard: list[bool] = []
    thread = threading.Thread(target=lambda: heard.append(listener.wait(20)))
    thread.start()
    store.resume_queue(QUEUE)
    thread.join(30)
    listener.close()
    assert heard == [True]


def test_queues_tell_who_paused_them_first_their_limits_and_their_jobs(store: Store) -> None:
    worker = join(store, queues=[QUEUE, "mail"])
    store.set_limits([Limit("queue:mail", running=1), Limit("user", running=3)])
    store.submit([job(), job(), job(delay=10**12), job(held=True), job(queue="mail"), job(queue="mail")])
    store.submit([job(queue="unread")])
    finish(store, worker, bad(claim(store, worker, 1)[0]))
    claim(store, worker, 1, pairs=[("mail", TASK)])
    store.pause_queue("mail", by="ann")
    store.pause_queue("mail", by="bob")
    store.pause_queue("new", by="bob")
    told = {queue.name: queue for queue in store.queues()}
    assert list(told) == [QUEUE, "mail", "new", "unread"]
    assert (told["mail"].paused_by, told["new"].paused_by, told[QUEUE].paused_by) == ("ann", "bob", None)
    assert told["mail"].paused_at is not None
    assert told["mail"].limit == Limit("queue:mail", running=1)
    assert told[QUEUE].limit is None
    assert told[QUEUE].by_state == {
        State.QUEUED: 1,
        State.SCHEDULED: 1,
        State.HELD: 1,
        State.FAILED: 1,
    }
    assert told["mail"].by_state == {State.RUNNING: 1, State.LIMITED: 1}
    assert told["unread"].by_state == {State.QUEUED: 1}
    second = store.job(2)
    assert second is not None
    assert told[QUEUE].oldest_at == second.created_at
    assert told["new"].oldest_at is None


def test_resuming_forgets_who_paused(store: Store) -> None:
    store.pause_queue("mail", by="ann")
    store.resume_queue("mail")
    store.resume_queue("never-paused")
    assert [(queue.name, queue.paused_at, queue.paused_by) for queue in store.queues()] == [
        ("mail", None, None)
    ]


def test_counts_of_long_queues_stop_after_ten_thousand(store: Store) -> None:
    store.submit([job() for _ in range(10_050)])
    [queue] = store.queues()
    assert queue.by_state == {State.QUEUED: 10_001}


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 501])
def test_what_is_no_name_of_a_queue_is_not_paused(store: Store, name: str) -> None:
    with pytest.raises(InvalidArguments, match="no name of a queue"):
        store.pause_queue(name, by="ann")
