"""Jobs that wait for jobs: who is let go, who ends with whom, and what remains of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from queue import SimpleQueue

import psycopg
import pytest

from coserver.errors import InvalidArguments
from coserver.model.job import (
    Claimed,
    Edge,
    Error,
    Input,
    JobInfo,
    On,
    State,
    TakeOver,
)
from coserver.store import open_store
from coserver.store.contract import Store
from tests.store_contract.helpers import (
    ERROR,
    Raw,
    again,
    bad,
    claim,
    eventually,
    finish,
    job,
    join,
    ok,
    swap,
)

LARGE = '"' + "x" * 5000 + '"'


def info(store: Store, number: int) -> JobInfo:
    found = store.job(number)
    assert found is not None
    return found


def state(store: Store, number: int) -> State:
    return info(store, number).state


def only(store: Store, worker: int) -> Claimed:
    [held] = claim(store, worker)
    return held


def submit(store: Store, *parents: int, on: On = On.SUCCESS, **more: object) -> int:
    [number] = store.submit([job(after=tuple(Edge(parent, on) for parent in parents), **more)])
    return number


def over(held: Claimed, parent: int) -> TakeOver:
    return TakeOver(held.id, held.claim, parent, 1_000)


def test_a_job_waits_until_all_of_its_parents_have_succeeded(store: Store) -> None:
    """J9: a dependency graph with counters changed in the finishing transaction."""
    worker = join(store)
    one, two = store.submit([job(), job()])
    third = submit(store, one, two)
    assert state(store, third) == State.WAITING
    assert info(store, third).parents == (one, two)
    assert info(store, one).children == (third,)
    first, second = claim(store, worker)
    finish(store, worker, ok(first, '"a"'))
    assert state(store, third) == State.WAITING
    finish(store, worker, ok(second, LARGE))
    assert state(store, third) == State.QUEUED
    assert only(store, worker).id == third
    assert store.inputs(third) == [
        Input(one, State.SUCCEEDED, '"a"', None),
        Input(two, State.SUCCEEDED, LARGE, None),
    ]


def test_a_finish_and_the_claim_of_the_child_fit_into_one_exchange(store: Store) -> None:
    worker = join(store)
    [one] = store.submit([job()])
    second = submit(store, one)
    held = only(store, worker)
    got = swap(store, worker, [ok(held)])
    assert got.stale == []
    assert [again.id for again in [*got.claimed, *claim(store, worker)]] == [second]


def test_children_are_told_within_one_submit_by_their_positions(store: Store) -> None:
    worker = join(store)
    one, two, three = store.submit(
        [
            job(),
            job(after=(Edge(0, here=True),)),
            job(after=(Edge(1, here=True), Edge(0, On.END, here=True))),
        ]
    )
    assert [state(store, number) for number in (one, two, three)] == [
        State.QUEUED,
        State.WAITING,
        State.WAITING,
    ]
    for number in (one, two, three):
        held = only(store, worker)
        assert held.id == number
        finish(store, worker, ok(held))
    assert store.counts().by_state[State.SUCCEEDED] == 3


@pytest.mark.parametrize(
    ("on", "end", "expected"),
    [
        (On.SUCCESS, "ok", State.QUEUED),
        (On.SUCCESS, "bad", State.CANCELLED),
        (On.SUCCESS, "cancel", State.CANCELLED),
        (On.FAILURE, "ok", State.CANCELLED),
        (On.FAILURE, "bad", State.QUEUED),
        (On.FAILURE, "cancel", State.QUEUED),
        (On.END, "ok", State.QUEUED),
        (On.END, "bad", State.QUEUED),
        (On.END, "cancel", State.QUEUED),
    ],
)
@pytest.mark.parametrize("late", [False, True])
def test_an_edge_asks_for_an_end_whether_it_comes_before_or_after(
    store: Store, on: On, end: str, expected: State, late: bool
) -> None:
    """J8: callbacks on success and failure are jobs themselves, also when added after completion."""
    worker = join(store)
    [parent] = store.submit([job()])
    number = 0 if late else submit(store, parent, on=on)
    if end == "cancel":
        store.cancel([parent])
    else:
        held = only(store, worker)
        finish(store, worker, ok(held, "1") if end == "ok" else bad(held))
    number = number or submit(store, parent, on=on)
    assert state(store, number) == expected
    ended = {"ok": State.SUCCEEDED, "bad": State.FAILED, "cancel": State.CANCELLED}[end]
    error = Error("ValueError", "no", "Traceback …") if end == "bad" else None
    assert store.inputs(number) == [Input(parent, ended, "1" if end == "ok" else None, error)]
    if expected == State.CANCELLED:
        why = info(store, number).error
        assert why is not None
        assert why.type == "JobCancelled"
        assert f"job {parent}, " in why.message


def test_an_end_that_does_not_fit_goes_all_the_way_down(store: Store) -> None:
    worker = join(store)
    numbers = store.submit(
        [
            job(),
            job(after=(Edge(0, here=True),)),
            job(after=(Edge(1, here=True),)),
            job(after=(Edge(2, On.FAILURE, here=True),)),
            job(after=(Edge(2, here=True), Edge(3, here=True))),
        ]
    )
    finish(store, worker, bad(only(store, worker)))
    assert [state(store, number) for number in numbers] == [
        State.FAILED,
        State.CANCELLED,
        State.CANCELLED,
        State.QUEUED,
        State.CANCELLED,
    ]
    message = info(store, numbers[2]).error
    assert message is not None
    assert message.message == f"job {numbers[1]}, which it waited for, was cancelled"
    assert store.counts().by_state[State.CANCELLED] == 3


def test_a_diamond_is_joined_once(store: Store) -> None:
    worker = join(store)
    top, left, right, bottom = store.submit(
        [
            job(),
            job(after=(Edge(0, here=True),)),
            job(after=(Edge(0, here=True),)),
            job(after=(Edge(1, here=True), Edge(2, here=True))),
        ]
    )
    finish(store, worker, ok(only(store, worker)))
    both = claim(store, worker)
    assert [held.id for held in both] == [left, right]
    finish(store, worker, *map(ok, both))
    assert only(store, worker).id == bottom
    assert info(store, top).children == (left, right)


def test_a_parent_named_twice_counts_twice_and_lets_go_once(store: Store) -> None:
    worker = join(store)
    [parent] = store.submit([job()])
    number = submit(store, parent, parent)
    finish(store, worker, ok(only(store, worker)))
    assert only(store, worker).id == number


def test_a_retry_of_the_parent_keeps_the_children_waiting(store: Store) -> None:
    worker = join(store)
    [parent] = store.submit([job()])
    number = submit(store, parent)
    held = only(store, worker)
    assert finish(store, worker, again(held)).stale == []
    assert (state(store, parent), info(store, parent).attempt) == (State.QUEUED, 1)
    held = only(store, worker)
    assert finish(store, worker, again(held, 10**12)).stale == []
    assert (state(store, parent), state(store, number)) == (State.SCHEDULED, State.WAITING)


def test_a_lost_parent_cancels_its_children(store: Store) -> None:
    worker = join(store, token="t")
    [parent] = store.submit([job(max_crashes=1)])
    number, other = submit(store, parent), submit(store, parent, on=On.FAILURE)
    claim(store, worker)
    assert store.bury("t", started=None, note="killed").lost == [parent]
    assert (state(store, parent), info(store, parent).crashes) == (State.LOST, 1)
    assert (state(store, number), state(store, other)) == (State.CANCELLED, State.QUEUED)


def test_a_new_parent_that_can_never_run_cancels_its_children(store: Store, raw: Raw) -> None:
    join(store, tasks=["a:plain"])
    raw("INSERT INTO coserver_job (task, args) VALUES ('a:plain', '5')")
    [(parent,)] = raw("SELECT id FROM coserver_job")
    number = submit(store, parent)
    store.tick()
    assert (state(store, parent), state(store, number)) == (State.FAILED, State.CANCELLED)


def test_children_of_a_task_that_nobody_knows_yet_become_new_when_let_go(store: Store) -> None:
    worker = join(store)
    [parent] = store.submit([job()])
    number = submit(store, parent, task="a:unknown", queue=None)
    assert (state(store, number), info(store, number).queue) == (State.WAITING, None)
    finish(store, worker, ok(only(store, worker)))
    assert state(store, number) == State.NEW
    other = join(store, "mail/1", tasks=["a:unknown"])
    assert [held.id for held in claim(store, other, pairs=[("default", "a:unknown")])] == [number]


def test_a_child_with_its_time_still_to_come_is_scheduled_when_let_go(store: Store) -> None:
    worker = join(store)
    [parent] = store.submit([job()])
    number = submit(store, parent, delay=10**12)
    finish(store, worker, ok(only(store, worker)))
    assert state(store, number) == State.SCHEDULED


def test_what_the_child_reads_outlives_the_parent(store: Store) -> None:
    worker = join(store)
    [parent] = store.submit([job()])
    number = submit(store, parent)
    finish(store, worker, ok(only(store, worker), "[1]"))
    assert store.discard([parent]) == [parent]
    assert store.job(parent) is None
    assert store.inputs(number) == [Input(parent, State.SUCCEEDED, "[1]", None)]


@pytest.mark.parametrize("gone", [77, 2**80, -1])
def test_nothing_is_stored_when_a_parent_does_not_exist(store: Store, gone: int) -> None:
    [parent] = store.submit([job()])
    with pytest.raises(InvalidArguments, match=f"{gone}, which it is to wait for"):
        store.submit([job(), job(after=(Edge(parent), Edge(gone)))])
    assert store.counts().by_state[State.QUEUED] == 1
    assert store.counts().by_state[State.WAITING] == 0


def test_positions_must_come_before_the_child(store: Store) -> None:
    with pytest.raises(InvalidArguments, match="put parents before their children"):
        store.submit([job(), job(after=(Edge(1, here=True),))])
    with pytest.raises(InvalidArguments, match="only a job that ran takes over"):
        store.submit([job(), job(after=(Edge(0, On.TAKE_OVER, here=True),))])


def test_a_cancelled_child_is_not_put_back_while_its_parent_is_failed_or_gone(store: Store) -> None:
    worker = join(store)
    one, two = store.submit([job(), job()])
    number = submit(store, one, two)
    first, second = claim(store, worker)
    finish(store, worker, bad(first))
    finish(store, worker, ok(second))
    assert store.retry([number]) == []
    assert state(store, number) == State.CANCELLED
    store.discard([one])
    assert store.retry([number]) == []
    assert (state(store, number), store.counts().by_state[State.CANCELLED]) == (State.CANCELLED, 1)


def test_a_chain_goes_on_where_it_broke_when_all_of_it_is_put_back(store: Store) -> None:
    worker = join(store)
    [one] = store.submit([job()])
    two = submit(store, one)
    three = submit(store, two)
    finish(store, worker, bad(only(store, worker)))
    assert [state(store, number) for number in (one, two, three)] == [
        State.FAILED,
        State.CANCELLED,
        State.CANCELLED,
    ]
    assert store.retry([three, two]) == []
    assert store.retry([three, two, one]) == [one, two, three]
    assert [state(store, number) for number in (two, three)] == [State.WAITING, State.WAITING]
    assert info(store, two).parents == (one,)
    for number, result in ((one, LARGE), (two, '"b"'), (three, '"c"')):
        held = only(store, worker)
        assert held.id == number
        finish(store, worker, ok(held, result))
    assert store.inputs(two) == [Input(one, State.SUCCEEDED, LARGE, None)]
    assert store.inputs(three) == [Input(two, State.SUCCEEDED, '"b"', None)]


def test_a_child_that_is_put_back_after_its_parent_waits_for_it_or_takes_what_it_left(store: Store) -> None:
    worker = join(store)
    [one] = store.submit([job()])
    two, three = submit(store, one), submit(store, one)
    finish(store, worker, bad(only(store, worker)))
    assert store.retry([one]) == [one]
    assert state(store, two) == State.CANCELLED  # a parent that is put back takes nobody along
    assert store.retry([two]) == [two]
    assert state(store, two) == State.WAITING
    finish(store, worker, ok(only(store, worker), LARGE))
    assert state(store, two) == State.QUEUED
    assert store.retry([three]) == [three]
    assert state(store, three) == State.QUEUED
    for number in (two, three):
        assert store.inputs(number) == [Input(one, State.SUCCEEDED, LARGE, None)]


def test_a_child_that_is_put_back_and_waits_is_cancelled_when_its_parent_fails_once_more(
    store: Store,
) -> None:
    worker = join(store)
    [one] = store.submit([job()])
    two = submit(store, one)
    for _ in range(2):
        finish(store, worker, bad(only(store, worker)))
        assert (state(store, one), state(store, two)) == (State.FAILED, State.CANCELLED)
        assert store.retry([one, two]) == [one, two]


def test_a_child_that_somebody_cancelled_waits_again_for_the_living(store: Store) -> None:
    worker = join(store)
    one, two = store.submit([job(), job()])
    number = submit(store, one, two)
    finish(store, worker, ok(claim(store, worker, 1)[0], '"a"'))
    assert store.cancel([number]) == {number: State.CANCELLED}
    assert store.retry([number]) == [number]
    assert state(store, number) == State.WAITING
    assert store.cancel([number]) == {number: State.CANCELLED}
    finish(store, worker, ok(only(store, worker), '"b"'))
    assert state(store, number) == State.CANCELLED
    assert store.retry([number]) == [number]
    assert state(store, number) == State.QUEUED
    assert [one.result for one in store.inputs(number)] == ['"a"', '"b"']


def test_a_child_that_ran_and_failed_keeps_its_inputs_whatever_becomes_of_its_parents(store: Store) -> None:
    worker = join(store)
    [one] = store.submit([job()])
    two = submit(store, one)
    finish(store, worker, ok(only(store, worker), '"a"'))
    finish(store, worker, bad(only(store, worker)))
    store.discard([one])
    assert store.retry([two]) == [two]
    assert only(store, worker).id == two
    assert store.inputs(two) == [Input(one, State.SUCCEEDED, '"a"', None)]


def test_a_job_that_took_over_and_is_put_back_runs_anew(store: Store) -> None:
    worker = join(store)
    one, two = store.submit([job(), job(delay=10**12)])
    finish(store, worker, over(only(store, worker), two))
    store.cancel([one])
    assert store.retry([one]) == [one]
    assert state(store, one) == State.QUEUED
    store.cancel([two])
    assert state(store, one) == State.QUEUED


def test_those_whose_parent_cannot_be_put_back_are_not_either(store: Store) -> None:
    worker = join(store)
    [one] = store.submit([job(unique="a")])
    two = submit(store, one)
    three = submit(store, two)
    finish(store, worker, bad(only(store, worker)))
    store.submit([job(unique="a")])
    assert store.retry([one, two, three]) == []
    assert [state(store, number) for number in (one, two, three)] == [
        State.FAILED,
        State.CANCELLED,
        State.CANCELLED,
    ]


def test_a_parents_end_and_a_childs_return_agree(store: Store, another: Callable[[], Store]) -> None:
    """However they meet, the child gets what its parent left, and runs once."""
    worker = join(store)
    second = another()
    with ThreadPoolExecutor(1) as thread:
        for _ in range(20):
            [one] = store.submit([job()])
            two = submit(store, one)
            held = only(store, worker)
            store.cancel([two])
            returning = thread.submit(second.retry, [two])
            finish(store, worker, ok(held, '"a"'))
            assert returning.result(30) == [two]
            after = only(store, worker)
            assert (after.id, [one.result for one in store.inputs(two)]) == (two, ['"a"'])
            finish(store, worker, ok(after))


def test_forgotten_jobs_leave_nothing_behind(store: Store, raw: Raw) -> None:
    worker = join(store)
    parent, number = store.submit(
        [job(args=f"[{LARGE}]", tags=("a", "b")), job(after=(Edge(0, here=True),), tags=("a",))]
    )
    for expected in (parent, number):
        held = only(store, worker)
        assert held.id == expected
        finish(store, worker, ok(held, LARGE))
    assert info(store, parent).tags == ("a", "b")
    assert store.tick(retention=[(State.SUCCEEDED, -(10**15))]).pruned == 2
    for table in ("job", "done", "blob", "dep", "tag", "progress"):
        assert raw(f"SELECT count(*) FROM coserver_{table}") == [(0,)], table


# -- taking over ------------------------------------------------------------------------------------------------------


def test_a_job_that_returns_a_job_ends_as_that_one_does(store: Store) -> None:
    """J8: a job that returns a job."""
    worker = join(store)
    [one] = store.submit([job()])
    waiting = submit(store, one)
    held = only(store, worker)
    [two] = store.submit([job()])
    assert finish(store, worker, over(held, two)).stale == []
    assert (state(store, one), state(store, waiting)) == (State.WAITING, State.WAITING)
    assert store.held(worker) == []
    # Told once more after a lost reply, it is no stale one.
    assert finish(store, worker, over(held, two)).stale == []
    finish(store, worker, ok(only(store, worker), LARGE))
    done = info(store, one)
    assert (done.state, done.result, done.started_at) == (State.SUCCEEDED, LARGE, 1_000)
    assert store.inputs(waiting) == [Input(one, State.SUCCEEDED, LARGE, None)]
    assert store.inputs(one) == []
    assert finish(store, worker, over(held, two)).stale == []
    assert only(store, worker).id == waiting


def test_a_job_that_returns_one_that_has_ended_ends_at_once(store: Store) -> None:
    worker = join(store)
    one, two = store.submit([job(), job()])
    first, second = claim(store, worker)
    finish(store, worker, bad(second))
    finish(store, worker, over(first, two))
    assert (state(store, one), info(store, one).error) == (
        State.FAILED,
        Error("ValueError", "no", "Traceback …"),
    )


def test_jobs_of_one_batch_may_take_over_from_each_other(store: Store) -> None:
    worker = join(store)
    one, two, three = store.submit([job(), job(), job()])
    a, b, c = claim(store, worker)
    assert swap(store, worker, [over(a, two), over(b, three), ok(c, "3")]).stale == []
    assert [info(store, number).result for number in (one, two, three)] == ["3", "3", "3"]


def test_taking_over_in_a_circle_fails_the_job_that_would_close_it(store: Store) -> None:
    worker = join(store)
    one, two = store.submit([job(), job()])
    waiting = submit(store, one)
    a, b = claim(store, worker)
    finish(store, worker, over(a, two))
    finish(store, worker, over(b, waiting))
    error = info(store, two).error
    assert error is not None
    assert error.type == "WouldDeadlock"
    assert [state(store, number) for number in (one, two, waiting)] == [
        State.FAILED,
        State.FAILED,
        State.CANCELLED,
    ]


def test_taking_over_from_itself_or_from_nobody_fails(store: Store) -> None:
    worker = join(store)
    one, two = store.submit([job(), job()])
    a, b = claim(store, worker)
    finish(store, worker, over(a, one), over(b, 99))
    errors = [info(store, number).error for number in (one, two)]
    assert [error and error.type for error in errors] == ["WouldDeadlock", "ResultGone"]


def test_two_that_would_close_a_circle_at_once_do_not(store: Store, another: Callable[[], Store]) -> None:
    """Neither sees the other's edge, and no row is common to both: a to b, c to d, where b waits for c and d for a."""
    worker, other = join(store), join(store, "images/2")
    stores = (store, another())
    start = threading.Barrier(2)

    def take_over(one: Store, worker: int, held: Claimed, parent: int) -> None:
        start.wait(30)
        finish(one, worker, over(held, parent))

    with ThreadPoolExecutor(2) as threads:
        for _ in range(30):
            store.submit([job() for _ in range(4)])
            a, b, d = claim(store, worker, 3)
            [c] = claim(store, other)
            finish(store, worker, over(b, c.id), over(d, a.id))
            list(threads.map(take_over, stores, (worker, other), (a, c), (b.id, d.id)))
            assert {state(store, held.id) for held in (a, b, c, d)} == {State.FAILED}


# -- many at once -----------------------------------------------------------------------------------------------------


@contextmanager
def _transaction(url: str) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    connection = psycopg.connect(url)
    try:
        yield connection
    finally:
        connection.close()


def _blocked(connection: psycopg.Connection[tuple[object, ...]], n: int = 1) -> bool:
    row = connection.execute(
        "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype IN ('transactionid', 'tuple')"
    ).fetchone()
    return row is not None and row[0] == n


def test_a_finish_that_meets_a_submit_of_a_child_waits_for_it(postgres_url: str) -> None:
    """The parent's row is locked by a submit that has not committed: the finish waits, then sees the edge."""
    store = open_store(postgres_url)
    try:
        worker = join(store)
        parent, number = store.submit([job(), job(held=True)])
        held = only(store, worker)
        with (
            _transaction(postgres_url) as submitting,
            _transaction(postgres_url) as watching,
            ThreadPoolExecutor(1) as thread,
        ):
            watching.autocommit = True
            # What a submit does, in its order: flag, edge, count.
            submitting.execute("UPDATE coserver_job SET flags = flags | 2 WHERE id = %s", (parent,))
            submitting.execute(
                "INSERT INTO coserver_dep (child, place, parent, on_end) VALUES (%s, 0, %s, 0)",
                (number, parent),
            )
            submitting.execute("UPDATE coserver_job SET state = 2, waits = 1 WHERE id = %s", (number,))
            finishing = thread.submit(finish, store, worker, ok(held, "1"))
            eventually(lambda: _blocked(watching))
            submitting.commit()
            assert finishing.result(30).stale == []
        assert (state(store, parent), state(store, number)) == (State.SUCCEEDED, State.QUEUED)
        assert store.inputs(number) == [Input(parent, State.SUCCEEDED, "1", None)]
    finally:
        store.close()


def test_a_submit_of_a_child_that_meets_the_finish_waits_for_it(postgres_url: str) -> None:
    """The parent's row is deleted by a finish that has not committed: the submit waits, then finds it finished."""
    store = open_store(postgres_url)
    try:
        worker = join(store)
        [parent] = store.submit([job()])
        held = only(store, worker)
        with (
            _transaction(postgres_url) as finishing,
            _transaction(postgres_url) as watching,
            ThreadPoolExecutor(1) as thread,
        ):
            watching.autocommit = True
            finishing.execute(
                "WITH gone AS (DELETE FROM coserver_job WHERE id = %s RETURNING *) "
                "INSERT INTO coserver_done (id, state, priority, claim, attempt, crashes, created_at, finished_at, "
                "queue, task, result) "
                "SELECT id, 10, priority, claim, 0, 0, created_at, 2000, queue, task, '1' FROM gone",
                (held.id,),
            )
            submitting = thread.submit(submit, store, parent)
            eventually(lambda: _blocked(watching))
            finishing.commit()
            number = submitting.result(30)
        assert state(store, number) == State.QUEUED
        assert store.inputs(number) == [Input(parent, State.SUCCEEDED, "1", None)]
    finally:
        store.close()


def test_no_child_waits_for_ever_however_ends_and_submits_meet(
    store: Store, another: Callable[[], Store]
) -> None:
    """Children are submitted while their parents end, in both orders and in between."""
    worker = join(store)
    second = another()
    parents: SimpleQueue[int | None] = SimpleQueue()
    children: list[int] = []

    def follow() -> None:
        while (parent := parents.get()) is not None:
            children.append(submit(second, parent, queue="other"))

    thread = threading.Thread(target=follow)
    thread.start()
    try:
        for _ in range(50):
            for number in store.submit([job(), job()]):
                parents.put(number)
            finish(store, worker, *[ok(one) if one.id % 3 else bad(one) for one in claim(store, worker, 2)])
    finally:
        parents.put(None)
        thread.join(60)
    while left := claim(store, worker, 2):  # who was about to get a child is passed over by a claim
        finish(store, worker, *[ok(one) if one.id % 3 else bad(one) for one in left])
    assert len(children) == 100
    states = {number: state(store, number) for number in children}
    assert set(states.values()) <= {State.QUEUED, State.CANCELLED}
    for number, end in states.items():
        [came] = store.inputs(number)
        assert (came.state == State.SUCCEEDED) == (end == State.QUEUED)


def test_parents_of_one_child_may_end_at_once(store: Store, another: Callable[[], Store]) -> None:
    """Two that lower the same count do not lose one of the two."""
    workers = [(store, join(store)), (another(), join(store, "images/2"))]
    with ThreadPoolExecutor(2) as threads:
        for _ in range(20):
            *parents, number = store.submit(
                [job(), job(), job(queue="other", after=(Edge(0, here=True), Edge(1, here=True)))]
            )
            held = [(one, worker, claim(one, worker, 1)[0]) for one, worker in workers]
            list(threads.map(lambda one: finish(one[0], one[1], ok(one[2])), held))
            assert state(store, number) == State.QUEUED
            assert [one.job for one in store.inputs(number)] == parents


def test_ends_that_lock_each_others_rows_in_other_orders_all_come_through(
    store: Store, another: Callable[[], Store]
) -> None:
    """Cancelling goes down from parents to children, in two graphs that cross: the server may break a tie, nobody
    notices."""
    second = another()
    with ThreadPoolExecutor(2) as threads:
        for _ in range(5):
            one, two = store.submit([job(), job()])
            numbers = [submit(store, two if n % 2 else one) for n in range(6)]
            requests = [(store, [one, *numbers]), (second, [two, *numbers[::-1]])]
            list(threads.map(lambda request: request[0].cancel(request[1]), requests))
            assert {state(store, number) for number in (one, two, *numbers)} == {State.CANCELLED}


def test_a_thousand_children_are_let_go_at_once(store: Store) -> None:
    worker = join(store)
    [parent] = store.submit([job()])
    numbers = store.submit([job(after=(Edge(parent),)) for _ in range(1000)])
    assert store.counts().by_state[State.WAITING] == 1000
    finish(store, worker, ok(only(store, worker), "1"))
    assert store.counts().by_state[State.WAITING] == 0
    assert [held.id for held in claim(store, worker, 1000)] == numbers


def test_an_error_of_a_failed_parent_reaches_the_child(store: Store) -> None:
    worker = join(store)
    [parent] = store.submit([job()])
    number = submit(store, parent, on=On.FAILURE)
    finish(store, worker, bad(only(store, worker), ERROR))
    assert store.inputs(number) == [
        Input(parent, State.FAILED, None, Error("ValueError", "no", "Traceback …"))
    ]
