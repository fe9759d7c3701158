"""The life of a slot, against a small world that performs its actions in any order and delay."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from coserver.model.restart import RestartPolicy
from coserver.model.service import (
    AskToEnd,
    Backoff,
    Began,
    Clear,
    Clearing,
    Due,
    Emptied,
    End,
    Ended,
    Event,
    Exited,
    Fatal,
    Forget,
    Kill,
    NotBegun,
    Readiness,
    Restart,
    Rules,
    Running,
    SetTimer,
    Slot,
    Spawn,
    Start,
    Starting,
    Stop,
    Stopped,
    Stopping,
    StopTimer,
    Then,
    describe,
    run_of,
    step,
    word,
)
from coserver.model.statuses import RECYCLED, UNFIT

CRASH = End(at=0, signal=11)


def follow(
    slot: Slot, *events: Event, rules: Rules | None = None, now: float = 100.0
) -> tuple[Slot, list[object]]:
    actions: list[object] = []
    for event in events:
        slot, more = step(slot, event, rules or Rules(), now=now, chance=0.5)
        actions += more
    return slot, actions


def running(run: int = 1, rules: Rules | None = None) -> Slot:
    return follow(Slot(), Start(), Began(run, 50), rules=rules)[0]


def test_a_start_spawns_the_next_run_and_is_ready_when_nobody_reports_readiness() -> None:
    slot, actions = follow(Slot(run=6), Start(), Began(7, 50))
    assert actions == [Spawn(7)]
    assert slot.state == Running(7, 50, since=100.0, ready=True)


def test_a_process_that_reports_readiness_runs_before_it_is_ready() -> None:
    rules = Rules(reports_ready=True)
    slot = running(rules=rules)
    assert slot.state == Running(1, 50, since=100.0, ready=False)
    slot, _ = follow(slot, Readiness(1, True), rules=rules)
    assert slot.state == Running(1, 50, since=100.0, ready=True)


def test_a_stop_asks_then_kills_at_the_deadline_and_rests_only_when_empty() -> None:
    slot, actions = follow(running(), Stop())
    assert actions == [AskToEnd(1), SetTimer(1, 110.0)]
    slot, actions = follow(slot, Due(1), now=110.0)
    assert actions == [Kill(1)]
    slot, actions = follow(slot, Ended(1, CRASH), now=110.0)
    assert actions == [Clear(1), Kill(1)]
    assert word(slot.state) == "stopping"
    slot, actions = follow(slot, Emptied(1))
    assert slot.state == Stopped()
    assert actions == [StopTimer(), Forget(1)]


def test_a_leader_that_ends_leaving_others_behind_is_not_restarted_before_they_are_gone() -> None:
    slot, actions = follow(running(), Ended(1, CRASH))
    assert actions == [Clear(1), SetTimer(1, 102.0)]
    slot, actions = follow(slot, Due(1), now=102.0)
    assert actions == [Kill(1)]
    slot, actions = follow(slot, Emptied(1))
    assert actions == [StopTimer(), Forget(1), Spawn(2)]
    assert slot.restarts == 1


def test_news_of_another_run_change_nothing() -> None:
    slot = running()
    for event in (Ended(2, CRASH), Ended(0, CRASH), Readiness(2, False), Due(1), Began(3, 9), Emptied(1)):
        assert follow(slot, event) == (slot, [])


def test_a_start_during_a_stop_begins_a_new_run_once_the_old_one_is_empty() -> None:
    slot, _ = follow(running(), Stop(), Start())
    assert isinstance(slot.state, Stopping)
    slot, actions = follow(slot, Ended(1, CRASH), Emptied(1))
    assert slot.state == Starting(2, 100.0)
    assert Spawn(2) in actions


def test_a_stop_during_a_restart_wins() -> None:
    slot, _ = follow(running(), Restart(), Stop(), Ended(1, CRASH), Emptied(1))
    assert slot.state == Stopped()


def test_too_many_ends_are_fatal_and_an_operator_forgives_them() -> None:
    rules = Rules(restart=RestartPolicy(give_up=(2, 60.0)))
    slot = running(rules=rules)
    slot, _ = follow(
        slot, Ended(1, CRASH), Emptied(1), Began(2, 51), Ended(2, CRASH), Emptied(2), rules=rules
    )
    assert isinstance(slot.state, Fatal)
    assert slot.state.reason == "ended 2 times within 60 s; last: killed by signal 11"
    slot, actions = follow(slot, Start(), rules=rules)
    assert actions == [Spawn(3)]
    assert slot.record.ends == ()


def test_a_program_that_cannot_be_started_waits_on_a_timer() -> None:
    missing = End(at=0, reason="no such program")
    slot, _ = follow(Slot(), Start(), NotBegun(1, missing), Emptied(1), NotBegun(2, missing), Emptied(2))
    assert isinstance(slot.state, Backoff)
    assert slot.state.until > 100.0
    slot, actions = follow(slot, Due(2))
    assert actions == [Spawn(3)]


def test_a_stop_ends_a_backoff() -> None:
    slot = Slot(state=Backoff(3, CRASH, until=200.0), run=3)
    assert follow(slot, Stop())[0].state == Stopped()
    assert follow(slot, Stop(), Due(3))[0].state == Stopped()


def test_a_successful_end_rests_when_only_failures_restart() -> None:
    rules = Rules(restart=RestartPolicy(when="on-failure"))
    slot, _ = follow(running(rules=rules), Ended(1, End(at=0, status=0)), Emptied(1), rules=rules)
    assert slot.state == Exited(1, End(at=0, status=0))
    assert describe(End(at=0, status=0)) == "exit status 0"


class World(RuleBasedStateMachine):
    """A keeper, processes and timers, all as slow and as unkind as chance wants."""

    def __init__(self) -> None:
        super().__init__()
        self.rules = Rules(restart=RestartPolicy(give_up=(4, 30.0)), reports_ready=True)
        self.slot = Slot()
        self.now = 0.0
        self.leaders: dict[int, str] = {}
        """run → asked (the keeper has not confirmed), alive, dead (the zombie that is kept)"""
        self.strays: set[int] = set()
        self.clearing: set[int] = set()
        self.timer: tuple[int, float] | None = None
        self.news: list[Event] = []
        self.wanted: str | None = None

    def feed(self, event: Event, chance: float = 0.5) -> None:
        self.slot, actions = step(self.slot, event, self.rules, now=self.now, chance=chance)
        for action in actions:
            match action:
                case Spawn(run):
                    assert not self.leaders and not self.strays, "a run began before the old one was empty"
                    assert run == self.slot.run
                    self.leaders[run] = "asked"
                case AskToEnd(run):
                    assert run in self.leaders, "asked a run that is over"
                case Kill(run):
                    if self.leaders.get(run) == "alive":
                        self.end(run)
                    self.strays.discard(run)
                case Clear(run):
                    assert self.leaders.get(run) == "dead"
                    self.clearing.add(run)
                case Forget(run):
                    assert self.leaders.pop(run) == "dead"
                    assert run not in self.strays
                    self.clearing.discard(run)
                case SetTimer(run, at):
                    self.timer = (run, at)
                case StopTimer():
                    self.timer = None

    def end(self, run: int) -> None:
        self.leaders[run] = "dead"
        self.news.append(Ended(run, CRASH))

    @rule(command=st.sampled_from([Start(), Stop(), Stop(now=True), Restart()]))
    def operator(self, command: Event) -> None:
        self.wanted = "down" if isinstance(command, Stop) else "up"
        self.feed(command)

    @precondition(lambda self: "asked" in self.leaders.values())
    @rule(works=st.booleans())
    def keeper_answers(self, works: bool) -> None:
        (run,) = (run for run, state in self.leaders.items() if state == "asked")
        if works:
            self.leaders[run] = "alive"
            self.news.append(Began(run, 1000 + run))
        else:
            self.leaders[run] = "dead"
            self.news.append(NotBegun(run, End(at=0, reason="no such program")))

    @precondition(lambda self: "alive" in self.leaders.values())
    @rule(leaves_something=st.booleans())
    def process_ends(self, leaves_something: bool) -> None:
        (run,) = (run for run, state in self.leaders.items() if state == "alive")
        if leaves_something:
            self.strays.add(run)
        self.end(run)

    @precondition(lambda self: "alive" in self.leaders.values())
    @rule(ready=st.booleans())
    def process_reports(self, ready: bool) -> None:
        (run,) = (run for run, state in self.leaders.items() if state == "alive")
        self.news.append(Readiness(run, ready))

    @precondition(lambda self: self.strays)
    @rule()
    def strays_end(self) -> None:
        self.strays.clear()

    @precondition(lambda self: self.clearing - self.strays)
    @rule()
    def containment_answers(self) -> None:
        for run in self.clearing - self.strays:
            self.clearing.discard(run)
            self.news.append(Emptied(run))

    @precondition(lambda self: self.news)
    @rule()
    def news_arrive(self) -> None:
        self.feed(self.news.pop(0))

    @precondition(lambda self: self.timer)
    @rule()
    def timer_goes_off(self) -> None:
        assert self.timer is not None
        run, at = self.timer
        self.timer = None
        self.now = max(self.now, at)
        self.feed(Due(run))

    @rule(
        late=st.one_of(
            st.builds(Due, st.integers(-1, 0)),
            st.builds(Emptied, st.integers(-1, 0)),
            st.builds(Ended, st.integers(-1, 0), st.just(CRASH)),
        )
    )
    def late_news_arrive(self, late: Event) -> None:
        before = self.slot
        self.feed(late)
        assert self.slot == before

    @rule(seconds=st.floats(0.0, 20.0))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def at_most_one_run_has_processes(self) -> None:
        assert len(self.leaders) <= 1
        run = run_of(self.slot.state)
        assert set(self.leaders) <= {run}

    @invariant()
    def whatever_waits_has_somebody_who_will_answer(self) -> None:
        state = self.slot.state
        match state:
            case Starting():
                assert self.leaders[state.run] == "asked" or self.news
            case Running():
                assert self.leaders[state.run] == "alive" or self.news
            case Stopping():
                assert self.leaders[state.run] in ("asked", "alive") or self.news
                assert state.deadline is None or self.timer or self.leaders[state.run] == "dead"
            case Clearing():
                assert state.run in self.clearing or self.news
                assert state.deadline is None or self.timer
            case Backoff():
                assert self.timer == (state.run, state.until)
            case Stopped() | Exited() | Fatal():
                assert not self.leaders and self.timer is None

    def teardown(self) -> None:
        """However it went, once the world answers everything the last command has its way."""
        for _ in range(100):
            if self.news:
                self.feed(self.news.pop(0))
            elif "asked" in self.leaders.values():
                self.keeper_answers(True)
            elif self.wanted == "down" and "alive" in self.leaders.values():
                self.process_ends(False)
            elif self.clearing:
                self.strays.clear()
                self.containment_answers()
            elif self.timer and self.timer[1] <= self.now + 60:
                self.timer_goes_off()
            else:
                break
        if self.wanted == "down":
            assert self.slot.state in (Stopped(),)
        elif self.wanted == "up":
            assert isinstance(self.slot.state, Running | Fatal)


TestWorld = World.TestCase


@given(st.sampled_from(list(Then)))
def test_an_empty_run_leads_somewhere_whatever_was_asked(then: Then) -> None:
    slot = Slot(state=Clearing(4, CRASH, 1.0, then, None), run=4)
    after, actions = follow(slot, Emptied(4))
    assert Forget(4) in actions
    assert not isinstance(after.state, Clearing)


def test_a_process_of_ours_that_is_worn_is_replaced_at_once_and_that_is_no_failure() -> None:
    worn = End(at=0, status=RECYCLED)
    for when in ("always", "on-failure", "never"):
        rules = Rules(restart=RestartPolicy(when=when, give_up=(1, 60.0)), ours=True)
        slot, actions = follow(running(), Ended(1, worn), Emptied(1), rules=rules)
        assert isinstance(slot.state, Starting)
        assert Spawn(2) in actions
        assert (slot.restarts, slot.record.ends) == (0, ())
    stopped, _ = follow(running(), Stop(), Ended(1, worn), Emptied(1), rules=Rules(ours=True))
    assert isinstance(stopped.state, Stopped)


def test_a_process_of_ours_that_cannot_work_is_not_tried_again() -> None:
    slot, actions = follow(running(), Ended(1, End(at=0, status=UNFIT)), Emptied(1), rules=Rules(ours=True))
    assert isinstance(slot.state, Fatal)
    assert Spawn(2) not in actions
    again, _ = follow(slot, Start())
    assert isinstance(again.state, Starting)


def test_the_same_statuses_of_a_foreign_program_mean_nothing() -> None:
    for status in (RECYCLED, UNFIT):
        slot, _ = follow(running(), Ended(1, End(at=0, status=status)), Emptied(1))
        assert len(slot.record.ends) == 1
