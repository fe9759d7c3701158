"""Flows: which jobs a chain or a group makes, and what waits for what."""

from __future__ import annotations

import pytest

from coserver import Bound, Task, chain, group, task, using
from coserver.errors import InvalidArguments, UsageError
from coserver.model.job import Edge, NewJob, On
from coserver.tasks.flow import Flow
from coserver.tasks.handle import Job
from coserver.tasks.options import takes
from tests.tasks.conftest import Kept


@pytest.fixture
def add() -> Task[[int, int], int]:
    @task(name="flow:add")
    def add(a: int, b: int = 1) -> int:
        return a + b

    return add


@pytest.fixture
def tell() -> Task[[object], None]:
    @task(name="flow:tell", queue="mail")
    def tell(what: object) -> None: ...

    return tell


def parents(job: NewJob) -> list[int]:
    assert all(edge.here and edge.on is On.SUCCESS for edge in job.after)
    return [edge.job for edge in job.after]


def made(flow: Flow, kept: Kept) -> list[NewJob]:
    with using(kept):
        jobs = flow.submit()
    assert [job.id for job in jobs] == [*range(1, len(kept.jobs) + 1)]
    return kept.jobs


def test_a_chain_runs_one_after_the_other_and_bare_tasks_take_the_result(
    add: Task[[int, int], int], tell: Task[[object], None], kept: Kept
) -> None:
    first, second, third = made(chain(add.bind(1, 2), add, tell.bind("done")), kept)

    assert [parents(job) for job in (first, second, third)] == [[], [0], [1]]
    assert [takes(job.options) for job in (first, second, third)] == [None, "result", None]
    assert (first.args, second.args, third.args) == ("[1,2]", "[]", '["done"]')


def test_what_follows_a_group_waits_for_all_of_it_and_takes_the_list(
    add: Task[[int, int], int], tell: Task[[object], None], kept: Kept
) -> None:
    jobs = made(group(add.bind(1), add.bind(2), add.bind(3)).then(tell), kept)

    assert [parents(job) for job in jobs] == [[], [], [], [0, 1, 2]]
    assert takes(jobs[3].options) == "results"


def test_flows_nest(add: Task[[int, int], int], tell: Task[[object], None], kept: Kept) -> None:
    middle = group(chain(add, add), add)
    jobs = made(chain(add.bind(1), middle, tell), kept)

    assert [parents(job) for job in jobs] == [[], [0], [1], [0], [2, 3]]
    assert [takes(job.options) for job in jobs] == [None, "result", "result", "result", "results"]


def test_a_flow_is_not_changed_by_what_is_made_of_it(add: Task[[int, int], int], kept: Kept) -> None:
    start = chain(add.bind(1))
    start.then(add)

    assert len(made(start, kept)) == 1


def test_options_of_a_call_stay_its_own(tell: Task[[object], None], kept: Kept) -> None:
    before = Job(7, kept, created=False)
    jobs = made(chain(tell.bind(1), tell.options(priority="high", timeout=3, after=before, when="end")), kept)

    assert jobs[1].after == (Edge(0, here=True), Edge(7, On.END))
    assert jobs[1].priority == 0 and jobs[1].queue == "mail"
    assert jobs[1].options is not None and '"timeout":3' in jobs[1].options
    assert takes(jobs[1].options) == "result"


def test_a_bare_task_that_cannot_take_a_result_is_refused_before_anything_is_stored(kept: Kept) -> None:
    @task(name="nothing")
    def nothing() -> None: ...

    with using(kept), pytest.raises(InvalidArguments):
        chain(nothing, nothing).submit()
    with using(kept), pytest.raises(InvalidArguments):
        Job(1, kept, created=True).then(nothing)
    assert kept.jobs == []


def test_a_bare_task_at_the_beginning_is_called_with_nothing(add: Task[[int, int], int], kept: Kept) -> None:
    with using(kept), pytest.raises(InvalidArguments, match="flow:add"):
        chain(add).submit()


def test_what_is_no_call_is_no_part_of_a_flow(add: Task[[int, int], int]) -> None:
    with pytest.raises(UsageError, match="no call of a task"):
        chain(add.bind(1), print)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="chain of nothing"):
        chain()
    with pytest.raises(UsageError, match="group of nothing"):
        group()


def test_then_and_on_error_are_stored_together(
    add: Task[[int, int], int], tell: Task[[object], None], kept: Kept
) -> None:
    job: Job[int] = Job(40, kept, created=True)

    assert job.then(add, on_error=tell).id == 1
    good, bad = kept.jobs
    assert good.after == (Edge(40, On.SUCCESS),) and takes(good.options) == "result"
    assert bad.after == (Edge(40, On.FAILURE),) and takes(bad.options) == "failure"

    kept.jobs.clear()
    job.on_error(tell.bind("no"))
    (alone,) = kept.jobs
    assert alone.after == (Edge(40, On.FAILURE),) and takes(alone.options) is None


def test_a_bound_call_is_no_flow(add: Task[[int, int], int]) -> None:
    assert isinstance(add.bind(1), Bound)
