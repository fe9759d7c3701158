"""A worker whose store breaks, loses replies, or gives it up for dead."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import apsw
import pytest

from coserver.model.job import Edge, On, Outcome, State, Succeeded
from coserver.runtime import lanes
from coserver.store import open_store
from coserver.store.contract import Held, Store, Want
from tests.postgres import Server
from tests.runtime import jobs
from tests.runtime.workers import (
    Fault,
    Faulty,
    auntil,
    ended,
    fresh,
    in_loop,
    info,
    results,
    submit,
    until,
    working,
)
from tests.store_contract.helpers import Raw, join


def test_a_lost_reply_to_finishes_runs_nothing_twice_and_loses_no_result(store: Store) -> None:
    lost: list[int] = []

    def fault(number: int, done: Sequence[Outcome], want: Want) -> Fault:
        if len(lost) < 3 and any(isinstance(one, Succeeded) for one in done):
            lost.append(number)
            return "after"
        return None

    async def test() -> None:
        faulty = Faulty(store)
        faulty.fault = fault
        async with working(faulty.as_store()):
            ids = submit(store, "add", *[f"[{n},1]" for n in range(200)])
            done = await results(store, ids)
        assert lost  # few when a trip carried many
        assert [job.result for job in done] == [str(n + 1) for n in range(200)]
        assert Counter(jobs.ran.values()) == {1: 200}
        assert {(job.attempt, job.crashes) for job in done} == {(1, 0)}

    in_loop(test)


def test_a_lost_reply_to_a_claim_returns_its_jobs_uncharged(store: Store) -> None:
    lost: list[int] = []

    def fault(number: int, done: Sequence[Outcome], want: Want) -> Fault:
        if len(lost) < 3 and want.limit and store.counts().by_state.get(State.QUEUED):
            lost.append(number)
            return "after"
        return None

    async def test() -> None:
        faulty = Faulty(store)
        faulty.fault = fault
        ids = submit(store, "add", *[f"[{n},1]" for n in range(100)])
        begun = time.monotonic()
        async with working(faulty.as_store()):
            done = await results(store, ids)
        assert len(lost) == 3
        assert time.monotonic() - begun < lanes.RECHECKS[0]  # found at once, not by the later look
        assert Counter(jobs.ran.values()) == {1: 100}
        assert {(job.attempt, job.crashes) for job in done} == {(1, 0)}

    in_loop(test)


def test_jobs_of_a_claim_that_was_committed_late_return(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "RECHECKS", (0.2, 3.0))
    looks = 0

    def held(worker: int) -> list[Held]:
        nonlocal looks
        looks += 1
        return store.held(worker)

    async def test() -> None:
        faulty = Faulty(store)
        monkeypatch.setattr(faulty, "held", held, raising=False)
        faulty.fault = lambda number, *_: "before" if number == 1 else None
        async with working(faulty.as_store()) as worker:
            await auntil(lambda: looks >= 2, "it has compared, and looked again")
            worker.pause()
            (job,) = submit(store, "add", "[1,1]")
            assert worker.incarnation is not None
            want = Want(1, [("default", "add")])
            late = await asyncio.to_thread(store.exchange, worker.incarnation, (), want)
            assert [one.id for one in late.claimed] == [job]
            await auntil(lambda: info(store, job).state is State.QUEUED, "it is back", 10.0)
            worker.resume()
            (done,) = await results(store, [job])
        assert (looks, done.attempt, done.crashes) == (3, 1, 0)

    in_loop(test)


def test_a_trip_that_never_reached_the_store_is_made_again(store: Store) -> None:
    lost: list[int] = []

    def fault(number: int, done: Sequence[Outcome], want: Want) -> Fault:
        if len(lost) < 5 and done:
            lost.append(number)
            return "before"
        return None

    async def test() -> None:
        faulty = Faulty(store)
        faulty.fault = fault
        ids = submit(store, "add", *[f"[{n},1]" for n in range(100)])
        async with working(faulty.as_store()):
            await results(store, ids)
        assert len(lost) == 5
        assert Counter(jobs.ran.values()) == {1: 100}

    in_loop(test)


def test_a_worker_outlives_a_store_that_is_away_and_reports_what_it_did_meanwhile(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        faulty = Faulty(store)
        ids = submit(store, "hold", *['["x"]'] * 5)
        async with working(faulty.as_store()):
            await auntil(lambda: jobs.held["x"] == 5, "all run")
            faulty.down = True
            jobs.gate("x").set()
            await asyncio.sleep(0.5)
            assert {info(store, job).state for job in ids} == {State.RUNNING}
            more = submit(store, "add", "[1,2]")
            faulty.down = False
            await results(store, ids + more)
        assert Counter(jobs.ran.values()) == {1: 6}
        said = [record.getMessage() for record in caplog.records]
        assert said == ["cannot use the store: the test took it away; wait", "the store answers again"]

    with caplog.at_level(logging.INFO):
        in_loop(test)


def test_a_store_that_can_be_read_but_not_written_is_tried_ever_more_rarely(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        faulty = Faulty(store)
        ids = submit(store, "hold", *['["x"]'] * 5)
        async with working(faulty.as_store()):
            await auntil(lambda: jobs.held["x"] == 5, "all run")
            faulty.fault = lambda *_: "before"
            before = faulty.trips
            jobs.gate("x").set()
            await asyncio.sleep(1.5)
            assert 2 <= faulty.trips - before < 12
            assert {info(store, job).state for job in ids} == {State.RUNNING}
            faulty.fault = lambda *_: None
            more = submit(store, "add", "[1,2]")
            await results(store, ids + more)
        assert Counter(jobs.ran.values()) == {1: 6}
        assert {info(store, job).state for job in ids} == {State.SUCCEEDED}
        said = [record.getMessage() for record in caplog.records]
        assert said == [
            "cannot use the store: the test broke the connection; connect again",
            "the store answers again",
        ]

    with caplog.at_level(logging.INFO):
        in_loop(test)


def refuse(store_url: str, result: str) -> None:
    """Let the database refuse this result."""
    raw = Raw(store_url)
    if store_url.startswith("sqlite:"):
        raw(
            "CREATE TRIGGER refuse BEFORE INSERT ON coserver_done "
            f"WHEN NEW.result = '{result}' BEGIN SELECT raise(ABORT, 'not that'); END"
        )
    else:
        raw(f"ALTER TABLE coserver_done ADD CONSTRAINT refuse CHECK (result IS NULL OR result <> '{result}')")
    raw.close()


def test_an_outcome_that_the_database_refuses_holds_up_no_other_and_fails_its_job(
    store_url: str, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    refuse(store_url, "7")

    async def test() -> None:
        faulty = Faulty(store)
        ids = submit(store, "add", *[f"[{n},1]" for n in range(50)])
        async with working(faulty.as_store()):
            done = await results(store, ids)
            assert faulty.trips < 100
            await results(store, submit(store, "add", "[1,1]"))
        assert Counter(jobs.ran.values()) == {1: 51}
        bad = done.pop(6)
        assert {job.state for job in done} == {State.SUCCEEDED}
        assert bad.state is State.FAILED
        assert bad.error is not None
        assert "cannot record how the job ended" in bad.error.message
        errors = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
        assert len(errors) == 1
        assert errors[0].startswith(f"cannot record the success of job {bad.id}: ")
        assert errors[0].endswith("it is recorded as failed")

    with caplog.at_level(logging.INFO):
        in_loop(test)


def test_a_job_of_which_the_database_takes_no_end_is_put_off(
    store_url: str, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        faulty = Faulty(store)
        ids = submit(store, "hold", *['["x"]'] * 5)
        raw = Raw(store_url)
        raw(
            "INSERT INTO coserver_done (id, state, priority, claim, attempt, crashes, created_at, finished_at, task) "
            "VALUES (?, 10, 1, 0, 0, 0, 1, 1, 'somebody')",
            ids[2],
        )
        async with working(faulty.as_store()):
            await auntil(lambda: jobs.held["x"] == 5, "all run")
            before = faulty.trips
            jobs.gate("x").set()
            await results(store, [*ids[:2], *ids[3:], *submit(store, "add", "[1,1]")])
            assert raw("SELECT state FROM coserver_job WHERE id = ?", ids[2]) == [(State.SCHEDULED,)]
            assert faulty.trips - before < 30
        raw.close()
        assert jobs.ran[ids[2]] == 1
        errors = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
        assert [error.rpartition("; ")[2] for error in errors] == ["it runs again in 10 minutes"]

    with caplog.at_level(logging.INFO):
        in_loop(test)


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
def test_a_job_of_which_the_database_takes_nothing_is_left_until_the_worker_leaves(
    store_url: str, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    raw = Raw(store_url)
    raw(
        "CREATE TRIGGER a BEFORE INSERT ON coserver_done WHEN NEW.id = 1 BEGIN SELECT raise(ABORT, 'no'); END"
    )
    raw(
        "CREATE TRIGGER b BEFORE UPDATE ON coserver_job WHEN NEW.id = 1 AND NEW.state = 4 "
        "BEGIN SELECT raise(ABORT, 'no'); END"
    )
    raw.close()

    async def test() -> None:
        (job,) = submit(store, "add", "[1,1]")
        assert job == 1
        async with working(store):
            await auntil(lambda: bool(caplog.records), "it said so")
            await results(store, submit(store, "add", "[1,2]"))
            assert info(store, job).state is State.RUNNING
        assert info(store, job).state is State.QUEUED
        assert jobs.ran[job] == 1
        errors = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
        assert [error.rpartition("; ")[2] for error in errors] == [
            "it stays as it is until this worker leaves"
        ]

    with caplog.at_level(logging.ERROR):
        in_loop(test)


def test_an_idle_worker_whose_store_is_away_says_so_once(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        faulty = Faulty(store)
        async with working(faulty.as_store(), lease=0.6):
            await auntil(lambda: faulty.parks >= 1, "it sleeps")
            faulty.down = True
            await auntil(lambda: bool(caplog.records), "it noticed")
            await asyncio.sleep(1.5)
            faulty.down = False
            await results(store, submit(store, "add", "[1,1]"))
        assert [record.getMessage() for record in caplog.records][:2] == [
            "cannot use the store: the test took it away; wait",
            "the store answers again",
        ]

    with caplog.at_level(logging.INFO):
        in_loop(test)


def test_a_worker_can_begin_before_its_store_is_there(store: Store) -> None:
    async def test() -> None:
        faulty = Faulty(store)
        faulty.down = True
        (job,) = submit(store, "add", "[1,2]")
        async with working(faulty.as_store()) as worker:
            await asyncio.sleep(0.2)
            assert worker.incarnation is None
            faulty.down = False
            await results(store, [job])
            assert worker.incarnation is not None

    in_loop(test)


def test_a_worker_can_leave_while_its_store_is_away(store: Store) -> None:
    async def test() -> None:
        faulty = Faulty(store)
        async with working(faulty.as_store()) as worker:
            submit(store, "hold", '["x"]')
            await auntil(lambda: jobs.held["x"] == 1, "it runs")
            faulty.down = True
            begun = time.monotonic()
            await worker.drain(1.0)
            assert time.monotonic() - begun < 2.5

    in_loop(test)


def test_n3_a_worker_that_was_given_up_for_dead_begins_anew_and_its_finishes_change_nothing(
    store_url: str, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """N3."""

    async def test() -> None:
        (job,) = submit(store, "hold", '["x"]')
        other = fresh(store_url)
        async with working(store, token="a token") as worker:
            await auntil(lambda: jobs.held["x"] == 1, "it runs")
            first = worker.incarnation
            await asyncio.to_thread(store.bury, "a token", started=[job], note="the test says so")
            await auntil(lambda: worker.incarnation != first, "it begins anew")
            async with working(other, process="two/1"):
                await auntil(
                    lambda: jobs.held["x"] == 2, "the other or the new incarnation runs the job again"
                )
                jobs.gate("x").set()
                (done,) = await results(store, [job])
            await auntil(
                lambda: any("came too late" in record.getMessage() for record in caplog.records),
                "a stale finish",
            )
        other.close()
        assert (done.state, done.crashes) == (State.SUCCEEDED, 1)
        assert any("had given up on worker" in record.getMessage() for record in caplog.records)
        assert store.counts().by_state[State.SUCCEEDED] == 1

    with caplog.at_level(logging.INFO):
        in_loop(test)


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
def test_a_lone_worker_keeps_its_lease_even_while_its_loop_is_blocked(store_url: str, store: Store) -> None:
    async def body() -> None:
        async with working(store, lease=2.5):
            await auntil(jobs.gate("loop").is_set, "the test is over")

    (job,) = submit(store, "block", '["loop"]')
    blocked = threading.Thread(target=in_loop, args=(body,))
    blocked.start()
    other = fresh(store_url)
    try:
        until(lambda: jobs.held["loop"] == 1, "the loop is blocked")
        witness = join(other, lease=600)
        end = time.monotonic() + 3.5
        while time.monotonic() < end:
            assert other.renew([witness], lease=600) == []
            assert other.tick().rescued == 0
            time.sleep(0.1)
        assert info(other, job).state is State.RUNNING
    finally:
        jobs.gate("loop").set()
        blocked.join(20)
        other.close()
    assert info(store, job).crashes == 0


def test_j11_the_jobs_of_a_worker_whose_lease_ran_out_are_taken_over(store_url: str, store: Store) -> None:
    """J11."""

    async def test() -> None:
        (job,) = submit(store, "hold", '["x"]')
        silent = Faulty(store)
        silent.renews = False
        async with working(silent.as_store(), lease=0.5, process="one/1"):
            await auntil(lambda: jobs.held["x"] == 1, "it runs")
            other = fresh(store_url)
            async with working(other, process="two/1"):
                await auntil(lambda: jobs.held["x"] == 2, "it runs elsewhere")
                jobs.gate("x").set()
                (done,) = await results(other, [job])
            other.close()
        assert done.crashes == 1
        assert store.counts().by_state[State.SUCCEEDED] == 1

    in_loop(test)


def test_sqlite_locked_by_somebody_else_for_a_while_is_only_a_delay(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    store = open_store(f"sqlite:{path}")
    store.migrate()

    async def test() -> None:
        async with working(store):
            await results(store, submit(store, "add", "[1,1]"))
            rude = apsw.Connection(str(path))
            ids = submit(store, "hold", *['["x"]'] * 3)
            await auntil(lambda: jobs.held["x"] == 3, "they run")
            rude.execute("BEGIN IMMEDIATE")
            jobs.gate("x").set()
            await asyncio.sleep(1.0)
            assert not ended(store, ids)
            rude.execute("COMMIT")
            rude.close()
            await results(store, ids)
        assert Counter(jobs.ran.values()) == {1: 4}

    in_loop(test)
    store.close()


class Stumbling(Faulty):
    """A store of which some calls raise what nobody foresaw, so many times each."""

    def __init__(self, store: Store, **times: int) -> None:
        super().__init__(store)
        self.left = Counter(times)
        self.stumbled: Counter[str] = Counter()

    def _stumble(self, name: str) -> None:
        if self.left[name] > 0:
            self.left[name] -= 1
            self.stumbled[name] += 1
            raise KeyError(name)

    def park(self, worker: int) -> bool:
        self._stumble("park")
        return super().park(worker)

    def __getattr__(self, name: str) -> Any:
        found = super().__getattr__(name)
        if name not in self.left:
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            self._stumble(name)
            return found(*args, **kwargs)

        return call


@pytest.mark.parametrize("call", ["tick", "probe", "park", "cancels", "held"])
def test_what_nobody_foresaw_ends_no_worker(
    store: Store, call: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whichever call it comes out of; `held` is asked once some other has stumbled."""

    async def test() -> None:
        times = {"tick": 1, "held": 3} if call == "held" else {call: 3}
        stumbling = Stumbling(store, **times)
        async with working(stumbling.as_store()) as worker:
            (long,) = submit(store, "hold", '["x"]')
            if call != "probe" or store.url.startswith("sqlite:"):
                await auntil(lambda: not +stumbling.left, "it has stumbled each time")
            jobs.gate("x").set()
            done = await results(store, [long, *submit(store, "add", "[1,2]")])
            assert worker.failure is None
        assert [job.result for job in done] == ['"held"', "3"]
        assert ("for a reason that nobody foresaw" in caplog.text) == bool(stumbling.stumbled)

    in_loop(test)


def test_while_upkeep_always_stumbles_jobs_are_carried(store: Store) -> None:
    async def test() -> None:
        stumbling = Stumbling(store, tick=10**9, cancels=10**9)
        async with working(stumbling.as_store()):
            for _ in range(2):
                await results(store, submit(store, "add", *["[1,2]"] * 100))
                seen = stumbling.stumbled["tick"]
                await auntil(lambda seen=seen: stumbling.stumbled["tick"] > seen, "again")  # type: ignore[misc]
        assert stumbling.stumbled["tick"] < 30  # growing pauses, not a storm

    in_loop(test)


def test_inputs_that_cannot_be_read_fail_their_job_alone(store: Store) -> None:
    async def test() -> None:
        stumbling = Stumbling(store, inputs=1)
        (first,) = submit(store, "add", "[1,2]")
        taking = {"options": '{"takes":"result"}', "after": (Edge(first, On.SUCCESS),)}
        (follower,) = submit(store, "add", "[]", **taking)
        async with working(stumbling.as_store()):
            done = await results(store, [first, follower, *submit(store, "add", "[3,4]")])
        assert [job.state for job in done] == [State.SUCCEEDED, State.FAILED, State.SUCCEEDED]
        assert done[1].error is not None
        assert done[1].error.type == "KeyError"

    in_loop(test)


def test_postgres_restarted_or_crashed_under_the_worker_loses_and_doubles_nothing() -> None:
    server = Server()
    url = server.create()
    store = open_store(url)

    async def test() -> None:
        ids = submit(store, "hold", *['["x"]'] * 5)
        async with working(store):
            await auntil(lambda: jobs.held["x"] == 5, "they run")
            await asyncio.to_thread(server.stop)
            jobs.gate("x").set()
            await asyncio.sleep(0.3)
            await asyncio.to_thread(server.start)
            fresh_store = fresh(url)
            await results(fresh_store, ids)
            more = await asyncio.to_thread(submit, fresh_store, "add", *[f"[{n},1]" for n in range(300)])
            done = await results(fresh_store, more)
            fresh_store.close()
        assert {job.state for job in done} == {State.SUCCEEDED}
        assert Counter(jobs.ran.values()) == {1: 305}

    try:
        in_loop(test)
    finally:
        store.close()
        server.close()
