"""What a client does with jobs and queues besides submitting, on both databases, each call also by its coroutine."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from coserver.client import Client
from coserver.errors import JobCancelled, UsageError
from coserver.model.job import State
from tests.client.conftest import Hand


def test_jobs_are_cancelled_and_say_so(client: Client) -> None:
    job, other = client.submit("add", queue="default"), client.submit("add", queue="default")
    assert client.cancel([job.id, 999]) == {job.id: State.CANCELLED}
    assert not job.cancel()
    assert asyncio.run(client.acancel([other.id])) == {other.id: State.CANCELLED}
    with pytest.raises(JobCancelled, match=f"job {job.id} \\(add\\): it was cancelled"):
        job.result()


def test_a_running_job_is_asked_to_stop(client: Client, hand: Hand) -> None:
    job = client.submit("add", queue="default")
    hand.claim()
    assert client.cancel([job.id]) == {job.id: State.RUNNING}
    assert job.info().state is State.RUNNING


def test_held_jobs_are_released(client: Client) -> None:
    job, other = (client.submit("add", queue="default", hold=True) for _ in range(2))
    assert client.release([job.id, 999]) == [job.id]
    assert asyncio.run(client.arelease([job.id, other.id])) == [other.id]
    assert [found.info().state for found in (job, other)] == [State.QUEUED] * 2


def test_finished_jobs_are_forgotten_and_living_ones_are_not(client: Client, hand: Hand) -> None:
    job, other, living = (client.submit("add", queue="default") for _ in range(3))
    hand.succeed()
    hand.succeed()
    assert client.discard([job.id, living.id, 999]) == [job.id]
    assert asyncio.run(client.adiscard([other.id])) == [other.id]
    assert [info.id for info in client.jobs()] == [living.id]


def test_queues_are_paused_by_somebody_and_go_on(client: Client) -> None:
    client.submit("add", queue="mail")
    client.pause_queue("mail", by="ann@web1")
    [mail] = client.queues()
    assert (mail.name, mail.paused_by, mail.by_state[State.QUEUED]) == ("mail", "ann@web1", 1)
    assert mail.paused_at is not None

    async def go_on() -> None:
        await client.aresume_queue("mail")
        assert (await client.aqueues())[0].paused_at is None
        await client.apause_queue("mail", by="bob")

    asyncio.run(go_on())
    assert client.queues()[0].paused_by == "bob"
    client.resume_queue("mail")
    assert client.queues()[0].paused_at is None
    with pytest.raises(UsageError, match="as a queue"):
        client.pause_queue(" ")


def test_a_queue_is_seen_in_which_all_jobs_rest(client: Client) -> None:
    """Nobody has read these queues yet, and none of their jobs is ready."""
    client.submit("add", queue="held", hold=True)
    for _ in range(3):
        client.submit("add", queue="later", delay="1h")
    found = {queue.name: {state: n for state, n in queue.by_state.items() if n} for queue in client.queues()}
    assert found == {"held": {State.HELD: 1}, "later": {State.SCHEDULED: 3}}


def test_jobs_are_found_by_all_that_is_known_of_them(client: Client, hand: Hand) -> None:
    now = datetime.now(UTC)
    job = client.submit("add", ["Order-7"], queue="default", tags=["spring"])
    hand.fail("shop.Timeout", "no answer")
    other = client.submit("add", [8], queue="default")
    hour = timedelta(hours=1)

    def ids(**where: object) -> list[int]:
        return [info.id for info in client.jobs(**where)]  # type: ignore[arg-type]

    assert (
        ids(tag="spring") == ids(args="order-7") == ids(error="TIMEOUT") == ids(states=["failed"]) == [job.id]
    )
    assert ids(since=now - hour, until=now + hour) == [other.id, job.id]
    assert ids(since=now + hour) == ids(until=now - hour) == ids(tag="autumn") == []
    assert [info.id for info in asyncio.run(client.ajobs(tag="spring"))] == [job.id]
