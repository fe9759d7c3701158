"""Who waits to write to an SQLite file is let in by those who have written."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from coserver.model.job import NewJob
from coserver.store import open_store
from coserver.store.courtesy import Line
from coserver.store.sqlite import SQLiteStore
from coserver.store.sqlite_file import TURN
from coserver.store.url import SQLiteUrl, parse_url

JOB = NewJob("shop:send", queue="mail")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    (tmp_path / "site.db-wal").touch()
    return tmp_path / "site.db"


@pytest.fixture
def line(log: Path) -> Iterator[Line]:
    line = Line(str(log))
    yield line
    line.close()


def test_all_who_wait_are_seen_until_the_last_of_them_leaves(line: Line, log: Path) -> None:
    first, second = Line(str(log)), Line(str(log))
    assert not line.others()
    first.wait()
    second.wait()
    second.wait()
    assert line.others()
    first.leave()
    assert line.others()
    second.close()
    assert not line.others()
    first.leave()
    first.close()


def test_who_is_killed_waits_no_longer(line: Line, log: Path) -> None:
    code = (
        "import sys, time\nfrom coserver.store.courtesy import Line\n"
        f"line = Line({str(log)!r})\nline.wait()\nprint('waiting', flush=True)\ntime.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout is not None
            other.stdout.readline()
            assert line.others()
        finally:
            other.kill()
    assert not line.others()


def test_without_a_log_nobody_waits_and_nothing_fails(tmp_path: Path) -> None:
    line = Line(str(tmp_path / "none.db"))
    line.wait()
    assert not line.others()
    line.leave()
    line.close()


def test_who_has_written_for_a_while_pauses_only_while_somebody_waits(tmp_path: Path) -> None:
    pauses: list[None] = []

    def chance() -> float:
        pauses.append(None)
        return 0.5

    where = parse_url(f"sqlite:{tmp_path / 'site.db'}")
    assert isinstance(where, SQLiteUrl)
    store = SQLiteStore(where, chance=chance)
    store.migrate()
    other = Line(where.path)

    def write(seconds: float, enough: int) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until and len(pauses) < enough:
            store.submit([JOB])

    try:
        write(20 * TURN, 1)
        assert not pauses
        other.wait()
        write(30, 3)
        assert len(pauses) == 3
        other.leave()
        write(20 * TURN, 4)
        assert len(pauses) == 3
    finally:
        other.close()
        store.close()


def test_a_store_can_be_removed_and_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "site.db"
    for _ in range(2):
        store = open_store(f"sqlite:{path}")
        store.migrate()
        assert store.submit([JOB]) == [1]
        store.close()
        for file in path.parent.glob("site.db*"):
            file.unlink()
    assert not [name for name in os.listdir(tmp_path) if name.startswith("site.db")]
