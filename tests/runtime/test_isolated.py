"""Jobs in processes beside the worker, with real stores and real processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import tempfile
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from coserver.model.job import State
from coserver.runtime.isolated import Isolated, Isolation
from coserver.runtime.isolated_child import Journal
from coserver.runtime.started import read_started
from coserver.runtime.worker import Worker
from coserver.store.contract import Store
from tests.runtime import apart
from tests.runtime.workers import auntil, in_loop, info, results, submit, working

TASKS = ("tests.runtime.apart",)


def apart_working(
    store: Store, count: int = 2, *, grace: float = 5.0, **settings: Any
) -> AbstractAsyncContextManager[Worker]:
    return working(store, isolation=Isolation(count, tasks=TASKS, grace=grace), **settings)


def text(*args: object) -> str:
    return json.dumps([str(one) if isinstance(one, Path) else one for one in args])


def alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def test_isolated_functions_of_both_sorts_run_elsewhere_in_a_session_of_their_own(store: Store) -> None:
    async def test() -> None:
        ids = submit(store, "apart_add", "[1,2]", '{"a":3,"b":4}') + submit(store, "apart_add_async", "[5,6]")
        (where,) = submit(store, "apart_where", "[]")
        async with apart_working(store):
            done = await results(store, ids)
            (place,) = await results(store, [where])
        assert [job.result for job in done] == ["3", "7", "11"]
        assert place.result is not None
        found = json.loads(place.result)
        assert found["id"] == where
        assert found["attempt"] == 1
        assert found["pid"] != os.getpid()
        assert found["session"] == found["pid"]
        assert not alive(found["pid"])

    in_loop(test)


def test_what_an_isolated_function_raises_is_judged_by_its_policy_and_keeps_its_traceback(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        (job,) = submit(store, "apart_fail", '["no such book"]')
        async with apart_working(store):
            (done,) = await results(store, [job])
        assert (done.state, done.attempt) == (State.FAILED, 2)
        assert done.error is not None
        assert (done.error.type, done.error.message) == ("LookupError", "no such book")
        assert "raise LookupError(why)" in done.error.traceback
        assert "isolated_child" not in done.error.traceback
        said = [record.getMessage() for record in caplog.records if record.name == "coserver.worker"]
        assert f"job {job} (apart_fail) raised LookupError: no such book; attempt 2 follows in" in said[0]
        assert said[1].endswith("failed for good")

    in_loop(test)


def test_many_short_jobs_all_run_once(store: Store) -> None:
    async def test() -> None:
        ids = submit(store, "apart_add", *[f"[{n},1]" for n in range(3000)])
        async with apart_working(store):
            done = await results(store, ids)
        assert [job.result for job in done] == [str(n + 1) for n in range(3000)]
        assert {job.attempt for job in done} == {1}

    in_loop(test)


def test_the_death_of_a_process_is_charged_to_the_job_that_it_ran_alone(store: Store, tmp_path: Path) -> None:
    """The poison job is lost at its limit, with the signal and its last lines; its mates are not charged."""

    async def test() -> None:
        mates = submit(store, "apart_add", *[f"[{n},1]" for n in range(20)])
        (poison,) = submit(store, "apart_die", text(tmp_path / "died"))
        mates += submit(store, "apart_add", *[f"[{n},1]" for n in range(20)])
        async with apart_working(store, 1):
            (lost,) = await results(store, [poison])
            done = await results(store, mates)
        assert apart.lines(tmp_path / "died") == ["x"] * 3
        assert (lost.state, lost.crashes) == (State.LOST, 3)
        assert lost.error is not None
        assert "killed by signal 9 (SIGKILL)" in lost.error.message
        assert "last words" in lost.error.message
        assert "of mine" in lost.error.message
        assert {job.state for job in done} == {State.SUCCEEDED}
        assert {job.crashes for job in done} == {0}

    in_loop(test)


def test_a_job_whose_process_died_runs_again_while_its_worker_lives(store: Store, tmp_path: Path) -> None:
    async def test() -> None:
        (job,) = submit(store, "apart_die_once", text(tmp_path / "died"))
        async with apart_working(store) as worker:
            (done,) = await results(store, [job])
            assert worker.incarnation is not None
        assert (done.result, done.crashes, done.attempt) == ('"survived"', 1, 1)

    in_loop(test)


def test_what_waits_behind_a_long_job_runs_in_another_process(store: Store, tmp_path: Path) -> None:
    async def test() -> None:
        gate = tmp_path / "gate"
        warm = submit(store, "apart_add", *["[1,1]"] * 500)
        async with apart_working(store):
            await results(store, warm)  # now many are sent ahead
            quick = submit(store, "apart_add", *["[1,1]"] * 50)
            (long,) = submit(store, "apart_wait", text(tmp_path / "began", gate))
            quick += submit(store, "apart_add", *["[1,1]"] * 200)
            await results(store, quick)
            assert info(store, long).state is State.RUNNING
            gate.touch()
            (done,) = await results(store, [long])
        assert done.result == '"waited"'

    in_loop(test)


def test_a_queue_of_one_slot_runs_one_isolated_job_at_a_time(store: Store, tmp_path: Path) -> None:
    async def test() -> None:
        gate, began = tmp_path / "gate", tmp_path / "began"
        ids = submit(store, "apart_wait", *[text(began, gate)] * 3)
        async with apart_working(store, 3, queues={"default": 1}):
            await auntil(lambda: len(apart.lines(began)) == 1, "one has begun")
            await asyncio.sleep(0.3)  # long enough for a second one, if there were one
            assert len(apart.lines(began)) == 1
            gate.touch()
            await results(store, ids)

    in_loop(test)


def test_pausing_gives_back_what_lies_ahead_of_a_process(store: Store, tmp_path: Path) -> None:
    async def test() -> None:
        gate, began = tmp_path / "gate", tmp_path / "began"
        warm = submit(store, "apart_add", *["[1,1]"] * 500)
        async with apart_working(store, 1) as worker:
            await results(store, warm)
            (long, *rest) = [
                *submit(store, "apart_wait", text(began, gate)),
                *submit(store, "apart_touch", *[text(tmp_path / "touched")] * 5),
            ]
            await auntil(lambda: bool(apart.lines(began)), "it has begun")
            worker.pause()
            await auntil(
                lambda: all(info(store, job).state is State.QUEUED for job in rest), "the others are back"
            )
            assert info(store, long).state is State.RUNNING
            gate.touch()
            await results(store, [long])
            assert apart.lines(tmp_path / "touched") == []
            worker.resume()
            done = await results(store, rest)
        assert {(job.attempt, job.crashes) for job in done} == {(1, 0)}
        assert sorted(map(int, apart.lines(tmp_path / "touched"))) == rest

    in_loop(test)


def test_the_file_of_started_jobs_names_the_one_that_runs_and_none_that_waits_behind_it(
    store: Store, tmp_path: Path
) -> None:
    async def test() -> None:
        gate, began = tmp_path / "gate", tmp_path / "began"
        (long, *rest) = submit(store, "apart_wait", *[text(began, gate)] * 3)
        async with apart_working(store, 1, started=tmp_path / "started"):
            await auntil(lambda: bool(apart.lines(began)), "one has begun")
            assert read_started(tmp_path / "started") == [long]
            gate.touch()
            await results(store, [long, *rest])
            await auntil(lambda: read_started(tmp_path / "started") == [], "nothing runs")

    in_loop(test)


def test_a_worker_that_has_to_leave_kills_what_runs_and_hands_it_back_uncharged(
    store: Store, tmp_path: Path
) -> None:
    async def test() -> None:
        began = tmp_path / "began"
        (job,) = submit(store, "apart_wait", text(began, tmp_path / "never"))
        async with apart_working(store, drain=1.0):
            await auntil(lambda: bool(apart.lines(began)), "it has begun")
        left = info(store, job)
        assert (left.state, left.attempt, left.crashes) == (State.QUEUED, 0, 0)
        assert left.error is not None
        assert left.error.type == "Interrupted"
        assert not alive(int(apart.lines(began)[0]))

    in_loop(test)


def test_a_process_that_cannot_import_the_application_leaves_its_jobs_waiting(
    sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    from tests.runtime.workers import fresh

    async def test() -> None:
        store = fresh(sqlite_url)
        try:
            (job,) = submit(store, "apart_add", "[1,2]")
            async with working(store, isolation=Isolation(1, tasks=("no_such_module",))):
                await auntil(
                    lambda: any("ended before it could work" in record.message for record in caplog.records),
                    "it was told",
                )
                await auntil(lambda: info(store, job).state is State.QUEUED, "the job waits")
            left = info(store, job)
            assert (left.state, left.attempt, left.crashes) == (State.QUEUED, 0, 0)
        finally:
            store.close()

    in_loop(test)


def test_after_a_fault_of_the_serving_thread_the_processes_are_begun_anew_and_nothing_is_charged(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real, faults = Isolated._take, iter([True])

    def take(*given: Any) -> None:
        if next(faults, False):
            raise RuntimeError("nobody foresaw this")
        real(*given)

    monkeypatch.setattr(Isolated, "_take", take)

    async def test() -> None:
        ids = submit(store, "apart_touch", *[text(tmp_path / "touched")] * 3)
        async with apart_working(store, 1):
            done = await results(store, ids)
        assert {(job.state, job.attempt, job.crashes) for job in done} == {(State.SUCCEEDED, 1, 0)}
        assert "begun anew" in caplog.text
        assert len(apart.lines(tmp_path / "touched")) == 3  # what it had done counts

    in_loop(test)


def test_a_process_that_somebody_ends_is_a_death(store: Store, tmp_path: Path) -> None:
    async def test() -> None:
        (job,) = submit(store, "apart_die", text(tmp_path / "died", int(signal.SIGTERM)), max_crashes=1)
        async with apart_working(store):
            (lost,) = await results(store, [job])
        assert lost.state is State.LOST
        assert lost.error is not None
        assert "killed by signal 15 (SIGTERM)" in lost.error.message

    in_loop(test)


def test_the_journal_keeps_frames_until_they_are_reported_and_refuses_what_does_not_fit() -> None:
    with tempfile.TemporaryFile() as file:
        file.truncate(Journal.SIZE)
        ours, theirs = Journal(file.fileno()), Journal(file.fileno())
        assert not ours
        assert theirs.add(b"one")
        assert theirs.add(b"two")
        assert ours.read() == b"onetwo"
        assert not theirs.add(b"x" * Journal.SIZE)
        assert ours.read() == b"onetwo"
        theirs.clear()
        assert not ours
        assert theirs.add(b"x" * (Journal.SIZE - 8))
        assert not theirs.add(b"x")
        ours.close()
        theirs.close()
