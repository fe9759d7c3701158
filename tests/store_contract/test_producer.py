"""The producer's half of the contract."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from coserver.errors import InvalidArguments, StoreRefused, StoreUnavailable
from coserver.model.job import Error, JobFilter, Priority, State, TaskDefaults
from coserver.store import open_store
from coserver.store.contract import Store
from coserver.store.records import INLINE
from tests.postgres import PASSWORD
from tests.store_contract.helpers import (
    ERROR,
    QUEUE,
    TASK,
    Raw,
    again,
    bad,
    claim,
    finish,
    identity,
    job,
    join,
    ok,
)


def test_ids_come_in_the_order_of_the_jobs_and_grow(store: Store) -> None:
    first = store.submit([job(args=f"[{n}]") for n in range(5)])
    second = store.submit([job()])
    assert first == sorted(set(first))
    assert second[0] > first[-1]
    assert [store.job(number).args for number in first] == [f"[{n}]" for n in range(5)]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"queue": None},
        {"queue": "slow", "priority": Priority.LOW, "max_crashes": 1, "options": '{"retries":3}'},
        {"delay": 3_600_000_000},
        {"run_at": 4_000_000_000_000_000},
        {"run_at": 1},
    ],
)
def test_jobs_that_are_alike_are_stored_as_each_would_be_alone(store: Store, said: dict[str, Any]) -> None:
    texts = ["[]", '["é 😀 \\" \\\\ \\n"]', '{"a":{"b":[null,1.5]}}', f'["{"x" * INLINE}"]']
    for some in (texts[:3], texts):  # alike, and not quite, for one is large
        together = store.submit([job(args=text, **said) for text in some])
        alone = [store.submit([job(args=text, **said)])[0] for text in some]
        assert together == sorted(together)
        for first, second, text in zip(together, alone, some, strict=True):
            one, other = store.job(first), store.job(second)
            assert one is not None
            assert other is not None
            assert one.args == text
            same = {"id": 0, "created_at": 0, **({"run_at": 0} if "delay" in said else {})}
            assert replace(one, **same) == replace(other, **same)


def test_very_many_jobs_at_once_keep_their_order(store: Store) -> None:
    ids = store.submit([job(args=f"[{n}]") for n in range(12_000)])
    assert ids == sorted(set(ids))
    for place in (0, 4_999, 5_000, 11_999):
        info = store.job(ids[place])
        assert info is not None
        assert info.args == f"[{place}]"


def test_submitting_nothing_stores_nothing(store: Store) -> None:
    assert store.submit([]) == []
    assert store.jobs(JobFilter(), limit=10) == []


def test_ids_are_never_used_again(store: Store) -> None:
    worker = join(store)
    [old] = store.submit([job()])
    finish(store, worker, ok(claim(store, worker)[0]))
    assert store.tick(retention=[(State.SUCCEEDED, -(10**15))]).pruned == 1
    assert store.job(old) is None
    assert store.submit([job()])[0] > old


def test_a_job_says_all_that_was_submitted(store: Store) -> None:
    before = time.time_ns() // 1000 - 1_000_000
    [number] = store.submit(
        [job(args='{"size":200}', priority=Priority.HIGH, max_crashes=1, options='{"retries":3}')]
    )
    info = store.job(number)
    assert info is not None
    assert (info.id, info.task, info.queue, info.state) == (number, TASK, QUEUE, State.QUEUED)
    assert (info.priority, info.args, info.attempt, info.crashes) == (Priority.HIGH, '{"size":200}', 0, 0)
    assert before < info.created_at < time.time_ns() // 1000 + 1_000_000
    assert (info.started_at, info.finished_at, info.worker, info.result, info.error) == (None,) * 5
    [held] = claim(store, join(store))
    assert (held.options, held.priority, held.created_at) == ('{"retries":3}', 0, info.created_at)


def test_an_unknown_id_is_none(store: Store) -> None:
    assert store.job(12345) is None


def test_a_delayed_job_is_scheduled_by_the_stores_clock(store: Store) -> None:
    [delayed, dated, past, now] = store.submit(
        [job(delay=3_600_000_000), job(run_at=4_000_000_000_000_000), job(run_at=1), job(delay=0)]
    )
    first, second = store.job(delayed), store.job(dated)
    assert first is not None
    assert second is not None
    assert first.state == second.state == State.SCHEDULED
    assert first.run_at == first.created_at + 3_600_000_000
    assert second.run_at == 4_000_000_000_000_000
    assert store.job(past).state == store.job(now).state == State.QUEUED  # type: ignore[union-attr]


def test_a_job_with_two_times_is_refused(store: Store) -> None:
    with pytest.raises(InvalidArguments, match="exclude each other"):
        store.submit([job(delay=1, run_at=1)])


@pytest.mark.parametrize(
    "args",
    ["[NaN]", '["\\ud800"]', '["\\u0000"]', f"[{2**70}]", "[" * 101 + "]" * 101, "", "1", "[1,]"],
    ids=["NaN", "surrogate", "NUL", "2^70", "depth", "empty", "scalar", "comma"],
)
def test_arguments_that_not_everybody_can_read_are_refused_and_nothing_is_stored(
    store: Store, args: str
) -> None:
    with pytest.raises(InvalidArguments, match="cannot submit"):
        store.submit([job(), job(args=args)])
    assert store.jobs(JobFilter(), limit=10) == []


@pytest.mark.parametrize("name", ["", "a\0b", "x" * 501, "line\nbreak"])
def test_names_that_are_none_are_refused(store: Store, name: str) -> None:
    with pytest.raises(InvalidArguments, match="is no name"):
        store.submit([job(task=name)])
    with pytest.raises(InvalidArguments, match="is no name"):
        store.submit([job(queue=name)])


@pytest.mark.parametrize("text", ["ä☃𐀀", 'quotes " and \\ {} , NULL', "", "x" * INLINE, "é" * 100_000])
def test_text_comes_back_as_it_went_in(store: Store, text: str) -> None:
    import json

    value = json.dumps([text], ensure_ascii=False)
    worker = join(store)
    [number] = store.submit([job(args=value)])
    [held] = claim(store, worker)
    assert held.args == value
    finish(store, worker, ok(held, value))
    info = store.job(number)
    assert info is not None
    assert (info.args, info.result) == (value, value)


def test_large_arguments_and_results_lie_apart_from_the_job(store: Store, raw: Raw) -> None:
    large = '["' + "x" * 100_000 + '"]'
    worker = join(store)
    [number] = store.submit([job(args=large)])
    assert raw("SELECT args FROM coserver_job") == [(None,)]
    [held] = claim(store, worker)
    finish(store, worker, ok(held, large))
    assert raw("SELECT args, result FROM coserver_done") == [(None, None)]
    assert raw("SELECT kind, length(data) FROM coserver_blob ORDER BY kind") == [
        (0, len(large)),
        (1, len(large)),
    ]
    [listed] = store.jobs(JobFilter(), limit=10)
    assert (listed.args, listed.result) == ("", None)
    whole = store.job(number)
    assert whole is not None
    assert (whole.args, whole.result) == (large, large)


def test_a_job_without_queue_takes_the_one_its_task_has_published(store: Store) -> None:
    join(store, tasks=["a:mail", TASK], defaults={"a:mail": TaskDefaults(queue="mail")})
    [mail, other] = store.submit([job("a:mail", queue=None), job(queue=None)])
    assert store.job(mail).queue == "mail"  # type: ignore[union-attr]
    assert store.job(other).queue == "default"  # type: ignore[union-attr]


def test_a_job_without_queue_waits_as_new_until_its_task_is_known(store: Store) -> None:
    [number] = store.submit([job("a:late", queue=None)])
    store.tick()
    assert store.job(number).state == State.NEW  # type: ignore[union-attr]
    worker = join(store, tasks=["a:late"], queues=["mail"], defaults={"a:late": TaskDefaults(queue="mail")})
    assert [held.id for held in claim(store, worker, pairs=[("mail", "a:late")])] == [number]


def test_jobs_are_listed_by_descending_id_in_pages(store: Store) -> None:
    worker = join(store)
    ids = store.submit([job() for _ in range(10)])
    finish(store, worker, *[ok(held) for held in claim(store, worker, 4)])
    seen: list[int] = []
    before: int | None = None
    while page := store.jobs(JobFilter(), limit=3, before=before):
        assert len(page) <= 3
        seen += [info.id for info in page]
        before = seen[-1]
    assert seen == ids[::-1]


def test_jobs_are_filtered_by_states_queue_and_task(store: Store) -> None:
    worker = join(store)
    [a, b, c] = store.submit([job(), job(queue="mail"), job("a:other")])
    finish(store, worker, bad(claim(store, worker)[0]))

    def listed(**where: object) -> list[int]:
        return [info.id for info in store.jobs(JobFilter(**where), limit=10)]  # type: ignore[arg-type]

    assert listed() == [c, b, a]
    assert listed(states=[State.FAILED]) == [a]
    assert listed(states=[State.FAILED, State.LOST], queue="default") == [a]
    assert listed(states=[State.LOST]) == listed(states=[State.FAILED], queue="mail") == []
    assert listed(states=[State.RUNNING]) == []
    assert [held.id for held in claim(store, worker, pairs=[("mail", TASK), ("default", "a:other")])] == [
        b,
        c,
    ]
    assert listed(states=[State.RUNNING]) == [c, b]
    assert listed(states=[State.RUNNING], task=TASK) == [b]
    store.leave(worker)
    assert listed(states=[State.QUEUED, State.FAILED]) == [c, b, a]
    assert listed(queue="mail") == [b]
    assert listed(task="a:other") == [c]
    assert listed(states=[State.FAILED], task="a:other") == []


def test_counts_are_exact_over_all_states(store: Store) -> None:
    worker = join(store, token="t")
    store.submit([job() for _ in range(6)])
    store.submit([job("a:unknown", queue=None), job(delay=10**12), job(max_crashes=1)])
    one, two, three, *_ = claim(store, worker, 3)
    finish(store, worker, ok(one), bad(two), again(three, 10**12))
    [lost] = [held for held in claim(store, worker, 10) if held.id == 9]
    assert lost
    store.bury("t", started=[9], note="killed")
    assert store.counts().by_state == {
        State.NEW: 1,
        State.HELD: 0,
        State.WAITING: 0,
        State.LIMITED: 0,
        State.SCHEDULED: 2,
        State.QUEUED: 3,
        State.RUNNING: 0,
        State.SUCCEEDED: 1,
        State.FAILED: 1,
        State.LOST: 1,
    }


def test_counts_of_ends_outlive_pruning_and_the_worker(store: Store) -> None:
    worker = join(store)
    store.submit([job() for _ in range(3)])
    finish(store, worker, *[ok(held) for held in claim(store, worker)])
    store.leave(worker)
    assert store.tick(retention=[(State.SUCCEEDED, -(10**15))]).pruned == 3
    assert store.counts().by_state[State.SUCCEEDED] == 3


def test_retry_puts_back_what_did_not_succeed_under_its_old_id(store: Store) -> None:
    worker = join(store)
    ids = store.submit([job(args=f"[{n}]") for n in range(4)])
    good, failed, *_ = claim(store, worker, 2)
    finish(store, worker, ok(good), bad(failed))
    assert store.retry([*ids, 999]) == [failed.id]
    info = store.job(failed.id)
    assert info is not None
    assert (info.state, info.attempt, info.crashes, info.args) == (State.QUEUED, 0, 0, failed.args)
    assert (info.finished_at, info.error) == (None, None)
    assert store.counts().by_state[State.FAILED] == 0
    # It stands at the end of its line, and a finish from its former life fits nothing.
    assert [held.id for held in claim(store, worker)] == [ids[2], ids[3], failed.id]
    assert finish(store, worker, bad(failed)).stale == [failed.id]


def test_what_a_retry_puts_back_no_longer_counts_as_ended_and_what_ever_ended_can_still_be_told(
    store: Store,
) -> None:
    worker = join(store)
    first, second = store.submit([job(), job()])
    finish(store, worker, *[bad(held) for held in claim(store, worker)])
    assert store.retry([first]) == [first]
    (queue,) = [one for one in store.queues() if one.name == QUEUE]
    assert (queue.by_state[State.FAILED], queue.by_state[State.QUEUED]) == (1, 1)
    assert queue.put_back == {State.FAILED: 1}
    store.leave(worker)
    assert store.retry([first, second]) == [second]
    (queue,) = [one for one in store.queues() if one.name == QUEUE]
    assert queue.by_state.get(State.FAILED, 0) + queue.put_back[State.FAILED] == 2
    assert store.counts().by_state[State.FAILED] == 0


def test_retry_gives_a_fresh_budget_and_keeps_large_arguments(store: Store) -> None:
    worker = join(store)
    large = '["' + "x" * 50_000 + '"]'
    [number] = store.submit([job(args=large)])
    [held] = claim(store, worker)
    finish(store, worker, again(held))
    [held] = claim(store, worker)
    assert held.attempt == 1
    finish(store, worker, bad(held))
    assert store.retry([number]) == [number]
    [held] = claim(store, worker)
    assert (held.attempt, held.crashes, held.args) == (0, 0, large)


def test_a_failed_job_keeps_its_error(store: Store) -> None:
    worker = join(store)
    [number] = store.submit([job()])
    finish(store, worker, bad(claim(store, worker)[0], ERROR))
    info = store.job(number)
    assert info is not None
    assert info.error == Error("ValueError", "no", "Traceback …")
    assert (info.started_at, info.finished_at, info.worker) == (1_000, 2_000, "images/1")


def test_many_threads_submit_at_once_and_each_gets_its_own_ids(store: Store) -> None:
    got: dict[int, list[int]] = {}
    barrier = threading.Barrier(8)

    def submit(me: int) -> None:
        barrier.wait()
        got[me] = [
            number
            for n in range(10)
            for number in store.submit([job(args=f'["{me}-{n}-{part}"]') for part in (0, 1)])
        ]

    threads = [threading.Thread(target=submit, args=(me,)) for me in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({number for ids in got.values() for number in ids}) == 160
    for me, ids in got.items():
        for place, number in enumerate(ids):
            assert store.job(number).args == f'["{me}-{place // 2}-{place % 2}"]'  # type: ignore[union-attr]


def test_a_listener_hears_submits_and_ends_from_elsewhere(store: Store, another: Callable[[], Store]) -> None:
    elsewhere = another()
    worker = join(elsewhere)
    listener = store.listener()
    try:
        store.submit([job()])
        assert listener.wait(20)
        while listener.wait(0):
            pass
        heard = threading.Event()

        def listen() -> None:
            if listener.wait(20):
                heard.set()

        thread = threading.Thread(target=listen)
        thread.start()
        finish(elsewhere, worker, *[ok(held) for held in claim(elsewhere, worker)])
        thread.join()
        assert heard.is_set()
    finally:
        listener.close()


def test_a_listener_misses_nothing_committed_between_its_waits(store: Store) -> None:
    listener = store.listener()
    try:
        for _ in range(20):
            store.submit([job()])
            assert listener.wait(20)
    finally:
        listener.close()


def test_closing_a_listener_ends_its_wait(store: Store) -> None:
    listener = store.listener()
    thread = threading.Thread(target=lambda: [listener.wait(60) for _ in range(3)])
    thread.start()
    listener.close()
    thread.join(20)
    assert not thread.is_alive()


def test_a_closed_store_says_so(store_url: str) -> None:
    store = open_store(store_url)
    store.submit([job()])
    store.close()
    for call in (lambda: store.submit([job()]), lambda: store.job(1), store.counts, store.probe, store.tick):
        with pytest.raises(StoreUnavailable, match="it was closed"):
            call()


@pytest.mark.parametrize(
    "number", [2**63, -(2**63) - 1, 10**22, -(10**5000)], ids=["2^63", "-2^63-1", "10^22", "-10^5000"]
)
def test_a_number_beyond_64_bits_is_no_jobs_id(store: Store, number: int) -> None:
    [known] = store.submit([job()])
    worker = join(store)
    finish(store, worker, bad(claim(store, worker)[0]))
    assert store.job(number) is None
    assert store.retry([number]) == []
    assert [info.id for info in store.jobs(JobFilter(), limit=5, before=number)] == (
        [known] if number > 0 else []
    )
    assert store.retry([number, known]) == [known]


def test_what_the_database_refuses_is_refused_and_not_unavailable(store: Store, raw: Raw) -> None:
    """The same store goes on at once."""
    for refused in (
        lambda: store.submit([job(max_crashes=2**70)]),
        lambda: store.submit([job(), job(max_crashes=2**70)]),
        lambda: store.submit([job(options="a\ud800")]),
        lambda: store.register(identity("a\ud800"), lease=60),
    ):
        with pytest.raises(StoreRefused, match=r"cannot record in the store .*; (see|it takes) ") as caught:
            refused()
        assert PASSWORD not in str(caught.value)
    assert store.jobs(JobFilter(), limit=5) == []
    worker = join(store)
    store.submit([job(), job()])
    one, two = claim(store, worker)
    raw(
        "INSERT INTO coserver_done (id, state, priority, claim, attempt, crashes, created_at, finished_at, task) "
        "VALUES (?, 10, 1, 0, 0, 0, 1, 1, 'somebody')",
        one.id,
    )
    with pytest.raises(StoreRefused):
        finish(store, worker, ok(one), ok(two))
    assert finish(store, worker, ok(two)).stale == []
    assert [held.id for held in store.held(worker)] == [one.id]
