"""J1: any program submits with plain SQL and asks for the status with plain SQL, also while nothing of ours runs."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import psycopg
import pytest

from coserver.model.job import JobFilter, Priority, State, TaskDefaults
from coserver.store.contract import Store
from tests.postgres import PASSWORD, Server
from tests.store_contract.helpers import QUEUE, TASK, Raw, claim, eventually, finish, job, join, ok

LATE = 4_000_000_000_000_000


def state_of(store: Store, number: int) -> State:
    info = store.job(number)
    assert info is not None
    return info.state


def test_one_plain_insert_is_a_job(store: Store, raw: Raw) -> None:
    """J1: no trigger, no function, no other table."""
    raw("INSERT INTO coserver_job (task, args) VALUES (?, ?)", TASK, '["daily"]')
    info = store.job(1)
    assert info is not None
    assert (info.state, info.queue, info.args, info.priority) == (
        State.NEW,
        None,
        '["daily"]',
        Priority.NORMAL,
    )
    assert abs(info.created_at - time.time_ns() // 1000) < 3600_000_000
    worker = join(store)
    [held] = claim(store, worker)
    assert (held.task, held.queue, held.args) == (TASK, "default", '["daily"]')
    finish(store, worker, ok(held, "42"))
    assert raw("SELECT state, result FROM coserver_done WHERE id = 1") == [(10, "42")]


def test_a_plain_insert_may_say_queue_priority_and_time(store: Store, raw: Raw) -> None:
    raw(
        "INSERT INTO coserver_job (task, args, queue, priority, run_at) VALUES (?, '{}', 'mail', 0, ?)",
        TASK,
        LATE,
    )
    raw("INSERT INTO coserver_job (task, queue, priority, run_at) VALUES (?, 'mail', 0, 1)", TASK)
    join(store)
    assert store.tick().routed == 2
    later, now = store.job(1), store.job(2)
    assert later is not None
    assert now is not None
    assert (later.state, later.queue, later.priority, later.run_at) == (
        State.SCHEDULED,
        "mail",
        Priority.HIGH,
        LATE,
    )
    assert (now.state, now.queue, now.args) == (State.QUEUED, "mail", "[]")


def test_a_plain_insert_takes_the_queue_that_its_task_has_published(store: Store, raw: Raw) -> None:
    join(store, tasks=["a:mail"], defaults={"a:mail": TaskDefaults(queue="mail")})
    raw("INSERT INTO coserver_job (task) VALUES ('a:mail')")
    store.tick()
    assert store.job(1).queue == "mail"  # type: ignore[union-attr]


def test_a_task_that_nobody_provides_waits_visibly_and_holds_up_no_other(store: Store, raw: Raw) -> None:
    for _ in range(300):
        raw("INSERT INTO coserver_job (task) VALUES ('a:unknown')")
    raw("INSERT INTO coserver_job (task) VALUES (?)", TASK)
    worker = join(store)
    assert [held.id for held in claim(store, worker)] == [301]
    assert store.counts().by_state[State.NEW] == 300


def test_the_order_of_plain_inserts_is_kept(store: Store, raw: Raw) -> None:
    for number in range(20):
        raw("INSERT INTO coserver_job (task, args) VALUES (?, ?)", TASK, f"[{number}]")
    worker = join(store)
    assert [held.args for held in claim(store, worker, 50)] == [f"[{number}]" for number in range(20)]


def fill(raw: Raw, store_url: str, task: str, n: int, priority: int = 1) -> None:
    """Put in `n` plain rows at once, with their numbers as arguments."""
    series = (
        "(WITH RECURSIVE s (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s LIMIT ?) SELECT n FROM s) s"
        if store_url.startswith("sqlite")
        else "generate_series(1, ?) AS s (n)"
    )
    raw(
        f"INSERT INTO coserver_job (task, args, priority) SELECT '{task}', '[' || n || ']', {priority} FROM {series}",
        n,
    )


def test_a_better_priority_is_routed_before_a_long_backlog(store: Store, store_url: str, raw: Raw) -> None:
    fill(raw, store_url, TASK, 1000, priority=2)
    fill(raw, store_url, TASK, 1, priority=1)
    fill(raw, store_url, TASK, 3, priority=0)
    worker = join(store)
    assert [held.id for held in claim(store, worker, 5)] == [1002, 1003, 1004, 1001, 1]


def test_a_task_with_a_long_backlog_starves_no_other(store: Store, store_url: str, raw: Raw) -> None:
    """Not even by its better priorities: whoever provides one task alone would idle for the other's sake."""
    fill(raw, store_url, "a:bulk", 5000, priority=0)
    fill(raw, store_url, "z:rare", 1, priority=2)
    join(store, tasks=["a:bulk"])
    worker = join(store, "rare/1", tasks=["z:rare"])
    assert [held.id for held in claim(store, worker, pairs=[(QUEUE, "z:rare")])] == [5001]


def test_a_pass_is_shared_evenly_and_used_up(store: Store, store_url: str, raw: Raw) -> None:
    """What tasks with few rows leave of their shares goes to those with many."""
    for number in range(8):
        fill(raw, store_url, f"a:few{number}", 3)
    for number in range(2):
        fill(raw, store_url, f"b:many{number}", 1000)
    join(store, tasks=[*(f"a:few{number}" for number in range(8)), "b:many0", "b:many1"])
    upkeep = store.tick(limit=100)
    assert (upkeep.routed, upkeep.more) == (100, True)
    queued = raw("SELECT task, count(*) FROM coserver_job WHERE state = 5 GROUP BY task ORDER BY task")
    assert queued == [*((f"a:few{number}", 3) for number in range(8)), ("b:many0", 38), ("b:many1", 38)]


def test_more_tasks_than_a_pass_routes_starve_no_other(store: Store, store_url: str, raw: Raw) -> None:
    bulk = [f"a:bulk{number}" for number in range(12)]
    for task in bulk:
        fill(raw, store_url, task, 10, priority=0)
    fill(raw, store_url, "z:rare", 1, priority=2)
    for task in bulk:
        fill(raw, store_url, task, 10, priority=0)
    join(store, tasks=[*bulk, "z:rare"])
    for _ in range(13):
        assert store.tick(limit=10).routed == 10
    assert state_of(store, 121) == State.QUEUED


def test_rows_of_several_tasks_stand_in_line_as_they_came(store: Store, store_url: str, raw: Raw) -> None:
    for _ in range(20):
        fill(raw, store_url, "z:two", 1)
        fill(raw, store_url, TASK, 1)
    worker = join(store, tasks=[TASK, "z:two"])
    claimed = claim(store, worker, 50, pairs=[(QUEUE, TASK), (QUEUE, "z:two")])
    assert [held.id for held in claimed] == list(range(1, 41))


@pytest.mark.parametrize("args", ["", "daily", "[1,]", "['a']", "{", "[NaN]", "nope"])
def test_the_table_itself_refuses_what_is_no_json(store: Store, raw: Raw, args: str) -> None:
    with pytest.raises(Exception, match=r"(?i)constraint|json"):
        raw("INSERT INTO coserver_job (task, args) VALUES (?, ?)", TASK, args)
    assert store.counts().by_state[State.NEW] == 0


@pytest.mark.parametrize(
    ("args", "why"),
    [
        (f"[{2**70}]", "beyond 64 bits"),
        ('["\\u0000"]', "NUL"),
        ('["\\ud800"]', "surrogate"),
        ("[" * 101 + "]" * 101, "deeper"),
        ('"daily"', "array"),
        ("null", "array"),
        (None, "args is NULL"),
        ('["' + "x" * (8 * 1024 * 1024) + '"]', "8 MiB"),
    ],
    ids=["2^70", "NUL", "surrogate", "depth", "scalar", "null", "NULL", "cap"],
)
def test_what_the_table_accepts_but_nobody_can_run_fails_visibly(
    store: Store, raw: Raw, args: str | None, why: str
) -> None:
    """N16: the same values are refused on both databases, by the same rule as at submit."""
    worker = join(store)
    raw("INSERT INTO coserver_job (task, args) VALUES (?, ?)", TASK, args)
    assert claim(store, worker) == []
    info = store.job(1)
    assert info is not None
    assert info.state == State.FAILED
    assert info.error is not None
    assert info.error.type == "InvalidArguments"
    assert why in info.error.message
    assert store.counts().by_state[State.FAILED] == 1
    # Retrying it checks it again.
    assert store.retry([1]) == [1]
    store.tick()
    assert state_of(store, 1) == State.FAILED


@pytest.mark.parametrize("options", ["{bad", "", "[]", "7", '{"retries": "many"}', '{"timeout": "2m"}'])
def test_options_that_nobody_can_read_fail_the_job_visibly(store: Store, raw: Raw, options: str) -> None:
    """They would be passed over in silence otherwise, and the job run as it was not meant to."""
    worker = join(store)
    raw("INSERT INTO coserver_job (task, options) VALUES (?, ?)", TASK, options)
    raw(
        "INSERT INTO coserver_job (task, options) VALUES (?, ?)",
        TASK,
        '{"retries": 3, "of_somebody_else": 1}',
    )
    assert [held.id for held in claim(store, worker)] == [2]
    info = store.job(1)
    assert info is not None
    assert info.error is not None
    assert (info.state, info.error.type) == (State.FAILED, "InvalidArguments")
    assert info.error.message.startswith(
        "cannot run the job with these options: they are not what options are ("
    )
    assert info.error.message.endswith('write a JSON object such as {"retries": 3}')


@pytest.mark.parametrize("state", [-1, 7, 10, 99])
def test_the_table_itself_refuses_a_state_that_no_living_job_has(store: Store, raw: Raw, state: int) -> None:
    with pytest.raises(Exception, match=r"(?i)constraint"):
        raw("INSERT INTO coserver_job (task, state) VALUES (?, CAST(? AS INTEGER))", TASK, state)
    assert store.jobs(JobFilter(), limit=10) == []


@pytest.mark.parametrize("key", ["queue:mail", "queue", ":", ":7"])
def test_a_limit_key_that_no_limit_can_rule_fails_the_job_visibly(store: Store, raw: Raw, key: str) -> None:
    worker = join(store)
    raw("INSERT INTO coserver_job (task, limit_key) VALUES (?, ?)", TASK, key)
    assert claim(store, worker) == []
    info = store.job(1)
    assert info is not None
    assert info.error is not None
    assert info.state is State.FAILED
    assert info.error.message.startswith(f"cannot run the job: its limit key '{key}' ")


def bad_text(store_url: str, text: str) -> str:
    """SQL for a text of these bytes (in hexadecimal), which are not UTF-8."""
    if store_url.startswith("sqlite"):
        return f"CAST(x'{text}' AS TEXT)"
    return f"convert_from('\\x{text}'::bytea, 'UTF8')"


@pytest.mark.parametrize(
    ("column", "text", "where"),
    [
        ("args", "5b22ff225d", "byte 3 is 0xff"),
        ("args", "5b22eda080225d", "byte 3 is 0xed"),
        ("args", "5b22" + "78" * 3000 + "c3225d", "byte 3003 is 0xc3"),
        ("queue", "6dff", "byte 2 is 0xff"),
        ("options", "7b7dfe", "byte 3 is 0xfe"),
        ("unique_key", "80", "byte 1 is 0x80"),
        ("limit_key", "61c0", "byte 2 is 0xc0"),
    ],
    ids=["args", "surrogate", "large args", "queue", "options", "unique key", "limit key"],
)
def test_text_that_is_not_utf8_fails_visibly_and_holds_up_nobody(
    store: Store, store_url: str, raw: Raw, column: str, text: str, where: str
) -> None:
    worker = join(store)
    sql = f"INSERT INTO coserver_job (task, {column}) VALUES (?, {bad_text(store_url, text)})"
    if store_url.startswith("postgresql"):
        with pytest.raises(psycopg.DataError, match="invalid byte sequence"):
            raw(sql, TASK)
        return
    raw(sql, TASK)
    raw("INSERT INTO coserver_job (task) VALUES (?)", TASK)
    assert [held.id for held in claim(store, worker)] == [2]
    for retried in (False, True):
        info = store.job(1)
        assert info is not None
        assert info.error is not None
        assert (info.state, info.error.type) == (State.FAILED, "InvalidArguments")
        assert f"its {column} is not UTF-8 text ({where}); insert it as UTF-8" in info.error.message
        assert "\N{REPLACEMENT CHARACTER}" in f"{info.args}{info.queue}" or column not in ("args", "queue")
        assert [one.id for one in store.jobs(JobFilter(), limit=10)] == [2, 1]
        assert [one.id for one in store.jobs(JobFilter(states=[State.FAILED]), limit=10)] == [1]
        assert store.counts().by_state[State.FAILED] == 1
        if retried or column.endswith("_key"):
            break
        assert store.retry([1]) == [1]
        assert store.counts().by_state[State.FAILED] == 0
        assert store.tick().routed == 1  # which checks it again
    assert raw("SELECT queue, n FROM coserver_count WHERE state = 11") == [
        ("m\N{REPLACEMENT CHARACTER}" if column == "queue" else "", 1)
    ]


def test_a_task_whose_name_is_not_utf8_waits_visibly_and_holds_up_nobody(
    store: Store, store_url: str, raw: Raw
) -> None:
    """No worker can provide it, so it stays new, like every task that nobody provides."""
    sql = f"INSERT INTO coserver_job (task) VALUES ({bad_text(store_url, '6d3aff')})"
    if store_url.startswith("postgresql"):
        with pytest.raises(psycopg.DataError, match="invalid byte sequence"):
            raw(sql)
        return
    raw(sql)
    raw("INSERT INTO coserver_job (task) VALUES (?)", TASK)
    worker = join(store)
    assert [held.id for held in claim(store, worker)] == [2]
    assert store.park(worker) is False
    assert store.tick().routed == 0
    info = store.job(1)
    assert info is not None
    assert (info.state, info.task) == (State.NEW, "m:\N{REPLACEMENT CHARACTER}")
    assert info in store.jobs(JobFilter(states=[State.NEW]), limit=10)
    assert store.counts().by_state[State.NEW] == 1


def test_a_priority_that_is_none_fails_visibly(store: Store, raw: Raw) -> None:
    join(store)
    raw("INSERT INTO coserver_job (task, priority) VALUES (?, 7)", TASK)
    store.tick()
    info = store.job(1)
    assert info is not None
    assert info.error is not None
    assert "priority is 7" in info.error.message


def test_large_plain_arguments_move_beside_the_job(store: Store, raw: Raw) -> None:
    large = '["' + "x" * 100_000 + '"]'
    raw("INSERT INTO coserver_job (task, args) VALUES (?, ?)", TASK, large)
    worker = join(store)
    store.tick()
    assert raw("SELECT args FROM coserver_job") == [(None,)]
    assert claim(store, worker)[0].args == large


def test_the_wrong_types_are_refused_by_the_table(store: Store, raw: Raw) -> None:
    for column, value in (("priority", "'high'"), ("run_at", "'tomorrow'"), ("task", "NULL")):
        columns = f"task, {column}" if column != "task" else "task"
        values = f"'a:b', {value}" if column != "task" else value
        with pytest.raises(Exception, match=r"(?i)cannot store|invalid input|null"):
            raw(f"INSERT INTO coserver_job ({columns}) VALUES ({values})")


def test_another_programs_insert_is_seen_and_run(store: Store, store_url: str, postgres: Server) -> None:
    """J1, with the tools that everybody has: Python's sqlite3 module and psql."""
    worker = join(store)
    store.submit([job()])
    claim(store, worker)
    store.probe()
    sql = f"INSERT INTO coserver_job (task, args) VALUES ('{TASK}', '[\"daily\"]')"
    if store_url.startswith("sqlite"):
        path = store_url.removeprefix("sqlite:").partition("?")[0]
        program = f"import sqlite3; c = sqlite3.connect({path!r}); c.execute({sql!r}); c.commit(); c.close()"
        subprocess.run([sys.executable, "-c", program], check=True)
    else:
        subprocess.run(
            [postgres.binary("psql"), store_url, "-qc", sql],
            check=True,
            env={**os.environ, "PGPASSWORD": PASSWORD},
        )
    assert store.probe() is True
    [held] = eventually(lambda: claim(store, worker))
    assert held.args == '["daily"]'


@pytest.mark.parametrize("end", ["cancelled", "expired"])
def test_a_row_that_ended_before_anybody_checked_it_is_checked_when_it_is_put_back(
    store: Store, raw: Raw, end: str
) -> None:
    """N16: nothing gets around the check."""
    wrong = f"INSERT INTO coserver_job (task, args, begin_by) VALUES ('{TASK}', '[{2**70}]', 1) RETURNING id"
    [(number,)] = raw(wrong)
    [(fine,)] = raw(f"INSERT INTO coserver_job (task, begin_by) VALUES ('{TASK}', 1) RETURNING id")
    if end == "cancelled":
        assert store.cancel([number, fine]) == {number: State.CANCELLED, fine: State.CANCELLED}
    else:
        store.tick()
        assert {state_of(store, number), state_of(store, fine)} == {State.EXPIRED}
    assert store.retry([number, fine]) == [number, fine]
    assert {state_of(store, number), state_of(store, fine)} == {State.NEW}
    worker = join(store)
    assert [held.id for held in claim(store, worker)] == [fine]
    assert state_of(store, number) == State.FAILED


def test_large_arguments_of_a_job_that_waited_for_its_task_to_be_known_arrive(store: Store) -> None:
    large = '["' + "x" * 5000 + '"]'
    [number] = store.submit([job("a:unknown", queue=None, args=large)])
    assert state_of(store, number) == State.NEW
    worker = join(store, tasks=["a:unknown"])
    assert [(held.id, held.args) for held in claim(store, worker, pairs=[(QUEUE, "a:unknown")])] == [
        (number, large)
    ]
