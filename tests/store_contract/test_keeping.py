"""What a node needs: burying the dead, upkeep, probing."""

from __future__ import annotations

from collections.abc import Callable

from coserver.model.job import JobFilter, Priority, State, TaskDefaults
from coserver.store.contract import Rescue, Store
from tests.store_contract.helpers import (
    TASK,
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

AGE = -(10**15)
"""A retention that has passed for everything that ever ended."""


def test_burying_frees_the_dead_workers_jobs_and_charges_only_what_had_begun(store: Store) -> None:
    """N11, the store's part: who never started goes back uncharged, at its old place, in the same call."""
    worker, sibling = join(store, token="t"), join(store, "images/2", token="u")
    numbers = store.submit([job() for _ in range(5)])
    claim(store, worker, 4)
    rescue = store.bury("t", started=[numbers[1]], note="killed by signal 9")
    assert rescue == Rescue([1, 3, 4], [2], [])
    assert store.held(worker) == []
    got = [[(held.id, held.crashes, held.attempt) for held in claim(store, sibling)] for _ in range(3)]
    assert got == [[(1, 0, 0)], [(2, 1, 0)], [(3, 0, 0), (4, 0, 0), (5, 0, 0)]]


def test_without_knowledge_of_what_had_begun_all_jobs_are_charged(store: Store) -> None:
    worker = join(store, token="t")
    store.submit([job(), job()])
    claim(store, worker)
    assert store.bury("t", started=None, note="") == Rescue([], [1, 2], [])


def test_a_buried_worker_is_dead_for_good(store: Store) -> None:
    """J11: a runner wrongly declared dead may return but not commit reassigned jobs."""
    worker = join(store, token="t")
    store.submit([job()])
    held = claim(store, worker)
    store.bury("t", started=[], note="killed")
    assert store.renew([worker], lease=60) == [worker]
    result = swap(store, worker, [ok(held[0])])
    assert (result.live, list(result.claimed), result.stale) == (False, [], [1])
    assert store.bury("t", started=[1], note="again") == Rescue([], [], [])


def test_burying_reaches_every_incarnation_of_the_process_and_nobody_else(store: Store) -> None:
    first, second, other = join(store, token="t"), join(store, token="t"), join(store, token="u")
    store.submit([job() for _ in range(3)])
    for worker in (first, second, other):
        claim(store, worker, 1)
    assert store.bury("t", started=[1, 2], note="killed") == Rescue([], [1, 2], [])
    assert len(store.held(other)) == 1
    assert store.live_tokens() == [(other, "u")]
    assert store.bury("nobody", started=None, note="") == Rescue([], [], [])


def test_burying_frees_more_jobs_than_one_bounded_step(store: Store) -> None:
    worker = join(store, token="t")
    store.submit([job() for _ in range(1200)])
    assert len(claim(store, worker, 1200)) == 1200
    rescue = store.bury("t", started=[], note="killed")
    assert len(rescue.uncharged) == 1200


def test_a_job_whose_workers_keep_dying_is_lost_with_the_note_of_the_last_death(store: Store) -> None:
    [number] = store.submit([job()])
    for death in range(3):
        worker = join(store, f"images/{death}", token=f"t{death}")
        [held] = claim(store, worker)
        assert held.crashes == death
        rescue = store.bury(f"t{death}", started=[number], note=f"signal 9, time {death}")
        assert rescue == (Rescue([], [number], []) if death < 2 else Rescue([], [], [number]))
    info = store.job(number)
    assert info is not None
    assert (info.state, info.crashes, info.worker) == (State.LOST, 3, "images/2")
    assert info.finished_at is not None
    assert info.error is not None
    assert "signal 9, time 2" in info.error.message
    assert claim(store, join(store)) == []
    assert store.counts().by_state[State.LOST] == 1
    assert store.retry([number]) == [number]
    [held] = claim(store, join(store))
    assert held.crashes == 0


def test_a_job_that_may_not_be_repeated_is_lost_with_its_first_worker(store: Store) -> None:
    """on_lost="fail", from the job itself or from what its task has published."""
    defaults = {"a:once": TaskDefaults(max_crashes=1)}
    worker = join(store, token="t", tasks=[TASK, "a:once"], defaults=defaults)
    store.submit([job(max_crashes=1), job("a:once"), job("a:once", max_crashes=2)])
    claim(store, worker, pairs=[("default", TASK), ("default", "a:once")])
    assert store.bury("t", started=None, note="killed") == Rescue([], [3], [1, 2])


def test_crashes_do_not_use_up_the_budget_of_retries(store: Store) -> None:
    worker = join(store, token="t")
    store.submit([job()])
    finish(store, worker, again(claim(store, worker)[0]))
    claim(store, worker)
    store.bury("t", started=[1], note="killed")
    [held] = claim(store, join(store))
    assert (held.attempt, held.crashes) == (1, 1)


def test_whatever_turns_up_under_a_dead_worker_later_is_freed_uncharged(store: Store, raw: Raw) -> None:
    """Level-triggered: a claim that was under way when its worker was buried, and a node that died while burying."""
    worker = join(store, token="t")
    store.submit([job(), job()])
    claim(store, worker)
    raw("UPDATE coserver_worker SET state = 1, started = '[1]', note = 'killed' WHERE id = ?", worker)
    sibling = join(store, "images/2")
    got = [[(held.id, held.crashes) for held in claim(store, sibling)] for _ in range(2)]
    assert got == [[(1, 1)], [(2, 0)]]


def test_a_second_report_of_a_death_does_not_change_what_the_first_one_knew(store: Store, raw: Raw) -> None:
    worker = join(store, token="t")
    store.submit([job(), job()])
    claim(store, worker)
    raw("UPDATE coserver_worker SET state = 1, started = '[1]', note = 'first' WHERE id = ?", worker)
    assert store.bury("t", started=None, note="second") == Rescue([2], [1], [])
    assert raw("SELECT note FROM coserver_worker") == [("first",)]


def test_a_tick_notices_leases_that_ran_out(store: Store) -> None:
    worker, _ = join(store, lease=0.02), join(store, "images/2")
    store.submit([job(), job()])
    claim(store, worker)
    assert eventually(lambda: store.tick().rescued) == 2
    assert store.held(worker) == []


def test_rescue_is_bounded_and_goes_on_until_nothing_remains(store: Store) -> None:
    worker, _ = join(store, lease=0.02), join(store, "images/2")
    store.submit([job() for _ in range(25)])
    claim(store, worker, 25)
    first = eventually(lambda: (done := store.tick(limit=10)).rescued and done)
    assert (first.rescued, first.more) == (10, True)
    assert [store.tick(limit=10).rescued for _ in range(3)] == [10, 5, 0]


def test_a_tick_routes_promotes_and_prunes_in_bounded_steps(store: Store, raw: Raw) -> None:
    worker = join(store)
    for _ in range(12):
        raw("INSERT INTO coserver_job (task) VALUES (?)", TASK)
    store.submit([job(delay=1) for _ in range(12)])
    done = eventually(lambda: (pass_ := store.tick(limit=5)).promoted and pass_)
    assert (done.routed <= 5, done.promoted <= 5, done.more) == (True, True, True)
    eventually(lambda: not store.tick(limit=5).more)
    batch = claim(store, worker, 100)
    assert len(batch) == 24
    finish(store, worker, *[ok(held, '"' + "x" * 5000 + '"') for held in batch])
    passes = []
    while (done := store.tick(retention=[(State.SUCCEEDED, AGE)], limit=10)).pruned:
        passes.append((done.pruned, done.more))
    assert passes == [(10, True), (10, True), (4, False)]
    assert raw("SELECT count(*) FROM coserver_blob") == [(0,)]
    assert store.jobs(JobFilter(), limit=10) == []


def test_pruning_goes_by_state_and_age(store: Store, raw: Raw) -> None:
    worker = join(store)
    store.submit([job() for _ in range(4)])
    one, two, three, _ = claim(store, worker)
    finish(store, worker, ok(one), ok(two), bad(three))
    raw("UPDATE coserver_done SET finished_at = ? WHERE id = 2", 4 * 10**15)
    assert store.tick(retention=[(State.SUCCEEDED, 60_000_000)]).pruned == 1
    assert [info.id for info in store.jobs(JobFilter(), limit=10)] == [4, 3, 2]
    assert store.tick(retention=[(State.FAILED, 60_000_000)]).pruned == 1
    assert store.tick().pruned == 0


def test_what_was_cancelled_or_expired_goes_by_a_retention_of_its_own(store: Store, raw: Raw) -> None:
    cancelled, expired = store.submit([job(), job(begin_within=1)])
    store.cancel([cancelled])
    eventually(lambda: store.tick() and store.jobs(JobFilter(states=(State.EXPIRED,)), limit=1))
    assert store.tick(retention=[(State.SUCCEEDED, AGE), (State.FAILED, AGE), (State.LOST, AGE)]).pruned == 0
    assert store.tick(retention=[(State.CANCELLED, AGE)]).pruned == 1
    assert [info.id for info in store.jobs(JobFilter(), limit=10)] == [expired]
    assert store.tick(retention=[(State.EXPIRED, AGE)]).pruned == 1
    assert store.jobs(JobFilter(), limit=10) == []


def test_a_tick_says_when_the_next_scheduled_job_is_due(store: Store) -> None:
    assert store.tick().next_due is None
    store.submit([job(delay=600_000_000)])
    due = store.tick().next_due
    assert due is not None
    assert 500_000_000 < due <= 600_000_000


def test_live_tokens_are_those_of_live_workers_with_a_node(store: Store) -> None:
    one, _, three = join(store, token="a"), join(store), join(store, token="b")
    assert store.live_tokens() == [(one, "a"), (three, "b")]
    store.leave(one)
    assert store.live_tokens() == [(three, "b")]


def test_probe_sees_what_others_commit(store: Store, another: Callable[[], Store]) -> None:
    elsewhere = another()
    store.probe()
    for number in range(5):
        elsewhere.submit([job(priority=Priority(number % 3))])
        assert store.probe() is True


def test_probe_is_quiet_while_nothing_happens(store: Store) -> None:
    store.submit([job()])
    eventually(lambda: not store.probe())


def test_an_idle_look_leaves_no_trace_for_probes(store: Store, another: Callable[[], Store]) -> None:
    """Otherwise two idle workers would rouse each other for ever."""
    worker = join(store)
    store.park(worker)
    elsewhere = another()
    eventually(lambda: not elsewhere.probe())

    def looks_unseen() -> bool:
        elsewhere.probe()
        swap(store, worker)
        store.park(worker)
        return not elsewhere.probe()

    eventually(looks_unseen)  # other databases of the same server may be seen too


def test_folding_counters_of_those_who_left_loses_none(store: Store) -> None:
    for round_ in range(3):
        worker = join(store, f"images/{round_}", token=f"t{round_}")
        store.submit([job(), job()])
        one, two = claim(store, worker)
        finish(store, worker, ok(one), bad(two))
        if round_ % 2:
            store.leave(worker)
        else:
            store.bury(f"t{round_}", started=[], note="")
    found = store.counts().by_state
    assert (found[State.SUCCEEDED], found[State.FAILED]) == (3, 3)
