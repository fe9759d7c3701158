"""J1: any program submits with plain SQL and asks for the status with plain SQL, also while nothing of ours runs."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from coserver.model.job import Priority, State, TaskDefaults
from coserver.store.contract import Store
from tests.postgres import PASSWORD, Server
from tests.store_contract.helpers import TASK, Raw, claim, eventually, finish, job, join, ok

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
