"""Who may be declared dead: a worker whose lease ran out while another shows that it could have been renewed.

Time is moved in the rows, not waited for: a lease that is put back by a minute is one that ran out a minute ago.
"""

from __future__ import annotations

import pytest

from coserver.store.contract import Store
from tests.store_contract.helpers import Raw, claim, job, join, swap

MINUTE = 60_000_000


def lapse(raw: Raw, worker: int) -> None:
    """Let a lease of up to a minute run out."""
    raw("UPDATE coserver_worker SET lease_until = lease_until - ? WHERE id = ?", 2 * MINUTE, worker)


def steady(raw: Raw, worker: int) -> None:
    """Let a worker have been in contact for an hour."""
    raw("UPDATE coserver_worker SET steady_since = steady_since - ? WHERE id = ?", 60 * MINUTE, worker)


def left_alone(store: Store, worker: int, sibling: int) -> bool:
    """Whether nobody takes what `worker` holds, and nobody stays awake for it."""
    before = len(store.held(worker))
    assert before
    rescued = store.tick().rescued
    claimed = claim(store, sibling)
    return not (rescued or claimed or store.park(sibling)) and len(store.held(worker)) == before


@pytest.fixture
def holding(store: Store, raw: Raw) -> int:
    """A worker that holds a job and whose lease ran out."""
    worker = join(store)
    store.submit([job()])
    assert len(claim(store, worker)) == 1
    lapse(raw, worker)
    return worker


def test_j11_who_was_silent_while_a_sibling_was_not_is_dead(store: Store, raw: Raw, holding: int) -> None:
    """J11."""
    sibling = join(store, "images/2")
    steady(raw, sibling)
    assert store.park(sibling) is True
    (taken,) = claim(store, sibling)
    assert (taken.crashes, taken.claim) == (1, 2)
    assert swap(store, holding).live is False


def test_one_that_came_just_now_cannot_tell(store: Store, holding: int) -> None:
    assert left_alone(store, holding, join(store, "images/2"))
    assert store.renew([holding], lease=60) == []


def test_nobody_is_dead_after_a_time_in_which_nobody_could_renew(
    store: Store, raw: Raw, holding: int
) -> None:
    """The database was away, or the network to it: whoever comes back first takes over from nobody."""
    sibling = join(store, "images/2")
    steady(raw, sibling)
    lapse(raw, sibling)
    assert store.tick().rescued == 0
    assert store.renew([sibling], lease=60) == []
    assert left_alone(store, holding, sibling)
    assert swap(store, holding, limit=0).live


def test_whose_own_last_word_is_old_does_not_tell_either(store: Store, raw: Raw, holding: int) -> None:
    sibling = join(store, "images/2")
    steady(raw, sibling)
    raw("UPDATE coserver_worker SET lease_until = lease_until - ? WHERE id = ?", MINUTE // 2, sibling)
    assert left_alone(store, holding, sibling)


def test_a_gap_of_half_a_lease_begins_the_contact_anew(store: Store, raw: Raw, holding: int) -> None:
    sibling = join(store, "images/2")
    steady(raw, sibling)
    raw("UPDATE coserver_worker SET lease_until = lease_until - ? WHERE id = ?", MINUTE // 2, sibling)
    store.renew([sibling], lease=60)
    assert left_alone(store, holding, sibling)
    steady(raw, sibling)
    store.renew([sibling], lease=60)
    assert store.tick().rescued == 1


def test_a_clock_that_was_set_back_begins_the_contact_anew(store: Store, raw: Raw, holding: int) -> None:
    sibling = join(store, "images/2")
    steady(raw, sibling)
    raw("UPDATE coserver_worker SET lease_until = lease_until + ? WHERE id = ?", MINUTE, sibling)
    store.renew([sibling], lease=60)
    assert left_alone(store, holding, sibling)


def test_a_dead_witness_is_none(store: Store, raw: Raw, holding: int) -> None:
    witness, sibling = join(store, "images/2", token="w"), join(store, "images/3")
    steady(raw, witness)
    store.bury("w", started=[], note="the test says so")
    assert left_alone(store, holding, sibling)
