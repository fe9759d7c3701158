"""Who may run what: a worker claims what it provides and nothing else; a slip in a name is refused at the submit."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from coserver.client import Client
from coserver.errors import InvalidArguments, UnknownTask
from coserver.model.job import State
from coserver.store.contract import Store
from coserver.tasks.declaration import task
from coserver.tasks.registry import registry
from tests.runtime.workers import in_loop, info, results, submit, working


@pytest.fixture(autouse=True)
def _forget_tasks() -> Iterator[None]:
    before = dict(registry._by_name)
    yield
    registry._by_name = before


@pytest.fixture
def moved() -> str:
    """A task that jobs also know under its former name."""

    @task(name="shop.images:resize", aliases=["shop.jobs:resize"])
    async def resize(path: str) -> str:
        return f"small {path}"

    return resize.name


def test_j2_a_worker_leaves_alone_what_it_does_not_provide(store: Store) -> None:
    """J2."""

    async def test() -> None:
        (foreign,) = submit(store, "add_plain", "[1,2]")
        mine = submit(store, "add", *["[1,2]"] * 30)
        (unknown,) = submit(store, "nobody:provides", "[]")
        async with working(store, tasks=["add"]):
            await results(store, mine)
            assert [info(store, job).state for job in (foreign, unknown)] == [State.QUEUED] * 2
            assert info(store, foreign).attempt == 0
            async with working(store, tasks=["add_plain"], process="test/2"):
                [done] = await results(store, [foreign])
                assert (done.result, done.worker) == ("3", "test/2")
        assert info(store, unknown).state is State.QUEUED

    in_loop(test)


def test_j2_a_job_under_a_former_name_finds_the_task(store: Store, moved: str) -> None:
    """J2."""

    async def test() -> None:
        old, new = (submit(store, name, '["a.png"]')[0] for name in ("shop.jobs:resize", moved))
        async with working(store, tasks=["shop.jobs:resize", moved]):
            done = await results(store, [old, new])
        assert [job.result for job in done] == ['"small a.png"'] * 2
        assert [job.task for job in done] == ["shop.jobs:resize", moved]

    in_loop(test)


def test_j2_a_worker_of_old_code_leaves_jobs_of_the_new_name(store: Store, moved: str) -> None:
    """J2."""

    async def test() -> None:
        (job,) = submit(store, moved, '["a.png"]')
        (old,) = submit(store, "shop.jobs:resize", '["a.png"]')
        async with working(store, tasks=["shop.jobs:resize"]):
            await results(store, [old])
            assert info(store, job).state is State.QUEUED
        async with working(store, tasks=["shop.jobs:resize", moved]):
            await results(store, [job])

    in_loop(test)


def test_j14_a_slip_in_a_name_is_refused_and_nothing_is_stored(store_url: str, moved: str) -> None:
    """J14."""
    with Client(store_url) as client:
        with pytest.raises(
            UnknownTask, match=r"imported here and declares no such task; did you mean \"shop.images:"
        ):
            client.submit("shop.images:resise", ["a.png"])
        with pytest.raises(InvalidArguments, match="`path`"):
            client.submit("shop.jobs:resize", [7])
        assert client.jobs() == []


def test_j14_names_of_other_programs_and_former_names_are_taken(store_url: str, moved: str) -> None:
    """J14."""
    with Client(store_url) as client:
        jobs = [
            client.submit(name, ["a.png"])
            for name in (
                moved,
                "shop.jobs:resize",
                "shop.jobs:of-another-program",
                "other:task",
                "plain-name",
            )
        ]
        assert [client.job(job.id).info().task for job in jobs][2:] == [
            "shop.jobs:of-another-program",
            "other:task",
            "plain-name",
        ]


def test_j14_a_name_that_nobody_provides_yet_waits_and_fails_nothing(store: Store, store_url: str) -> None:
    """J14."""

    async def test() -> None:
        with Client(store_url) as client:
            waiting = client.submit("nobody:provides").id
            job = client.submit("other:task", queue="default").id
        done = submit(store, "add", "[1,2]")
        async with working(store):
            await results(store, done)
            assert (info(store, waiting).state, info(store, job).state) == (State.NEW, State.QUEUED)

    in_loop(test)
