from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from coserver.model.job import Failed, Outcome, Release, Retry, Succeeded
from coserver.model.reconcile import reconcile

keys = st.tuples(st.integers(1, 30), st.integers(1, 3))


def outcome(key: tuple[int, int], kind: int) -> Outcome:
    job, claim = key
    match kind:
        case 0:
            return Succeeded(job, claim, None, 1, 2)
        case 1:
            return Failed(job, claim, "{}", 1, 2)
        case 2:
            return Retry(job, claim, "{}", 1)
        case _:
            return Release(job, claim)


carrying = st.lists(st.builds(outcome, keys, st.integers(0, 3)), unique_by=lambda one: (one.id, one.claim))


@given(st.sets(keys), st.sets(keys), st.sets(keys), carrying)
def test_every_row_of_the_store_is_accounted_for(
    held: set[tuple[int, int]],
    at_hand: set[tuple[int, int]],
    others: set[tuple[int, int]],
    carried: list[Outcome],
) -> None:
    verdict = reconcile(held, at_hand=at_hand, others=others, carried=carried)
    resent = {(one.id, one.claim) for one in verdict.resend}
    released = {(one.id, one.claim) for one in verdict.release}
    assert held <= at_hand | others | resent | released
    assert not released & (at_hand | others | resent)


@given(st.sets(keys), st.sets(keys), st.sets(keys), carrying)
def test_every_outcome_is_sent_again_or_known_to_be_recorded_or_asked_for(
    held: set[tuple[int, int]],
    at_hand: set[tuple[int, int]],
    others: set[tuple[int, int]],
    carried: list[Outcome],
) -> None:
    verdict = reconcile(held, at_hand=at_hand, others=others, carried=carried)
    for one in carried:
        running = (one.id, one.claim) in held
        assert (one in verdict.resend) == running
        assert (one in verdict.ask) == (not running and isinstance(one, Succeeded | Failed))


@given(st.sets(keys), st.sets(keys), st.sets(keys))
def test_only_what_has_not_begun_and_is_no_longer_ours_is_forgotten(
    held: set[tuple[int, int]], at_hand: set[tuple[int, int]], others: set[tuple[int, int]]
) -> None:
    verdict = reconcile(held, at_hand=at_hand, others=others, carried=[])
    assert verdict.forget == at_hand - held


def test_a_newer_claim_of_the_same_job_is_another_job() -> None:
    verdict = reconcile({(1, 8)}, at_hand=[], others=[(1, 7)], carried=[])
    assert verdict.release == [Release(1, 8)]
