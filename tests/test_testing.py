"""`coserver.testing`: submitted jobs seen, and run, inside a test."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from coserver import (
    Failure,
    InvalidArguments,
    Job,
    JobCancelled,
    JobExpired,
    JobFailed,
    JobTimeout,
    Retry,
    RetryLater,
    State,
    UnknownTask,
    UsageError,
    WouldDeadlock,
    chain,
    current_job,
    group,
    task,
)
from coserver.client import Client
from coserver.tasks.binding import pin
from coserver.testing import Jobs, private_jobs

ran: list[object] = []


@pytest.fixture(autouse=True)
def _start_empty() -> None:
    ran.clear()


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    with private_jobs(tmp_path) as jobs:
        yield jobs


@dataclass
class Order:
    number: int


@task
def resize(path: str, size: int = 200) -> str:
    ran.append((path, size))
    return f"{path}@{size}"


@task
async def ship(order: Order) -> int:
    await asyncio.sleep(0)
    ran.append(order)
    return order.number


@task(retries=Retry(2, backoff="10s..1m"))
def fetch(url: str) -> str:
    ran.append(current_job().attempt)
    if current_job().attempt < 3:
        raise ConnectionError(url)
    return "page"


@task
def fail(text: str) -> None:
    ran.append(text)
    raise ValueError(text)


@task(queue="parents")
def parent() -> None:
    resize.options(priority="low").submit("low")
    resize.options(priority="high").submit("high")
    resize.submit("normal")


@task
def waits_for_itself() -> str:
    return resize.submit("a").result()


def test_what_was_submitted_is_seen_with_its_arguments(jobs: Jobs) -> None:
    job = resize.submit("a.png", size=9)
    ship.submit(Order(3))
    assert [str(one) for one in jobs.submitted()] == [
        f"{__name__}:resize('a.png', size=9)",
        f"{__name__}:ship(Order(number=3))",
    ]
    assert [one.job for one in jobs.submitted(resize)] == [job]
    assert jobs.submitted("elsewhere") == []


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [(("a", 200), {}), (("a",), {}), ((), {"path": "a", "size": 200}), ((), {"path": "a"})],
)
def test_calls_that_mean_the_same_are_the_same(
    args: tuple[str, ...], kwargs: dict[str, str], jobs: Jobs
) -> None:
    job = resize.submit("a")
    assert jobs.assert_submitted(resize, *args, **kwargs) == job  # type: ignore[arg-type]


def test_what_was_not_submitted_fails_the_test_and_says_what_was(jobs: Jobs) -> None:
    with pytest.raises(AssertionError, match="was not submitted; submitted was: nothing"):
        jobs.assert_submitted(resize, "a")
    resize.submit("b")
    ship.submit(Order(1))
    with pytest.raises(AssertionError) as caught:
        jobs.assert_submitted(resize, "a")
    assert str(caught.value).splitlines() == [
        f"{__name__}:resize('a') was not submitted; submitted was:",
        f"  {__name__}:resize('b')",
        f"  {__name__}:ship(Order(number=1))",
    ]
    with pytest.raises(InvalidArguments):
        jobs.assert_submitted(resize)  # type: ignore[call-arg]


def test_draining_runs_plain_and_async_tasks_and_keeps_their_results(jobs: Jobs) -> None:
    one, two = resize.submit("a"), ship.submit(Order(4))
    assert jobs.drain() == 2
    assert (one.result(), two.result()) == ("a@200", 4)
    assert ran == [("a", 200), Order(4)]
    assert jobs.drain() == 0


def test_a_submit_on_the_applications_own_connection_is_seen_at_once(jobs: Jobs, tmp_path: Path) -> None:
    """It leads to the application's database, while the test's jobs are in a store of their own."""
    with closing(sqlite3.connect(tmp_path / "application.db")) as connection:
        job = resize.options(connection=connection).submit("a.png")

        async def later() -> Job[str]:
            return await resize.options(connection=connection).asubmit("b.png", 9)

        other = asyncio.run(later())
        connection.rollback()
    jobs.drain()
    assert (job.result(), other.result()) == ("a.png@200", "b.png@9")


@task
def pay(database: Path, amount: int) -> str:
    with closing(sqlite3.connect(database)) as connection:
        current_job().complete(connection=connection, result=f"paid {amount}")
        connection.commit()
    return "not this"


def test_a_job_that_ends_in_a_transaction_of_its_own_has_ended(jobs: Jobs, tmp_path: Path) -> None:
    job = pay.submit(tmp_path / "application.db", 3)
    assert jobs.drain() == 1
    assert job.result() == "paid 3"


def test_better_priorities_come_first_also_those_submitted_meanwhile(jobs: Jobs) -> None:
    parent.submit()
    resize.options(priority="low").submit("first of the low ones")
    assert jobs.drain() == 5
    assert [path for path, _ in ran] == ["high", "normal", "first of the low ones", "low"]  # type: ignore[misc]


def test_a_failure_is_raised_as_it_was(jobs: Jobs) -> None:
    job = fail.submit("no paper")
    with pytest.raises(ValueError, match="no paper") as caught:
        jobs.drain()
    assert f"(raised by job {job.id}, {__name__}:fail)" in caught.value.__notes__
    with pytest.raises(JobFailed, match="ValueError: no paper"):
        job.result()


def test_several_failures_are_raised_together_after_all_have_run(jobs: Jobs) -> None:
    for text in ("a", "b"):
        fail.submit(text)
    resize.submit("c")
    with pytest.raises(ExceptionGroup, match="2 jobs failed") as caught:
        jobs.drain()
    assert [str(error) for error in caught.value.exceptions] == ["a", "b"]
    assert ran == ["a", "b", ("c", 200)]


def test_failures_can_be_looked_at_instead(jobs: Jobs) -> None:
    job = fail.submit("a")
    assert jobs.drain(raise_errors=False) == 1
    assert job.info().state is State.FAILED


def test_a_delayed_job_runs_when_its_time_was_let_pass(jobs: Jobs) -> None:
    resize.options(delay="10m").submit("later")
    assert jobs.drain() == 0
    assert jobs.drain(advance="9m") == 0
    assert jobs.drain(advance="1m") == 1


def test_time_passes_from_one_due_job_to_the_next(jobs: Jobs) -> None:
    for minutes in (30, 10, 20, 70):
        resize.options(delay=f"{minutes}m").submit(str(minutes))
    assert jobs.drain(advance="1h") == 3
    assert [path for path, _ in ran] == ["10", "20", "30"]  # type: ignore[misc]
    assert jobs.drain(advance="10m") == 1


def test_a_retry_waits_as_its_policy_says(jobs: Jobs) -> None:
    job = fetch.submit("u")
    assert jobs.drain() == 1
    assert job.info().state is State.SCHEDULED
    assert jobs.drain(advance="4s") == 0
    assert jobs.drain(advance="1s") == 1
    assert jobs.drain(advance="1h") == 1
    assert job.result() == "page"
    assert ran == [1, 2, 3]


def test_retry_later_is_honoured(jobs: Jobs) -> None:
    @task(name="limited", retries=1)
    def limited() -> int:
        if current_job().attempt == 1:
            raise RetryLater("30s")
        return 5

    job = limited.submit()
    assert jobs.drain(advance="29s") == 1
    assert jobs.drain(advance="1s") == 1
    assert job.result() == 5


def test_arguments_that_do_not_fit_fail_without_a_retry(jobs: Jobs) -> None:
    # As a program that is not Python would submit them.
    from coserver.model.job import NewJob

    (number,) = jobs.client.enqueue([NewJob(fetch.name, "[1]", "default")])
    with pytest.raises(InvalidArguments, match="argument `url` does not fit its annotation"):
        jobs.drain()
    assert jobs.client.job(number).info().state is State.FAILED


def test_a_result_that_json_cannot_hold_fails_the_job(jobs: Jobs) -> None:
    @task(name="odd")
    def odd() -> object:
        return object()

    odd.submit()
    with pytest.raises(TypeError, match="cannot keep the result"):
        jobs.drain()


def test_a_job_whose_task_nobody_declared_is_named(jobs: Jobs) -> None:
    jobs.client.submit("elsewhere:task", queue="default")
    resize.submit("a")
    with pytest.raises(UnknownTask, match="no task 'elsewhere:task' is declared in this process"):
        jobs.drain()
    assert ran == [("a", 200)]


def test_a_job_of_plain_sql_runs_in_the_tasks_own_queue(jobs: Jobs, tmp_path: Path) -> None:
    import apsw

    jobs.submitted()  # makes the tables
    connection = apsw.Connection(str(tmp_path / "jobs.db"))
    connection.execute("INSERT INTO coserver_job (task) VALUES (?)", (parent.name,))
    connection.close()
    assert jobs.drain() == 4
    assert jobs.client.jobs(task=parent.name)[0].queue == "parents"


def test_a_plain_task_that_waits_for_its_own_service_is_told(jobs: Jobs) -> None:
    waits_for_itself.submit()
    with pytest.raises(WouldDeadlock):
        jobs.drain()


def test_on_a_running_loop_there_is_adrain(jobs: Jobs) -> None:
    @task(name="thread")
    def thread() -> str:
        return threading.current_thread().name

    async def test() -> None:
        one, two, three = await ship.asubmit(Order(1)), await thread.asubmit(), await fail.asubmit("x")
        with pytest.raises(WouldDeadlock, match=r"use `await coserver_jobs.adrain\(\)`"):
            jobs.drain()
        assert await jobs.adrain(raise_errors=False) == 3
        assert await one == 1
        assert await two != threading.current_thread().name
        with pytest.raises(JobFailed):
            await three
        await fail.asubmit("y")
        with pytest.raises(ValueError, match="y"):
            await jobs.adrain(advance="1h")

    asyncio.run(test())


def test_what_a_test_interrupts_goes_back_as_it_was(jobs: Jobs) -> None:
    @task(name="stop")
    def stop() -> None:
        ran.append("stop")
        if len(ran) == 1:
            raise KeyboardInterrupt

    job = stop.submit()
    with pytest.raises(KeyboardInterrupt):
        jobs.drain()
    assert job.info().state is State.QUEUED
    assert job.info().attempt == 0
    assert jobs.drain() == 1


def test_submits_of_all_threads_are_taken(jobs: Jobs) -> None:
    thread = threading.Thread(target=lambda: resize.submit("a"))
    thread.start()
    thread.join()
    jobs.assert_submitted(resize, "a")


def test_each_store_is_its_own(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with private_jobs(tmp_path / "a") as outer:
        resize.submit("a")
        with private_jobs(tmp_path / "b") as inner:
            assert inner.submitted() == []
            resize.submit("b")
        assert [one.args for one in outer.submitted()] == [("a",)]


def test_pinning_does_not_touch_other_clients(tmp_path: Path, jobs: Jobs) -> None:
    with Client(f"sqlite:{tmp_path / 'other.db'}") as other, pin(other):
        resize.submit("a")
        assert len(other.jobs()) == 1
    assert jobs.submitted() == []


def test_an_advance_that_is_no_time_is_refused(jobs: Jobs) -> None:
    with pytest.raises(UsageError, match="advance of a drain"):
        jobs.drain(advance="soon")


def test_many_jobs_drain(jobs: Jobs) -> None:
    resize.submit_many(resize.bind(str(number)) for number in range(300))
    assert jobs.drain() == 300
    assert len(jobs.submitted()) == 300


@task
def collect(paths: list[str]) -> str:
    return "+".join(paths)


@task
def blame(failure: Failure) -> str:
    return f"{failure.type}: {failure.message}"


def test_chains_and_groups_run_as_their_parts_end(jobs: Jobs) -> None:
    last = chain(group(resize.bind("a"), resize.bind("b")), collect, resize).submit()[-1]
    assert last.info().state is State.WAITING
    assert jobs.drain() == 4
    assert last.result() == "a@200+b@200@200"


def test_what_follows_a_failure_runs_and_what_follows_a_success_is_cancelled(jobs: Jobs) -> None:
    job = fail.submit("no paper")
    follows = job.then(resize.bind("never"))
    blames = job.on_error(blame)
    assert jobs.drain(raise_errors=False) == 2
    assert blames.result() == "ValueError: no paper"
    assert follows.info().state is State.CANCELLED
    assert resize.submit("later").then(resize).created
    assert jobs.drain() == 2


def test_a_job_that_returns_a_job_ends_as_that_one_ends(jobs: Jobs) -> None:
    @task(name="hands.over")
    def hands_over(path: str) -> Job[str]:
        return resize.submit(path)

    job = hands_over.submit("a")
    assert jobs.drain() == 2
    assert job.result() == "a@200"


def test_a_submit_that_unique_matched_is_seen(jobs: Jobs) -> None:
    once = resize.options(unique="logo")
    job, again = once.submit("a"), once.submit("b")
    ship.submit(Order(1))
    assert (again, again.created, job.created) == (job, False, True)
    seen = jobs.submitted(resize)
    assert [(one.args, one.created, one.job) for one in seen] == [(("a",), True, job), (("b",), False, job)]
    assert [one.task for one in jobs.submitted()] == [resize.name, resize.name, ship.name]
    assert str(seen[1]) == f"{__name__}:resize('b') (there was job {job.id} already)"
    assert not jobs.assert_submitted(resize, "b").created
    assert jobs.drain() == 2
    assert once.submit("c").created

    async def later() -> None:
        assert not (await once.asubmit("d")).created

    asyncio.run(later())
    assert [one.created for one in jobs.submitted(resize)] == [True, False, True, False]


def test_a_held_job_waits_for_its_release_and_a_cancelled_one_never_runs(jobs: Jobs) -> None:
    held, other = resize.options(hold=True).submit("held"), resize.submit("other")
    assert other.cancel()
    assert jobs.drain(advance="1d") == 0
    held.release()
    assert jobs.drain() == 1
    with pytest.raises(JobCancelled):
        other.result()


def test_a_job_expires_when_its_time_passes_without_it(jobs: Jobs) -> None:
    late = resize.options(hold=True, begin_by="10m", delay="1h").submit("a")
    follows = late.then(resize)
    late.release()
    in_time = resize.options(begin_by="10m", delay="1h").submit("b")
    assert jobs.drain(advance="59m") == 0
    jobs._pass(20 * 60 * 1_000_000)
    assert jobs.drain() == 0
    for job in (late, in_time):
        with pytest.raises(JobExpired):
            job.result()
    assert follows.info().state is State.CANCELLED


def test_limited_jobs_run_one_after_the_other(jobs: Jobs) -> None:
    made = [resize.options(limit="user:7").submit(str(number)) for number in range(5)]
    assert {job.info().state for job in made} == {State.QUEUED, State.LIMITED}
    assert jobs.drain() == 5
    assert [path for path, _ in ran] == ["0", "1", "2", "3", "4"]  # type: ignore[misc]


def test_a_job_tells_its_progress_and_sees_that_it_is_cancelled(jobs: Jobs) -> None:
    @task(name="told")
    def told() -> str:
        current_job().progress(0.5, "half")
        info = jobs.client.job(current_job().id).info()
        assert not current_job().cancelled
        jobs.client.cancel([current_job().id])
        assert current_job().cancelled
        ran.append((info.progress, info.note))
        raise JobCancelled("asked to")

    job = told.submit()
    assert jobs.drain() == 1
    assert ran == [(0.5, "half")]
    assert job.info().state is State.CANCELLED


def test_a_running_coroutine_is_cancelled(jobs: Jobs) -> None:
    @task(name="endless")
    async def endless() -> None:
        began = ran[0]
        assert isinstance(began, asyncio.Event)
        began.set()
        await asyncio.sleep(3600)

    async def test() -> None:
        began = asyncio.Event()
        ran.append(began)
        job = await endless.asubmit()
        draining = asyncio.create_task(jobs.adrain())
        await began.wait()
        assert await job.acancel()
        assert await draining == 1
        assert (await job.ainfo()).state is State.CANCELLED

        await endless.asubmit()
        draining = asyncio.create_task(jobs.adrain())
        began.clear()
        await began.wait()
        draining.cancel()
        with pytest.raises(asyncio.CancelledError):
            await draining
        assert [info.state for info in await jobs.client.ajobs(limit=1)] == [State.QUEUED]

    asyncio.run(test())


def test_a_coroutine_ends_at_its_time_limit_and_a_plain_function_fails_after_it(jobs: Jobs) -> None:
    @task(name="slow", timeout="10ms", retries=1)
    async def slow() -> None:
        ran.append(current_job().attempt)
        await asyncio.sleep(3600)

    @task(name="slow.plain", timeout="1us")
    def slow_plain() -> str:
        return "dropped"

    job, plain = slow.submit(), slow_plain.submit()
    with pytest.raises(ExceptionGroup) as caught:
        jobs.drain(advance="1h")
    assert [type(error) for error in caught.value.exceptions] == [JobTimeout, JobTimeout]
    assert ran == [1, 2]
    for late in (job, plain):
        with pytest.raises(JobFailed, match="JobTimeout"):
            late.result()


def test_an_isolated_task_runs_here_too(jobs: Jobs) -> None:
    @task(name="apart", isolate=True)
    def apart() -> str:
        ran.append("apart")
        return "done"

    job = apart.submit()
    assert jobs.drain() == 1
    assert (job.result(), ran) == ("done", ["apart"])


def test_times_are_those_of_the_tests_clock(jobs: Jobs) -> None:
    job = resize.options(delay="2d").submit("a")
    jobs.drain(advance="2d")
    info = job.info()
    assert info.run_at is not None
    assert info.started_at is not None
    assert info.finished_at is not None
    assert info.run_at <= info.started_at <= info.finished_at


def test_waiting_for_a_job_that_nobody_drains_says_so(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coserver.testing.PATIENCE", 0.05)
    job = resize.submit("a", 2)
    with pytest.raises(WouldDeadlock, match=r"call `coserver_jobs.drain\(\)`"):
        job.result()
    jobs.drain()
    assert job.result() == "a@2"
