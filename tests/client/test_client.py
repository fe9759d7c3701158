"""The client, on both databases."""

from __future__ import annotations

import asyncio
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from coserver.client import Client
from coserver.errors import (
    InvalidArguments,
    JobFailed,
    JobLost,
    ResultGone,
    ResultTimeout,
    StoreUnavailable,
    UsageError,
    WouldDeadlock,
)
from coserver.model.job import Priority, State
from coserver.store import open_store
from coserver.tasks.binding import using
from coserver.tasks.current import CurrentJob, Serving, running
from coserver.tasks.declaration import task
from coserver.tasks.handle import Job
from tests.client.conftest import Hand, until


def test_nothing_is_opened_before_the_first_call(tmp_path: Path) -> None:
    path = tmp_path / "site.db"
    with Client(f"sqlite:{path}") as client:
        client.job(1)
        assert not path.exists()
        assert client.counts().by_state[State.QUEUED] == 0
        assert path.exists()


def test_an_empty_store_gets_its_tables(client: Client, url: str) -> None:
    assert client.submit("add", [1, 2]).id > 0
    store = open_store(url)
    status = store.schema()
    store.close()
    assert status.version == status.latest


def test_a_job_is_submitted_by_the_name_of_its_task(client: Client) -> None:
    job = client.submit(
        "shop.jobs:report", ["daily"], {"to": "a@b"}, priority="high", queue="mail", retries=2
    )
    info = job.info()
    assert (info.id, info.task, info.queue, info.state) == (job.id, "shop.jobs:report", "mail", State.QUEUED)
    assert (info.priority, info.args) == (Priority.HIGH, '{"*":["daily"],"to":"a@b"}')
    assert job.created
    assert not client.job(job.id).created
    assert client.job(job.id) == job


def test_a_delayed_job_is_scheduled(client: Client) -> None:
    info = client.submit("add", delay="1h").info()
    if info.queue is not None:
        assert info.state is State.SCHEDULED
    assert info.run_at is not None
    assert abs(info.run_at - info.created_at - 3_600_000_000) < 1_000_000


def test_a_declared_task_is_checked_and_gives_its_defaults_by_name_too(client: Client) -> None:
    @task(name="add", queue="sums", priority="low")
    def add(a: int, b: int = 1) -> int:
        return a + b

    info = client.submit("add", [1]).info()
    assert (info.queue, info.priority) == ("sums", Priority.LOW)
    with pytest.raises(InvalidArguments, match="argument `a` does not fit its annotation"):
        client.submit("add", ["x"])


def test_of_an_unknown_task_only_what_json_holds_is_accepted(client: Client) -> None:
    with pytest.raises(InvalidArguments, match=r"is a \w*Path, which JSON cannot hold"):
        client.submit("elsewhere:task", [Path("x")])
    with pytest.raises(UsageError, match="it is no name of a task"):
        client.submit(" ")
    with pytest.raises(UsageError, match=r"args is 'daily'; write \[…\]"):
        client.submit("elsewhere:task", "daily")
    assert client.jobs() == []


def test_jobs_are_listed_newest_first_and_by_page(client: Client) -> None:
    ids = [client.submit("add", queue="a" if number % 2 else "b").id for number in range(5)]
    assert [info.id for info in client.jobs(limit=2)] == ids[:-3:-1]
    assert [info.id for info in client.jobs(before=ids[3])] == ids[2::-1]
    assert [info.id for info in client.jobs(queue="a", states=["queued", State.NEW])] == [ids[3], ids[1]]
    assert client.jobs(task="other") == []
    with pytest.raises(UsageError, match=r"cannot list jobs by state 'done': .* known are new, held"):
        client.jobs(states=["done"])


def test_a_result_comes_as_the_task_says(client: Client, hand: Hand) -> None:
    @task(name="add")
    def add(a: int) -> dict[int, str]: ...  # type: ignore[empty-body]

    with using(client):
        job = add.submit(1)
    hand.succeed({"1": "a"})
    assert job.result() == {1: "a"}
    assert client.job(job.id).result(timeout="5s") == {1: "a"}


def test_a_result_of_an_unknown_task_is_plain_data(client: Client, hand: Hand) -> None:
    job = client.submit("add", queue="default")
    hand.succeed({"1": "a"})
    assert job.result() == {"1": "a"}


def test_a_failed_job_raises_with_the_workers_traceback(client: Client, hand: Hand) -> None:
    job = client.submit("add", queue="default")
    hand.fail("shop.NoPaper", "tray 2 is empty", "Traceback: in print_label\n")
    with pytest.raises(JobFailed) as caught:
        job.result()
    assert (caught.value.type, caught.value.message) == ("shop.NoPaper", "tray 2 is empty")
    assert caught.value.traceback == "Traceback: in print_label\n"
    assert any("in print_label" in note for note in caught.value.__notes__)


def test_a_job_whose_workers_died_is_lost(client: Client, hand: Hand) -> None:
    from coserver.store.contract import Want, WorkerIdentity

    @task(name="add", on_lost="fail")
    def add() -> None: ...

    with using(client):
        job = add.submit()
    store = hand.store
    worker = store.register(WorkerIdentity("w/1", "h", 1, ["add"], ["default"], token="t"), lease=60)
    assert store.exchange(worker, [], Want(1, [("default", "add")])).claimed
    assert store.bury("t", started=[job.id], note="killed by SIGKILL").lost == [job.id]
    with pytest.raises(JobLost, match=r"killed by SIGKILL.*coserver jobs retry"):
        job.result(timeout=5)


def test_a_job_that_is_not_there_is_gone(client: Client) -> None:
    for ask in (client.job(404).result, client.job(404).info):
        with pytest.raises(ResultGone, match="cannot find job 404"):
            ask()


def test_waiting_ends_after_its_time(client: Client) -> None:
    job = client.submit("add", queue="default")
    with pytest.raises(ResultTimeout, match=f"job {job.id}: it has not ended after 30ms") as caught:
        job.result(timeout="30ms")
    assert isinstance(caught.value, TimeoutError)
    with pytest.raises(UsageError, match="timeout of a result"):
        job.result(timeout="soon")


def test_a_waiting_thread_is_woken_when_its_job_ends(client: Client, hand: Hand) -> None:
    jobs = [client.submit("add", queue="default") for _ in range(20)]
    results: dict[int, Any] = {}
    threads = [
        threading.Thread(target=lambda job=job: results.__setitem__(job.id, job.result(timeout=30)))  # type: ignore[misc]
        for job in jobs
    ]
    for thread in threads:
        thread.start()
    for number in range(20):
        hand.succeed(number)
    for thread in threads:
        thread.join()
    assert results == {job.id: number for number, job in enumerate(jobs)}


def test_many_coroutines_wait_on_one_thread(client: Client, hand: Hand) -> None:
    async def wait_for_all() -> list[Any]:
        jobs = [await client.asubmit("add", [0], queue="default") for _ in range(3)]
        many = [client.job(jobs[number % 3].id) for number in range(300)]
        waiting = asyncio.gather(*(job.aresult("30s") for job in many))
        await asyncio.sleep(0)
        ends = asyncio.create_task(asyncio.to_thread(lambda: [hand.succeed(number) for number in range(3)]))
        results = await waiting
        await ends
        return results

    threads = threading.active_count()
    results = asyncio.run(_with_threads_counted(wait_for_all(), threads))
    assert results == [number % 3 for number in range(300)]


async def _with_threads_counted(call: Any, before: int) -> Any:
    most = 0

    async def count() -> None:
        nonlocal most
        while True:
            most = max(most, threading.active_count())
            await asyncio.sleep(0.005)

    counting = asyncio.create_task(count())
    try:
        return await call
    finally:
        counting.cancel()
        # The watch, the client's four, and the one that plays the worker.
        assert most <= before + 7


def test_every_call_has_a_twin_for_coroutines(url: str) -> None:
    async def use() -> None:
        async with Client(url) as client:
            job = await client.asubmit("add", [1], queue="default")
            assert (await job.ainfo()).state is State.QUEUED
            assert [info.id for info in await client.ajobs()] == [job.id]
            assert (await client.acounts()).by_state[State.QUEUED] == 1
            assert await client.aretry([job.id]) == []
            with pytest.raises(ResultTimeout):
                await job.aresult(timeout=0.01)
            hand = await asyncio.to_thread(Hand, url, "add")
            await asyncio.to_thread(hand.succeed, 5)
            assert await job == 5
            await asyncio.to_thread(hand.close)

    asyncio.run(use())


def test_a_cancelled_wait_leaves_nothing_behind(client: Client) -> None:
    job = client.submit("add", queue="default")

    async def begin_and_cancel() -> None:
        waiting = asyncio.create_task(job.aresult())
        while not client._watch._waiters:  # noqa: ASYNC110 - the watch is a thread
            await asyncio.sleep(0.001)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(begin_and_cancel())
    assert client._watch._waiters == {}


def test_waiting_on_a_running_loop_would_deadlock(client: Client) -> None:
    job = client.submit("add", queue="default")

    async def wait() -> None:
        with pytest.raises(WouldDeadlock, match="use `await job`"):
            job.result(timeout=1)

    asyncio.run(wait())


def test_waiting_inside_a_plain_task_for_its_own_service_would_deadlock(client: Client, hand: Hand) -> None:
    job = client.submit("add", queue="default")
    elsewhere = client.submit("later", queue="elsewhere")
    service = Serving(frozenset({"default"}), frozenset({"add", "later"}))
    token = running.set(CurrentJob(99, 1, "parent", "default", service))
    try:
        with pytest.raises(WouldDeadlock, match="add runs in the same service as parent"):
            job.result(timeout=1)
        with pytest.raises(ResultTimeout):
            elsewhere.result(timeout="10ms")
        hand.succeed(3)
        assert job.result() == 3
    finally:
        running.reset(token)


def test_failed_jobs_are_put_back(client: Client, hand: Hand) -> None:
    job = client.submit("add", queue="default")
    hand.fail("ValueError", "no")
    assert client.retry([job.id, 404]) == [job.id]
    assert job.info().state is State.QUEUED
    hand.succeed(1)
    assert job.result() == 1
    assert client.retry([job.id]) == []


def test_a_closed_client_says_so_and_lets_nobody_wait_for_ever(client: Client) -> None:
    job = client.submit("add", queue="default")
    raised: list[BaseException] = []

    def wait() -> None:
        try:
            job.result()
        except StoreUnavailable as error:
            raised.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    until(lambda: client._watch._waiters)
    client.close()
    thread.join(10)
    assert not thread.is_alive()
    assert "client" in str(raised[0])
    for call in (client.counts, job.info, job.result, lambda: client.submit("add")):
        with pytest.raises(StoreUnavailable, match="the client is closed; make a new one"):
            call()  # type: ignore[operator]
    client.close()


def test_coroutines_of_a_closed_client_are_told(url: str) -> None:
    async def use() -> None:
        client = Client(url)
        await client.aclose()
        with pytest.raises(StoreUnavailable, match="the client is closed"):
            await client.acounts()

    asyncio.run(use())


def test_threads_that_come_first_together_open_one_store(url: str) -> None:
    together = threading.Barrier(8)
    with Client(url) as client:
        stores: list[object] = []

        def begin() -> None:
            together.wait()
            client.submit("add")
            stores.append(client._store)

        threads = [threading.Thread(target=begin) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert stores == [client._store] * 8
        assert len(client.jobs()) == 8


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_parent_and_forked_child_both_go_on(client: Client, hand: Hand) -> None:
    job = client.submit("add", [1], queue="default")
    asyncio.run(client.acounts())  # so that its threads are there
    waiting = threading.Thread(target=job.result, args=(60,))
    waiting.start()
    until(lambda: client._watch._waiters)

    def in_the_child() -> bool:
        child = client.submit("add", [2], queue="default")
        return (
            child.info().args == "[2]"
            and asyncio.run(client.acounts()).by_state[State.QUEUED] > 0
            and job.result(timeout=60) == 5
        )

    with forking(in_the_child) as status:
        until(lambda: len(client.jobs()) == 2)
        hand.succeed(5)
        waiting.join()
    assert status == [0]
    assert client.submit("add", [3], queue="default").info().args == "[3]"
    assert [info.args for info in client.jobs()] == ["[3]", "[2]", "[1]"]


@contextmanager
def forking(in_the_child: Callable[[], bool]) -> Iterator[list[int]]:
    """Run something in a forked child beside the block; the list gets its status, 0 if it returned true."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # a fork with threads is what is tested
        pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = 0 if in_the_child() else 2
        finally:
            os._exit(code)
    status: list[int] = []
    yield status
    status.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def test_a_password_is_not_shown(tmp_path: Path) -> None:
    client = Client("postgresql://shop:secret@db/shop")
    assert "secret" not in repr(client)
    client.close()


def test_a_store_that_cannot_be_opened_says_why(tmp_path: Path) -> None:
    with Client(f"sqlite:{tmp_path / 'no' / 'such' / 'place.db'}") as client:
        with pytest.raises(StoreUnavailable):
            client.counts()
        with pytest.raises(StoreUnavailable):
            client.job(1).result()


def test_a_handle_is_shown_and_compared_by_its_number(client: Client) -> None:
    job = client.submit("add")
    assert repr(job) == f"<Job {job.id}>"
    assert {job, client.job(job.id)} == {job}
    assert job != Job(job.id, Client("sqlite:other.db"), created=False)
    assert job != job.id
