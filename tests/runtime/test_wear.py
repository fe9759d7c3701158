from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st

from coserver.runtime.wear import SPREAD, Wear, resident

chances = st.floats(0, 1, exclude_max=True)


@given(st.integers(1, 10**9), st.floats(0.001, 1e8), chances)
def test_what_is_drawn_lies_within_a_tenth_of_what_is_said(jobs: int, age: float, chance: float) -> None:
    drawn = Wear(jobs, age, 1000).drawn(lambda: chance)
    assert drawn.jobs is not None
    assert drawn.age is not None
    assert drawn.jobs >= 1
    assert abs(drawn.jobs - jobs) <= jobs * SPREAD + 0.5
    assert abs(drawn.age - age) <= age * SPREAD * 1.000001
    assert drawn.memory == 1000


def test_without_limits_nothing_is_ever_worn() -> None:
    assert not Wear()
    assert not Wear().drawn(lambda: 0.5)
    assert Wear().reached(jobs=10**9, age=1e9, memory=1 << 50) is None


def test_each_limit_is_told_in_words() -> None:
    wear = Wear(100, 60.0, 1 << 20)
    assert wear.reached(jobs=99, age=59.0, memory=1 << 20) is None
    assert wear.reached(jobs=100, age=0.0, memory=None) == "has run 100 jobs"
    assert wear.reached(jobs=0, age=61.2, memory=None) == "is 1m1s old"
    assert wear.reached(jobs=1, age=0.0, memory=2 << 20) == "takes 2M of memory"


def test_memory_counts_once_a_job_has_run() -> None:
    assert Wear(memory=1).reached(jobs=0, age=0.0, memory=1000) is None


def test_memory_is_measured_of_this_process_and_of_others() -> None:
    here = resident()
    assert here is not None
    assert 1 << 20 < here < 1 << 34
    assert abs((resident(os.getpid()) or 0) - here) < 1 << 22
    assert resident(1 << 22) is None
