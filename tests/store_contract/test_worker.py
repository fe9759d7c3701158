"""The worker's half of the contract: exchange, fence, order, lease, parking, reconciliation."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from coserver.model.job import JobFilter, Priority, State, Succeeded
from coserver.store.contract import Held, Settled, Store
from coserver.store.records import INLINE
from tests.store_contract.helpers import (
    PAIR,
    Raw,
    again,
    back,
    bad,
    claim,
    eventually,
    finish,
    job,
    join,
    ok,
    swap,
)


def state_of(store: Store, number: int) -> State:
    info = store.job(number)
    assert info is not None
    return info.state


# -- claiming ----------------------------------------------------------------------------------------------------


def test_a_claimed_job_runs_under_its_worker(store: Store) -> None:
    worker = join(store)
    [number] = store.submit([job(args='["daily"]')])
    [held] = claim(store, worker)
    assert (held.id, held.task, held.queue, held.args) == (number, "shop.jobs:report", "default", '["daily"]')
    assert (held.claim, held.attempt, held.crashes, held.priority) == (1, 0, 0, Priority.NORMAL)
    info = store.job(number)
    assert info is not None
    assert (info.state, info.worker) == (State.RUNNING, "images/1")
    assert info.started_at is not None
    assert claim(store, worker) == []


def test_better_priorities_come_first_then_older_jobs_over_all_pairs(store: Store) -> None:
    """J3: three priority classes; higher first."""
    worker = join(store)
    pairs = [("default", "a:one"), ("mail", "a:one"), ("default", "a:two")]
    order = [(priority, queue, task) for _ in range(3) for queue, task in pairs for priority in (2, 0, 1)]
    numbers = store.submit(
        [job(task, queue=queue, priority=Priority(priority)) for priority, queue, task in order]
    )
    expected = [
        number for _, number in sorted(zip([priority for priority, _, _ in order], numbers, strict=True))
    ]
    got: list[int] = []
    while batch := claim(store, worker, 4, pairs=pairs):
        assert len(batch) <= 4
        got += [held.id for held in batch]
    assert got == expected


def test_a_better_priority_submitted_later_is_claimed_before_an_older_backlog(store: Store) -> None:
    worker = join(store)
    store.submit([job() for _ in range(50)])
    claim(store, worker, 10)
    [urgent] = store.submit([job(priority=Priority.HIGH)])
    assert claim(store, worker, 1)[0].id == urgent


def test_only_provided_pairs_are_claimed(store: Store) -> None:
    """J2: a job is claimed only by a worker that provides its task."""
    worker = join(store)
    store.submit([job("a:foreign"), job(queue="foreign"), job("a:foreign", queue="foreign")])
    [mine] = store.submit([job()])
    assert [held.id for held in claim(store, worker)] == [mine]


def test_no_more_than_the_limit_is_claimed(store: Store) -> None:
    worker = join(store)
    store.submit([job() for _ in range(7)])
    assert [len(claim(store, worker, 3)) for _ in range(4)] == [3, 3, 1, 0]


def test_no_more_than_the_room_of_a_queue_is_claimed_from_it(store: Store) -> None:
    worker = join(store)
    pairs = [("images", "a:one"), ("images", "a:two"), ("mail", "a:one")]
    store.submit([job(task, queue=queue) for _ in range(5) for queue, task in pairs])
    batch = claim(store, worker, 10, pairs=pairs, room=[("images", 2)])
    assert [held.queue for held in batch].count("images") == 2
    assert [held.queue for held in batch].count("mail") == 5
    assert {held.queue for held in claim(store, worker, 10, pairs=pairs, room=[("images", 0)])} == set()


def test_nothing_is_claimed_without_pairs(store: Store) -> None:
    worker = join(store)
    store.submit([job()])
    assert claim(store, worker, pairs=[]) == []


def test_an_exchange_says_when_the_next_scheduled_job_is_due(store: Store) -> None:
    worker = join(store)
    assert swap(store, worker).next_due is None
    store.submit([job(delay=600_000_000), job(delay=3_600_000_000)])
    due = swap(store, worker).next_due
    assert due is not None
    assert 500_000_000 < due <= 600_000_000


def test_a_due_job_is_claimed_by_the_exchange_that_finds_it(store: Store) -> None:
    worker = join(store)
    [number] = store.submit([job(delay=30_000)])
    assert state_of(store, number) == State.SCHEDULED
    [held] = eventually(lambda: claim(store, worker))
    assert held.id == number


def test_due_jobs_line_up_behind_those_that_were_ready_before(store: Store) -> None:
    worker = join(store)
    [delayed] = store.submit([job(delay=20_000)])
    ready = store.submit([job(), job()])
    eventually(lambda: store.tick().promoted)
    assert [held.id for held in claim(store, worker)] == [*ready, delayed]


# -- finishing ---------------------------------------------------------------------------------------------------


def test_one_exchange_records_a_batch_and_claims_the_next(store: Store) -> None:
    worker = join(store)
    numbers = store.submit([job() for _ in range(1000)])
    first = swap(store, worker, limit=500)
    second = swap(store, worker, [ok(held, '"done"') for held in first.claimed], limit=500)
    assert second.stale == []
    assert [held.id for held in (*first.claimed, *second.claimed)] == numbers
    assert store.counts().by_state[State.SUCCEEDED] == 500
    assert store.counts().by_state[State.RUNNING] == 500


def test_a_finished_job_keeps_result_and_times(store: Store) -> None:
    worker = join(store)
    [number] = store.submit([job()])
    [held] = claim(store, worker)
    finish(store, worker, Succeeded(held.id, held.claim, '{"a":[1,null]}', 123, 456))
    info = store.job(number)
    assert info is not None
    assert (info.state, info.result, info.started_at, info.finished_at) == (
        State.SUCCEEDED,
        '{"a":[1,null]}',
        123,
        456,
    )
    assert info.error is None


def test_with_a_limit_of_zero_it_only_records(store: Store) -> None:
    worker = join(store)
    store.submit([job(), job(), job("a:late", queue=None), job(delay=10**12)])
    [held] = claim(store, worker, 1)
    result = finish(store, worker, ok(held))
    assert (list(result.claimed), result.stale, result.live) == ([], [], True)
    assert store.counts().by_state[State.QUEUED] == 1


def test_a_finish_under_another_claim_worker_or_id_changes_nothing(store: Store) -> None:
    """N3: a stale worker's result changes nothing."""
    worker, other = join(store), join(store, "images/2")
    [number] = store.submit([job()])
    [held] = claim(store, worker)
    late = Succeeded(number, held.claim - 1, '"late"', 1, 2)
    early = Succeeded(number, held.claim + 1, '"early"', 1, 2)
    unknown = Succeeded(number + 1, held.claim, '"unknown"', 1, 2)
    assert finish(store, worker, late).stale == [number]
    assert finish(store, worker, early).stale == [number]
    assert finish(store, worker, unknown).stale == [number + 1]
    assert finish(store, other, ok(held)).stale == [number]
    assert finish(store, other, bad(held), again(held), back(held)).stale == [number] * 3
    assert state_of(store, number) == State.RUNNING
    assert finish(store, worker, ok(held, '"mine"')).stale == []
    info = store.job(number)
    assert info is not None
    assert info.result == '"mine"'


@pytest.mark.parametrize("end", [ok, bad, again, back])
def test_a_stale_outcome_in_a_batch_leaves_the_others_alone(store: Store, end: Callable[..., object]) -> None:
    worker = join(store)
    store.submit([job() for _ in range(3)])
    one, two, three = claim(store, worker)
    gone = end(type(two)(two.id, two.claim + 7, *_rest(two)))
    result = finish(store, worker, ok(one), gone, ok(three))  # type: ignore[arg-type]
    assert result.stale == [two.id]
    assert [state_of(store, held.id) for held in (one, two, three)] == [
        State.SUCCEEDED,
        State.RUNNING,
        State.SUCCEEDED,
    ]
    assert store.counts().by_state[State.SUCCEEDED] == 2


def _rest(held: object) -> list[object]:
    return [getattr(held, name) for name in type(held).__struct_fields__[2:]]  # type: ignore[attr-defined]


def test_finishing_once_more_under_the_same_claim_is_no_change_and_not_stale(store: Store) -> None:
    worker = join(store)
    [number] = store.submit([job()])
    [held] = claim(store, worker)
    finish(store, worker, ok(held, '"first"'))
    assert finish(store, worker, ok(held, '"second"')).stale == []
    info = store.job(number)
    assert info is not None
    assert info.result == '"first"'
    assert store.counts().by_state[State.SUCCEEDED] == 1


def test_every_claim_raises_the_claim_number(store: Store) -> None:
    worker = join(store)
    store.submit([job()])
    claims = []
    for _ in range(4):
        [held] = claim(store, worker)
        claims.append(held.claim)
        finish(store, worker, back(held))
    assert claims == [1, 2, 3, 4]


def test_a_retry_is_charged_and_waits_for_its_delay(store: Store) -> None:
    worker = join(store)
    [number] = store.submit([job()])
    [held] = claim(store, worker)
    before = time.time_ns() // 1000
    assert finish(store, worker, again(held, 600_000_000)).stale == []
    info = store.job(number)
    assert info is not None
    assert (info.state, info.attempt, info.crashes, info.worker) == (State.SCHEDULED, 1, 0, None)
    assert info.run_at is not None
    assert 0 <= info.run_at - before - 600_000_000 < 60_000_000
    assert info.error is not None
    assert info.error.type == "ValueError"


def test_a_retry_without_delay_goes_to_the_end_of_its_line(store: Store) -> None:
    worker = join(store)
    store.submit([job() for _ in range(3)])
    [first] = claim(store, worker, 1)
    batch = swap(store, worker, [again(first)]).claimed
    if len(batch) == 2:  # PostgreSQL claims from the state before the statement
        batch = [*batch, *claim(store, worker)]
    assert [(held.id, held.attempt) for held in batch] == [(2, 0), (3, 0), (1, 1)]


def test_a_released_job_is_uncharged_and_at_its_old_place(store: Store) -> None:
    worker = join(store)
    store.submit([job() for _ in range(3)])
    first, second, _ = claim(store, worker)
    finish(store, worker, back(second), back(first))
    assert [(held.id, held.attempt, held.crashes) for held in claim(store, worker)] == [(1, 0, 0), (2, 0, 0)]


def test_a_batch_of_five_hundred_mixed_outcomes_is_recorded_at_once(store: Store) -> None:
    worker = join(store)
    store.submit([job() for _ in range(500)])
    batch = claim(store, worker, 500)
    large = '"' + "x" * (INLINE + 1) + '"'
    ends = [
        [ok(held, '"small"'), ok(held, large), bad(held), again(held, 10**12), back(held)][held.id % 5]
        for held in batch
    ]
    assert finish(store, worker, *ends).stale == []
    found = store.counts().by_state
    assert (found[State.SUCCEEDED], found[State.FAILED]) == (200, 100)
    assert (found[State.SCHEDULED], found[State.QUEUED], found[State.RUNNING]) == (100, 100, 0)
    assert {store.job(number).result for number in (1, 6, 11)} == {large}  # type: ignore[union-attr]


# -- life of a worker --------------------------------------------------------------------------------------------


def test_incarnations_are_never_used_again(store: Store) -> None:
    first = join(store)
    store.leave(first)
    assert join(store) > first


def test_a_worker_that_left_or_never_was_is_not_live(store: Store) -> None:
    worker = join(store)
    store.submit([job()])
    store.leave(worker)
    for dead in (worker, 999):
        result = swap(store, dead)
        assert (list(result.claimed), result.live) == ([], False)
        assert finish(store, dead).live is False


def test_leaving_hands_back_what_is_held_uncharged(store: Store) -> None:
    worker = join(store)
    numbers = store.submit([job(), job()])
    held = claim(store, worker)
    store.leave(worker)
    assert finish(store, worker, ok(held[0])).stale == [held[0].id]
    assert [(held.id, held.crashes, held.attempt) for held in claim(store, join(store))] == [
        (number, 0, 0) for number in numbers
    ]


def test_a_lease_that_is_renewed_does_not_run_out(store: Store) -> None:
    worker, sibling = join(store, lease=60), join(store, "images/2")
    store.submit([job()])
    claim(store, worker)
    assert store.renew([worker, sibling, 999], lease=60) == [999]
    assert claim(store, sibling) == []
    assert len(store.held(worker)) == 1


def test_a_sibling_takes_over_when_the_lease_runs_out(store: Store) -> None:
    """J11: silence makes a sibling take over; the silent worker may return but not commit reassigned jobs."""
    worker, sibling = join(store, lease=0.05), join(store, "images/2")
    numbers = store.submit([job(), job()])
    silent = claim(store, worker)
    taken = eventually(lambda: claim(store, sibling))
    # Nobody knows which had begun: both are charged, and a job that may have killed its worker is claimed alone.
    assert [(held.id, held.crashes, held.claim) for held in taken] == [(numbers[0], 1, 2)]
    assert store.renew([worker], lease=60) == [worker]
    result = swap(store, worker, [ok(silent[0], '"stale"'), bad(silent[1])])
    assert sorted(result.stale) == numbers
    assert result.live is False
    assert finish(store, sibling, ok(taken[0], '"mine"')).stale == []
    info = store.job(numbers[0])
    assert info is not None
    assert info.result == '"mine"'


def test_a_job_that_has_killed_a_worker_is_claimed_alone_in_its_turn(store: Store) -> None:
    store.submit([job(priority=Priority.HIGH), job(), job(), job(priority=Priority.LOW)])
    worker = join(store, token="t")
    claim(store, worker)
    store.bury("t", started=[2], note="killed")
    sibling = join(store, "images/2")
    batches = [[held.id for held in claim(store, sibling)] for _ in range(4)]
    assert batches == [[1], [2], [3, 4], []]


def test_jobs_that_have_killed_workers_come_one_by_one_in_order(store: Store) -> None:
    pairs = [PAIR, ("default", "a:two")]
    store.submit([job(), job("a:two"), job(), job("a:two", priority=Priority.HIGH)])
    claim(store, join(store, token="t"), pairs=pairs)
    store.bury("t", started=None, note="killed")
    sibling = join(store, "images/2")
    assert [[held.id for held in claim(store, sibling, pairs=pairs)] for _ in range(5)] == [
        [4],
        [1],
        [2],
        [3],
        [],
    ]


# -- parking -----------------------------------------------------------------------------------------------------


def test_parking_with_nothing_to_do_says_sleep(store: Store) -> None:
    worker = join(store)
    store.submit([job("a:foreign"), job(queue="foreign"), job(delay=10**12), job("a:unknown", queue=None)])
    assert store.park(worker) is False


def test_parking_sees_what_was_submitted_before_it(store: Store) -> None:
    worker = join(store)
    store.submit([job()])
    assert store.park(worker) is True


def test_parking_sees_new_due_and_suspect_jobs_and_open_estates(store: Store, raw: Raw) -> None:
    worker = join(store)
    raw("INSERT INTO coserver_job (task) VALUES ('shop.jobs:report')")
    assert store.park(worker) is True
    held = claim(store, worker)
    assert store.park(worker) is False
    finish(store, worker, again(held[0], 20_000))
    eventually(lambda: store.park(worker))
    claim(store, worker)
    other = join(store, "images/2", lease=0.01)
    eventually(lambda: store.park(other) is True or store.park(worker))
    eventually(lambda: store.park(worker))


def test_a_dead_worker_is_told_not_to_sleep(store: Store) -> None:
    worker = join(store)
    store.leave(worker)
    assert store.park(worker) is True


def test_a_parked_worker_stays_parked_until_it_is_given_jobs(store: Store, raw: Raw) -> None:
    worker = join(store)
    store.park(worker)
    assert claim(store, worker) == []
    assert raw("SELECT parked FROM coserver_worker") == [(1,)]
    store.submit([job()])
    assert len(claim(store, worker)) == 1
    assert raw("SELECT parked FROM coserver_worker") == [(0,)]


def test_a_submit_rouses_a_parked_worker(store: Store, another: Callable[[], Store], tmp_path: Path) -> None:
    path = tmp_path / ("long" * 30) / "images-1"
    path.parent.mkdir()
    with _ears(store, path) as heard:
        worker = join(store, wake=str(path))
        assert store.park(worker) is False
        assert not heard(0)
        another().submit([job()])
        assert heard(20)


@pytest.mark.parametrize("event", ["retry", "release", "leave", "bury", "tick"])
def test_whatever_makes_work_ready_rouses_a_parked_worker(
    store: Store, another: Callable[[], Store], tmp_path: Path, event: str
) -> None:
    path = tmp_path / "images-1"
    elsewhere = another()
    with _ears(store, path) as heard:
        busy, idle = join(store, "images/2", token="busy"), join(store, wake=str(path))
        [number] = store.submit([job()])
        [held] = claim(store, busy, 1)
        if event == "retry":
            finish(store, busy, bad(held))
        if event == "tick":
            store.submit([job(delay=20_000)])
        else:
            assert store.park(idle) is False
        store.park(idle)
        while heard(0):
            pass
        match event:
            case "retry":
                assert elsewhere.retry([number]) == [number]
            case "release":
                finish(elsewhere, busy, back(held))
            case "leave":
                elsewhere.leave(busy)
            case "bury":
                elsewhere.bury("busy", started=[number], note="killed")
            case _:
                eventually(lambda: elsewhere.tick().promoted)
        assert heard(20)


class _ears:  # noqa: N801
    """Hears wake-ups as a worker would: a datagram socket on SQLite, a notification on PostgreSQL."""

    def __init__(self, store: Store, path: Path) -> None:
        self._store, self._path = store, path

    def __enter__(self) -> Callable[[float], bool]:
        if self._store.url.startswith("sqlite"):
            import os

            folder = os.open(self._path.parent, os.O_RDONLY)
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.bind(f"/proc/self/fd/{folder}/{self._path.name}")
            os.close(folder)
            return self._datagram
        import psycopg

        from tests.postgres import PASSWORD

        self._connection = psycopg.connect(self._store.url.replace("***", PASSWORD), autocommit=True)
        self._connection.execute("LISTEN coserver")
        return lambda seconds: any(True for _ in self._connection.notifies(timeout=seconds, stop_after=1))

    def _datagram(self, seconds: float) -> bool:
        self._socket.settimeout(seconds)
        try:
            return bool(self._socket.recv(16))
        except (TimeoutError, BlockingIOError):
            return False

    def __exit__(self, *error: object) -> None:
        if self._store.url.startswith("sqlite"):
            self._socket.close()
        else:
            self._connection.close()


def test_a_submit_does_not_fail_because_a_parked_worker_is_gone(store: Store, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as closed:
        closed.bind(str(gone))
    store.park(join(store, wake=str(gone)))
    store.park(join(store, "images/2", wake=str(tmp_path / "never-was")))
    store.park(join(store, "images/3", wake=str(tmp_path / "no" / "such" / ("folder" * 30))))
    assert len(store.submit([job()])) == 1


# -- after a lost reply ------------------------------------------------------------------------------------------


def test_held_and_settled_tell_the_truth_after_a_lost_reply(store: Store) -> None:
    worker = join(store)
    store.submit([job() for _ in range(4)])
    one, two, three, _ = claim(store, worker)
    finish(store, worker, ok(one), bad(two))
    assert store.held(worker) == [Held(3, 1), Held(4, 1)]
    assert store.held(999) == []
    found = sorted(store.settled([1, 2, 3, 4, 99]), key=lambda end: end.id)
    assert found == [Settled(1, 1, State.SUCCEEDED), Settled(2, 1, State.FAILED)]
    # What the worker does not hold (it never saw the reply of its claim) goes back uncharged.
    finish(store, worker, *[back(three)], *[back(type(three)(4, 1, *_rest(three)))])
    assert [(held.id, held.crashes, held.attempt) for held in claim(store, worker)] == [(3, 0, 0), (4, 0, 0)]


def test_errors_that_are_no_json_are_shown_as_they_are(store: Store) -> None:
    worker = join(store)
    store.submit([job()])
    finish(store, worker, bad(claim(store, worker)[0], "boom"))
    info = store.job(1)
    assert info is not None
    assert info.error is not None
    assert info.error.message == "boom"


def test_a_job_says_which_attempt_runs_or_ran_last_as_its_function_counts(store: Store) -> None:
    [number] = store.submit([job()])
    worker = join(store)
    told = []

    def tell() -> None:
        info = store.job(number)
        assert info is not None
        assert store.jobs(JobFilter(), limit=1)[0].attempt == info.attempt
        told.append(info.attempt)

    tell()
    [held] = claim(store, worker)
    tell()
    finish(store, worker, back(held))
    tell()  # it was handed back: that one does not count
    [held] = claim(store, worker)
    finish(store, worker, again(held))
    tell()
    [held] = claim(store, worker)
    tell()
    finish(store, worker, ok(held))
    tell()
    assert told == [0, 1, 0, 1, 2, 2]
