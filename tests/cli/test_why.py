"""What names a job that nobody takes: `why`, `jobs show`, `doctor` on a real store, `status` of a node's answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coserver.cli.status import print_status
from coserver.model.job import Failed, NewJob
from coserver.store import open_store
from coserver.store.contract import Store, Want, WorkerIdentity
from tests.cli.conftest import Console, FixedNode, Terminal, status

CONFIG = '[site]\nname = "shop"\nstore = "sqlite:site.db"\n[service.a]\ncommand = "sleep 1000"\n'


@pytest.fixture
def store(here: Path) -> Iterator[Store]:
    (here / "coserver.toml").write_text(CONFIG)
    opened = open_store(f"sqlite:{here}/site.db")
    opened.migrate()
    yield opened
    opened.close()


def work(store: Store, name: str = "images/1", *, queues: tuple[str, ...] = ("default",)) -> int:
    """Let a worker be there that has `shop:good`."""
    return store.register(WorkerIdentity(name, "web1", 11, ["shop:good"], list(queues)), lease=60)


def why(console: Console, id: int) -> dict[str, Any]:
    answer = json.loads(console("why", id, "--json").out)
    assert isinstance(answer, dict)
    return answer


def test_why_gives_one_cause_and_its_mend(console: Console, store: Store) -> None:
    """N18: a site that is down is the first thing to mend; then a queue that nobody reads."""
    [number] = store.submit([NewJob("shop:good", queue="pdf")])
    assert console("why", number) == (
        0,
        f"job {number}  shop:good  queued\n"
        "  why          no worker is live\n"
        "  mend         `coserver up -d` starts the site's workers; `coserver status` tells why one does not run\n",
        "",
    )
    work(store)
    assert why(console, number) == {
        "id": number,
        "task": "shop:good",
        "queue": "pdf",
        "state": "queued",
        "cause": "unread_queue",
        "says": 'nobody reads the queue "pdf"; the workers that have its task (images) read "default"',
        "mend": 'add "pdf" to `queues` of [service.images] in coserver.toml, then `coserver down` and `coserver up -d`',
        "evidence": {
            "queue": "pdf",
            "task": "shop:good",
            "near": None,
            "services": ["images"],
            "read": ["default"],
        },
    }


def test_why_follows_a_job_through_its_life(console: Console, store: Store) -> None:
    first, second, later = store.submit(
        [
            NewJob("shop:good", queue="default"),
            NewJob("shop:good", queue="default"),
            NewJob("shop:good", queue="default", delay=3_600_000_000),
        ]
    )
    worker = work(store)
    answer = why(console, second)
    assert (answer["cause"], answer["evidence"]["ahead"]) == ("behind", 1)
    assert answer["says"].startswith("1 job comes first; 1 of 1 workers")
    assert why(console, later)["cause"] == "not_due"
    [held] = store.exchange(worker, [], Want(1, [("default", "shop:good")])).claimed
    answer = why(console, first)
    assert answer["cause"] == "running"
    assert answer["says"].endswith("on images/1 (process 11 on web1)")
    error = '{"type":"ValueError","message":"no","traceback":""}'
    store.exchange(worker, [Failed(first, held.claim, error, 1, 2)], Want(0, []))
    answer = why(console, first)
    assert (answer["cause"], answer["state"]) == ("finished", "failed")
    assert answer["evidence"] == {"job": first, "state": "failed", "error": "ValueError: no"}
    assert answer["mend"] == f"`coserver jobs retry {first}` puts it back into its queue"


def test_why_of_a_job_whose_worker_died(console: Console, store: Store) -> None:
    [number] = store.submit([NewJob("shop:good", queue="default")])
    worker = store.register(WorkerIdentity("images/1", "web1", 11, ["shop:good"], ["default"]), lease=0.001)
    store.exchange(worker, [], Want(1, [("default", "shop:good")]))
    answer = why(console, number)
    assert answer["cause"] == "dead_lease"
    assert answer["evidence"] == {"process": "images/1", "live": 0}


def test_why_of_a_job_that_is_not_there_is_code_4(console: Console, store: Store) -> None:
    said = console("why", 4711)
    assert (said.code, said.out) == (4, "")
    assert "cannot find job 4711" in said.err
    assert console("why", "soon").code == 2


def test_jobs_show_says_why_while_the_job_lives(console: Console, store: Store) -> None:
    work(store)
    [number] = store.submit([NewJob("shop:bad")])
    line = '  why          no live worker has the task "shop:bad"; define the task in a module'
    assert line in console("jobs", "show", number).out
    assert json.loads(console("jobs", "show", number, "--json").out)["why"]["cause"] == "unknown_task"
    [ended] = store.submit([NewJob("shop:good", queue="default")])
    worker = work(store)
    [held] = store.exchange(worker, [], Want(1, [("default", "shop:good")])).claimed
    store.exchange(worker, [Failed(ended, held.claim, "{}", 1, 2)], Want(0, []))
    assert "why" not in console("jobs", "show", ended).out
    assert json.loads(console("jobs", "show", ended, "--json").out)["why"] is None


def test_doctor_notes_what_nobody_takes_also_while_the_site_is_down(console: Console, store: Store) -> None:
    store.submit([NewJob("shop:good", queue="default")])
    said = console("doctor")
    assert said.code == 0
    assert 'note  jobs: 1 job of "shop:good" waits in the queue "default", job 1, since ' in said.out
    assert "no worker is live; `coserver up -d`" in said.out
    work(store)
    assert "jobs:" not in console("doctor").out
    store.submit([NewJob(f"far:{number}", queue="default") for number in range(5)])
    lines = [line for line in console("doctor").out.splitlines() if " jobs: " in line]
    assert len(lines) == 4
    assert all("no live worker has the task" in line for line in lines[:3])
    assert lines[3] == "note  jobs: and 2 more such groups"


def test_status_names_three_groups_and_how_many_more(console: Console, node: FixedNode) -> None:
    groups = [{"says": f"1 job of {name} waits", "mend": "do so"} for name in "abcde"]
    node.says("/api/v1/status", status(unserved=groups))
    said = console("status")
    assert said.code == 0
    assert said.out.endswith(
        "jobs: 3 queued, 12 succeeded\n"
        "unserved: 1 job of a waits; do so\n"
        "unserved: 1 job of b waits; do so\n"
        "unserved: 1 job of c waits; do so\n"
        "unserved: and 2 more such groups; `coserver status --json` lists them\n"
    )


def test_what_a_job_is_called_does_not_reach_the_terminal_raw(
    console: Console, store: Store, terminal: Terminal
) -> None:
    work(store)
    [number] = store.submit([NewJob("a:\x9b2J\u202e")])
    terminal(200)
    for words in (["why", number], ["jobs", "show", number], ["doctor"]):
        assert not set("\x9b\u202e") & set(console(*words).out)


def test_a_site_that_is_just_started_does_not_complain_that_no_worker_was_there(
    capsys: pytest.CaptureFixture[str],
) -> None:
    groups = [
        {"cause": "no_worker", "says": "1 job of a waits: no worker is live", "mend": "start them"},
        {"cause": "unread_queue", "says": "1 job of b waits: nobody reads its queue", "mend": "add it"},
    ]
    print_status(status(unserved=groups))
    assert capsys.readouterr().out.count("unserved: ") == 2
    print_status(status(unserved=groups), starting=True)
    assert [line for line in capsys.readouterr().out.splitlines() if "unserved" in line] == [
        "unserved: 1 job of b waits: nobody reads its queue; add it"
    ]
