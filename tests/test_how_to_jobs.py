"""The pages on jobs: their code runs and gives what stands beside it, their commands work."""

from __future__ import annotations

import ast
import json
import os
import re
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from coserver.client import Client
from coserver.config import load
from coserver.model.job import Failed, Limit, NewJob
from coserver.store import open_store
from coserver.store.contract import Want, WorkerIdentity
from coserver.tasks.binding import using
from coserver.tasks.registry import registry
from coserver.testing import private_jobs
from tests.test_how_to_tasks import PAGES, blocks, keep_draining, write

BESIDE = re.compile(r"^( *)(\S.*?)  # (.+)$", re.MULTILINE)


def checked(code: str) -> str:
    """Return the code, with lines such as `2 + 2  # 4` made into checks."""

    def check(line: re.Match[str]) -> str:
        try:
            ast.literal_eval(line[3])
        except (ValueError, SyntaxError):
            return line[0]
        return f"{line[1]}same({line[2]}, {line[3]})"

    return BESIDE.sub(check, code)


@pytest.mark.parametrize("page", ["when-jobs-run.md", "chains-and-groups.md"])
def test_the_code_of_the_page_gives_what_stands_beside_it(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    before = dict(registry._by_name)
    declared, *steps = blocks(page)
    write(declared, tmp_path)
    (tmp_path / "shop" / "__init__.py").touch()
    compared: list[Any] = []

    def same(is_so: Any, said: Any) -> None:
        compared.append(said)
        assert is_so == said

    stop = threading.Event()
    try:
        with private_jobs(tmp_path) as jobs:
            names: dict[str, Any] = {"same": same}
            import_module("shop.jobs")  # before anybody drains, so that all tasks are known
            worker = threading.Thread(target=keep_draining, args=(jobs, stop))
            worker.start()
            try:
                for step in steps:
                    exec(checked(step), names)
            finally:
                stop.set()
                worker.join()
    finally:
        registry._by_name = before
        for name in [name for name in sys.modules if name.partition(".")[0] == "shop"]:
            del sys.modules[name]
    assert len(compared) >= 5


def test_the_limits_of_the_page_are_a_configuration(tmp_path: Path) -> None:
    text = (PAGES / "when-jobs-run.md").read_text()
    [toml] = re.findall(r"^```toml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    (tmp_path / "coserver.toml").write_text(f'[site]\nname = "shop"\nstore = "sqlite:site.db"\n{toml}')
    site = load(tmp_path / "coserver.toml", profile=None, environ={}, cwd=tmp_path)
    assert list(site.limits) == [Limit("queue:mail", 20), Limit("smtp", 4, 100, 60_000_000)]


def test_what_the_page_on_limits_declares_rules_what_it_submits_also_by_sql(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    text = (PAGES / "limits.md").read_text()
    toml = "\n".join(re.findall(r"^```toml\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    (tmp_path / "coserver.toml").write_text(
        f'[site]\nname = "shop"\nstore = "sqlite:site.db?driver=sqlite3"\n{toml}'
    )
    site = load(tmp_path / "coserver.toml", profile=None, environ={}, cwd=tmp_path)
    assert list(site.limits) == [
        Limit("queue:crawl", None, 10, 1_000_000),
        Limit("queue:mail", 20),
        Limit("smtp", 4, 100, 60_000_000),
    ]
    before = dict(registry._by_name)
    declared, submits = blocks("limits.md")
    write(declared, tmp_path)
    (tmp_path / "shop" / "__init__.py").touch()
    try:
        with Client(site.store) as client, closing(open_store(site.store)) as store:
            client.counts()  # makes the tables
            store.set_limits(site.limits)
            with using(client):
                for _ in range(2):
                    exec(submits, {})
            [sql] = re.findall(r"^```sql\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
            with closing(sqlite3.connect(tmp_path / "site.db")) as connection:
                connection.executescript(sql)
            tasks = ["shop.jobs:settle", "shop.jobs:deliver"]
            store.register(WorkerIdentity("w/1", "h", 1, tasks, ["default", "mail"]), lease=60)
            store.tick()
            numbers = sorted(info.id for info in client.jobs())
            found = [(info.state.name, info.limit) for number in numbers if (info := client.look(number))]
            once = [
                ("QUEUED", "ledger"),
                ("QUEUED", "smtp:example.com"),
                ("QUEUED", "smtp:example.org"),
            ]
            again = [("LIMITED", "ledger"), *once[1:]]
            assert found == [*once, *again, ("QUEUED", "smtp:example.com"), ("QUEUED", None)]
            answer = client.why(numbers[3])
            assert answer is not None
            assert answer.says == 'as many jobs run as the limit "ledger" allows'
    finally:
        registry._by_name = before
        for name in [name for name in sys.modules if name.partition(".")[0] == "shop"]:
            del sys.modules[name]


def test_the_commands_of_the_page_work_and_do_what_it_says(tmp_path: Path) -> None:
    (tmp_path / "coserver.toml").write_text(
        '[site]\nname = "shop"\nstore = "sqlite:site.db"\n[service.a]\ncommand = "sleep 1000"\n'
    )
    store = open_store(f"sqlite:{tmp_path}/site.db")
    store.migrate()
    mail = NewJob("shop.jobs:send", queue="mail", tags=("spring",))
    other = NewJob("shop.jobs:send", queue="mail")
    report = NewJob("shop.jobs:report", '["order-77"]', queue="default", tags=("spring",))
    store.submit([mail] * 10 + [report] * 3)
    worker = store.register(WorkerIdentity("w/1", "h", 1, ["shop.jobs:report"], ["default"]), lease=60)
    claimed = store.exchange(worker, [], Want(9, [("default", "shop.jobs:report")])).claimed
    error = json.dumps({"type": "shop.Timeout", "message": "no answer", "traceback": ""})
    failed = [Failed(job.id, job.claim, error, 1, 2) for job in claimed]
    store.exchange(worker, failed, Want(0, []))
    store.leave(worker)
    first, second, *_ = store.submit([report] * 3 + [other] * 4)
    text = (PAGES / "look-after-jobs.md").read_text()
    commands = "\n".join(re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    # What is tried again has to have ended, and a site that is down needs no `down`.
    commands = commands.replace("coserver jobs retry 18", "coserver jobs cancel 18\ncoserver jobs retry 18")
    commands = (
        commands.replace("coserver down\n", "")
        .replace(" 17\n", f" {first}\n")
        .replace(" 18\n", f" {second}\n")
    )
    store.close()
    done = subprocess.run(
        ["bash", "-exuo", "pipefail", "-c", commands],
        cwd=tmp_path,
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for said in (
        "10 jobs would be cancelled\n",
        "10 jobs cancelled\n",
        "3 jobs put back into their queues\n",
        "mail is paused\n",
        "mail goes on",
        "is backed up to backup.db",
    ):
        assert said in done.stdout
