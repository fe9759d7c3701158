"""How far jobs say they are."""

from __future__ import annotations

from coserver.model.job import Progress
from coserver.store.contract import Store
from tests.store_contract.helpers import back, claim, finish, job, join, ok


def told(store: Store, number: int) -> tuple[float | None, str]:
    found = store.job(number)
    assert found is not None
    return found.progress, found.note


def test_the_last_word_of_a_running_job_is_kept_even_when_it_is_over(store: Store) -> None:
    worker = join(store)
    [number] = store.submit([job()])
    [held] = claim(store, worker)
    store.progress(worker, [Progress(number, held.claim, 0.25, "reading")])
    assert told(store, number) == (0.25, "reading")
    store.progress(worker, [Progress(number, held.claim, None, "écriture 50 %")])
    assert told(store, number) == (None, "écriture 50 %")
    finish(store, worker, ok(held))
    assert told(store, number) == (None, "écriture 50 %")


def test_who_does_not_hold_a_job_says_nothing_of_it(store: Store) -> None:
    worker, other = join(store), join(store)
    [number] = store.submit([job()])
    [held] = claim(store, worker)
    store.progress(other, [Progress(number, held.claim, 0.5, "not mine")])
    store.progress(worker, [Progress(number, held.claim + 1, 0.5, "not this run")])
    store.progress(worker, [Progress(number + 1, 1, 0.5, "no such job")])
    store.progress(worker, [])
    assert told(store, number) == (None, "")
    finish(store, worker, back(held))
    store.progress(worker, [Progress(number, held.claim, 0.5, "too late")])
    assert told(store, number) == (None, "")


def test_many_jobs_tell_at_once(store: Store) -> None:
    worker = join(store)
    numbers = store.submit([job() for _ in range(50)])
    held = claim(store, worker, 50)
    store.progress(worker, [Progress(one.id, one.claim, one.id / 100, f"n{one.id}") for one in held])
    assert [told(store, number) for number in numbers] == [(number / 100, f"n{number}") for number in numbers]
