"""The store against a simple model of itself: whatever the sequence of calls, both tell the same story.

The model is a dictionary of jobs and the rules of `model.job` in a few lines. It knows no SQL, no time and no
concurrency: leases last for ever here, deaths come by `bury`, delays are either none or for ever.
"""

from __future__ import annotations

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

from coserver.model.job import Claimed, Failed, JobFilter, Outcome, Priority, Release, Retry, State, Succeeded
from coserver.store import open_store
from coserver.store.contract import Store
from tests.postgres import Server
from tests.store_contract.helpers import ERROR, job, join, swap

QUEUES = ("default", "mail")
TASKS = ("a:one", "a:two")
PAIRS = [(queue, task) for queue in QUEUES for task in TASKS]
EVER = 10**15


@dataclass
class Job:
    """A job as the model knows it; `place` is its rank in line."""

    queue: str
    task: str
    priority: int
    max_crashes: int
    state: State
    place: int
    worker: int | None = None
    claim: int = 0
    attempt: int = 0
    crashes: int = 0


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


class Machine(RuleBasedStateMachine):
    """The calls that change anything, in any order."""

    store: Store
    workers: Bundle[int] = Bundle("workers")
    claims: Bundle[tuple[int, int, int]] = Bundle("claims")

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()

    @initialize(target=workers, others=st.integers(0, 2))
    def begin(self, others: int) -> Any:
        """Something is there from the beginning, so that few steps reach far."""
        self.submit([(PAIRS[0], Priority.NORMAL, 2, False)] * 3 + [(PAIRS[3], Priority.HIGH, 1, False)])
        return multiple(*[self.register() for _ in range(others + 1)])

    @rule(target=workers)
    def register(self) -> int:
        number = join(self.store, token=f"t{self.model.place()}", lease=3600, tasks=TASKS, queues=QUEUES)
        self.model.live.add(number)
        return number

    @rule(
        jobs=st.lists(
            st.tuples(st.sampled_from(PAIRS), st.sampled_from(Priority), st.integers(1, 2), st.booleans()),
            min_size=1,
            max_size=6,
        )
    )
    def submit(self, jobs: list[tuple[tuple[str, str], Priority, int, bool]]) -> None:
        numbers = self.store.submit(
            [
                job(task, queue=queue, priority=priority, max_crashes=crashes, delay=EVER if later else None)
                for (queue, task), priority, crashes, later in jobs
            ]
        )
        for number, ((queue, task), priority, crashes, later) in zip(numbers, jobs, strict=True):
            assert number not in self.model.jobs
            state = State.SCHEDULED if later else State.QUEUED
            self.model.jobs[number] = Job(queue, task, priority, crashes, state, self.model.place())

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
            assert held == _as_claimed(held, one)
        return multiple(*[(worker, held.id, held.claim) for held in got.claimed])

    @rule(
        told=st.lists(claims, min_size=1, max_size=4, unique=True),
        ends=st.lists(st.sampled_from(["back", "ok", "again", "bad", "later"]), min_size=4, max_size=4),
    )
    def finish(self, told: list[tuple[int, int, int]], ends: list[str]) -> None:
        worker = told[0][0]
        outcomes: list[Outcome] = []
        expected: list[int] = []
        for (_, number, claim), end in zip(told, ends, strict=False):
            if any(outcome.id == number for outcome in outcomes):
                continue
            one = self.model.jobs.get(number)
            fits = one is not None and (one.state, one.worker, one.claim) == (State.RUNNING, worker, claim)
            same = {"ok": State.SUCCEEDED, "bad": State.FAILED}.get(end)
            ended = one is not None and (one.state, one.claim) == (same, claim)
            outcomes.append(_outcome(end, number, claim))
            if one is None or not fits:
                expected += [] if ended else [number]
                continue
            match end:
                case "ok" | "bad":
                    one.state = State.SUCCEEDED if end == "ok" else State.FAILED
                case "again" | "later":
                    one.attempt += 1
                    one.state = State.QUEUED if end == "again" else State.SCHEDULED
                    one.place = self.model.place() if end == "again" else one.place
                case _:
                    one.state = State.QUEUED
            if not one.state.final:
                one.worker = None
        got = swap(self.store, worker, outcomes, limit=0, pairs=[])
        assert sorted(got.stale) == sorted(expected)

    @rule(worker=workers, begun=st.one_of(st.none(), st.sets(st.integers(1, 40))))
    def bury(self, worker: int, begun: set[int] | None) -> None:
        token = dict(self.store.live_tokens()).get(worker)
        assert (token is not None) == (worker in self.model.live)
        rescue = self.store.bury(
            token or "nobody", started=None if begun is None else sorted(begun), note="killed"
        )
        uncharged, crashed, lost = [], [], []
        for number, one in self.model.jobs.items():
            if worker in self.model.live and one.state == State.RUNNING and one.worker == worker:
                if begun is not None and number not in begun:
                    one.state = State.QUEUED
                    uncharged.append(number)
                elif one.crashes + 1 < one.max_crashes:
                    one.state = State.QUEUED
                    crashed.append(number)
                else:
                    one.state = State.LOST
                    lost.append(number)
                one.crashes += number not in uncharged
        self.model.live.discard(worker)
        assert (sorted(rescue.uncharged), sorted(rescue.crashed), sorted(rescue.lost)) == (
            uncharged,
            crashed,
            lost,
        )

    @rule(worker=workers)
    def leave(self, worker: int) -> None:
        self.store.leave(worker)
        for one in self.model.jobs.values():
            if worker in self.model.live and one.state == State.RUNNING and one.worker == worker:
                one.state, one.worker = State.QUEUED, None
        self.model.live.discard(worker)

    @rule(numbers=st.sets(st.integers(1, 40), max_size=8))
    def retry(self, numbers: set[int]) -> None:
        expected = [
            n
            for n, one in self.model.jobs.items()
            if n in numbers and one.state.final and one.state != State.SUCCEEDED
        ]
        assert self.store.retry(sorted(numbers)) == sorted(expected)
        for number in sorted(expected):
            one = self.model.jobs[number]
            one.state, one.attempt, one.crashes, one.place = State.QUEUED, 0, 0, self.model.place()

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
            assert (info.state, info.attempt, info.crashes) == (one.state, one.attempt, one.crashes), number
        counted = self.store.counts().by_state
        for state in State:
            assert counted.get(state, 0) == sum(one.state == state for one in self.model.jobs.values()), state

    @invariant()
    def held_and_settled_agree(self) -> None:
        for worker in self.model.live:
            assert {(held.id, held.claim) for held in self.store.held(worker)} == {
                (n, one.claim)
                for n, one in self.model.jobs.items()
                if one.state == State.RUNNING and one.worker == worker
            }
        assert {(end.id, end.claim, end.state) for end in self.store.settled(list(self.model.jobs))} == {
            (n, one.claim, one.state) for n, one in self.model.jobs.items() if one.state.final
        }


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
            max_examples=60 if dialect == "sqlite" else 20,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
