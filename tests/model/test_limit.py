"""How many jobs a limit lets in: the rule, and what it keeps in every window."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from coserver.model.job import Limit
from coserver.model.limit import Usage, locking, queue_key, reopens, room, rule_of, starts_to_pass

COUNTS = st.integers(0, 50)
USAGES = st.builds(
    lambda running, unstarted, kept: Usage(running + unstarted, unstarted, min(running, 7) + kept),
    COUNTS,
    COUNTS,
    COUNTS,
)
RULES = st.builds(
    lambda running, rate: Limit("a", running, *rate),
    st.none() | st.integers(1, 60),
    st.just((None, None)) | st.tuples(st.integers(1, 60), st.integers(1, 1_000)),
)


def test_without_bounds_there_is_always_room() -> None:
    assert room(Limit("a"), Usage(1_000, 1_000, 1_000)) is None


@given(RULES, USAGES)
def test_who_is_let_in_keeps_both_bounds(rule: Limit, usage: Usage) -> None:
    free = room(rule, usage)
    if free is None:
        assert (rule.running, rule.starts) == (None, None)
        return
    assert free >= 0
    if free:
        assert rule.running is None or usage.held + free <= rule.running
        assert rule.starts is None or usage.unstarted + usage.recent + free <= rule.starts


@given(RULES, USAGES)
def test_nobody_is_kept_out_without_need(rule: Limit, usage: Usage) -> None:
    free = room(rule, usage)
    if free is not None:
        full = rule.running is not None and usage.held + free + 1 > rule.running
        fast = rule.starts is not None and usage.unstarted + usage.recent + free + 1 > rule.starts
        assert full or fast


@given(RULES, USAGES)
def test_when_so_many_starts_have_passed_the_rate_lets_one_in_and_before_none(
    rule: Limit, usage: Usage
) -> None:
    rate = Limit("a", None, rule.starts, rule.period)
    passing = starts_to_pass(rate, usage)
    assert (passing == 0) == (room(rate, usage) != 0)
    if 0 < passing <= usage.recent:
        assert room(rate, Usage(usage.held, usage.unstarted, usage.recent - passing)) == 1
        assert room(rate, Usage(usage.held, usage.unstarted, usage.recent - passing + 1)) == 0


@given(
    st.integers(1, 5),
    st.integers(1, 30),
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 40)), min_size=1, max_size=60),
)
def test_in_no_window_more_begin_than_the_rate_says(
    starts: int, period: int, steps: list[tuple[int, int]]
) -> None:
    """J7, the rule's part: jobs wait without end; at each step time passes, the rule lets in whom it may, and somebody
    begins after a delay of their own."""
    rule = Limit("a", None, starts, period)
    now = 0
    admitted: list[int] = []  # when each that was let in is going to begin
    begun: list[int] = []
    for passed, delay in steps:
        now += passed
        begun += [at for at in admitted if at <= now]
        admitted = [at for at in admitted if at > now]
        recent = sum(1 for at in begun if at >= now - period)
        free = room(rule, Usage(len(admitted), len(admitted), recent))
        assert free is not None
        admitted += [now + delay + n for n in range(free)]
    begun += admitted
    for start in begun:
        assert sum(1 for at in begun if start <= at <= start + period) <= starts


@given(st.integers(1, 10**9), st.none() | st.integers(0, 10**9), st.integers(0, 10**9))
def test_the_next_look_comes_when_the_start_no_longer_counts(
    period: int, start: int | None, now: int
) -> None:
    at = reopens(period, start, now)
    if start is None:
        assert at >= now + period
    else:
        assert not start >= at - period
        assert start >= at - 1 - period


def test_keys_are_ruled_by_what_stands_before_their_first_colon() -> None:
    user, mail = Limit("user", running=3), Limit("queue:mail", running=2)
    declared = {limit.name: limit for limit in (user, mail)}
    assert rule_of("user:7:b", declared) is user
    assert rule_of("user", declared) is user
    assert rule_of("queue:mail", declared) is mail
    assert rule_of("report:1", declared) == Limit("report", running=1)
    assert rule_of(queue_key("other"), declared) == Limit("queue:other")


def test_jobs_own_keys_are_locked_before_those_of_queues() -> None:
    assert locking({"queue:a", "zebra", "queue:Z", "ant:1"}) == ["ant:1", "zebra", "queue:Z", "queue:a"]
