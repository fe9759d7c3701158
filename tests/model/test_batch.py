from __future__ import annotations

from dataclasses import replace
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coserver.model.batch import (
    CAP,
    FIRST_PACE,
    FLUSH,
    FRESH,
    WORTH,
    Go,
    Park,
    View,
    Wait,
    ahead,
    decide,
    fresh_for,
    pace_after,
)

seconds = st.floats(min_value=0, max_value=1e6)
counts = st.integers(min_value=0, max_value=5000)
views = st.builds(
    View,
    room=counts,
    spare=counts,
    batch=st.integers(min_value=0, max_value=CAP),
    at_hand=counts,
    running=counts,
    done=counts,
    done_for=seconds,
    urgent=st.booleans(),
    stale=st.booleans(),
    short_for=seconds | st.just(inf),
    parked=st.booleans(),
    main=st.booleans(),
    others=st.integers(min_value=0, max_value=2),
)

nothing = View(
    room=0,
    spare=0,
    batch=1,
    at_hand=0,
    running=0,
    done=0,
    done_for=0.0,
    urgent=False,
    stale=False,
    short_for=inf,
    parked=False,
    main=True,
    others=0,
)


# The pace ---------------------------------------------------------------------------------------------------------


@given(seconds, st.integers(min_value=1, max_value=10_000), seconds)
def test_the_pace_never_leaves_what_was_measured_and_what_it_was(
    pace: float, finished: int, busy: float
) -> None:
    measured = busy / finished
    after = pace_after(pace, finished=finished, busy=busy)
    assert min(pace, measured) <= after <= max(pace, measured)


@given(seconds, st.integers(min_value=1, max_value=10_000), seconds)
def test_a_slowdown_counts_at_once(pace: float, finished: int, busy: float) -> None:
    assert pace_after(pace, finished=finished, busy=busy) >= busy / finished


def test_nothing_finished_teaches_nothing() -> None:
    assert pace_after(0.25, finished=0, busy=9.0) == 0.25


def test_a_worker_on_tiny_jobs_comes_to_full_batches_within_a_dozen_trips() -> None:
    pace, trips = FIRST_PACE, 0
    while ahead(pace, still=0.0) < CAP:
        pace = pace_after(
            pace, finished=max(1, ahead(pace, still=0.0)), busy=max(1, ahead(pace, still=0.0)) * 1e-5
        )
        trips += 1
    assert trips <= 12


@given(seconds, seconds)
def test_what_is_claimed_ahead_is_worth_at_most_the_stated_time_and_the_cap(
    pace: float, still: float
) -> None:
    jobs = ahead(pace, still=still)
    assert 0 <= jobs <= CAP
    assert jobs * max(pace, still) <= WORTH * (1 + 1e-9)


@given(st.floats(min_value=WORTH, max_value=1e6, exclude_min=True), seconds)
def test_of_long_jobs_none_is_claimed_ahead(pace: float, still: float) -> None:
    assert ahead(pace, still=still) == 0


@given(seconds)
def test_where_nothing_moves_any_more_none_is_claimed_ahead(pace: float) -> None:
    assert ahead(pace, still=WORTH * 1.01) == 0


@given(seconds)
def test_a_look_is_good_for_longer_than_the_next_one_takes(trip: float) -> None:
    assert fresh_for(trip) >= max(FRESH, 2 * trip)


# The decision -----------------------------------------------------------------------------------------------------


@given(views)
def test_a_trip_never_asks_for_more_than_there_is_room_for_but_for_one_to_see_a_better_job(
    view: View,
) -> None:
    match decide(view):
        case Go(limit, everywhere):
            room = min(CAP, view.room + (view.spare if everywhere else 0))
            assert 0 <= limit <= max(room, int(view.stale and view.main))
        case Park() | Wait():
            pass


@given(views)
def test_a_trip_has_a_purpose(view: View) -> None:
    match decide(view):
        case Go(limit):
            assert limit > 0 or view.done > 0 or view.urgent
        case Park() | Wait():
            pass


@given(views)
def test_nobody_waits_longer_than_flush_with_a_finish(view: View) -> None:
    if view.main and view.done:
        match decide(view):
            case Wait(seconds):
                assert seconds is not None
                assert seconds <= FLUSH - view.done_for
            case Park():
                pytest.fail("parked with a finish to record")
            case Go():
                pass


@given(views)
def test_only_the_main_lane_parks_and_only_with_nothing_to_record(view: View) -> None:
    if decide(view) == Park():
        assert view.main
        assert view.done == 0
        assert not view.parked
        assert view.spare > 0


@given(views)
def test_a_helper_only_carries_full_loads_beside_others(view: View) -> None:
    step = decide(replace(view, main=False))
    if isinstance(step, Go):
        assert view.others
        assert step.limit >= min(view.batch, CAP) > 1


@given(views)
def test_what_must_not_wait_goes_at_once(view: View) -> None:
    assert isinstance(decide(replace(view, main=True, urgent=True)), Go)


@given(views)
def test_when_jobs_at_hand_are_stale_the_main_lane_looks_for_a_better_one(view: View) -> None:
    step = decide(replace(view, main=True, stale=True))
    assert isinstance(step, Go)
    assert step.limit >= 1


@given(views)
def test_a_worker_without_jobs_at_hand_fetches_some_if_there_may_be_any(view: View) -> None:
    hungry = replace(view, main=True, at_hand=0, room=max(1, view.room))
    assert isinstance(decide(hungry), Go)


def test_a_lone_finish_goes_at_once_when_the_worker_is_idle_and_looks_for_more() -> None:
    assert decide(replace(nothing, done=1, spare=10)) == Go(10, everywhere=True)


def test_a_lone_finish_of_a_sleeping_worker_is_only_recorded() -> None:
    assert decide(replace(nothing, done=1, spare=10, parked=True)) == Go(0, everywhere=False)


def test_a_finish_beside_running_jobs_waits_for_company_but_not_for_long() -> None:
    busy = replace(nothing, done=1, running=5, spare=5, parked=True)
    assert decide(replace(busy, done_for=0.002)) == Wait(FLUSH - 0.002, 5)
    assert isinstance(decide(replace(busy, done_for=FLUSH)), Go)


def test_an_empty_store_sends_the_worker_to_sleep_and_there_it_waits() -> None:
    assert decide(replace(nothing, spare=10)) == Park()
    assert decide(replace(nothing, spare=10, parked=True)) == Wait(None, 1)


def test_after_a_short_claim_the_worker_waits_a_moment_before_it_sleeps() -> None:
    short = replace(nothing, spare=9, running=1, short_for=0.001)
    assert decide(short) == Wait(FLUSH - 0.001, 1)
    assert decide(replace(short, short_for=FLUSH)) == Park()


def test_a_worker_whose_slots_are_full_of_long_jobs_just_waits() -> None:
    assert decide(replace(nothing, running=10, batch=0)) == Wait(None, 1)


def test_a_worker_in_full_swing_goes_for_the_next_batch_when_there_is_room_for_one() -> None:
    swing = replace(nothing, batch=500, at_hand=700, running=100, done=90, done_for=0.001)
    assert decide(replace(swing, room=499)) == Wait(FLUSH - 0.001, 1)
    assert decide(replace(swing, room=500)) == Go(500, everywhere=True)
