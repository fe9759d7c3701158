"""`coserver jobs` on a real SQLite store, without a site that is up."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta, timezone
from pathlib import Path

import pytest

from coserver.host.log_text import timestamp
from coserver.model.job import Failed, JobFilter, NewJob, Succeeded
from coserver.store import open_store
from coserver.store.contract import Store, Want, WorkerIdentity
from tests.cli.conftest import Console, Terminal

CONFIG = '[site]\nname = "shop"\nstore = "sqlite:site.db"\n[service.a]\ncommand = "sleep 1000"\n'
WORKS = '[site]\nname = "shop"\nstore = "sqlite:site.db"\n[app]\npath = ["."]\n[service.work]\ntasks = ["cli_jobs"]\n'
ERROR = {
    "type": "ValueError",
    "message": "no \x1b[2Jsize",
    "traceback": "Traceback:\n  line\x1b]0;x\x07\nValueError",
}


@pytest.fixture
def store(here: Path) -> Iterator[Store]:
    (here / "coserver.toml").write_text(CONFIG)
    opened = open_store(f"sqlite:{here}/site.db")
    opened.migrate()
    yield opened
    opened.close()


def finish_all(store: Store) -> None:
    """Be a worker: jobs of `shop:good` succeed, all others fail."""
    who = WorkerIdentity("work/1", "here", 1, ["shop:good", "shop:bad"], ["default"])
    worker = store.register(who, lease=60)
    claimed = store.exchange(
        worker, [], Want(100, [("default", "shop:good"), ("default", "shop:bad")])
    ).claimed
    done = [
        Succeeded(job.id, job.claim, '"done"', 1_000_000, 3_500_000)
        if job.task == "shop:good"
        else Failed(job.id, job.claim, json.dumps(ERROR), 1_000_000, 1_250_000)
        for job in claimed
    ]
    store.exchange(worker, done, Want(0, []))
    store.leave(worker)


def test_a_store_without_jobs_gives_headings_and_an_empty_list(console: Console, store: Store) -> None:
    said = console("jobs", "list")
    assert (said.code, len(said.out.splitlines()), said.err) == (0, 1, "")
    assert json.loads(console("jobs", "list", "--json").out) == {"jobs": []}


def test_a_submitted_job_is_listed_with_its_arguments(console: Console, store: Store) -> None:
    said = console("jobs", "submit", "shop:good", "daily", "7", "true", '"8"', "--priority", "high")
    assert (said.code, said.err) == (0, "")
    number = int(said.out)
    [job] = json.loads(console("jobs", "list", "--json").out)["jobs"]
    assert (job["id"], job["task"], job["priority"]) == (number, "shop:good", "high")
    assert job["args"] == ["daily", 7, True, "8"]
    assert '["daily",7,true,"8"]' in console("jobs", "list").out.replace(", ", ",")


def test_arguments_may_be_given_as_json(console: Console, store: Store) -> None:
    said = console("jobs", "submit", "a:b", "--args", "[1, null]", "--kwargs", '{"size": 2}', "--json")
    number = json.loads(said.out)["id"]
    assert json.loads(console("jobs", "show", number, "--json").out)["args"] == {"*": [1, None], "size": 2}


@pytest.mark.parametrize(
    "words",
    [
        ["--args", "[1"],
        ["--args", '{"a": 1}'],
        ["--kwargs", "[1]"],
        ["--args", "[NaN]"],
        ["--args", "[]", "one"],
        ["--delay", "soon"],
        ["--priority", "highest"],
    ],
)
def test_wrong_arguments_are_code_2_and_store_nothing(
    console: Console, store: Store, words: list[str]
) -> None:
    said = console("jobs", "submit", "a:b", *words)
    assert (said.code, said.out) == (2, "")
    assert said.err
    assert json.loads(console("jobs", "list", "--json").out) == {"jobs": []}


def test_a_task_that_no_service_has_is_code_4_with_a_suggestion(
    console: Console, store: Store, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))  # the command puts the service's directory into it
    (here / "coserver.toml").write_text(WORKS)
    (here / "cli_jobs.py").write_text(
        "from coserver import task\n\n@task\ndef report(day: str) -> None: ...\n"
    )
    # First, because from then on this process has the module and knows better.
    assert console("jobs", "submit", "cli_jobs:reprot", "daily", "--unchecked").code == 0
    said = console("jobs", "submit", "cli_jobs:reprot", "daily")
    assert said.code == 4
    assert 'did you mean "cli_jobs:report"' in said.err
    assert console("jobs", "submit", "cli_jobs:report", "daily").code == 0


def test_lists_go_on_where_the_last_one_ended(console: Console, store: Store) -> None:
    ids = store.submit([NewJob("shop:good") for _ in range(5)])
    said = console("jobs", "list", "-n", 2)
    assert said.err == f"more with --before {ids[-2]}\n"
    rest = json.loads(console("jobs", "list", "--before", ids[-2], "--json").out)["jobs"]
    assert [job["id"] for job in rest] == ids[-3::-1]


def test_lists_are_narrowed_by_state_task_and_queue(console: Console, store: Store) -> None:
    good, bad, mail = store.submit(
        [
            NewJob("shop:good", queue="default"),
            NewJob("shop:bad", queue="default"),
            NewJob("shop:good", queue="mail"),
        ]
    )
    finish_all(store)

    def ids(*words: str) -> list[int]:
        return [job["id"] for job in json.loads(console("jobs", "list", "--json", *words).out)["jobs"]]

    assert ids() == [mail, bad, good]
    assert ids("--state", "failed", "--state", "succeeded") == [bad, good]
    assert ids("--queue", "mail") == [mail]
    assert ids("--task", "shop:good", "--state", "succeeded") == [good]
    assert "2 s" in console("jobs", "list", "--state", "succeeded").out
    assert "250 ms" in console("jobs", "list", "--state", "failed").out


def test_all_that_is_known_of_a_job_is_shown(console: Console, store: Store) -> None:
    good, bad = store.submit([NewJob("shop:good", queue="default"), NewJob("shop:bad", queue="default")])
    finish_all(store)
    said = console("jobs", "show", good)
    assert said.out.startswith(f"job {good}  shop:good  succeeded\n")
    assert '  result       "done"\n' in said.out
    found = json.loads(console("jobs", "show", bad, "--json").out)
    assert (found["state"], found["error"]) == ("failed", ERROR)
    assert found["finished_at"].startswith("1970-01-01T")
    assert console("jobs", "show", bad).out.endswith(
        f"ValueError: {ERROR['message']}\n{ERROR['traceback']}\n"
    )


@pytest.mark.parametrize("trace", ["", "ValueError: no size\n"])
def test_an_error_that_has_no_traceback_is_said_once(
    console: Console, store: Store, trace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ERROR, "message", "no size")
    monkeypatch.setitem(ERROR, "traceback", trace)
    [number] = store.submit([NewJob("shop:bad", queue="default")])
    finish_all(store)
    out = console("jobs", "show", number).out
    assert out.endswith("\n\nValueError: no size\n")
    assert out.count("no size") == 1


def test_a_job_does_not_reach_the_terminal_raw(console: Console, store: Store, terminal: Terminal) -> None:
    job, evil = store.submit([NewJob("shop:bad", queue="default"), NewJob("a:b", '["\x9b2J\u202e"]')])
    finish_all(store)
    terminal(200)
    listed = console("jobs", "list").out
    assert r'["\x9b2J\u202e"]' in listed
    assert r"ValueError: no \x1b[2Jsize" in listed
    shown = console("jobs", "show", job).out
    assert r"no \x1b[2Jsize" in shown
    assert "Traceback:\n  line\\x1b]0;x\\x07\nValueError\n" in shown
    shown += console("jobs", "show", evil).out
    for ours in ("\x1b[1m", "\x1b[31m", "\x1b[0m"):
        shown = shown.replace(ours, "")
    assert "\x1b" not in shown
    assert not set("\x07\x9b\u202e") & set(listed + shown)


def test_a_job_that_is_not_there_is_code_4(console: Console, store: Store) -> None:
    assert console("jobs", "show", 99).code == 4
    said = console("jobs", "retry", 99)
    assert said.code == 4
    assert "cannot find job 99" in said.err


def test_a_result_is_waited_for_only_so_long(console: Console, store: Store) -> None:
    said = console("jobs", "submit", "shop:good", "--wait", "--timeout", "50ms")
    assert said.code == 124
    assert said.err.startswith("job 1: ")


def test_a_job_that_fails_while_waited_for_is_printed_whole_and_code_1(
    console: Console, store: Store
) -> None:
    worker = threading.Thread(target=lambda: finish_when_there_is(store, "shop:bad"))
    worker.start()
    said = console("jobs", "submit", "shop:bad", "--wait", "--json", "--timeout", "30s")
    worker.join()
    assert said.code == 1
    shown = json.loads(said.out)
    assert (shown["task"], shown["state"], shown["error"]["type"]) == ("shop:bad", "failed", "ValueError")
    assert said.err.startswith(f"job {shown['id']}: ValueError: ")


def finish_when_there_is(store: Store, task: str) -> None:
    """Wait for a job of that task, and be its worker."""
    deadline = time.monotonic() + 30
    while not store.jobs(JobFilter(task=task), limit=1):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    finish_all(store)


def test_long_cells_are_cut_in_a_pipe_and_whole_in_json(console: Console, store: Store) -> None:
    long_task, long_text = "shop:" + "x" * 195, "y" * 1000
    store.submit([NewJob(long_task, json.dumps([long_text]))])
    line = console("jobs", "list").out.splitlines()[1]
    assert len(line) < 280
    assert line.count("…") == 2
    assert f" {long_task[:79]}… " in line
    [job] = json.loads(console("jobs", "list", "--json").out)["jobs"]
    assert (job["task"], job["args"]) == (long_task, [long_text])


def test_times_are_local_with_the_offset_as_in_logs(
    console: Console, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    time.tzset()
    try:
        store.submit([NewJob("shop:good", "[]")])
        finish_all(store)
        [job] = json.loads(console("jobs", "list", "--json").out)["jobs"]
        shown = console("jobs", "show", job["id"]).out
    finally:
        monkeypatch.undo()
        time.tzset()
    assert (
        job["started_at"]
        == "1970-01-01T05:30:01.000+05:30"
        == timestamp(1_000_000, timezone(timedelta(hours=5, minutes=30)))
    )
    assert "started at   1970-01-01T05:30:01.000+05:30" in shown
