"""docs/reference/plain-sql.md says what is true: each column, each refusal, on every database."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from coserver.model.job import JobInfo, State
from coserver.store.contract import Store
from tests.store_contract.helpers import TASK, Raw, bad, claim, finish, job, join, ok

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "plain-sql.md").read_text()
LATE = 4_000_000_000_000_000
COLUMNS: dict[str, tuple[Any, Any]] = {
    "task": ("a:other", lambda info: info.task),
    "args": ('{"kind": "daily"}', lambda info: info.args),
    "queue": ("mail", lambda info: info.queue),
    "priority": (2, lambda info: info.priority),
    "run_at": (LATE, lambda info: info.run_at),
    "begin_by": (LATE, lambda info: info.begin_by),
    "max_crashes": (7, None),
    "unique_key": ("one", lambda info: info.unique),
    "limit_key": ("smtp:example.com", lambda info: info.limit),
    "options": ('{"retries": 3, "timeout": 20}', lambda info: info.options),
}
"""A value for each documented column, and where it shows."""
REFUSED = [
    {"args": '"daily"'},
    {"args": None},
    {"args": "[" * 101 + "]" * 101},
    {"args": f"[{2**64}]"},
    {"args": '["\\u0000"]'},
    {"args": '["\\ud800"]'},
    {"priority": 3},
    {"limit_key": ":7"},
    {"limit_key": "queue:mail"},
    {"options": "[]"},
    {"options": '{"timeout": "soon"}'},
]


def insert(raw: Raw, **columns: Any) -> int:
    columns = {"task": TASK, **columns}
    marks = ", ".join("CAST(? AS text)" if isinstance(value, str) else "?" for value in columns.values())
    sql = f"INSERT INTO coserver_job ({', '.join(columns)}) VALUES ({marks}) RETURNING id"
    return int(raw(sql, *columns.values())[0][0])


def info(store: Store, number: int) -> JobInfo:
    found = store.job(number)
    assert found is not None
    return found


def test_the_page_names_the_columns_that_are_tried_here() -> None:
    assert re.findall(r"^\| `(\w+)` \|", PAGE, re.M) == list(COLUMNS)


@pytest.mark.parametrize("column", COLUMNS)
def test_each_column_means_what_the_page_says(store: Store, raw: Raw, column: str) -> None:
    """J1."""
    value, shown = COLUMNS[column]
    number = insert(raw, **{column: value})
    join(store, tasks=[TASK, "a:other"])
    store.tick()
    assert info(store, number).state in (State.QUEUED, State.SCHEDULED)
    if shown is not None:
        assert shown(info(store, number)) == value
    assert raw(f"SELECT {column} FROM coserver_job WHERE id = ?", number) == [(value,)]


def test_what_is_left_out_is_as_the_page_says(store: Store, raw: Raw) -> None:
    worker = join(store)
    number = insert(raw)
    [held] = claim(store, worker)
    assert (held.id, held.args, held.queue, held.priority, held.options) == (number, "[]", "default", 1, None)
    found = info(store, number)
    assert (found.run_at, found.begin_by, found.unique, found.limit) == (None, None, None, None)


def test_a_job_begins_in_time_or_expires(store: Store, raw: Raw) -> None:
    number = insert(raw, begin_by=1)
    store.tick()
    assert info(store, number).state is State.EXPIRED


@pytest.mark.parametrize("crashes", [1, 2])
def test_a_job_is_lost_after_as_many_deaths_as_the_row_says(store: Store, raw: Raw, crashes: int) -> None:
    number = insert(raw, max_crashes=crashes)
    for death in range(crashes):
        worker = join(store, token=f"t{death}")
        assert [held.id for held in claim(store, worker)] == [number]
        store.bury(f"t{death}", started=[number], note="killed")
    assert info(store, number).state is State.LOST


def test_a_unique_key_is_free_when_its_job_has_ended(store: Store, raw: Raw) -> None:
    worker = join(store)
    number = insert(raw, unique_key="report")
    with pytest.raises(Exception, match=r"(?i)unique"):
        insert(raw, unique_key="report")
    raw(re.findall(r"^INSERT .* ON CONFLICT DO NOTHING;$", PAGE, re.M)[0].rstrip(";"))
    assert store.submit([job(unique="report")]) == [-number]
    [held] = claim(store, worker)
    finish(store, worker, ok(held))
    assert insert(raw, unique_key="report") > number


@pytest.mark.parametrize("columns", REFUSED, ids=lambda columns: str(columns)[:40])
def test_what_can_never_run_fails_as_the_page_says(store: Store, raw: Raw, columns: dict[str, Any]) -> None:
    number = insert(raw, **columns)
    worker = join(store)
    assert claim(store, worker) == []
    found = info(store, number)
    assert found.state is State.FAILED
    assert found.error is not None
    assert found.error.type == "InvalidArguments"
    assert found.error.message.startswith("cannot run the job")


@pytest.mark.parametrize(
    "columns", [{"task": None}, {"args": "daily"}, {"priority": "high"}, {"run_at": "soon"}], ids=str
)
def test_what_the_table_refuses_is_not_stored(store: Store, raw: Raw, columns: dict[str, Any]) -> None:
    with pytest.raises(Exception, match=r"(?i)constraint|json|type|store"):
        insert(raw, **columns)
    assert raw("SELECT count(*) FROM coserver_job") == [(0,)]


def test_how_a_job_ended_is_found_as_the_page_says(store: Store, raw: Raw) -> None:
    words = {word: int(number) for number, word in re.findall(r"\b(1\d) ([a-z]+)", PAGE)}
    assert words == {state.name.lower(): int(state) for state in State if state.final}
    worker = join(store)
    for _ in range(3):
        insert(raw)
    one, two, three = claim(store, worker)
    large = '"' + "x" * 2500 + '"'
    finish(store, worker, ok(one, "42"), bad(two), ok(three, large))
    [query] = re.findall(r"^SELECT .*;$", PAGE, re.M)

    def ended(number: int) -> tuple[Any, ...]:
        return raw(query.rstrip(";").replace("17", str(number)))[0]

    assert ended(one.id) == (10, "42", None)
    assert ended(two.id)[0] == 11
    assert '"type":"ValueError"' in ended(two.id)[2]
    assert ended(three.id) == (10, None, None)
    assert raw("SELECT data FROM coserver_blob WHERE job = ? AND kind = 1", three.id) == [(large,)]
