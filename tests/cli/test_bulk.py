"""`coserver jobs cancel|retry|discard|release`, by number and by filter, on both databases."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import pytest

from coserver.cli import bulk
from coserver.client import Client
from coserver.errors import StoreUnavailable
from coserver.model.job import Edge, Failed, NewJob, State, Succeeded
from coserver.store import open_store
from coserver.store.contract import Store, Want, WorkerIdentity
from tests.cli.conftest import Console, Terminal

TASKS = ["shop:good", "shop:bad"]
ERROR = json.dumps({"type": "shop.Timeout", "message": "no answer", "traceback": ""})


@pytest.fixture
def store(here: Path, store_url: str) -> Iterator[Store]:
    (here / "coserver.toml").write_text(
        f'[site]\nname = "shop"\nstore = "{store_url}"\n[service.a]\ncommand = "sleep 1000"\n'
    )
    opened = open_store(store_url)
    yield opened
    opened.close()


@pytest.fixture
def sure(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A person at a terminal who says yes; what they were asked."""
    monkeypatch.setattr(bulk, "can_ask", lambda: True)
    asked: list[str] = []

    def confirm(text: str, **_: Any) -> bool:
        asked.append(text)
        return True

    monkeypatch.setattr(click, "confirm", confirm)
    return asked


def finish_all(store: Store) -> None:
    """Be a worker: jobs of `shop:good` succeed, those of `shop:bad` fail."""
    worker = store.register(WorkerIdentity("work/1", "here", 1, TASKS, ["default"]), lease=60)
    claimed = store.exchange(worker, [], Want(100, [("default", task) for task in TASKS])).claimed
    done = [
        Succeeded(job.id, job.claim, None, 1, 2)
        if job.task == "shop:good"
        else Failed(job.id, job.claim, ERROR, 1, 2)
        for job in claimed
    ]
    store.exchange(worker, done, Want(0, []))
    store.leave(worker)


def some(store: Store, task: str = "shop:good", n: int = 1, **more: Any) -> list[int]:
    return store.submit([NewJob(task, queue="default", **more) for _ in range(n)])


def states(store: Store, ids: Sequence[int]) -> list[str]:
    found = [store.job(number) for number in ids]
    return ["gone" if info is None else info.state.name.lower() for info in found]


def answer(console: Console, *words: str | int) -> dict[str, Any]:
    said = console("jobs", *words, "--json")
    found: dict[str, Any] = json.loads(said.out)
    return found | {"code": said.code}


def test_named_jobs_are_cancelled_at_once(console: Console, store: Store) -> None:
    ids = some(store, n=3)
    assert console("jobs", "cancel", *ids[:2]) == (0, "2 jobs cancelled\n", "")
    assert states(store, ids) == ["cancelled", "cancelled", "queued"]


def test_what_waits_for_a_cancelled_job_is_cancelled_too(console: Console, store: Store) -> None:
    """J14, and the graph below it."""
    parent, child = store.submit(
        [
            NewJob("shop:good", queue="default"),
            NewJob("shop:good", queue="default", after=(Edge(0, here=True),)),
        ]
    )
    assert console("jobs", "cancel", parent).out == "1 job cancelled\n"
    assert states(store, [parent, child]) == ["cancelled", "cancelled"]


def test_a_running_job_is_asked_to_stop_and_shows_it(console: Console, store: Store) -> None:
    [number] = some(store)
    worker = store.register(WorkerIdentity("work/1", "here", 1, TASKS, ["default"]), lease=60)
    store.exchange(worker, [], Want(1, [("default", "shop:good")]))
    assert answer(console, "cancel", number) == {
        "verb": "cancel",
        "matched": 1,
        "done": 1,
        "asked_to_stop": 1,
        "left": [],
        "unknown": [],
        "dry_run": False,
        "interrupted": False,
        "code": 0,
    }
    assert "  cancel       requested; it still runs\n" in console("jobs", "show", number).out
    assert json.loads(console("jobs", "show", number, "--json").out)["cancel_requested"] is True
    assert console("jobs", "cancel", number).out == "1 job running and asked to stop\n"
    store.leave(worker)


def test_named_jobs_that_it_is_not_for_are_left_alone_and_code_1(console: Console, store: Store) -> None:
    good, bad = some(store) + some(store, "shop:bad")
    finish_all(store)
    found = answer(console, "retry", good, bad, "--dry-run")
    assert (found["matched"], found["done"], found["left"], found["dry_run"]) == (1, 0, [good], True)
    found = answer(console, "retry", good, bad)
    assert (found["matched"], found["done"], found["left"], found["code"]) == (2, 1, [good], 1)
    said = console("jobs", "cancel", good)
    assert (said.code, said.out) == (1, "0 jobs cancelled\n")
    assert said.err == f"1 job left alone, since they have ended: {good}\n"


def test_a_number_that_nobody_has_is_code_4_after_the_others_are_done(console: Console, store: Store) -> None:
    [number] = some(store)
    said = console("jobs", "cancel", 10**30, number, 9_999)
    assert (said.code, said.out) == (4, "1 job cancelled\n")
    assert f"cannot find job {10**30} (nor 1 others)" in said.err
    assert states(store, [number]) == ["cancelled"]


def test_failed_jobs_go_back_in_their_old_order(
    console: Console, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "PAGE", 2)
    bad = some(store, "shop:bad", 3)
    [good] = some(store)
    finish_all(store)
    assert (
        console("jobs", "retry", "--all", "--dry-run").out == "3 jobs would be put back into their queues\n"
    )
    assert console("jobs", "retry", "--all", "--yes") == (0, "3 jobs put back into their queues\n", "")
    assert states(store, [*bad, good]) == ["queued"] * 3 + ["succeeded"]
    worker = store.register(WorkerIdentity("work/1", "here", 1, TASKS, ["default"]), lease=60)
    claimed = store.exchange(worker, [], Want(9, [("default", "shop:bad")])).claimed
    assert [job.id for job in claimed] == bad
    store.leave(worker)


def test_held_jobs_are_released_and_finished_ones_forgotten(console: Console, store: Store) -> None:
    held = some(store, n=2, held=True, tags=("spring",))
    [other] = some(store, held=True)
    assert console("jobs", "release", "--tag", "spring", "--yes").out == "2 jobs released\n"
    assert states(store, [*held, other]) == ["queued", "queued", "held"]
    finish_all(store)
    assert console("jobs", "discard", "--state", "succeeded", "--yes").out == "2 jobs discarded\n"
    assert states(store, [*held, other]) == ["gone", "gone", "held"]


@pytest.mark.parametrize(
    ("words", "chosen"),
    [
        (["--tag", "spring"], [0]),
        (["--args", "ORDER-7"], [1]),
        (["--task", "shop:bad"], [2, 3]),
        (["--queue", "mail"], [4]),
        (["--error", "no answer"], [2, 3]),
        (["--error", "shop.timeout", "--state", "failed"], [2, 3]),
        (["--older-than", "1h"], []),
        (["--newer-than", "1h"], [0, 1, 2, 3, 4]),
        (["--since", "2020-01-01"], [0, 1, 2, 3, 4]),
        (["--until", "2020-01-01T12:00"], []),
        (["--state", "queued"], [0, 1, 4]),
    ],
)
def test_filters_choose_what_is_listed(
    console: Console, store: Store, words: list[str], chosen: list[int]
) -> None:
    bad = some(store, "shop:bad", 2)
    finish_all(store)
    ids = store.submit(
        [
            NewJob("shop:good", '["a"]', queue="default", tags=("spring", "big")),
            NewJob("shop:good", '["order-77"]', queue="default"),
            NewJob("shop:good", '["b"]', queue="mail"),
        ]
    )
    order = [ids[0], ids[1], bad[0], bad[1], ids[2]]
    listed = json.loads(console("jobs", "list", "--json", *words).out)["jobs"]
    assert sorted(job["id"] for job in listed) == sorted(order[place] for place in chosen)


def test_a_person_sees_what_is_chosen_before_it_is_done(
    console: Console, store: Store, sure: list[str]
) -> None:
    ids = some(store, n=7)
    said = console("jobs", "cancel", "--task", "shop:good")
    assert (said.code, said.out, sure) == (0, "7 jobs cancelled\n", ["Cancel 7 jobs?"])
    lines = said.err.splitlines()
    assert lines[0] == "7 jobs match"
    assert [line.split()[0] for line in lines[2:7]] == [str(number) for number in reversed(ids[2:])]
    assert lines[7] == "… and 2 jobs more, all of them older"


def test_a_person_may_say_no(
    console: Console, store: Store, sure: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = some(store, n=2)
    monkeypatch.setattr(click, "confirm", lambda *_, **__: False)
    said = console("jobs", "cancel", "--all")
    assert (said.code, said.out) == (1, "")
    assert said.err.endswith("nothing was changed\n")
    assert states(store, ids) == ["queued", "queued"]


def test_nobody_is_asked_about_nothing(console: Console, store: Store, sure: list[str]) -> None:
    said = console("jobs", "cancel", "--all")
    assert (said.code, said.out, sure) == (0, "0 jobs cancelled\n", [])


def test_where_nobody_can_be_asked_a_filter_needs_yes(console: Console, store: Store) -> None:
    ids = some(store, n=2)
    said = console("jobs", "cancel", "--all")
    assert (said.code, said.out) == (2, "")
    assert "there is no terminal to ask at; look with --dry-run, then say --yes" in said.err
    assert states(store, ids) == ["queued", "queued"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["cancel"], "cannot tell which jobs to cancel"),
        (["cancel", "1", "--all"], "cannot tell which jobs"),
        (["cancel", "1", "--task", "a"], "cannot tell which jobs"),
        (["cancel", "--task", "a", "--all"], "cannot tell which jobs"),
        (["cancel", "--state", "failed"], "cannot cancel jobs that are failed"),
        (["retry", "--state", "succeeded"], "cannot retry jobs that are succeeded"),
        (["release", "--state", "queued"], "this is for held ones"),
        (["discard", "--state", "soon"], "soon"),
        (["discard", "--older-than", "soon"], 'cannot read "soon" as a time'),
    ],
)
def test_a_choice_that_means_nothing_is_code_2(
    console: Console, store: Store, words: list[str], says: str
) -> None:
    said = console("jobs", *words, "--yes")
    assert said.code == 2
    assert says in said.err


def test_very_many_jobs_go_in_pages(console: Console, store: Store) -> None:
    some(store, n=1_203)
    assert answer(console, "cancel", "--all", "--yes")["done"] == 1_203
    assert store.counts().by_state[State.CANCELLED] == 1_203
    assert answer(console, "discard", "--all", "--yes")["done"] == 1_203


def test_jobs_submitted_meanwhile_are_not_touched(
    console: Console, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    some(store, n=2)
    late: list[int] = []

    def cancel(client: Client, ids: Sequence[int]) -> dict[int, State]:
        late.extend(some(store))
        return client._opened().cancel(list(ids))

    monkeypatch.setattr(Client, "cancel", cancel)
    assert answer(console, "cancel", "--all", "--yes")["done"] == 2
    assert states(store, late) == ["queued"]


def test_ctrl_c_lets_the_page_end_and_says_what_was_done(
    console: Console, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    some(store, n=1_100)
    handler = signal.getsignal(signal.SIGINT)

    def cancel(client: Client, ids: Sequence[int]) -> dict[int, State]:
        os.kill(os.getpid(), signal.SIGINT)
        return client._opened().cancel(list(ids))

    monkeypatch.setattr(Client, "cancel", cancel)
    said = console("jobs", "cancel", "--all", "--yes", "--json")
    found = json.loads(said.out)
    assert (said.code, found["matched"], found["done"], found["interrupted"]) == (130, 1_100, 500, True)
    assert said.err == "interrupted; 600 jobs not reached, the same command goes on\n"
    assert store.counts().by_state[State.CANCELLED] == 500
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_second_ctrl_c_does_not_wait_for_the_page(
    console: Console, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    some(store, n=2)

    def cancel(_client: Client, _ids: Sequence[int]) -> dict[int, State]:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        threading.Event().wait(60)
        raise AssertionError

    monkeypatch.setattr(Client, "cancel", cancel)
    said = console("jobs", "cancel", "--all", "--yes")
    assert (said.code, said.out) == (130, "0 jobs cancelled\n")


def test_a_store_that_goes_away_in_the_middle_leaves_a_word(
    console: Console, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    some(store, n=600)
    calls = 0

    def cancel(client: Client, ids: Sequence[int]) -> dict[int, State]:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise StoreUnavailable("cannot reach it")
        return client._opened().cancel(list(ids))

    monkeypatch.setattr(Client, "cancel", cancel)
    said = console("jobs", "cancel", "--all", "--yes")
    assert (said.code, said.out) == (5, "")
    assert said.err.splitlines() == [
        "500 jobs of 600 had been cancelled before this:",
        "coserver: cannot reach it",
    ]


def test_long_work_is_told_in_one_line_of_a_terminal_and_now_and_then_elsewhere(
    terminal: Terminal, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter([0.0, 0.5, 2.0, 2.1, 3.0])
    meter = bulk.Meter("cancelled", lambda: next(times))
    for done in (500, 1_000, 1_500, 2_000):
        meter.tell(done, 5_000)
    meter.end()
    assert capsys.readouterr().err == "cancelled 1,000 of 5,000 …\n"
    terminal(80)
    times = iter([0.0, 2.0, 2.1, 3.0])
    meter = bulk.Meter("found", lambda: next(times))
    for done in (1_000, 1_500, 2_000):
        meter.tell(done)
    meter.end()
    assert capsys.readouterr().err == "\rfound 1,000 …\x1b[K\rfound 2,000 …\x1b[K\r\x1b[K"
