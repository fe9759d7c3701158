"""What follows when jobs end on which others wait."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coserver.model.graph import Adopt, Cancel, Link, Wave, follow, meets, verdict
from coserver.model.job import On, State

FINAL = [state for state in State if state.final]
LINKS = st.lists(
    st.builds(
        Link, st.integers(1, 4), st.integers(10, 14), st.sampled_from(list(On)), st.sampled_from(FINAL)
    ),
    max_size=12,
)


@pytest.mark.parametrize("state", FINAL)
def test_an_edge_asks_for_success_for_anything_else_or_for_any_end(state: State) -> None:
    assert meets(On.SUCCESS, state) is (state == State.SUCCEEDED)
    assert meets(On.FAILURE, state) is (state != State.SUCCEEDED)
    assert meets(On.END, state)


def test_the_first_end_that_does_not_fit_says_why() -> None:
    links = [
        Link(9, 1, On.SUCCESS, State.SUCCEEDED),
        Link(9, 2, On.FAILURE, State.SUCCEEDED),
        Link(9, 3, On.SUCCESS, State.LOST),
    ]
    assert verdict(links) == Cancel("job 2, whose failure it waited for, succeeded")
    assert verdict(links[2:]) == Cancel("job 3, which it waited for, was lost")
    assert verdict(links[:1]) is None
    assert verdict([Link(9, 4, On.TAKE_OVER, State.FAILED)]) == Adopt(4)


def test_a_child_is_let_go_with_its_last_parent() -> None:
    links = [Link(9, 1, On.SUCCESS, State.SUCCEEDED), Link(8, 1, On.END, State.SUCCEEDED)]
    assert follow(links, {9: 2, 8: 1}) == Wave(waits={9: 1}, free=[8])


def test_who_does_not_wait_takes_no_notice() -> None:
    assert follow([Link(9, 1, On.SUCCESS, State.FAILED)], {9: 0}) == Wave()
    assert follow([Link(9, 1, On.SUCCESS, State.FAILED)], {}) == Wave()


@given(LINKS, st.dictionaries(st.integers(1, 4), st.integers(0, 6)))
def test_every_waiting_child_has_one_fate(links: list[Link], waits: dict[int, int]) -> None:
    wave = follow(links, waits)
    for child in {link.child for link in links}:
        its = [link for link in links if link.child == child]
        fates = [child in wave.waits, child in wave.free, child in wave.ends]
        assert sum(fates) == (waits.get(child, 0) >= len(its))
        if any(fates):
            assert (child in wave.ends) == (verdict(its) is not None)
        if child in wave.waits:
            assert wave.waits[child] == waits[child] - len(its) > 0
