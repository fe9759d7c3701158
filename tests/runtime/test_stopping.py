"""Jobs that are made to stop while they run, that say how far they are, and that follow from others."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest

from coserver.client import Client
from coserver.model.job import Edge, JobInfo, NewJob, On, State
from coserver.runtime.isolated import Isolation
from coserver.runtime.started import read_started
from coserver.store.contract import Store
from coserver.tasks.binding import pin
from tests.runtime import apart, jobs
from tests.runtime.test_isolated import TASKS, alive, apart_working, text
from tests.runtime.workers import Faulty, auntil, fresh, in_loop, info, results, submit, working

# Cancelling ---------------------------------------------------------------------------------------------------


def test_a_running_coroutine_is_cancelled_soon_after_somebody_asked(store: Store, store_url: str) -> None:
    """N7."""

    async def test() -> None:
        (job,) = submit(store, "sleep_long", '["a"]')
        other = fresh(store_url)
        try:
            async with working(store):
                await auntil(lambda: jobs.held["a"] == 1, "it runs")
                begun = time.monotonic()
                assert other.cancel([job]) == {job: State.RUNNING}
                (done,) = await results(store, [job])
                assert time.monotonic() - begun < 5
        finally:
            other.close()
        assert done.state is State.CANCELLED
        assert jobs.order == [True]

    in_loop(test)


def test_a_coroutine_that_swallows_the_wish_and_returns_has_succeeded(store: Store) -> None:
    async def test() -> None:
        (job,) = submit(store, "swallow", '["a"]')
        async with working(store):
            await auntil(lambda: jobs.held["a"] == 1, "it runs")
            store.cancel([job])
            (done,) = await results(store, [job])
        assert (done.state, done.result) == (State.SUCCEEDED, '"finished all the same"')

    in_loop(test)


def test_a_plain_function_reads_the_wish_and_leaves(store: Store) -> None:
    async def test() -> None:
        (job,) = submit(store, "look_plain", '["a"]')
        async with working(store):
            await auntil(lambda: jobs.held["a"] == 1, "it runs")
            store.cancel([job])
            (done,) = await results(store, [job])
        assert done.state is State.CANCELLED

    in_loop(test)


def test_a_plain_function_that_does_not_look_ends_as_it_ends(store: Store) -> None:
    async def test() -> None:
        (job,) = submit(store, "hold_plain", '["a"]')
        async with working(store):
            await auntil(lambda: jobs.held["a"] == 1, "it runs")
            store.cancel([job])
            await asyncio.sleep(0.2)
            assert info(store, job).state is State.RUNNING
            jobs.gate("a").set()
            (done,) = await results(store, [job])
        assert (done.state, done.result) == (State.SUCCEEDED, '"held"')

    in_loop(test)


def test_an_isolated_function_is_cut_short_and_can_clean_up(store: Store, tmp_path: Path) -> None:
    async def test() -> None:
        began, cleaned = tmp_path / "began", tmp_path / "cleaned"
        (job,) = submit(store, "apart_clean_up", text(began, cleaned))
        async with apart_working(store):
            await auntil(lambda: bool(apart.lines(began)), "it runs")
            store.cancel([job])
            (done,) = await results(store, [job])
            assert done.state is State.CANCELLED
            assert apart.lines(cleaned) == ["True"]
            (after,) = await results(store, submit(store, "apart_add", "[1,2]"))
        assert after.result == "3"

    in_loop(test)


def test_an_isolated_function_that_will_not_stop_is_killed_with_all_that_it_started(
    store: Store, tmp_path: Path
) -> None:
    """N7."""

    async def test() -> None:
        began = tmp_path / "began"
        (job,) = submit(store, "apart_stubborn", text(began))
        mates = submit(store, "apart_add", *["[1,1]"] * 20)
        async with apart_working(store, 1, grace=0.3):
            await auntil(lambda: bool(apart.lines(began)), "it runs")
            store.cancel([job])
            (done,) = await results(store, [job])
            assert done.state is State.CANCELLED
            program = int(apart.lines(began)[0])
            await auntil(lambda: not alive(program), "what it started is dead")
            others = await results(store, mates)
        assert {(one.state, one.crashes) for one in others} == {(State.SUCCEEDED, 0)}

    in_loop(test)


def test_stopping_a_job_that_lies_ahead_of_a_process_does_no_harm_to_the_one_that_runs(
    store: Store, tmp_path: Path
) -> None:
    async def test() -> None:
        began, gate = tmp_path / "began", tmp_path / "gate"
        warm = submit(store, "apart_add", *["[1,1]"] * 500)
        async with apart_working(store, 1, grace=0.2) as worker:
            await results(store, warm)
            (long,) = submit(store, "apart_wait", text(began, gate))
            mates = submit(store, "apart_touch", *[text(tmp_path / "touched")] * 5)
            await auntil(lambda: bool(apart.lines(began)), "it runs")
            store.cancel(mates)
            worker.wake()
            cancelled = await results(store, mates)
            await asyncio.sleep(0.5)  # longer than the grace
            assert info(store, long).state is State.RUNNING
            gate.touch()
            (done,) = await results(store, [long])
        assert {job.state for job in cancelled} == {State.CANCELLED}
        assert apart.lines(tmp_path / "touched") == []
        assert (done.state, done.crashes) == (State.SUCCEEDED, 0)

    in_loop(test)


def test_what_is_claimed_and_has_not_begun_is_given_back_and_ends_as_cancelled(store: Store) -> None:
    async def test() -> None:
        (first,) = submit(store, "hold", '["a"]')
        rest = submit(store, "hold", *['["b"]'] * 2)
        async with working(store, {"default": 1}):
            await auntil(lambda: jobs.held["a"] == 1, "the first runs")
            store.cancel(rest)
            done = await results(store, rest)
            assert {job.state for job in done} == {State.CANCELLED}
            assert jobs.held["b"] == 0
            jobs.gate("a").set()
            await results(store, [first])

    in_loop(test)


def test_an_idle_worker_does_not_ask_for_cancellations(store: Store) -> None:
    async def test() -> None:
        asked: list[int] = []
        inner = Faulty(store)
        real = store.cancels

        def cancels(worker: int) -> object:
            asked.append(worker)
            return real(worker)

        inner.cancels = cancels  # type: ignore[attr-defined]
        async with working(inner.as_store()):
            await results(store, submit(store, "add", "[1,2]"))
            await auntil(lambda: inner.parks > 0, "it is parked")
            before = len(asked)
            await asyncio.sleep(1.2)
            assert len(asked) == before
            (job,) = submit(store, "hold", '["a"]')
            await auntil(lambda: len(asked) > before, "it asks while something runs")
            jobs.gate("a").set()
            await results(store, [job])

    in_loop(test)


# Timeouts -----------------------------------------------------------------------------------------------------


def test_a_coroutine_that_takes_too_long_fails_and_is_tried_again_by_its_policy(store: Store) -> None:
    async def test() -> None:
        (job,) = submit(store, "too_long", "[]")
        async with working(store):
            (done,) = await results(store, [job])
        assert jobs.ran[job] == 2
        assert done.state is State.FAILED
        assert done.error is not None
        assert done.error.type.endswith("JobTimeout")
        assert done.error.message == "cannot finish too_long in time: it may take 200ms"
        assert "asyncio.sleep(60)" in done.error.traceback

    in_loop(test)


@pytest.mark.parametrize("task", ["late_and_glad", "apart_late_and_glad"])
def test_who_is_stopped_by_its_timeout_and_returns_all_the_same_took_too_long(
    store: Store, task: str
) -> None:
    async def test() -> None:
        (job,) = submit(store, task, "[]")
        async with apart_working(store, 1):
            (done,) = await results(store, [job])
        assert (done.state, done.result) == (State.FAILED, None)
        assert done.error is not None
        assert done.error.type.endswith("JobTimeout")
        if task == "late_and_glad":
            assert jobs.ran[job] == 2

    in_loop(test)


def test_what_a_job_raises_after_its_time_is_the_cause_of_what_is_told(store: Store) -> None:
    async def test() -> None:
        (job,) = submit(store, "late_and_sorry", "[]")
        async with working(store):
            (done,) = await results(store, [job])
        assert done.error is not None
        assert done.error.type.endswith("JobTimeout")
        assert "LookupError: while it was cleaning up" in done.error.traceback

    in_loop(test)


def test_a_jobs_own_timeout_is_stronger_than_its_tasks(store: Store) -> None:
    async def test() -> None:
        (job,) = submit(store, "sleep_long", '["a"]', options='{"timeout":0.1}')
        async with working(store):
            (done,) = await results(store, [job])
        assert done.error is not None
        assert done.error.message == "cannot finish sleep_long in time: it may take 100ms"

    in_loop(test)


def test_a_plain_function_fails_at_its_timeout_but_holds_its_thread(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        (job,) = submit(store, "too_long_plain", '["a"]')
        async with working(store, {"default": 1}, threads=1):
            (done,) = await results(store, [job])
            assert done.state is State.FAILED
            assert done.error is not None
            assert done.error.type.endswith("JobTimeout")
            (other,) = submit(store, "add_plain", "[1,2]")
            await asyncio.sleep(0.3)
            assert not info(store, other).state.final
            jobs.gate("a").set()
            (after,) = await results(store, [other])
            assert after.result == "3"
        left = info(store, job)
        assert (left.state, left.result) == (State.FAILED, None)
        assert jobs.order == [True]
        said = [record.getMessage() for record in caplog.records if record.name == "coserver.worker"]
        assert sum("goes on in its thread" in one for one in said) == 1
        assert not any("too late" in one for one in said)

    in_loop(test)


def test_an_isolated_function_that_takes_too_long_is_ended(store: Store, tmp_path: Path) -> None:
    async def test() -> None:
        began = tmp_path / "began"
        (job,) = submit(store, "apart_slow", text(began))
        async with apart_working(store, 1):
            (done,) = await results(store, [job])
            assert len(apart.lines(began)) == 2
            assert (done.state, done.crashes) == (State.FAILED, 0)
            assert done.error is not None
            assert done.error.message == "cannot finish apart_slow in time: it may take 300ms"
            (after,) = await results(store, submit(store, "apart_add", "[1,2]"))
        assert after.result == "3"

    in_loop(test)


def test_the_time_of_an_isolated_job_runs_from_its_begin_not_from_its_claim(
    store: Store, tmp_path: Path
) -> None:
    async def test() -> None:
        gate = tmp_path / "gate"
        (first,) = submit(store, "apart_wait", text(tmp_path / "began", gate))
        (second,) = submit(store, "apart_add", "[1,2]", options='{"timeout":0.2}')
        async with apart_working(store, 1):
            await auntil(lambda: bool(apart.lines(tmp_path / "began")), "the first runs")
            await asyncio.sleep(0.4)
            gate.touch()
            done = await results(store, [first, second])
        assert {job.state for job in done} == {State.SUCCEEDED}

    in_loop(test)


# Progress -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["tell", "apart_far"])
def test_j13_the_last_word_of_a_job_is_kept_however_fast_it_spoke(store: Store, task: str) -> None:
    """J13."""

    async def test() -> None:
        (job,) = submit(store, task, "[100]" if task == "apart_far" else "[100,0]")
        async with working(store, isolation=Isolation(1, tasks=TASKS)):
            (done,) = await results(store, [job])
        assert done.state is State.SUCCEEDED
        assert (done.progress, done.note) == (1.0, "step 100")

    in_loop(test)


def test_j13_others_read_the_progress_of_a_running_job(store: Store) -> None:
    """J13."""

    async def test() -> None:
        (job,) = submit(store, "tell_plain", '["a"]')
        async with working(store):
            await auntil(lambda: info(store, job).progress == 0.5, "it was told")
            found = info(store, job)
            assert (found.state, found.note) == (State.RUNNING, "half way")
            jobs.gate("a").set()
            await results(store, [job])

    in_loop(test)


def test_a_job_that_speaks_all_the_time_is_written_down_twice_a_second(store: Store) -> None:
    async def test() -> None:
        written: list[float] = []
        inner = Faulty(store)
        real = store.progress

        def progress(worker: int, told: object) -> None:
            written.append(time.monotonic())
            real(worker, told)  # type: ignore[arg-type]

        inner.progress = progress  # type: ignore[attr-defined]
        (job,) = submit(store, "tell", "[300,0.005]")
        async with working(inner.as_store()):
            (done,) = await results(store, [job])
        assert done.finished_at is not None
        assert done.started_at is not None
        seconds = (done.finished_at - done.started_at) / 1e6
        assert 2 <= len(written) <= seconds * 2 + 2

    in_loop(test)


# What follows from others -------------------------------------------------------------------------------------


def after(task: str, takes: str | None, *parents: int, on: On = On.SUCCESS, args: str = "[]") -> NewJob:
    said = None if takes is None else json.dumps({"takes": takes})
    return NewJob(task, args, "default", options=said, after=tuple(Edge(parent, on) for parent in parents))


@pytest.mark.parametrize("task", ["take", "take_plain", "apart_take"])
def test_a_job_takes_what_others_returned(store: Store, task: str) -> None:
    async def test() -> None:
        first, second = submit(store, "add", "[1,2]", "[3,4]")
        one, both, own = store.submit(
            [
                after(task, "result", first),
                after(task, "results", second, first),
                after(task, None, first, args='["own"]'),
            ]
        )
        async with working(store, isolation=Isolation(1, tasks=TASKS)):
            done = await results(store, [one, both, own])
        assert [job.result for job in done] == ["3", "[7,3]", '"own"']

    in_loop(test)


def test_a_job_takes_the_failure_of_another(store: Store) -> None:
    async def test() -> None:
        (failing,) = submit(store, "fail", '["no such book"]', options='{"retries":0}')
        (told,) = store.submit([after("take", "failure", failing, on=On.FAILURE)])
        async with working(store):
            (done,) = await results(store, [told])
        assert done.result is not None
        found = json.loads(done.result)
        assert found["job"] == failing
        assert found["state"] == "failed"
        assert (found["type"], found["message"]) == ("LookupError", "no such book")
        assert "raise LookupError(why)" in found["traceback"]

    in_loop(test)


def test_a_job_that_returns_a_job_ends_as_that_one_does(store: Store, store_url: str) -> None:
    def ended() -> JobInfo:
        return info(store, job)

    client = Client(store_url)
    (job,) = submit(store, "hand_over", "[1,2]")

    async def test() -> None:
        async with working(store):
            (done,) = await results(store, [job])
        assert (done.state, done.result) == (State.SUCCEEDED, "3")

    with pin(client):
        in_loop(test)
    client.close()
    assert ended().state is State.SUCCEEDED


# Leaving ------------------------------------------------------------------------------------------------------


def test_draining_keeps_what_has_finished_hands_back_what_has_not_begun_and_lets_go_of_what_runs(
    store: Store, tmp_path: Path
) -> None:
    """Of every kind: what is finished stays so, and nothing is charged."""

    async def test() -> None:
        finished = submit(store, "add", "[1,2]") + submit(store, "add_plain", "[1,2]")
        async with working(
            store,
            {"default": 2},
            isolation=Isolation(1, tasks=TASKS),
            started=tmp_path / "started",
            drain=1.0,
        ):
            await results(store, finished)
            running = submit(store, "sleep_long", '["a"]')
            running += submit(store, "apart_wait", text(tmp_path / "began", tmp_path / "never"))
            await auntil(lambda: jobs.held["a"] == 1 and bool(apart.lines(tmp_path / "began")), "both run")
            waiting = submit(store, "add", *["[1,2]"] * 20)
        assert {info(store, job).state for job in finished} == {State.SUCCEEDED}
        for job in running + waiting:
            found = info(store, job)
            assert (found.state, found.attempt, found.crashes) == (State.QUEUED, 0, 0)
        assert read_started(tmp_path / "started") in ([], None)  # None: the file is gone

    in_loop(test)
