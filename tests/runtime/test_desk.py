"""The desk alone: no threads, no loop, no store; time is a number."""

from __future__ import annotations

from collections import Counter
from itertools import count
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from coserver.model.batch import FLUSH, FRESH, UNSTARTED, Park, Wait
from coserver.model.job import Claimed, Outcome, Release, Succeeded
from coserver.runtime.desk import AGAIN, Desk, Load
from coserver.runtime.line import COROUTINE, ISOLATED, PLAIN, Job, Stop, Turn

KINDS = {"soft": COROUTINE, "hard": PLAIN}
APART = {**KINDS, "apart": ISOLATED}


def row(
    job: int, task: str = "soft", queue: str = "a", priority: int = 1, claim: int = 1, crashes: int = 0
) -> Claimed:
    return Claimed(job, claim, task, queue, "[]", 0, crashes, priority, 0, None)


def done(job: Job) -> Succeeded:
    return Succeeded(job.claimed.id, job.claimed.claim, None, 0, 0)


class Bench:
    """A desk and what it asked for."""

    def __init__(
        self, queues: dict[str, int] | None = None, kinds: dict[str, int] | None = None, **more: Any
    ) -> None:
        self.roused: Counter[str] = Counter()
        self.late: list[Outcome] = []
        given: dict[str, Any] = {"concurrency": 100, "threads": 2, "lanes": 1, **more}
        self.desk = Desk(
            queues or {"a": 2},
            KINDS if kinds is None else kinds,
            rouse_loop=lambda: self.roused.update(["loop"]),
            rouse_lane=lambda: self.roused.update(["lane"]),
            rouse_children=lambda: self.roused.update(["children"]),
            late=self.late.extend,
            **given,
        )

    def next(self, now: float) -> Load | Park | Wait:
        return self.desk.next(now, main=True)

    def load(self, now: float) -> Load:
        step = self.next(now)
        assert isinstance(step, Load)
        return step

    def bring(self, *rows: Claimed, now: float = 0.0) -> None:
        self.desk.settle(self.load(now), rows, now)

    def run(self, now: float) -> Job:
        """Begin and finish the next coroutine."""
        job = self.desk.for_loop.popleft()
        assert self.desk.begin(job)
        self.desk.finish(job, done(job), now, in_loop=True)
        return job


def test_it_begins_by_looking_for_as_much_as_it_can_take() -> None:
    bench = Bench({"a": 2, "b": 3})
    want = bench.load(0.0).want
    assert want.limit >= 5
    assert dict(want.room).keys() == {"a", "b"}
    assert set(want.pairs) == {(queue, task) for queue in ("a", "b") for task in ("soft", "hard")}


def test_slots_of_a_queue_and_of_all_are_kept() -> None:
    """J5, J10."""
    bench = Bench({"a": 2, "b": 2}, concurrency=3)
    bench.bring(*[row(n) for n in range(1, 5)], *[row(n, queue="b") for n in range(5, 9)])
    assert bench.roused["loop"] == 1
    assert [job.claimed.id for job in bench.desk.for_loop] == [1, 2, 5]


def test_what_is_freed_goes_to_the_next_by_priority_then_by_arrival_whatever_its_kind() -> None:
    bench = Bench({"a": 1}, threads=1)
    low = [row(1, priority=2), row(2, "hard", priority=2), row(3, priority=2)]
    bench.bring(*low, row(4, "hard", priority=0), row(5, priority=1))
    order = []
    for moment in range(5):
        if bench.desk.for_loop:
            job = bench.desk.for_loop.popleft()
        else:
            found = bench.desk.for_pool.get_nowait()
            assert found is not None
            job = found
        assert bench.desk.begin(job)
        order.append(job.claimed.id)
        bench.desk.finish(job, done(job), 0.002 + moment / 1000, in_loop=True)
    assert order == [4, 5, 1, 2, 3]


def test_plain_functions_that_wait_for_a_thread_do_not_hold_up_coroutines() -> None:
    bench = Bench({"a": 10}, threads=1)
    bench.bring(row(1, "hard"), row(2, "hard"), row(3), row(4))
    assert bench.desk.for_pool.qsize() == 1
    assert [job.claimed.id for job in bench.desk.for_loop] == [3, 4]


def test_what_has_not_begun_in_time_goes_back_and_is_not_fetched_again_until_something_moves() -> None:
    bench = Bench({"a": 2})
    bench.bring(*[row(n) for n in range(1, 6)])
    first = bench.desk.for_loop.popleft()
    assert bench.desk.begin(first)
    second = bench.desk.for_loop.popleft()  # a task was made for it, but the loop is blocked by the first
    load = bench.load(UNSTARTED)
    assert [(one.id, one.claim) for one in load.done if isinstance(one, Release)] == [
        (3, 1),
        (4, 1),
        (5, 1),
        (2, 1),
    ]
    assert all(task == "hard" for _, task in load.want.pairs)
    bench.desk.settle(load, [], UNSTARTED)
    assert not bench.desk.begin(second)
    bench.desk.finish(first, done(first), UNSTARTED + 1, in_loop=True)
    assert ("a", "soft") in bench.load(UNSTARTED + 1).want.pairs


def test_when_all_went_back_before_anything_began_it_is_fetched_again_once_the_loop_lives() -> None:
    bench = Bench({"a": 2})
    bench.bring(*[row(n) for n in range(1, 6)])
    load = bench.load(UNSTARTED)
    assert len(load.done) == 5
    bench.desk.settle(load, [], UNSTARTED)
    assert not any(bench.desk.begin(job) for job in bench.desk.for_loop)
    want = bench.load(UNSTARTED).want
    assert ("a", "soft") in want.pairs
    assert want.limit >= 2


def test_a_finish_is_carried_at_once_when_nothing_else_is_to_do() -> None:
    bench = Bench()
    bench.bring(row(1))
    assert isinstance(bench.next(0.0), Wait)
    bench.run(0.001)
    assert bench.roused["lane"] == 1
    assert [one.id for one in bench.load(0.001).done] == [1]


def test_a_finish_beside_others_waits_at_most_flush() -> None:
    bench = Bench({"a": 2})
    bench.bring(row(1), row(2))
    bench.run(0.001)
    step = bench.next(0.002)
    assert isinstance(step, Wait)
    assert step.seconds == pytest.approx(FLUSH - 0.001)
    assert [one.id for one in bench.load(0.001 + FLUSH).done] == [1]


def test_an_empty_store_leads_to_sleep_and_a_wake_to_a_look() -> None:
    bench = Bench()
    bench.bring()
    assert bench.next(0.0) == Park()
    bench.desk.parked(more=False)
    assert isinstance(bench.next(0.0), Wait)
    bench.desk.wake()
    assert bench.roused["lane"] == 1
    assert bench.load(1.0).want.limit > 0


def test_a_store_that_says_there_is_more_but_gives_nothing_is_asked_once_per_sleep() -> None:
    bench = Bench()
    bench.bring()
    assert bench.next(0.0) == Park()
    bench.desk.parked(more=True)
    bench.bring()
    assert isinstance(bench.next(0.0), Wait)


def test_a_full_queue_does_not_keep_an_empty_one_from_sleep_and_gets_more_as_it_frees_up() -> None:
    bench = Bench({"a": 1, "b": 1})
    load = bench.load(0.0)
    bench.desk.settle(load, [row(1), row(2), row(3)], 0.0)  # all that there was room for in a; none in b
    step = bench.next(1.0)
    while isinstance(step, Load):
        bench.desk.settle(step, [], 1.0)
        step = bench.next(1.0)
    assert step == Park()
    bench.desk.parked(more=False)
    assert isinstance(bench.next(1.0), Wait)


def test_pausing_gives_back_and_claims_nothing_until_resumed() -> None:
    bench = Bench({"a": 1})
    bench.bring(row(1), row(2), row(3))
    job = bench.desk.for_loop.popleft()
    assert bench.desk.begin(job)
    bench.desk.pause(0.0)
    load = bench.load(0.0)
    assert {one.id for one in load.done} == {2, 3}
    assert load.want.limit == 0
    bench.desk.settle(load, [], 0.0)
    bench.desk.finish(job, done(job), 0.1, in_loop=True)
    last = bench.load(0.1)
    assert (len(last.done), last.want.limit) == (1, 0)
    bench.desk.settle(last, [], 0.1)
    assert isinstance(bench.next(0.2), Wait)
    bench.desk.resume()
    assert bench.load(0.3).want.limit > 0


def test_what_arrives_while_pausing_goes_straight_back() -> None:
    bench = Bench()
    load = bench.load(0.0)
    bench.desk.pause(0.0)
    bench.desk.settle(load, [row(1), row(2)], 0.0)
    assert not any(bench.desk.begin(job) for job in bench.desk.for_loop)
    assert {one.id for one in bench.load(0.0).done} == {1, 2}


def test_after_a_lost_trip_nothing_is_claimed_until_it_is_known_what_happened() -> None:
    bench = Bench({"a": 1})
    bench.bring(row(1), row(2))
    bench.run(0.0)
    load = bench.load(FLUSH)
    bench.desk.lost(load)
    assert bench.desk.doubtful
    at_hand, others, carried = bench.desk.belongings()
    assert (at_hand, others, [one.id for one in carried]) == ({(2, 1)}, set(), [1])
    bench.run(0.01)
    at_hand, others, carried = bench.desk.belongings()
    assert (at_hand, others) == (set(), {(2, 1)})
    bench.desk.reconciled([*carried, Release(9, 1)], {(7, 1)}, 0.02)
    assert not bench.desk.doubtful
    assert [one.id for one in bench.load(0.02).done] == [1, 9, 2]


def test_what_the_store_gave_to_others_is_forgotten_if_it_has_not_begun() -> None:
    bench = Bench({"a": 1})
    bench.bring(row(1), row(2))
    bench.desk.lost(bench.load(1.0))
    bench.desk.reconciled([], {(1, 1), (2, 1)}, 1.0)
    assert not any(bench.desk.begin(job) for job in bench.desk.for_loop)
    assert bench.desk.settled()


def test_outcomes_of_a_dead_incarnation_are_late() -> None:
    bench = Bench({"a": 2})
    bench.bring(row(1), row(2), row(3))
    running = bench.desk.for_loop.popleft()
    assert bench.desk.begin(running)
    bench.run(0.0)
    assert bench.desk.forget(0.0) == 1
    assert [one.id for one in bench.late] == [2]
    bench.desk.finish(running, done(running), 0.1, in_loop=True)
    assert [one.id for one in bench.late] == [2, 1]
    assert bench.desk.settled()


def test_what_jobs_said_is_forgotten_when_nobody_carries_their_outcome() -> None:
    """One whose incarnation is dead, one whose outcome was late, and one that spoke on after its end was told."""
    bench = Bench({"a": 3})
    bench.bring(row(1), row(2), row(3))
    running = [bench.desk.for_loop.popleft() for _ in range(3)]
    for job in running:
        assert bench.desk.begin(job)
        job.progress(0.5, "half")
    first, second, third = running
    assert bench.desk.fail_early(first, done(first), 0.0)
    bench.desk.settle(bench.load(0.01), [], 0.01)
    bench.desk.board.take(0.0, [(1, 1)])
    first.progress(0.6, "on")
    bench.desk.finish(first, done(first), 0.1, in_loop=True)
    bench.desk.finish(second, done(second), 0.1, in_loop=True)
    bench.desk.forget(0.2)
    bench.desk.finish(third, done(third), 0.3, in_loop=True)
    assert not bench.desk.board


def test_a_loop_that_finishes_a_job_itself_is_not_roused_but_threads_rouse_it() -> None:
    bench = Bench({"a": 1})
    bench.bring(row(1), row(2), row(3))
    before = bench.roused["loop"]
    bench.run(0.0)
    assert bench.roused["loop"] == before
    job = bench.desk.for_loop.popleft()
    assert bench.desk.begin(job)
    bench.desk.finish(job, done(job), 0.001, in_loop=False)
    assert bench.roused["loop"] == before + 1


def test_a_suspect_runs_alone() -> None:
    bench = Bench({"a": 9})
    first, second = bench.load(0.0), row(1, crashes=2)
    bench.desk.settle(first, [second], 0.0)
    job = bench.desk.for_loop.popleft()
    assert bench.desk.begin(job)
    assert isinstance(bench.next(0.0), Wait)  # nothing is claimed beside it
    bench.desk.wake()
    assert isinstance(bench.next(0.0), Wait)
    bench.desk.finish(job, done(job), 1.0, in_loop=True)
    load = bench.load(1.0)
    assert (len(load.done), load.want.limit > 1) == (1, True)


def test_a_suspect_waits_until_nothing_else_runs_and_what_comes_with_it_waits_for_its_end() -> None:
    bench = Bench({"a": 9})
    bench.bring(row(1), row(2, crashes=2), row(3))
    assert [job.claimed.id for job in bench.desk.for_loop] == [1]
    bench.run(0.001)
    assert [job.claimed.id for job in bench.desk.for_loop] == [2]
    bench.run(0.002)
    assert [job.claimed.id for job in bench.desk.for_loop] == [3]


def test_a_suspect_that_would_have_to_wait_too_long_goes_back_and_the_rest_goes_on() -> None:
    bench = Bench({"a": 9})
    bench.bring(row(1), row(2, crashes=2))
    job = bench.desk.for_loop.popleft()
    assert bench.desk.begin(job)
    assert isinstance(bench.next(0.0), Wait)
    back = bench.load(UNSTARTED)
    assert back.done == [Release(2, 1)]
    bench.desk.settle(back, [], UNSTARTED)
    bench.desk.finish(job, done(job), 1.0, in_loop=True)
    assert bench.load(1.0).want.limit > 1


def test_stuck_plain_functions_alone_cause_no_empty_trips() -> None:
    bench = Bench({"a": 8, "b": 8}, {"hard": PLAIN}, threads=8)
    load = bench.load(0.0)
    bench.desk.settle(load, [row(n, "hard", "a") for n in range(1, 9)], 0.0)
    for _ in range(8):
        job = bench.desk.for_pool.get_nowait()
        assert job is not None
        assert bench.desk.begin(job)
    bench.desk.wake()
    bench.bring(row(9, "hard", "b"))
    back = bench.load(UNSTARTED)
    assert back.done == [Release(9, 1)]
    bench.desk.settle(back, [], UNSTARTED)
    bench.desk.wake()
    assert isinstance(bench.next(UNSTARTED), Wait | Park)


def test_a_thread_that_becomes_free_gets_work_at_once() -> None:
    bench = Bench({"a": 9}, threads=1)
    bench.bring(row(1, "hard"), row(2, "hard"))
    job = bench.desk.for_pool.get_nowait()
    assert job is not None
    assert bench.desk.begin(job)
    back = bench.load(UNSTARTED)
    assert back.done == [Release(2, 1)]
    bench.desk.settle(back, [], UNSTARTED)
    assert bench.next(UNSTARTED) == Park()
    bench.desk.parked(more=False)
    before = bench.roused["lane"]
    bench.desk.finish(job, done(job), 5.0, in_loop=False)
    assert bench.roused["lane"] == before + 1
    assert ("a", "hard") in bench.load(5.0).want.pairs


def test_what_a_pause_hands_back_counts_as_done_from_then_on() -> None:
    bench = Bench({"a": 1})
    bench.bring(row(1), row(2), now=50.0)
    bench.desk.pause(50.01)
    line = next(iter(bench.desk._lines.values()))
    assert (line.busy, line.moved) == (pytest.approx(0.01), 50.01)


def test_a_sleep_that_a_claim_of_another_lane_has_ended_is_none() -> None:
    bench = Bench({"a": 600}, concurrency=600, lanes=2)
    helper = bench.load(0.0)
    bench.bring()
    assert bench.next(0.0) == Park()  # the store now notes that we sleep …
    bench.desk.settle(helper, [row(1)], 0.0)  # … and this claim came after and ended it
    bench.desk.parked(more=False)
    bench.run(0.001)
    load = bench.load(0.001)  # a claim is made along, as by everybody who does not sleep
    bench.desk.settle(load, [], 0.001)
    assert bench.next(0.1) == Park()


def test_what_begins_just_as_it_is_taken_away_leaves_no_trace() -> None:
    bench = Bench()
    bench.bring(row(1))
    job = bench.desk.for_loop.popleft()
    bench.desk._begun.add(job)  # a runner is in the midst of `begin` …
    bench.desk.forget(0.0)
    assert not bench.desk.begin(job)
    assert not bench.desk.begun()
    assert not bench.desk._orphans


# Jobs that have gone stale --------------------------------------------------------------------------------------


def test_a_job_at_hand_does_not_begin_before_another_look_when_the_last_one_is_long_ago() -> None:
    bench = Bench({"a": 1})
    bench.bring(row(1), row(2, priority=2), row(3, priority=2))
    job = bench.desk.for_loop.popleft()
    assert bench.desk.begin(job)
    before = bench.roused["lane"]
    bench.desk.finish(job, done(job), FRESH + 0.001, in_loop=True)
    assert not bench.desk.for_loop
    assert bench.roused["lane"] > before
    load = bench.load(FRESH + 0.001)
    assert load.want.limit >= 1
    bench.desk.settle(load, [row(4, priority=0)], FRESH + 0.002)
    assert [job.claimed.id for job in bench.desk.for_loop] == [4]


def test_a_job_of_the_highest_priority_and_one_that_nobody_can_look_beyond_begin_at_once() -> None:
    bench = Bench({"a": 1})
    bench.bring(row(1, priority=0), row(2, priority=0), row(3))
    bench.run(FRESH * 2)
    assert [job.claimed.id for job in bench.desk.for_loop] == [2]
    bench.desk.doubt()
    bench.run(FRESH * 3)
    assert [job.claimed.id for job in bench.desk.for_loop] == [3]


# Turns of processes beside the worker ---------------------------------------------------------------------------


def turn_of(bench: Bench) -> Turn:
    turn = bench.desk.for_children.popleft()
    assert bench.desk.begin(turn.first)
    return turn


def test_a_turn_holds_one_slot_however_many_jobs_it_is_given() -> None:
    bench = Bench({"a": 2, "b": 1}, APART, isolated=1)
    bench.bring(*[row(n, "apart") for n in range(1, 5)], row(5), row(6, "apart", queue="b"), row(7))
    assert bench.roused["children"] == 1
    turn = turn_of(bench)
    assert not bench.desk.for_children
    assert [job.claimed.id for job in bench.desk.for_loop] == [5]
    assert [job.claimed.id for job in bench.desk.more(turn, 2, 0.0)] == [2, 3]
    assert bench.desk.figures().busy == 2
    assert turn.left == 3
    bench.desk.finish(turn.first, done(turn.first), 0.0, in_loop=False)
    assert turn.left == 2
    assert not bench.desk.for_children


def test_a_turn_gets_no_more_while_a_better_job_waits_for_its_slot() -> None:
    bench = Bench({"a": 1, "b": 1}, APART, isolated=1)
    bench.bring(
        row(1, "apart"), row(2, "apart"), row(3, "apart", queue="b", priority=0), row(4, "apart", queue="b")
    )
    order = []
    for _ in range(4):
        turn = turn_of(bench)
        order.append(turn.first.claimed.id)
        assert len(bench.desk.more(turn, 9, 0.0)) == (1 if turn.first.claimed.id == 1 else 0)
        bench.desk.put_back([job for job in bench.desk.begun() if job is not turn.first], 0.0)
        bench.desk.finish(turn.first, done(turn.first), 0.0, in_loop=False)
    assert order == [3, 1, 2, 4]


def test_what_a_process_had_not_begun_waits_again_at_its_place() -> None:
    bench = Bench({"a": 1}, APART, isolated=2)
    bench.bring(*[row(n, "apart") for n in range(1, 6)])
    turn = turn_of(bench)
    ahead = bench.desk.more(turn, 2, 0.0)
    bench.desk.put_back(ahead, 0.001)
    assert turn.left == 1
    bench.desk.finish(turn.first, done(turn.first), 0.002, in_loop=False)
    assert bench.desk.for_children[0].first.claimed.id == 2


def test_pausing_calls_back_what_lies_ahead_and_then_gives_it_back() -> None:
    bench = Bench({"a": 1}, APART, isolated=1)
    bench.bring(*[row(n, "apart") for n in range(1, 4)])
    turn = turn_of(bench)
    ahead = bench.desk.more(turn, 1, 0.0)
    before = bench.desk.recalls
    bench.desk.pause(0.0)
    assert bench.desk.recalls == before + 1
    assert bench.desk.more(turn, 1, 0.0) == []
    bench.desk.put_back(ahead, 0.0)
    assert {one.id for one in bench.load(0.0).done if isinstance(one, Release)} == {2, 3}


def test_what_a_dead_incarnation_had_lying_ahead_is_dropped() -> None:
    bench = Bench({"a": 1}, APART, isolated=1)
    bench.bring(row(1, "apart"), row(2, "apart"))
    turn = turn_of(bench)
    ahead = bench.desk.more(turn, 1, 0.0)
    bench.desk.forget(0.0)
    bench.desk.put_back(ahead, 0.0)
    bench.desk.finish(turn.first, done(turn.first), 0.0, in_loop=False)
    assert [one.id for one in bench.late] == [1]
    assert bench.desk.settled()


# Stopping -------------------------------------------------------------------------------------------------------


def test_a_job_to_be_cancelled_is_given_back_if_it_has_not_begun_and_named_once_if_it_has() -> None:
    bench = Bench({"a": 1})
    bench.bring(row(1), row(2))
    job = bench.desk.for_loop.popleft()
    assert bench.desk.begin(job)
    assert bench.desk.cancel({(1, 1), (2, 1), (1, 2), (9, 1)}, 0.0) == [job]
    assert job.stop is Stop.CANCEL
    assert bench.desk.cancel({(1, 1)}, 0.0) == []
    assert [one.id for one in bench.load(0.0).done] == [2]


def test_a_job_that_failed_early_keeps_its_slot_and_its_later_outcome_is_dropped() -> None:
    bench = Bench({"a": 1}, threads=1)
    bench.bring(row(1, "hard"), row(2, "hard"))
    job = bench.desk.for_pool.get_nowait()
    assert job is not None
    assert bench.desk.begin(job)
    assert bench.desk.fail_early(job, done(job), 0.0)
    assert not bench.desk.fail_early(job, done(job), 0.0)
    assert bench.desk.for_pool.empty()
    assert [one.id for one in bench.load(0.005).done] == [1]
    bench.desk.finish(job, done(job), 0.006, in_loop=False)
    assert bench.desk.for_pool.qsize() == 1
    assert not bench.desk.farewell().done


class AnyOrder(RuleBasedStateMachine):
    """Whatever happens in whatever order: no job is lost, doubled, or run beyond its slots; suspects run alone; no
    trip is made for nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.kinds = KINDS
        self.ids = count(1)
        self.store: dict[int, str] = {}  # id → "ready", "running", "done"
        self.claims: Counter[int] = Counter()
        self.flying: list[Load] = []
        self.running: list[Job] = []
        self.runs: Counter[int] = Counter()
        self.facts: dict[int, tuple[str, str]] = {}
        self.suspects: set[int] = set()
        self.hands: list[tuple[Turn, list[Job]]] = []  # what processes have, the one that runs first

    @initialize(
        tasks=st.sampled_from(
            [("soft", "hard"), ("soft",), ("hard",), ("apart",), ("soft", "apart"), ("soft", "hard", "apart")]
        )
    )
    def make(self, tasks: tuple[str, ...]) -> None:
        self.kinds = {task: APART[task] for task in tasks}
        self.bench = Bench({"a": 2, "b": 3}, self.kinds, concurrency=4, threads=2, isolated=2, lanes=2)

    @rule(
        which=st.integers(0, 2),
        queue=st.sampled_from("ab"),
        number=st.integers(1, 8),
        suspect=st.sampled_from([False, False, True]),
    )
    def submit(self, which: int, queue: str, number: int, suspect: bool) -> None:
        for _ in range(number):
            job = next(self.ids)
            self.store[job] = "ready"
            self.facts[job] = (list(self.kinds)[which % len(self.kinds)], queue)
            if suspect:
                self.suspects.add(job)
        self.bench.desk.wake()

    @rule(seconds=st.sampled_from([0.0, 0.001, 0.01, 0.2]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: len(self.flying) < 2)
    @rule()
    def look(self) -> None:
        match self.bench.desk.next(self.now, main=not self.flying):
            case Load() as load:
                assert load.done or load.want.limit
                self.flying.append(load)
            case Park():
                self.bench.desk.parked(more="ready" in self.store.values())
            case Wait():
                pass

    @precondition(lambda self: self.flying)
    @rule(which=st.integers(0, 1))
    def land(self, which: int) -> None:
        load = self.flying.pop(which % len(self.flying))
        for one in load.done:
            assert self.store[one.id] == "running"
            assert self.claims[one.id] == one.claim
            self.store[one.id] = "ready" if isinstance(one, Release) else "done"
        room = dict(load.want.room)
        claimed = []
        for job, state in self.store.items():
            task, queue = self.facts[job]
            if (
                state == "ready"
                and (queue, task) in load.want.pairs
                and room[queue]
                and len(claimed) < load.want.limit
            ):
                if claimed and job in self.suspects:
                    break
                room[queue] -= 1
                self.store[job] = "running"
                self.claims[job] += 1
                claimed.append(
                    row(job, task, queue, claim=self.claims[job], crashes=2 * (job in self.suspects))
                )
                if job in self.suspects:
                    break
        self.bench.desk.settle(load, claimed, self.now)

    @rule()
    def begin(self) -> None:
        desk = self.bench.desk
        while desk.for_loop or not desk.for_pool.empty():
            job = desk.for_loop.popleft() if desk.for_loop else desk.for_pool.get_nowait()
            assert job is not None
            if desk.begin(job):
                assert self.claims[job.claimed.id] == job.claimed.claim
                self.running.append(job)
                self.runs[job.claimed.id] += 1
        while desk.for_children:
            turn = desk.for_children.popleft()
            if desk.begin(turn.first):
                self.hands.append((turn, [turn.first]))

    @precondition(lambda self: self.hands)
    @rule(which=st.integers(0, 1), number=st.integers(1, 4))
    def feed(self, which: int, number: int) -> None:
        turn, hand = self.hands[which % len(self.hands)]
        for job in self.bench.desk.more(turn, number, self.now):
            assert self.claims[job.claimed.id] == job.claimed.claim
            assert job.line is turn.line
            hand.append(job)

    @precondition(lambda self: self.hands)
    @rule(which=st.integers(0, 1))
    def finish_apart(self, which: int) -> None:
        turn, hand = self.hands[which % len(self.hands)]
        job = hand.pop(0)
        self.runs[job.claimed.id] += 1
        if not hand:
            self.hands = [(each, rest) for each, rest in self.hands if each is not turn]
        self.bench.desk.finish(job, done(job), self.now, in_loop=False)

    @precondition(lambda self: self.hands)
    @rule(which=st.integers(0, 1))
    def recall(self, which: int) -> None:
        _, hand = self.hands[which % len(self.hands)]
        back, hand[1:] = hand[1:], []
        if back:
            self.bench.desk.put_back(back, self.now)

    @precondition(lambda self: self.running)
    @rule(which=st.integers(0, 9))
    def finish(self, which: int) -> None:
        job = self.running.pop(which % len(self.running))
        self.bench.desk.finish(job, done(job), self.now, in_loop=True)

    @rule()
    def pause(self) -> None:
        self.bench.desk.pause(self.now)
        self.bench.desk.resume()

    @invariant()
    def slots_are_kept(self) -> None:
        queues = Counter(job.line.queue for job in self.running)
        queues.update(turn.line.queue for turn, _ in self.hands)
        assert len(self.hands) <= 2
        assert queues["a"] <= 2
        assert queues["b"] <= 3
        assert len(self.running) + len(self.hands) <= 4
        assert sum(job.kind == PLAIN for job in self.running) <= 2

    @invariant()
    def suspects_run_alone(self) -> None:
        if any(job.claimed.crashes for job in self.running):
            assert len(self.running) == 1
            assert not self.hands

    @invariant()
    def nothing_runs_twice(self) -> None:
        assert all(times == 1 for times in self.runs.values())

    def teardown(self) -> None:
        """Left alone with a healthy store, everything ends."""
        for _ in range(10_000):
            if all(state == "done" for state in self.store.values()) and self.bench.desk.settled():
                return
            self.look() if len(self.flying) < 2 else None
            while self.flying:
                self.land(0)
            self.begin()
            while self.running:
                self.finish(0)
            while self.hands:
                self.finish_apart(0)
            self.now += 0.01
            self.bench.desk.wake()
        raise AssertionError(f"never done: {self.store}")


AnyOrder.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAnyOrder = AnyOrder.TestCase


def test_what_could_not_be_recorded_for_somebodys_sake_is_carried_again_after_ever_longer_pauses() -> None:
    bench = Bench()
    bench.bring(row(1), row(2))
    first, second = bench.run(1.0), bench.run(1.0)
    now, pauses = 2.0, []
    load = bench.load(now)
    assert load.done == [done(first), done(second)]
    for _ in range(8):
        bench.desk.put_off([done(first)], now)
        bench.desk.settle(load, (), now)
        assert not bench.desk.settled()
        assert bench.desk.belongings()[1] == {(1, 1)}
        step = bench.next(now)
        while not isinstance(step, Wait):
            bench.desk.parked(more=False) if isinstance(step, Park) else bench.desk.settle(step, (), now)
            step = bench.next(now)
        assert step.seconds is not None
        pauses.append(step.seconds)
        now += step.seconds
        load = bench.load(now)
        assert load.done == [done(first)]
    bench.desk.settle(load, (), now)
    assert bench.desk.settled()
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == pytest.approx(AGAIN)


def test_what_is_put_off_goes_with_the_farewell_and_is_late_when_the_incarnation_is_dead() -> None:
    bench = Bench()
    bench.bring(row(1), row(2))
    first, second = bench.run(1.0), bench.run(1.0)
    load = bench.load(2.0)
    bench.desk.put_off([done(first)], 2.0)
    bench.desk.settle(load, (), 2.0)
    bench.desk.forget(2.0)
    assert bench.late == [done(first)]
    bench.desk.put_off([done(second)], 2.0)
    assert bench.desk.farewell().done == [done(second)]
    assert bench.desk.farewell().done == []
