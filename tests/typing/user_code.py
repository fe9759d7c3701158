"""An application's code, as its author would write it. Never run: mypy and pyright read it (`test_typing.py`)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any, assert_type

import coserver
from coserver import (
    AsyncTask,
    Bound,
    Client,
    CurrentJob,
    Job,
    JobFailed,
    JobInfo,
    PlainTask,
    Retry,
    RetryLater,
    Task,
    chain,
    current_job,
    group,
    task,
    using,
)
from coserver.testing import Jobs


@task
def resize(path: str, size: int = 200) -> str:
    return f"{path}@{size}"


@task(
    queue="mail",
    retries=Retry(3, backoff="1s..10m", on=(OSError,), never=(FileNotFoundError,)),
    priority="low",
)
async def send(to: str, *, urgent: bool = False) -> int:
    if not urgent:
        raise RetryLater("30s")
    return len(to)


@task(name="shop.jobs:report", aliases=["shop:report"], on_lost="fail", retries=3)
def report(*days: str, **more: int) -> None: ...


class Images:
    @staticmethod
    @task
    def crop(path: str) -> bytes:
        return path.encode()


assert_type(resize("a.png", size=3), str)
assert_type(Images.crop("a"), bytes)

job = resize.submit("a.png", size=200)
assert_type(job, Job[str])
assert_type(job.result(timeout="30s"), str)
assert_type(job.result(timeout=timedelta(seconds=3)), str)
assert_type(job.info(), JobInfo)
assert_type(resize.delay("a.png"), Job[str])
assert_type(send.submit("a@b", urgent=True), Job[int])
assert_type(report.submit("monday", copies=2), Job[None])
assert_type(resize.bind("a.png"), Bound[str])
assert_type(resize.submit_many([resize.bind("a.png"), resize.bind("b.png", size=9)]), list[Job[str]])
assert_type(resize.options(priority="high", delay="10m", queue="fast", retries=2).submit("a.png"), Job[str])
assert_type(current_job(), CurrentJob)


async def use() -> None:
    assert_type(await send("a@b"), int)
    job = await send.asubmit("a@b")
    assert_type(job, Job[int])
    assert_type(await job, int)
    assert_type(await job.aresult(5), int)
    assert_type(await job.ainfo(), JobInfo)
    assert_type(await resize.asubmit_many([resize.bind("a")]), list[Job[str]])
    results = await asyncio.gather(resize.options(priority="low").asubmit("a"), send.asubmit("b"))
    assert_type(results, tuple[Job[str], Job[int]])


def as_function(one: PlainTask[[str], int]) -> Callable[[str], int]:
    return one


def as_coroutine_function(one: AsyncTask[[str], int]) -> Callable[[str], Coroutine[Any, Any, int]]:
    return one


def any_task(one: Task[[str], str]) -> Job[str]:
    return one.submit("a")


def elsewhere() -> None:
    coserver.configure(store="sqlite:site.db")
    with Client("sqlite:site.db") as client, using(client):
        assert_type(client.submit("shop.jobs:report", args=[], kwargs={}, priority="high"), Job[Any])
        assert_type(client.job(3), Job[Any])
        assert_type(chain(resize.bind("a"), send, group(send.bind("b"), send)).submit(), list[Job[Any]])
        assert_type(
            resize.options(unique=True, limit="user:7", tags=["x"], after=client.job(3)).submit("a"), Job[str]
        )
        assert_type(resize.submit("a").then(send, on_error=send.bind("b")), Job[Any])
        assert_type(client.jobs(states=["failed"], limit=5), list[JobInfo])
        try:
            resize.submit("a").result()
        except JobFailed as error:
            assert_type(error.traceback, str)


def test_upload(coserver_jobs: Jobs) -> None:
    resize.submit("a.png")
    assert_type(coserver_jobs.assert_submitted(resize, "a.png", size=200), Job[str])
    assert_type(coserver_jobs.drain(advance="1h"), int)


# What follows is wrong, and both checkers have to say so: an ignore that is not needed is an error itself.

resize.submit()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
resize.submit(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
resize.submit("a", sise=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
resize.bind("a", size="big")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
resize.options(priority="urgent")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
resize.options(unique=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
resize.options(delay="1h").submit(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
resize.submit_many([send.bind("a")])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
number: int = resize.submit("a").result()  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
task(timeout=[2])  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
print(coserver.tusk)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownArgumentType]


def wrong_assert(coserver_jobs: Jobs) -> None:
    coserver_jobs.assert_submitted(resize)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
