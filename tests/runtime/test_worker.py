from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from coserver.errors import UsageError
from coserver.model.job import NewJob, Priority, State
from coserver.runtime.isolated import Isolation
from coserver.runtime.started import read_started
from coserver.runtime.worker import Worker, WorkerSettings
from coserver.store.contract import Store
from coserver.tasks.registry import registry
from tests.runtime import apart, jobs  # noqa: F401 - it declares tasks
from tests.runtime.workers import Faulty, auntil, fresh, in_loop, info, results, submit, until, working


def test_coroutines_and_plain_functions_run_and_their_results_are_kept(store: Store) -> None:
    async def test() -> None:
        ids = submit(store, "add", "[1,2]", '{"a":3,"b":4}') + submit(
            store, "add_plain", "[5,6]", '{"*":[7],"b":8}'
        )
        async with working(store):
            done = await results(store, ids)
        assert [job.state for job in done] == [State.SUCCEEDED] * 4
        assert [job.result for job in done] == ["3", "7", "11", "15"]
        assert all(job.worker == "test/1" for job in done)
        assert all(job.created_at <= (job.started_at or 0) <= (job.finished_at or 0) for job in done)

    in_loop(test)


def test_a_job_knows_itself(store: Store) -> None:
    async def test() -> None:
        (job,) = submit(store, "whoami", "[]", queue="other")
        async with working(store, {"other": 1}):
            (done,) = await results(store, [job])
        assert done.result == f'{{"id":{job},"attempt":1,"task":"whoami","queue":"other"}}'

    in_loop(test)


@pytest.mark.parametrize("task", ["context", "context_plain"])
def test_jobs_do_not_see_each_others_context(store: Store, task: str) -> None:
    async def test() -> None:
        ids = submit(store, task, *["[]"] * 50)
        async with working(store, threads=2):
            assert {job.result for job in await results(store, ids)} == {"0"}

    in_loop(test)


@pytest.mark.parametrize("task", ["fail", "fail_plain"])
def test_j12_a_failing_job_is_tried_as_often_as_its_task_says_and_keeps_its_traceback(
    store: Store, task: str, caplog: pytest.LogCaptureFixture
) -> None:
    """J12."""

    async def test() -> None:
        (job,) = submit(store, task, '["no such book"]')
        async with working(store):
            (done,) = await results(store, [job])
        assert jobs.ran[job] == 3
        assert done.state is State.FAILED
        assert done.error is not None
        assert (done.error.type, done.error.message) == ("LookupError", "no such book")
        assert "raise LookupError(why)" in done.error.traceback
        assert "worker.py" not in done.error.traceback
        lines = [record.getMessage() for record in caplog.records if record.name == "coserver.worker"]
        assert len(lines) == 3
        assert f"job {job} ({task}) raised LookupError: no such book; attempt 2 follows in" in lines[0]
        assert lines[2].endswith("failed for good")

    with caplog.at_level(logging.INFO):
        in_loop(test)


def test_a_retry_that_succeeds_is_a_success(store: Store) -> None:
    async def test() -> None:
        (job,) = submit(store, "fail_twice", "[]")
        async with working(store):
            (done,) = await results(store, [job])
        assert (done.state, done.result, done.attempt) == (State.SUCCEEDED, "3", 3)

    in_loop(test)


def test_a_job_that_asks_to_be_tried_later_is_tried_then(store: Store) -> None:
    async def test() -> None:
        (job,) = submit(store, "later", "[0.3]")
        begun = time.monotonic()
        async with working(store):
            (done,) = await results(store, [job])
        assert time.monotonic() - begun >= 0.3
        assert (done.state, done.result) == (State.SUCCEEDED, "2")

    in_loop(test)


def test_arguments_that_do_not_fit_fail_at_once_and_visibly(store: Store) -> None:
    async def test() -> None:
        ids = submit(store, "fail", "[]", '["a","b"]', '{"other":1}')
        async with working(store):
            done = await results(store, ids)
        assert {job.state for job in done} == {State.FAILED}
        assert not jobs.ran
        for job in done:
            assert job.error is not None
            assert job.error.type.endswith("InvalidArguments")

    in_loop(test)


@pytest.mark.parametrize("task", ["mistaken", "mistaken_plain"])
def test_invalid_arguments_of_a_call_that_the_task_made_are_tried_again(task: str, store: Store) -> None:
    async def test() -> None:
        (job,) = submit(store, task, "[]")
        async with working(store):
            (done,) = await results(store, [job])
        assert (done.state, done.result) == (State.SUCCEEDED, "2")

    in_loop(test)


def test_a_result_that_cannot_be_kept_is_a_failure_that_says_so(store: Store) -> None:
    async def test() -> None:
        (job,) = submit(store, "unsayable", "[]")
        async with working(store):
            (done,) = await results(store, [job])
        assert done.state is State.FAILED
        assert done.error is not None
        assert "cannot keep the result" in done.error.message

    in_loop(test)


def test_a_job_that_exits_fails_and_the_worker_goes_on(store: Store) -> None:
    async def test() -> None:
        (first,) = submit(store, "leave", "[]")
        async with working(store):
            (done,) = await results(store, [first])
            assert done.state is State.FAILED
            assert done.error is not None
            assert done.error.type == "SystemExit"
            (second,) = await results(store, submit(store, "add", "[1,1]"))
            assert second.result == "2"

    in_loop(test)


@pytest.mark.parametrize("task", ["throw", "throw_plain", "apart_throw", "apart_throw_async"])
def test_whatever_a_function_raises_ends_its_job_and_frees_its_slot(store: Store, task: str) -> None:
    async def test() -> None:
        given = [(error, later) for error in jobs.ERRORS for later in (False, True)]
        ids = submit(store, task, *[json.dumps({"error": error, "later": later}) for error, later in given])
        isolation = Isolation(1, tasks=("tests.runtime.apart",))
        async with working(store, {"default": 1}, isolation=isolation) as worker:
            done = await results(store, ids)
            await auntil(lambda: worker.figures().busy == 0, "its slots are free")
        for (error, _), job in zip(given, done, strict=True):
            assert job.state is State.FAILED
            assert job.error is not None
            wrapped = error == "StopIteration" and task in ("throw", "apart_throw_async")  # by Python itself
            assert job.error.type.rpartition(".")[2] == ("RuntimeError" if wrapped else error)

    in_loop(test)


def test_a_coroutine_that_cancels_itself_has_failed(store: Store) -> None:
    async def test() -> None:
        (job,) = submit(store, "cancel_oneself", "[]")
        async with working(store):
            (done,) = await results(store, [job])
        assert done.state is State.FAILED
        assert done.error is not None
        assert done.error.type.endswith("CancelledError")

    in_loop(test)


def test_a_coroutine_that_is_closed_because_the_loop_is_gone_leaves_no_outcome(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    (job,) = submit(store, "sleep_long", '["a"]')
    loop = asyncio.new_event_loop()

    async def begin() -> Worker:
        tasks = {name: task for name in registry.names() if (task := registry.get(name)) is not None}
        worker = Worker(store, WorkerSettings(process="test/1", queues={"default": 1}, tasks=tasks))
        worker.start()
        await auntil(lambda: jobs.held["a"] == 1, "it runs")
        return worker

    async def end(worker: Worker, left: asyncio.Task[None]) -> None:
        left.cancel()
        await asyncio.gather(left, return_exceptions=True)
        await worker.drain(1.0)

    worker = loop.run_until_complete(begin())
    (running,) = worker._running.values()
    coroutine = running.get_coro()
    assert coroutine is not None
    with pytest.raises(UsageError, match="no job is running here"):  # by its `finally`, which runs nowhere
        coroutine.close()  # as the interpreter does with those of a loop that is gone
    assert worker.figures().done == 0
    assert info(store, job).state is State.RUNNING
    loop.run_until_complete(end(worker, running))
    loop.close()
    assert info(store, job).state is State.QUEUED
    assert not [record for record in caplog.records if record.name == "coserver.worker"]


def test_j3_better_priorities_go_first(store: Store) -> None:
    """J3."""

    async def test() -> None:
        for name, priority in (("low", Priority.LOW), ("normal", Priority.NORMAL), ("high", Priority.HIGH)):
            store.submit([NewJob("note", f'["{name} {n}"]', "default", priority) for n in range(3)])
        async with working(store, {"default": 1}):
            await auntil(lambda: len(jobs.order) == 9, "nine notes")
        assert jobs.order == [f"{name} {n}" for name in ("high", "normal", "low") for n in range(3)]

    in_loop(test)


def test_j10_each_queue_has_its_own_number_of_jobs_at_once_and_all_have_one_together(store: Store) -> None:
    """J10."""

    async def test() -> None:
        for queue in ("a", "b", "c"):
            submit(store, "hold", *[f'["{queue}"]'] * 10, queue=queue)
        async with working(store, {"a": 2, "b": 3, "c": 4}, concurrency=7) as worker:
            await auntil(lambda: sum(jobs.held.values()) >= 7, "seven jobs run")
            await asyncio.sleep(0.2)
            assert sum(jobs.held.values()) == 7
            assert jobs.held["a"] <= 2
            assert jobs.held["b"] <= 3
            assert jobs.held["c"] <= 4
            assert worker.figures().busy == 7
            assert worker.figures().free == 0

    in_loop(test)


def test_no_more_plain_functions_run_at_once_than_there_are_threads(store: Store) -> None:
    async def test() -> None:
        submit(store, "hold_plain", *['["x"]'] * 6)
        (quick,) = submit(store, "add", "[1,1]")
        async with working(store, {"default": 10}, threads=2):
            await results(store, [quick])
            await auntil(lambda: jobs.held["x"] == 2, "two functions run")
            await asyncio.sleep(0.2)
            assert jobs.held["x"] == 2

    in_loop(test)


def test_j2_a_worker_takes_only_tasks_that_it_provides_from_queues_that_it_reads(store: Store) -> None:
    """J2."""

    async def test() -> None:
        mine = submit(store, "add", "[1,2]")
        foreign = submit(store, "note", '["x"]') + submit(store, "add", "[1,2]", queue="other")
        async with working(store, tasks=["add"]):
            await results(store, mine)
            await asyncio.sleep(0.2)
            assert {info(store, job).state for job in foreign} == {State.QUEUED}

    in_loop(test)


def test_j2_two_workers_share_a_queue_and_each_job_runs_once(store_url: str, store: Store) -> None:
    """J2."""

    async def test() -> None:
        other = fresh(store_url)
        ids = [job for n in range(4) for job in submit(store, "add", *[f"[{n},{m}]" for m in range(500)])]
        async with working(store, process="one/1"), working(other, process="two/1"):
            done = await results(store, ids)
        other.close()
        assert Counter(jobs.ran.values()) == {1: len(ids)}
        assert {job.state for job in done} == {State.SUCCEEDED}
        assert {job.worker for job in done} == {"one/1", "two/1"}

    in_loop(test)


def test_j5_a_worker_without_room_takes_nothing_so_others_can(store_url: str, store: Store) -> None:
    """J5."""

    async def test() -> None:
        other = fresh(store_url)
        submit(store, "hold", *['["full"]'] * 2)
        async with working(store, {"default": 2}, process="one/1"):
            await auntil(lambda: jobs.held["full"] == 2, "the first worker is full")
            ids = submit(store, "add", *["[1,2]"] * 20)
            async with working(other, process="two/1"):
                begun = time.monotonic()
                assert {job.worker for job in await results(store, ids)} == {"two/1"}
                assert time.monotonic() - begun < 5
        other.close()

    in_loop(test)


def test_j7_a_job_that_is_due_later_runs_then_without_being_asked_again(store: Store) -> None:
    """J7."""

    async def test() -> None:
        async with working(store):
            (job,) = submit(store, "add", "[1,2]", delay=300_000)
            begun = time.monotonic()
            await results(store, [job])
            assert 0.25 <= time.monotonic() - begun < 0.9  # not by the poll of one second

    in_loop(test)


def test_a_sleeping_worker_is_roused_long_before_it_would_look_by_itself(
    store: Store, tmp_path: Path
) -> None:
    async def test() -> None:
        wake = tmp_path / "wake" if store.url.startswith("sqlite:") else None
        async with working(store, probe=False, wake=wake):
            latencies = []
            for n in range(20):
                await asyncio.sleep(0.02)
                begun = time.monotonic()
                await asyncio.to_thread(submit, store, "note", f'["{n}"]')
                await auntil(lambda n=n: len(jobs.order) > n, "noted")
                latencies.append(time.monotonic() - begun)
            assert sorted(latencies)[10] < 0.1
        assert wake is None or not wake.exists()

    in_loop(test)


def test_j1_a_lone_worker_finds_rows_that_nobody_announces(store_url: str, store: Store) -> None:
    """J1."""

    async def test() -> None:
        async with working(store, listen=False):
            other = fresh(store_url)
            (job,) = other.submit([NewJob("add", "[20,22]", "default")])
            (done,) = await results(store, [job])
            assert done.result == "42"
            other.close()

    in_loop(test)


def test_a_paused_worker_begins_nothing_and_goes_on_when_it_may(store: Store) -> None:
    async def test() -> None:
        async with working(store, {"default": 1}) as worker:
            submit(store, "hold", '["gate"]')
            await auntil(lambda: jobs.held["gate"] == 1, "it holds")
            worker.pause()
            ids = submit(store, "add", *["[1,1]"] * 5)
            jobs.gate("gate").set()
            await auntil(lambda: worker.figures().busy == 0, "what ran has finished")
            await asyncio.sleep(0.2)
            assert {info(store, job).state for job in ids} == {State.QUEUED}
            worker.resume()
            await results(store, ids)

    in_loop(test)


def test_a_blocked_loop_gives_back_what_it_has_not_begun(store_url: str, store: Store) -> None:
    async def body() -> None:
        async with working(store, {"default": 10}, process="blocked/1"):
            await auntil(jobs.gate("loop").is_set, "the test is over")

    ids = submit(store, "block", '["loop"]') + submit(store, "add", *["[1,1]"] * 9)
    blocked = threading.Thread(target=in_loop, args=(body,))
    blocked.start()
    other = fresh(store_url)
    try:

        async def helper() -> None:
            await auntil(lambda: jobs.held["loop"] == 1, "the loop is blocked")
            async with working(other, process="free/1", tasks=["add"]):
                done = await results(other, ids[1:])
            assert {job.worker for job in done} == {"free/1"}
            assert {(job.attempt, job.crashes) for job in done} == {(1, 0)}

        in_loop(helper)
    finally:
        jobs.gate("loop").set()
        blocked.join(20)
        other.close()
    assert not blocked.is_alive()
    assert info(store, ids[0]).state is State.SUCCEEDED
    assert Counter(jobs.ran.values()) == {1: 10}


def test_what_a_job_finished_is_recorded_while_the_loop_is_blocked_by_another(
    store_url: str, store: Store
) -> None:
    async def body() -> None:
        async with working(store):
            await auntil(jobs.gate("loop").is_set, "the test is over")

    (first,) = submit(store, "note", '["quick"]', priority=Priority.HIGH)
    submit(store, "block", '["loop"]')
    blocked = threading.Thread(target=in_loop, args=(body,))
    blocked.start()
    other = fresh(store_url)
    try:
        until(lambda: jobs.held["loop"] == 1, "the loop is blocked")
        until(lambda: info(other, first).state is State.SUCCEEDED, "its mate is recorded", 5)
    finally:
        jobs.gate("loop").set()
        blocked.join(20)
        other.close()


def test_started_jobs_stand_in_the_shared_file_until_their_finish_is_recorded(
    store: Store, tmp_path: Path
) -> None:
    async def test() -> None:
        path = tmp_path / "started"
        ids = submit(store, "hold", '["x"]') + submit(store, "hold_plain", '["x"]')
        async with working(store, started=path):
            await auntil(lambda: jobs.held["x"] == 2, "both run")
            assert read_started(path) == sorted(ids)
            jobs.gate("x").set()
            await results(store, ids)
            await auntil(lambda: read_started(path) == [], "the file is empty again")
        assert not path.exists()

    in_loop(test)


def test_draining_finishes_what_runs_and_hands_back_the_rest_uncharged(store: Store) -> None:
    async def test() -> None:
        (running,) = submit(store, "hold", '["gate"]')
        async with working(store, {"default": 1}) as worker:
            await auntil(lambda: jobs.held["gate"] == 1, "it runs")
            rest = submit(store, "add", *["[1,1]"] * 20)
            draining = asyncio.create_task(worker.drain(10))
            await asyncio.sleep(0.05)
            assert not draining.done()
            jobs.gate("gate").set()
            assert await draining is True
        assert info(store, running).state is State.SUCCEEDED
        for job in rest:
            found = info(store, job)
            assert (found.state, found.attempt, found.crashes) == (State.QUEUED, 0, 0)

    in_loop(test)


@pytest.mark.parametrize("task", ["hold", "hold_plain"])
def test_what_does_not_end_in_time_goes_back_uncharged(store: Store, task: str) -> None:
    async def test() -> None:
        (running,) = submit(store, task, '["gate"]')
        async with working(store) as worker:
            await auntil(lambda: jobs.held["gate"] == 1, "it runs")
            begun = time.monotonic()
            assert await worker.drain(1.0) is False
            assert time.monotonic() - begun < 1.5
            found = info(store, running)
            assert (found.state, found.attempt, found.crashes) == (State.QUEUED, 0, 0)

    in_loop(test)


@pytest.mark.parametrize("task", ["hold", "hold_plain"])
@pytest.mark.parametrize("max_crashes", [1, 3])
def test_a_job_that_is_cut_short_says_so_and_one_that_may_begin_only_once_is_lost(
    store: Store, task: str, max_crashes: int
) -> None:
    async def test() -> None:
        begun, waiting = submit(store, task, '["a"]', '["a"]', max_crashes=max_crashes)
        async with working(store, {"default": 1}) as worker:
            await auntil(lambda: jobs.held["a"] == 1, "it runs")
            assert not await worker.drain(0.2)
            cut, other = info(store, begun), info(store, waiting)
            assert cut.error is not None
            assert (other.state, other.error, other.crashes) == (State.QUEUED, None, 0)
            if max_crashes == 1:
                assert (cut.state, cut.error.type) == (State.LOST, "JobLost")
                assert "its worker had to leave while it ran; it may begin only once" in cut.error.message
            else:
                assert (cut.state, cut.error.type, cut.crashes) == (State.QUEUED, "Interrupted", 0)
                assert "its worker had to leave while it ran; it begins again" in cut.error.message
        jobs.gate("a").set()
        async with working(store):
            done = await results(store, [begun, waiting])
        assert [job.state for job in done] == [
            State.LOST if max_crashes == 1 else State.SUCCEEDED,
            State.SUCCEEDED,
        ]
        assert done[1].error is None
        assert max_crashes == 1 or done[0].error is None

    in_loop(test)


def test_a_hurried_drain_does_not_wait(store: Store) -> None:
    async def test() -> None:
        submit(store, "hold", '["gate"]')
        async with working(store) as worker:
            await auntil(lambda: jobs.held["gate"] == 1, "it runs")
            hurry = asyncio.Event()
            draining = asyncio.create_task(worker.drain(20, hurry=hurry))
            await asyncio.sleep(0)
            hurry.set()
            begun = time.monotonic()
            assert await draining is False
            assert time.monotonic() - begun < 3

    in_loop(test)


def test_an_idle_worker_makes_hardly_any_trips(store: Store) -> None:
    async def test() -> None:
        watched = Faulty(store)
        async with working(watched.as_store(), tended=lambda: True):
            await auntil(lambda: watched.parks >= 1, "it sleeps")
            before = watched.trips + watched.parks
            await asyncio.sleep(1.5)
            assert watched.trips + watched.parks - before <= 6

    in_loop(test)
