"""When an ended process starts again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from coserver.model.restart import STABLE_AFTER, Again, Done, GiveUp, Record, RestartPolicy, decide

CHANCES = st.floats(0.0, 1.0, exclude_max=True)


def ends(policy: RestartPolicy, *times: float, uptime: float = 0.0, status: int | None = 1) -> list[object]:
    record, verdicts = Record(), []
    for now in times:
        record, verdict = decide(policy, record, now=now, uptime=uptime, status=status, chance=0.999999)
        verdicts.append(verdict)
    return verdicts


def test_the_first_end_restarts_at_once_and_later_ones_wait_twice_as_long_each() -> None:
    delays = [round(v.delay, 3) for v in ends(RestartPolicy(give_up=None), *range(8)) if isinstance(v, Again)]
    assert delays == [0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4]


def test_a_stable_run_makes_the_delay_small_again() -> None:
    policy = RestartPolicy(give_up=None)
    record, _ = decide(policy, Record(row=9), now=0.0, uptime=STABLE_AFTER, status=1, chance=0.5)
    assert record.row == 1


def test_every_end_counts_towards_giving_up_successes_too() -> None:
    verdicts = ends(RestartPolicy(give_up=(3, 60.0)), 0.0, 1.0, 2.0, status=0)
    assert verdicts[-1] == GiveUp(3, 60.0)
    assert GiveUp not in map(type, verdicts[:-1])


def test_ends_outside_the_window_are_forgotten() -> None:
    assert GiveUp not in map(type, ends(RestartPolicy(give_up=(3, 10.0)), 0.0, 6.0, 12.0, 18.0, 24.0))


def test_policies_say_whether_it_should_run_at_all() -> None:
    assert ends(RestartPolicy(when="never"), 0.0) == [Done()]
    assert ends(RestartPolicy(when="on-failure", expected=frozenset({0, 3})), 0.0, status=3) == [Done()]
    assert isinstance(ends(RestartPolicy(when="on-failure"), 0.0, status=1)[0], Again)
    assert isinstance(ends(RestartPolicy(when="on-failure"), 0.0, status=None)[0], Again)


@given(
    first=st.floats(0.001, 10.0),
    factor=st.floats(1.0, 1000.0),
    row=st.integers(0, 5000),
    chance=CHANCES,
)
def test_a_delay_never_exceeds_its_limit_nor_falls_under_half_of_its_step(
    first: float, factor: float, row: int, chance: float
) -> None:
    policy = RestartPolicy(backoff_first=first, backoff_max=first * factor, give_up=None)
    _, verdict = decide(policy, Record(row=row), now=0.0, uptime=0.0, status=1, chance=chance)
    assert isinstance(verdict, Again)
    assert verdict.delay <= policy.backoff_max
    if row:
        assert verdict.delay >= first / 2
