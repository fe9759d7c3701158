"""Finding jobs by what they are, the same on every database."""

from __future__ import annotations

from typing import Any

import pytest

from coserver.model.job import JobFilter, State
from coserver.store.contract import Store
from tests.store_contract.helpers import Raw, again, bad, claim, finish, job, join, ok


def found(store: Store, *, limit: int = 100, before: int | None = None, **where: Any) -> list[int]:
    return [one.id for one in store.jobs(JobFilter(**where), limit=limit, before=before)]


def error(message: str) -> str:
    return f'{{"type":"ValueError","message":"{message}","traceback":""}}'


def test_jobs_are_found_by_tag_living_and_ended(store: Store) -> None:
    worker = join(store)
    ids = store.submit([job(tags=["red"]), job(tags=["red", "blue"]), job(tags=["blue"]), job()])
    finish(store, worker, ok(claim(store, worker, 1)[0]))
    assert found(store, tag="red") == [ids[1], ids[0]]
    assert found(store, tag="blue") == [ids[2], ids[1]]
    assert found(store, tag="red", states=[State.SUCCEEDED]) == [ids[0]]
    assert found(store, tag="r") == []
    assert found(store, tag="blue", limit=1) == [ids[2]]
    assert found(store, tag="blue", before=ids[2]) == [ids[1]]


def test_errors_are_found_by_a_part_whatever_the_case_and_with_every_sign_as_it_is(store: Store) -> None:
    worker = join(store)
    texts = ["100% sure", "a_b", 'said \\"no\\"', "Überlauf", "first\\nsecond"]
    ids = store.submit([job() for _ in texts])
    for held, text in zip(claim(store, worker), texts, strict=True):
        finish(store, worker, bad(held, error(text)))
    assert found(store, error="% SURE") == ids[:1]
    assert found(store, error="a%b") == []
    assert found(store, error="A_B") == ids[1:2]
    assert found(store, error="a.b") == []
    assert found(store, error='"No"') == ids[2:3]
    assert found(store, error="Überlauf") == ids[3:4]
    assert found(store, error="first\nSECOND") == ids[4:]
    assert found(store, error="valueerror") == ids[::-1]


def test_errors_of_jobs_that_wait_for_their_next_attempt_are_found_too(store: Store) -> None:
    worker = join(store)
    ids = store.submit([job(), job(), job()])
    first, second, third = claim(store, worker)
    finish(store, worker, again(first, 10**9, error("flaky")), bad(second, error("flaky")), ok(third))
    assert found(store, error="FLAKY") == [ids[1], ids[0]]
    assert found(store, error="flaky", states=[State.FAILED]) == [ids[1]]
    assert found(store, error="flaky", states=[State.SCHEDULED]) == [ids[0]]
    assert found(store, error="flaky", states=[State.SUCCEEDED]) == []


def test_arguments_are_found_by_a_part_large_ones_too(store: Store) -> None:
    worker = join(store)
    large = '["' + "x" * 5_000 + ' Needle"]'
    ids = store.submit([job(args='["Ann", 50]'), job(args=large), job(args='{"who":"ann_b"}'), job()])
    assert found(store, args="ANN") == [ids[2], ids[0]]
    assert found(store, args="ann_") == [ids[2]]
    assert found(store, args="a%n") == []
    assert found(store, args='"ann", 50') == [ids[0]]
    assert found(store, args="needle") == [ids[1]]
    for held in claim(store, worker):
        finish(store, worker, ok(held))
    assert found(store, args="needle") == [ids[1]]
    assert found(store, args="ann", states=[State.SUCCEEDED]) == [ids[2], ids[0]]


def test_since_and_until_bound_when_jobs_were_stored(store: Store, raw: Raw) -> None:
    ids = store.submit([job() for _ in range(4)])
    for at, number in enumerate(ids):
        raw("UPDATE coserver_job SET created_at = ? WHERE id = ?", 1_000 + at, number)
    assert found(store, since=1_001) == [ids[3], ids[2], ids[1]]
    assert found(store, until=1_002) == [ids[1], ids[0]]
    assert found(store, since=1_001, until=1_003) == [ids[2], ids[1]]
    assert found(store, since=-(2**70), until=2**70) == ids[::-1]


@pytest.mark.parametrize("states", [(), (State.RUNNING,), (State.FAILED,), (State.QUEUED, State.SUCCEEDED)])
def test_all_filters_go_together_in_every_state(store: Store, states: tuple[State, ...]) -> None:
    worker = join(store)
    one = {"queue": "default", "args": '["needle"]', "tags": ["t"]}
    ids = store.submit(
        [job(**one), job(**one), job(**one), job(**one), job(queue="default", args='["needle"]')]
    )
    first, second, third = claim(store, worker, 3)
    finish(store, worker, ok(first), bad(second, error("boom")))
    where = {"queue": "default", "args": "NEEDLE", "since": 0, "until": 2**60, "states": states}
    expected = {
        (): ids[3::-1],
        (State.RUNNING,): [third.id],
        (State.FAILED,): [second.id],
        (State.QUEUED, State.SUCCEEDED): [ids[3], first.id],
    }[states]
    assert found(store, tag="t", **where) == expected
    assert set(expected) <= set(found(store, **where))
    assert found(store, **where | {"args": "nothing"}) == []
    assert found(store, error="boom", **where) == ([second.id] if second.id in expected else [])
