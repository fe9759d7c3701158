"""Asking why a job waits, while the store moves on between the reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

from coserver.model.job import State
from coserver.model.why import Behind, DeadLease, Finished, Running, Standing, UnreadQueue
from coserver.store.contract import Store
from coserver.store.inquiry import ask, ask_all
from tests.store_contract.helpers import TASK, Raw, claim, finish, job, join, ok


class MovingOn:
    """A real store in which something happens just before each look at how a job stands, one thing after the other."""

    def __init__(self, store: Store, *happenings: Callable[[], object]) -> None:
        self._store = store
        self._happenings = list(happenings)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def standing(self, id: int, tasks: Sequence[str]) -> Standing | None:
        if self._happenings:
            self._happenings.pop(0)()
        return self._store.standing(id, tasks)


def moving(store: Store, *happenings: Callable[[], object]) -> Store:
    return cast("Store", MovingOn(store, *happenings))


def test_a_job_that_a_new_worker_takes_meanwhile_is_no_dead_workers(store: Store) -> None:
    [number] = store.submit([job()])

    def takes() -> None:
        claim(store, join(store, "images/9"))

    found = ask(moving(store, takes), number)
    assert found is not None
    assert found.job.state is State.RUNNING
    assert isinstance(found.cause, Running)
    assert found.cause.process == "images/9"


def test_a_job_that_ends_meanwhile_has_ended(store: Store) -> None:
    [number] = store.submit([job()])
    worker = join(store)

    def runs() -> None:
        finish(store, worker, *[ok(held) for held in claim(store, worker)])

    found = ask(moving(store, runs), number)
    assert found is not None
    assert found.cause == Finished(number, State.SUCCEEDED, None)


def test_a_worker_that_is_gone_for_good_is_not_waited_for(store: Store, store_url: str) -> None:
    [number] = store.submit([job()])
    claim(store, join(store))
    raw = Raw(store_url)
    raw("UPDATE coserver_worker SET state = 2")
    raw.close()
    found = ask(store, number)
    assert found is not None
    assert found.cause == DeadLease("images/1", 0)


def test_only_the_tasks_of_those_who_can_take_it_count_as_ahead(store: Store) -> None:
    _, _, mine = store.submit([job("a:foreign"), job(), job()])
    join(store)
    join(store, "mail/1", tasks=["a:foreign"])
    found = ask(store, mine)
    assert found is not None
    assert found.cause == Behind(1, 1, 1, ("images",))


def test_a_job_that_is_not_there_has_no_answer(store: Store) -> None:
    assert ask(store, 4711) is None


def test_of_all_that_wait_only_what_nobody_takes_is_told(store: Store) -> None:
    assert ask_all(store) == []
    join(store)
    _, number = store.submit([job(), job(queue="pdf")])
    [one] = ask_all(store)
    assert (one.group.queue, one.group.oldest) == ("pdf", number)
    assert one.cause == UnreadQueue("pdf", TASK, None, ("images",), ("default",))
