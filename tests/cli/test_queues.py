"""`coserver queues` on both databases, without a site that is up."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coserver.model.job import Limit, NewJob
from coserver.store import open_store
from coserver.store.contract import Store, Want, WorkerIdentity
from tests.cli.conftest import Console, Terminal


@pytest.fixture
def store(here: Path, store_url: str) -> Iterator[Store]:
    (here / "coserver.toml").write_text(
        f'[site]\nname = "shop"\nstore = "{store_url}"\n[app]\npath = ["."]\n'
        '[service.work]\ntasks = ["tasks"]\nqueues = { mail = 2, declared = 1 }\n'
    )
    opened = open_store(store_url)
    yield opened
    opened.close()


def some(store: Store, queue: str, n: int = 1, **more: Any) -> list[int]:
    return store.submit([NewJob("shop:good", queue=queue, **more) for _ in range(n)])


def queues(console: Console, *names: str) -> dict[str, Any]:
    found = json.loads(console("queues", "list", "--json", *names).out)["queues"]
    return {queue["name"]: queue for queue in found}


def test_queues_are_listed_with_what_is_in_them(console: Console, store: Store) -> None:
    store.set_limits([Limit("queue:mail", running=3, starts=5, period=60_000_000)])
    some(store, "mail", 2)
    some(store, "mail", 1, delay=3_600_000_000)
    some(store, "pdf", 1, held=True)
    some(store, "pdf", 1)
    worker = store.register(WorkerIdentity("work/1", "here", 1, ["shop:good"], ["mail"]), lease=60)
    store.exchange(worker, [], Want(1, [("mail", "shop:good")]))
    found = queues(console)
    assert list(found) == ["mail", "pdf"]
    mail = found["mail"]
    assert {state: n for state, n in mail["jobs"].items() if n} == {"queued": 1, "running": 1, "scheduled": 1}
    assert mail["limit"] == {"running": 3, "starts": 5, "period_s": 60.0}
    assert 0 <= mail["oldest_age_s"] < 30
    assert (mail["paused"], mail["paused_by"], found["pdf"]["jobs"]["held"]) == (False, None, 1)
    assert list(queues(console, "p*")) == ["pdf"]
    said = console("queues", "list")
    assert said.out.splitlines()[1].split() == (
        f"mail open 1 1 0 1 0 0 {mail['oldest_age_s']:.0f} s 3 at once, 5/1m".split()
    )
    store.leave(worker)


def test_a_paused_queue_says_since_when_and_by_whom(
    console: Console, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coserver.cli.queues.user_name", lambda: "ann")
    monkeypatch.setattr("coserver.cli.queues.platform.node", lambda: "web1")
    some(store, "mail")
    some(store, "mail-slow")
    assert console("queues", "pause", "mail*") == (0, "mail is paused\nmail-slow is paused\n", "")
    found = queues(console)["mail"]
    assert (found["paused"], found["paused_by"]) == (True, "ann@web1")
    assert " by ann@web1" in console("queues", "list").out
    assert console("queues", "pause", "mail").out == "mail was paused already by ann@web1\n"
    worker = store.register(WorkerIdentity("work/1", "here", 1, ["shop:good"], ["mail"]), lease=60)
    assert store.exchange(worker, [], Want(1, [("mail", "shop:good")])).claimed == []
    assert json.loads(console("queues", "resume", "mail", "--json").out) == {
        "queues": [{"name": "mail", "paused": False, "paused_by": None, "changed": True}]
    }
    assert len(store.exchange(worker, [], Want(1, [("mail", "shop:good")])).claimed) == 1
    store.leave(worker)
    assert console("queues", "resume", "mail*").out == "mail-slow goes on; 1 job queued\n"
    assert console("queues", "resume", "mail").out == "mail was not paused\n"


def test_a_queue_of_the_configuration_may_be_paused_before_anybody_used_it(
    console: Console, store: Store
) -> None:
    assert console("queues", "pause", "declared").out == "declared is paused\n"
    assert queues(console)["declared"]["paused"]


@pytest.mark.parametrize("verb", ["list", "pause", "resume", "purge"])
def test_a_queue_that_is_not_there_is_code_4_with_a_suggestion(
    console: Console, store: Store, verb: str
) -> None:
    some(store, "mail")
    said = console("queues", verb, "mial")
    assert (said.code, said.out) == (4, "")
    assert 'cannot find the queue "mial"' in said.err
    assert 'did you mean "mail"' in said.err


def test_a_purge_cancels_what_waits(console: Console, store: Store) -> None:
    some(store, "mail", 3)
    some(store, "mail", 1, delay=3_600_000_000)
    some(store, "pdf", 1)
    worker = store.register(WorkerIdentity("work/1", "here", 1, ["shop:good"], ["mail"]), lease=60)
    store.exchange(worker, [], Want(1, [("mail", "shop:good")]))
    said = console("queues", "purge", "mail", "--dry-run")
    assert said.out == "3 jobs would be cancelled\n"
    assert said.err.startswith("3 jobs match\n")
    assert console("queues", "purge", "mail").code == 2
    assert console("queues", "purge", "mail", "--yes") == (0, "3 jobs cancelled\n", "")
    found = queues(console)
    assert {state: n for state, n in found["mail"]["jobs"].items() if n} == {"running": 1, "cancelled": 3}
    assert found["pdf"]["jobs"]["queued"] == 1
    store.leave(worker)


@pytest.mark.parametrize("columns", [80, 120])
def test_the_table_fits_the_terminal(
    console: Console, store: Store, terminal: Terminal, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    some(store, "a-queue-with-a-long-name", 2)
    console("queues", "pause", "*long*")
    terminal(columns)
    said = console("queues", "list")
    assert max(map(len, said.out.splitlines()[:-1])) <= columns
    assert "a-queue-with-a-long-name  paused" in said.out
