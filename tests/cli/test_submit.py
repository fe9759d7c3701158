"""All that `coserver jobs submit` may say of a job, and what `jobs show` says of it then."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from coserver.model.job import NewJob, Progress, Succeeded
from coserver.store import open_store
from coserver.store.contract import Store, Want, WorkerIdentity
from tests.cli.conftest import Console


@pytest.fixture
def store(here: Path, store_url: str) -> Iterator[Store]:
    (here / "coserver.toml").write_text(
        f'[site]\nname = "shop"\nstore = "{store_url}"\n[service.a]\ncommand = "sleep 1000"\n'
    )
    opened = open_store(store_url)
    yield opened
    opened.close()


def submit(console: Console, *words: str | int) -> int:
    said = console("jobs", "submit", "shop:good", "--queue", "default", *words)
    assert said.code == 0, said.err
    return int(said.out)


def show(console: Console, number: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(console("jobs", "show", number, "--json").out)
    return found


def micros(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1e6)


def test_a_job_is_held_tagged_limited_and_has_a_last_moment(console: Console, store: Store) -> None:
    number = submit(
        console, "--hold", "--begin-by", "1h", "--limit", "user:7", "--tag", "spring", "--tag", "big",
        "--retries", "2", "--time-limit", "30s",
    )  # fmt: skip
    found = show(console, number)
    assert (found["state"], found["limit"], sorted(found["tags"])) == ("held", "user:7", ["big", "spring"])
    assert (found["options"]["retries"], found["options"]["timeout"]) == (2, 30.0)
    assert console("jobs", "release", number).out == "1 job released\n"
    found = show(console, number)
    assert found["state"] == "queued"
    assert abs(micros(found["begin_by"]) - micros(found["created_at"]) - 3_600_000_000) < 60_000_000
    text = console("jobs", "show", number).out
    assert "  limit        user:7\n" in text
    assert "  tags         big, spring\n" in text
    assert "  begin by     " in text


def test_a_job_may_be_due_at_a_time_of_the_clock(console: Console, store: Store) -> None:
    number = submit(console, "--at", "2100-01-31T12:00")
    found = show(console, number)
    assert (found["state"], found["run_at"][:16]) == ("scheduled", "2100-01-31T12:00")
    in_ten = show(console, submit(console, "--at", "10m"))
    assert abs(micros(in_ten["run_at"]) - micros(in_ten["created_at"]) - 600_000_000) < 30_000_000


def test_a_unique_job_is_there_once(console: Console, store: Store) -> None:
    number = submit(console, "--unique", "daily")
    again = console("jobs", "submit", "shop:good", "--unique", "daily", "--json")
    assert json.loads(again.out) == {"id": number, "created": False}
    assert again.err == f"job {number} was there already, and lives; nothing was submitted\n"
    assert "  unique       daily\n" in console("jobs", "show", number).out
    by_args = submit(console, "a", "--unique-args")
    assert submit(console, "a", "--unique-args") == by_args
    assert submit(console, "b", "--unique-args", "--unique-until", "started") != by_args
    assert "  unique       by its arguments\n" in console("jobs", "show", by_args).out


def test_a_job_waits_for_others_and_both_show_it(console: Console, store: Store) -> None:
    first, second = submit(console), submit(console)
    child = submit(console, "--after", first, "--after", second, "--when", "end")
    found = show(console, child)
    assert (found["state"], found["parents"], show(console, first)["children"]) == (
        "waiting",
        [first, second],
        [child],
    )
    console("jobs", "cancel", first)
    assert f"  after        {first} cancelled, {second} queued\n" in console("jobs", "show", child).out
    assert f"  before       {child} waiting\n" in console("jobs", "show", second).out
    console("jobs", "cancel", second)
    assert show(console, child)["state"] == "queued"


def test_many_relatives_are_counted(console: Console, store: Store) -> None:
    parents = [submit(console) for _ in range(7)]
    child = submit(console, *[word for parent in parents for word in ("--after", parent)])
    named = ", ".join(f"{parent} queued" for parent in parents[:5])
    assert f"  after        {named}, and 2 more\n" in console("jobs", "show", child).out


def test_how_far_a_job_is_can_be_seen(console: Console, store: Store) -> None:
    [number] = store.submit([NewJob("shop:good", queue="default")])
    worker = store.register(WorkerIdentity("work/1", "here", 1, ["shop:good"], ["default"]), lease=60)
    [job] = store.exchange(worker, [], Want(1, [("default", "shop:good")])).claimed
    store.progress(worker, [Progress(job.id, job.claim, 0.4, "page 4")])
    assert "  progress     40% page 4\n" in console("jobs", "show", number).out
    assert show(console, number)["progress"] == {"fraction": 0.4, "note": "page 4"}
    store.exchange(worker, [Succeeded(job.id, job.claim, None, 1, 2)], Want(0, []))
    store.leave(worker)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--delay", "1m", "--at", "2100-01-01"], "both --delay and --at"),
        (["--unique", "a", "--unique-args"], "both --unique and --unique-args"),
        (["--when", "end"], "--when without --after"),
        (["--timeout", "3s"], "--timeout without --wait"),
        (["--unique-until", "started"], "--unique-until without --unique"),
        (["--after", "999"], "999"),
        (["--at", "noon"], 'cannot read "noon" as a time'),
        (["--limit", "queue:mail"], "it is that of a queue"),
    ],
)
def test_what_contradicts_itself_is_code_2_and_stores_nothing(
    console: Console, store: Store, words: list[str], says: str
) -> None:
    said = console("jobs", "submit", "shop:good", *words)
    assert (said.code, said.out) == (2, "")
    assert says in said.err
    assert json.loads(console("jobs", "list", "--json").out) == {"jobs": []}
