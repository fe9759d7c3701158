"""The store against a simple model of itself: whatever the sequence of calls, both tell the same story.

The model is a dictionary of jobs and the rules of `model.job` in a few lines. It knows no SQL, no time and no
concurrency: leases last for ever here, deaths come by `bury`, delays are either none or for ever.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from coserver.model.job import (
    Cancelled,
    Claimed,
    Edge,
    Failed,
    Interrupted,
    JobFilter,
    NewJob,
    On,
    Outcome,
    Priority,
    Release,
    Retry,
    State,
    Succeeded,
    TakeOver,
)
from coserver.store import open_store
from coserver.store.contract import Store
from tests.postgres import Server
from tests.store_contract.helpers import ERROR, job, join, swap

QUEUES = ("default", "mail")
TASKS = ("a:one", "a:two")
PAIRS = [(queue, task) for queue in QUEUES for task in TASKS]
EVER = 10**15


@dataclass
class Wait:
    """An edge to a parent; `end` is None as long as that has not ended."""

    parent: int
    on: On
    end: State | None = None


@dataclass
class Job:
    """A job as the model knows it; `place` is its rank in line. `parent`: somebody waits for it, or did."""

    queue: str
    task: str
    priority: int
    max_crashes: int
    state: State
    place: int = 0
    worker: int | None = None
    claim: int = 0
    attempt: int = 0
    crashes: int = 0
    later: bool = False
    unique: str | None = None
    until_started: bool = False
    asked: bool = False
    parent: bool = False
    waits: list[Wait] = field(default_factory=list)

    @property
    def awaits(self) -> bool:
        return any(wait.end is None for wait in self.waits)


@dataclass
class Model:
    jobs: dict[int, Job] = field(default_factory=dict)
    live: set[int] = field(default_factory=set)
    places: int = 0

    def place(self) -> int:
        self.places += 1
        return self.places

    def line(self, pairs: list[tuple[str, str]]) -> list[int]:
        ready = [
            n for n, one in self.jobs.items() if one.state == State.QUEUED and (one.queue, one.task) in pairs
        ]
        return sorted(ready, key=lambda n: (self.jobs[n].priority, self.jobs[n].place))

    def batch(self, pairs: list[tuple[str, str]], limit: int) -> list[int]:
        """Up to `limit` of the line; a job that has killed workers comes alone, and nothing passes it."""
        chosen: list[int] = []
        for number in self.line(pairs):
            if len(chosen) == limit:
                break
            if self.jobs[number].crashes:
                return chosen or [number]
            chosen.append(number)
        return chosen

    def pick(self, chances: Iterable[int]) -> list[int]:
        """Some of the jobs."""
        numbers = sorted(self.jobs)
        return sorted({numbers[chance % len(numbers)] for chance in chances})

    def holder(self, key: str | None) -> int | None:
        """The living job of a unique key."""
        if key is None:
            return None
        return next((n for n, one in self.jobs.items() if one.unique == key and not one.state.final), None)

    def let_go(self, numbers: list[int]) -> None:
        for number in numbers:
            one = self.jobs[number]
            one.state = State.SCHEDULED if one.later else State.QUEUED
            one.place = one.place if one.later else self.place()

    def end(self, ends: dict[int, State]) -> None:
        """End jobs, wave after wave, and let go who waits no more."""
        free: list[int] = []
        wave, ended = dict(ends), set(ends)
        while wave:
            for number, state in wave.items():
                self.jobs[number].state = state
            follow: dict[int, State] = {}
            for child, one in sorted(self.jobs.items()):
                told = [wait for wait in one.waits if wait.end is None and wait.parent in wave]
                for wait in told:
                    wait.end = wave[wait.parent]
                if not told or child in ended or one.state.final:
                    continue
                over = [wait for wait in told if wait.on == On.TAKE_OVER]
                if over:
                    follow[child] = wave[over[0].parent]
                elif not all(_fits(wait) for wait in told):
                    follow[child] = State.CANCELLED
                elif not one.awaits and one.state == State.WAITING:
                    free.append(child)
            wave = follow
            ended |= set(follow)
        self.let_go(free)

    def waits_for(self, number: int, other: int) -> bool:
        """Whether a job waits for another, directly or through others, or is it."""
        return number == other or any(
            self.waits_for(wait.parent, other)
            for wait in self.jobs[number].waits
            if wait.end is None and wait.parent in self.jobs
        )


def _fits(wait: Wait) -> bool:
    return wait.on == On.END or (wait.end == State.SUCCEEDED) == (wait.on == On.SUCCESS)


def _unmet(one: Job) -> list[Wait]:
    """Those parents of a job of which it is not known that they have ended as it asks."""
    return [wait for wait in one.waits if wait.on != On.TAKE_OVER and (wait.end is None or not _fits(wait))]


@dataclass(frozen=True)
class Given:
    """What a submit says of one job, as far as it is drawn; `after`: (chance, end, of this submit)."""

    pair: tuple[str, str]
    priority: Priority = Priority.NORMAL
    max_crashes: int = 2
    later: bool = False
    held: bool = False
    unique: str | None = None
    until_started: bool = False
    after: tuple[tuple[int, On, bool], ...] = ()


CHANCES = st.integers(0, 40)
PLAIN = st.builds(Given, st.sampled_from(PAIRS), st.sampled_from(Priority), st.integers(1, 2), st.booleans())
RICH = st.builds(
    Given,
    st.sampled_from(PAIRS),
    st.sampled_from(Priority),
    st.integers(1, 2),
    st.sampled_from([False, False, False, True]),
    st.sampled_from([False, False, True]),
    st.sampled_from([None, None, "a", "b"]),
    st.booleans(),
    st.lists(
        st.tuples(CHANCES, st.sampled_from([On.SUCCESS, On.FAILURE, On.END]), st.booleans()), max_size=3
    ).map(tuple),
)
ENDS = st.one_of(st.sampled_from(["back", "ok", "again", "bad", "later", "stop", "cut"]), CHANCES)
"""How a job ends; a number: it takes over from another."""


class Machine(RuleBasedStateMachine):
    """The calls that change anything, in any order."""

    store: Store
    workers: Bundle[int] = Bundle("workers")
    claims: Bundle[tuple[int, int, int]] = Bundle("claims")

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.forgotten: Counter[State] = Counter()

    @initialize(target=workers, others=st.integers(0, 2))
    def begin(self, others: int) -> Any:
        """Something is there from the beginning, so that few steps reach far."""
        self.submit([Given(PAIRS[0])] * 3 + [Given(PAIRS[3], Priority.HIGH, 1)])
        return multiple(*[self.register() for _ in range(others + 1)])

    @rule(target=workers)
    def register(self) -> int:
        number = join(self.store, token=f"t{self.model.place()}", lease=3600, tasks=TASKS, queues=QUEUES)
        self.model.live.add(number)
        return number

    @rule(jobs=st.one_of(st.lists(PLAIN, min_size=1, max_size=6), st.lists(RICH, min_size=1, max_size=4)))
    def submit(self, jobs: list[Given]) -> None:
        known = sorted(self.model.jobs)
        numbers = self.store.submit([_new(given, place, known) for place, given in enumerate(jobs)])
        for place, (number, given) in enumerate(zip(numbers, jobs, strict=True)):
            holder = self.model.holder(given.unique)
            assert number == -holder if holder is not None else number > max(self.model.jobs, default=0)
            if holder is not None:
                continue
            one = Job(
                *given.pair,
                given.priority,
                given.max_crashes,
                State.HELD if given.held else State.WAITING,
                later=given.later,
                unique=given.unique,
                until_started=given.until_started,
            )
            for edge in _new(given, place, known).after:
                parent = abs(numbers[edge.job]) if edge.here else edge.job
                end = self.model.jobs[parent].state
                one.waits.append(Wait(parent, edge.on, end if end.final else None))
                self.model.jobs[parent].parent |= not end.final
            self.model.jobs[number] = one
        stored = [number for number in numbers if number > 0]
        ends = [
            n for n in stored if not all(wait.end is None or _fits(wait) for wait in self.model.jobs[n].waits)
        ]
        free = [
            n
            for n in stored
            if n not in ends and not self.model.jobs[n].awaits and self.model.jobs[n].state == State.WAITING
        ]
        self.model.end(dict.fromkeys(ends, State.CANCELLED))
        self.model.let_go(free)

    @rule(
        target=claims,
        worker=workers,
        pairs=st.one_of(st.just(PAIRS), st.lists(st.sampled_from(PAIRS), min_size=1, unique=True)),
        limit=st.integers(1, 5),
    )
    def claim(self, worker: int, pairs: list[tuple[str, str]], limit: int) -> Any:
        got = swap(self.store, worker, limit=limit, pairs=pairs)
        expected = self.model.batch(pairs, limit) if worker in self.model.live else []
        assert got.live == (worker in self.model.live)
        assert [held.id for held in got.claimed] == expected
        for held in got.claimed:
            one = self.model.jobs[held.id]
            one.state, one.worker, one.claim = State.RUNNING, worker, one.claim + 1
            if one.until_started:
                one.unique, one.until_started = None, False
            assert held == _as_claimed(held, one)
        return multiple(*[(worker, held.id, held.claim) for held in got.claimed])

    @rule(
        told=st.lists(claims, min_size=1, max_size=4, unique=True),
        ends=st.lists(ENDS, min_size=4, max_size=4),
    )
    def finish(self, told: list[tuple[int, int, int]], ends: list[str | int]) -> None:
        worker = told[0][0]
        outcomes: list[Outcome] = []
        stale: list[int] = []
        slow: list[tuple[int, Outcome]] = []
        # In the order of ids, because that is the order in which one of the databases takes them anyway.
        by_id = {number: (claim, end) for (_, number, claim), end in zip(told, ends, strict=False)}
        for number, (claim, end) in sorted(by_id.items()):
            outcome = self._outcome(end, number, claim)
            outcomes.append(outcome)
            one = self.model.jobs.get(number)
            if one is None or (one.state, one.worker, one.claim) != (State.RUNNING, worker, claim):
                stale += [] if one is not None and _recorded(one, outcome) else [number]
            elif one.asked or one.parent or isinstance(outcome, Cancelled | TakeOver | Interrupted):
                slow.append((number, outcome))
            else:
                self._end_plainly(one, outcome)
        self._end_slowly(slow)
        got = swap(self.store, worker, outcomes, limit=0, pairs=[])
        assert sorted(got.stale) == sorted(stale)

    def _outcome(self, end: str | int, number: int, claim: int) -> Outcome:
        if isinstance(end, int):
            return TakeOver(number, claim, self.model.pick([end])[0], 1)
        return _outcome(end, number, claim)

    def _end_plainly(self, one: Job, outcome: Outcome) -> None:
        one.worker = None
        match outcome:
            case Succeeded() | Failed():
                one.state = State.SUCCEEDED if isinstance(outcome, Succeeded) else State.FAILED
            case Retry(delay=delay):
                self._charge(one, delay)
            case _:
                one.state = State.QUEUED

    def _charge(self, one: Job, delay: int) -> None:
        one.attempt += 1
        one.state = State.SCHEDULED if delay else State.QUEUED
        one.place = one.place if delay else self.model.place()

    def _end_slowly(self, told: list[tuple[int, Outcome]]) -> None:
        """Flagged jobs: who takes over first, then ends with all that follows, then those that go on."""
        ends: dict[int, State] = {}
        after: list[tuple[Job, int]] = []
        for number, outcome in told:
            one = self.model.jobs[number]
            one.worker = None
            match outcome:
                case Succeeded():
                    ends[number] = State.SUCCEEDED
                case Failed():
                    ends[number] = State.FAILED
                case Cancelled():
                    ends[number] = State.CANCELLED
                case _ if one.asked:
                    ends[number] = State.CANCELLED
                case Interrupted() if one.max_crashes == 1:
                    ends[number] = State.LOST
                case Retry(delay=delay):
                    after.append((one, delay))
                case TakeOver(job=other):
                    if self.model.jobs[other].state.final:
                        ends[number] = self.model.jobs[other].state
                    elif self.model.waits_for(other, number):
                        ends[number] = State.FAILED
                    else:
                        one.state = State.WAITING
                        one.waits.append(Wait(other, On.TAKE_OVER))
                        self.model.jobs[other].parent = True
                case _:
                    one.state = State.QUEUED
        self.model.end(ends)
        for one, delay in after:
            self._charge(one, delay)

    @rule(worker=workers, begun=st.one_of(st.none(), st.sets(CHANCES)))
    def bury(self, worker: int, begun: set[int] | None) -> None:
        known = None if begun is None else set(self.model.pick(begun))
        token = dict(self.store.live_tokens()).get(worker)
        assert (token is not None) == (worker in self.model.live)
        rescue = self.store.bury(
            token or "nobody", started=None if known is None else sorted(known), note="killed"
        )
        uncharged, crashed, lost = [], [], []
        ends: dict[int, State] = {}
        for number, one in self._left(worker):
            if one.asked:
                ends[number] = State.CANCELLED
                continue
            if known is not None and number not in known:
                one.state = State.QUEUED
                uncharged.append(number)
                continue
            one.crashes += 1
            if one.crashes < one.max_crashes:
                one.state = State.QUEUED
                crashed.append(number)
            else:
                ends[number] = State.LOST
                lost.append(number)
        self.model.end(ends)
        self.model.live.discard(worker)
        assert (sorted(rescue.uncharged), sorted(rescue.crashed), sorted(rescue.lost)) == (
            uncharged,
            crashed,
            lost,
        )

    def _left(self, worker: int) -> list[tuple[int, Job]]:
        """What a live worker holds."""
        return [
            (number, one)
            for number, one in sorted(self.model.jobs.items())
            if worker in self.model.live and one.state == State.RUNNING and one.worker == worker
        ]

    @rule(worker=workers)
    def leave(self, worker: int) -> None:
        self.store.leave(worker)
        ends: dict[int, State] = {}
        for number, one in self._left(worker):
            one.worker = None
            if one.asked:
                ends[number] = State.CANCELLED
            else:
                one.state = State.QUEUED
        self.model.end(ends)
        self.model.live.discard(worker)

    @rule(chances=st.sets(CHANCES, max_size=8))
    def retry(self, chances: set[int]) -> None:
        numbers = self.model.pick(chances)
        before: dict[int, State] = {}
        for number in numbers:
            one = self.model.jobs[number]
            if not one.state.final or one.state == State.SUCCEEDED or self.model.holder(one.unique):
                continue
            before[number] = one.state
            one.state, one.parent = State.WAITING, False
        barred: set[int] = set()
        for number in before:
            if not self._can_wait_again(self.model.jobs[number], barred):
                barred.add(number)
        for number in barred:
            self.model.jobs[number].state = before.pop(number)
        for number in before:
            one = self.model.jobs[number]
            one.attempt = one.crashes = 0
            one.asked = one.later = one.until_started = False
            one.waits = [wait for wait in one.waits if wait.end is not None or wait.on != On.TAKE_OVER]
            for wait in _unmet(one):
                state = self.model.jobs[wait.parent].state
                wait.end = state if state.final else None
        assert self.store.retry(numbers) == list(before)
        self.model.let_go([number for number in before if not self.model.jobs[number].awaits])

    def _can_wait_again(self, one: Job, barred: set[int]) -> bool:
        """Whether each parent that has not ended as asked can still do so, or has; the living learn of it."""
        can = True
        for wait in _unmet(one):
            parent = self.model.jobs.get(wait.parent)
            if parent is None or wait.parent in barred:
                can = False
            elif parent.state.final:
                can &= _fits(Wait(wait.parent, wait.on, parent.state))
            if parent is not None and not parent.state.final:
                parent.parent = True
        return can

    @rule(chances=st.sets(CHANCES, max_size=2))
    def cancel(self, chances: set[int]) -> None:
        living = {
            n: self.model.jobs[n] for n in self.model.pick(chances) if not self.model.jobs[n].state.final
        }
        running = [number for number, one in living.items() if one.state == State.RUNNING]
        answer = self.store.cancel(self.model.pick(chances))
        assert answer == {n: State.RUNNING if n in running else State.CANCELLED for n in living}
        for number in running:
            self.model.jobs[number].asked = True
        self.model.end({number: State.CANCELLED for number in living if number not in running})

    @rule(chances=st.sets(CHANCES, max_size=8))
    def release_held(self, chances: set[int]) -> None:
        numbers = self.model.pick(chances)
        held = [number for number in numbers if self.model.jobs[number].state == State.HELD]
        assert self.store.release_held(numbers) == held
        for number in held:
            self.model.jobs[number].state = State.WAITING
        self.model.let_go([number for number in held if not self.model.jobs[number].awaits])

    @rule(chances=st.sets(CHANCES, max_size=2))
    def discard(self, chances: set[int]) -> None:
        numbers = [n for n in self.model.pick(chances) if len(self.model.jobs) > 4]
        ended = [number for number in numbers if self.model.jobs[number].state.final]
        assert self.store.discard(numbers) == ended
        for number in ended:
            self.forgotten[self.model.jobs.pop(number).state] += 1

    @rule()
    def tick(self) -> None:
        done = self.store.tick()
        assert (done.routed, done.promoted, done.rescued, done.pruned, done.more) == (0, 0, 0, 0, False)

    @rule(worker=workers)
    def park(self, worker: int) -> None:
        pairs = [] if worker not in self.model.live else PAIRS
        assert self.store.park(worker) is (bool(self.model.line(pairs)) or worker not in self.model.live)

    @rule(worker=workers)
    def renew(self, worker: int) -> None:
        assert self.store.renew([worker], lease=3600) == ([] if worker in self.model.live else [worker])

    @invariant()
    def the_store_tells_the_same(self) -> None:
        infos = {info.id: info for info in self.store.jobs(JobFilter(), limit=1000)}
        assert sorted(infos) == sorted(self.model.jobs)
        for number, one in self.model.jobs.items():
            info = infos[number]
            attempt = one.attempt + (info.started_at is not None)
            assert (info.state, info.attempt, info.crashes) == (one.state, attempt, one.crashes), number
        counted = self.store.counts().by_state
        for state in State:
            n = sum(one.state == state for one in self.model.jobs.values()) + self.forgotten[state]
            assert counted.get(state, 0) == n, state

    @invariant()
    def children_read_how_their_parents_ended(self) -> None:
        for number, one in self.model.jobs.items():
            if one.waits:
                assert [(read.job, read.state) for read in self.store.inputs(number)] == [
                    (wait.parent, wait.end)
                    for wait in one.waits
                    if wait.end is not None and wait.on != On.TAKE_OVER
                ], number

    @invariant()
    def held_and_settled_agree(self) -> None:
        for worker in self.model.live:
            left = self._left(worker)
            assert {(held.id, held.claim) for held in self.store.held(worker)} == {
                (number, one.claim) for number, one in left
            }
            assert [held.id for held in self.store.cancels(worker)] == [n for n, one in left if one.asked]
        assert {(end.id, end.claim, end.state) for end in self.store.settled(list(self.model.jobs))} == {
            (n, one.claim, one.state) for n, one in self.model.jobs.items() if one.state.final
        }


def _new(given: Given, place: int, known: list[int]) -> NewJob:
    """A drawn job as the store takes it; parents that cannot be are left out."""
    after = [
        Edge(chance % place, on, here=True) if here else Edge(known[chance % len(known)], on)
        for chance, on, here in given.after
        if (place if here else known)
    ]
    queue, task = given.pair
    return job(
        task,
        queue=queue,
        priority=given.priority,
        max_crashes=given.max_crashes,
        delay=EVER if given.later else None,
        held=given.held,
        unique=given.unique,
        until_started=given.until_started,
        after=tuple(after),
    )


def _recorded(one: Job, outcome: Outcome) -> bool:
    """Whether the end that is told was recorded before."""
    if one.claim != outcome.claim:
        return False
    match outcome:
        case Succeeded():
            return one.state == State.SUCCEEDED
        case Failed():
            return one.state == State.FAILED
        case Cancelled():
            return one.state == State.CANCELLED
        case TakeOver():
            return one.state.final or one.state == State.WAITING
        case _:
            return False


def _as_claimed(held: Claimed, one: Job) -> Claimed:
    """What the model says that the claimed job looks like."""
    return Claimed(
        held.id,
        one.claim,
        one.task,
        one.queue,
        "[]",
        one.attempt,
        one.crashes,
        one.priority,
        held.created_at,
        None,
    )


def _outcome(end: str, number: int, claim: int) -> Outcome:
    match end:
        case "ok":
            return Succeeded(number, claim, '"fine"', 1, 2)
        case "bad":
            return Failed(number, claim, ERROR, 1, 2)
        case "again":
            return Retry(number, claim, ERROR, 0)
        case "later":
            return Retry(number, claim, ERROR, EVER)
        case "stop":
            return Cancelled(number, claim, None, 1, 2)
        case "cut":
            return Interrupted(number, claim, "cut")
        case _:
            return Release(number, claim)


@pytest.mark.parametrize("dialect", ["sqlite", "postgres"])
def test_the_store_behaves_as_its_model(
    dialect: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """N16: SQLite and PostgreSQL with the same meaning."""

    class OnOneDatabase(Machine):
        def __init__(self) -> None:
            super().__init__()
            if dialect == "postgres":
                server: Server = request.getfixturevalue("postgres")
                self.url = server.create()
            else:
                self.url = f"sqlite:{tmp_path_factory.mktemp('model') / 'site.db'}?synchronous=NORMAL"
            self.store = open_store(self.url)
            self.store.migrate()

        def teardown(self) -> None:
            self.store.close()
            if dialect == "postgres":
                server: Server = request.getfixturevalue("postgres")
                server.drop(self.url)

    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        OnOneDatabase,
        settings=settings(
            max_examples=100 if dialect == "sqlite" else 20,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
