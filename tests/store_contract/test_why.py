"""What a store tells of waiting jobs: who works, which groups wait, how one job stands; and what that costs."""

from __future__ import annotations

import re

import psycopg
import pytest

from coserver.model.job import Limit, State
from coserver.model.why import MANY, MANY_WAITING, Limited, Waiting
from coserver.store import open_store
from coserver.store.contract import Store
from coserver.store.inquiry import ask
from coserver.store.pool import Pool, compiled
from coserver.store.statements import statement
from tests.store_contract.helpers import QUEUE, TASK, Raw, claim, eventually, job, join

Group = tuple[State, str | None, str, int, int]


def groups(store: Store) -> list[Group]:
    """Return the waiting groups in a fixed order."""
    return sorted(
        ((g.state, g.queue, g.task, g.number, g.oldest) for g in store.waiting()),
        key=lambda g: (g[0], g[1] or "", g[2]),
    )


def fill(
    raw: Raw, rows: int, *, task: str = TASK, state: int = State.QUEUED, queue: str | None = QUEUE
) -> None:
    """Put many jobs in with one statement."""
    series = (
        "WITH RECURSIVE s (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < CAST(? AS INTEGER)) "
        "INSERT INTO coserver_job (state, queue, task, seq) "
        "SELECT CAST(? AS INTEGER), CAST(? AS TEXT), CAST(? AS TEXT), n FROM s"
    )
    raw(series, rows, int(state), queue, task)


def test_workers_tell_what_they_read_and_provide(store: Store) -> None:
    first = join(store, "images/1", tasks=["a:b", "a:c"], queues=["pdf", "mail"])
    second = join(store, "mail/1")
    store.park(second)
    one, two = store.workers()
    assert (one.id, one.process, one.host, one.parked) == (first, "images/1", "host", False)
    assert one.tasks == {"a:b", "a:c"}
    assert one.queues == {"pdf", "mail"}
    assert one.live
    assert one.lease is not None
    assert 0 < one.lease <= 60_000_000
    assert (two.id, two.parked) == (second, True)


def test_a_lease_that_ran_out_is_no_live_worker_though_nobody_noticed(store: Store) -> None:
    join(store, "images/1", lease=0.001)
    assert eventually(lambda: not store.workers()[0].live)


def test_a_buried_worker_and_one_that_left_are_live_no_more_at_once(store: Store) -> None:
    store.submit([job()])
    dead = join(store, "images/1", token="t")
    claim(store, dead)
    store.leave(join(store, "images/2"))
    store.bury("t", started=[], note="signal 9")
    assert not any(worker.live for worker in store.workers())


def test_waiting_jobs_are_grouped_by_queue_and_task_and_new_ones_by_task(store: Store, raw: Raw) -> None:
    ids = store.submit(
        [job("a:b"), job("a:b", queue="pdf"), job("a:c"), job("a:b"), job("a:d", delay=60_000_000)]
    )
    raw("INSERT INTO coserver_job (task) VALUES ('x:y')")
    raw("INSERT INTO coserver_job (task, queue) VALUES ('x:y', 'pdf')")
    raw("INSERT INTO coserver_job (task) VALUES ('')")
    found = groups(store)
    assert [group[:4] for group in found] == [
        (State.NEW, None, "", 1),
        (State.NEW, None, "x:y", 2),
        (State.QUEUED, "default", "a:b", 2),
        (State.QUEUED, "default", "a:c", 1),
        (State.QUEUED, "pdf", "a:b", 1),
    ]
    assert [group[4] for group in found[2:]] == [ids[0], ids[2], ids[1]]
    assert found[1][4] < found[0][4]


def test_the_oldest_of_a_group_is_found_behind_better_priorities(store: Store) -> None:
    from coserver.model.job import Priority

    old, _, _ = store.submit(
        [job(priority=priority) for priority in (Priority.LOW, Priority.HIGH, Priority.NORMAL)]
    )
    [group] = store.waiting()
    info = store.job(old)
    assert info is not None
    assert group == Waiting(State.QUEUED, QUEUE, TASK, 3, old, info.created_at)


def test_jobs_that_crashed_a_worker_wait_in_the_same_group(store: Store) -> None:
    store.submit([job(), job("a:b")])
    worker = join(store, token="t")
    assert len(claim(store, worker)) == 1
    store.bury("t", started=None, note="signal 9")
    [again] = store.submit([job()])
    assert groups(store) == [
        (State.QUEUED, QUEUE, "a:b", 1, again - 1),
        (State.QUEUED, QUEUE, TASK, 2, again - 2),
    ]


def test_counting_a_group_stops_at_its_cap(store: Store, raw: Raw) -> None:
    fill(raw, MANY_WAITING + 500)
    fill(raw, MANY_WAITING + 500, task="x:y", state=State.NEW, queue=None)
    assert [group[3] for group in groups(store)] == [MANY_WAITING + 1] * 2


def test_ahead_of_a_job_are_better_priorities_and_earlier_ones_of_the_same_workers(store: Store) -> None:
    from coserver.model.job import Priority

    first, _, mine, other, _, _, _ = store.submit(
        [
            job("a:b"),
            job("a:c"),
            job("a:b"),
            job("a:b"),
            job("a:c", priority=Priority.HIGH),
            job("x:foreign", priority=Priority.HIGH),
            job("a:b", queue="pdf", priority=Priority.HIGH),
        ]
    )

    def ahead(id: int, *tasks: str) -> int:
        standing = store.standing(id, tasks)
        assert standing is not None
        assert (standing.state, standing.worker) == (State.QUEUED, None)
        return standing.ahead

    assert ahead(first, "a:b", "a:c") == 1
    assert ahead(mine, "a:b", "a:c") == 3
    assert ahead(mine, "a:b") == 1
    assert ahead(other, "a:b", "a:c") == 4
    assert ahead(other) == 0


def test_counting_what_is_ahead_stops_at_its_cap(store: Store, raw: Raw) -> None:
    fill(raw, MANY + 500)
    [last] = store.submit([job()])
    raw("UPDATE coserver_job SET seq = 1000000 WHERE id = ?", last)
    standing = store.standing(last, [TASK])
    assert standing is not None
    assert standing.ahead == MANY + 1


def test_ahead_of_a_new_job_are_the_earlier_ones_of_its_task(store: Store, raw: Raw) -> None:
    for task in ("x:y", "x:z", "x:y", "x:y"):
        raw("INSERT INTO coserver_job (task) VALUES (?)", task)
    last = raw("SELECT max(id) FROM coserver_job")[0][0]
    standing = store.standing(last, [])
    assert standing is not None
    assert (standing.state, standing.ahead) == (State.NEW, 2)


def test_a_running_job_names_the_incarnation_that_holds_it(store: Store) -> None:
    [number] = store.submit([job()])
    worker = join(store)
    claim(store, worker)
    standing = store.standing(number, [])
    assert standing is not None
    assert (standing.state, standing.worker, standing.ahead) == (State.RUNNING, worker, 0)
    info = store.job(number)
    assert info is not None
    assert info.started_at is not None
    assert abs(standing.now - info.started_at) < 60_000_000


def test_what_a_job_waits_for_is_told(store: Store, raw: Raw) -> None:
    """The pause of its queue, the parent that has not ended, the limit key."""
    [number] = store.submit([job(queue="pdf")])
    raw("INSERT INTO coserver_queue (name, paused_at) VALUES ('pdf', 1)")
    raw("INSERT INTO coserver_dep (child, place, parent, on_end, state) VALUES (?, 0, 71, 0, 10)", number)
    raw("INSERT INTO coserver_dep (child, place, parent, on_end) VALUES (?, 1, 72, 0)", number)
    raw("UPDATE coserver_job SET blocked_on = 'user:7' WHERE id = ?", number)
    standing = store.standing(number, [])
    assert standing is not None
    assert (standing.paused, standing.parent, standing.limit) == (True, 72, "user:7")


def test_a_limit_of_what_runs_and_a_rate_are_told_apart(store: Store) -> None:
    store.set_limits([Limit("calls", starts=1, period=3_600_000_000), Limit("queue:pdf", running=1)])
    worker = join(store, queues=["default", "pdf"])
    jobs = [
        job(limit="calls"),
        job(limit="calls"),
        job(queue="pdf"),
        job(queue="pdf"),
        job(limit="one"),
        job(limit="one"),
    ]
    first, by_rate, second, by_queue, third, by_key = store.submit(jobs)
    assert {held.id for held in claim(store, worker, pairs=[("default", TASK), ("pdf", TASK)])} == {
        first,
        second,
        third,
    }
    causes = {}
    for number in (by_rate, by_queue, by_key):
        answer = ask(store, number)
        assert answer is not None
        assert isinstance(answer.cause, Limited)
        causes[number] = answer.cause
    assert causes[by_queue] == Limited("queue:pdf", "pdf", None)
    assert causes[by_key] == Limited("one", "default", None)
    left = causes[by_rate].left
    assert (causes[by_rate].limit, left is not None and 3_000_000_000 < left <= 3_600_000_001) == (
        "calls",
        True,
    )


def test_a_job_that_is_not_among_the_living_has_no_standing(store: Store) -> None:
    assert store.standing(4711, [TASK]) is None


def test_text_that_is_not_utf8_hides_nothing(sqlite_url: str) -> None:
    raw = Raw(sqlite_url)
    store = open_store(sqlite_url)
    try:
        raw("INSERT INTO coserver_job (task) VALUES (CAST(x'78ff79' AS TEXT))")
        raw("INSERT INTO coserver_job (task) VALUES ('z:z')")
        assert [(g.task, g.number) for g in store.waiting()] == [("x\ufffdy", 1), ("z:z", 1)]
    finally:
        store.close()
        raw.close()


# -- what it costs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["waiting", "standing"])
def test_a_look_probes_indexes_on_sqlite_however_many_wait(sqlite_url: str, name: str) -> None:
    raw = Raw(sqlite_url)
    try:
        fill(raw, 200_000)
        raw("ANALYZE")
        sql = re.sub(r":\w+", "1", statement("sqlite", name))
        plan = [str(row[3]) for row in raw(f"EXPLAIN QUERY PLAN {sql}")]
    finally:
        raw.close()
    scans = [step for step in plan if step.startswith("SCAN")]
    assert not [step for step in scans if re.match(r"SCAN (coserver|[ncfjo]\b|me\b)", step)], plan
    assert not [step for step in plan if "TEMP B-TREE" in step], plan
    # SQLite reads along an index for `(a, b) > (…)`; for `<` it must use all of it.
    assert not [step for step in plan if ")>(" in step], plan
    assert sum("(priority,seq)<(?,?)" in step for step in plan) == (2 if name == "standing" else 0), plan
    index = {step.partition("INDEX ")[2].partition(" ")[0] for step in plan if "coserver_job" in step}
    assert {"coserver_job_new", "coserver_job_ready", "coserver_job_suspect"} <= index


@pytest.mark.parametrize("planned", ["empty", "full"])
def test_a_look_reads_few_rows_on_postgres_however_many_wait(postgres_url: str, planned: str) -> None:
    raw = Raw(postgres_url)
    store = open_store(postgres_url)
    counter = psycopg.connect(postgres_url, autocommit=True)
    try:
        if planned == "empty":
            store.waiting()
        fill(raw, 100_000)
        fill(raw, 100_000, task="x:y", queue="pdf")
        raw("ANALYZE coserver_job")
        [mine] = store.submit([job()])
        reads = _reads(counter)
        assert [group[3] for group in groups(store)] == [MANY_WAITING + 1] * 2
        standing = store.standing(mine, [TASK])
        assert standing is not None
        assert _reads(counter) - reads < 2 * MANY
    finally:
        store.close()
        counter.close()
        raw.close()


def _reads(connection: psycopg.Connection[tuple[object, ...]]) -> int:
    """Entries of the job table's indexes and rows of it that were read so far, as the server's statistics have it."""
    connection.execute("SELECT pg_stat_force_next_flush()")
    connection.execute("SELECT pg_stat_clear_snapshot()")
    row = connection.execute(
        "SELECT (SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'coserver_job') "
        "+ (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname = 'coserver_job')::bigint"
    ).fetchone()
    assert row is not None
    assert isinstance(row[0], int)
    return row[0]


@pytest.mark.parametrize("name", ["waiting", "standing"])
def test_a_look_is_planned_by_the_partial_indexes_on_postgres(postgres_url: str, name: str) -> None:
    pool = Pool(postgres_url, postgres_url)
    connection = pool.connect()
    try:
        explain = b"EXPLAIN (GENERIC_PLAN) " + compiled(name)[0]
        plan = "\n".join(row[0] for row in connection.execute(explain, prepare=False).fetchall())
    finally:
        connection.close()
        pool.close()
    assert "Seq Scan" not in plan
    assert {"coserver_job_new", "coserver_job_ready", "coserver_job_suspect"} <= set(
        re.findall(r"coserver_job_\w+", plan)
    )


def test_groups_are_found_past_a_long_line_of_others(store: Store, raw: Raw) -> None:
    fill(raw, 5_000)
    fill(raw, 1, task="z:last", queue="zz")
    fill(raw, 1, task="a:first", queue="aa")
    assert [(g[1], g[2], g[3]) for g in groups(store)] == [
        ("aa", "a:first", 1),
        (QUEUE, TASK, MANY_WAITING + 1),
        ("zz", "z:last", 1),
    ]
