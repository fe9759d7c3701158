"""The librarian, started as `make demo` starts it: the first thing that people see of coserver."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coserver.cli.reference import STATUS
from tests.site.live import COSERVER, LiveSite, until

EXAMPLE = Path(__file__).parents[2] / "examples" / "librarian"
PROMISED = 30.0
"""Seconds after which at least ENOUGH files are indexed, on a machine with nothing else to do."""
ENOUGH = 1500
PATIENCE = 110.0
PROCESSES = {"indexers/1", "indexers/2", "web/1", "watcher/1"}


class Demo(LiveSite):
    """The example, with its state in a directory of the test."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.file = EXAMPLE / "coserver.toml"
        self.state = directory / "state"
        self.store = self.state / "jobs.db"
        self.said = directory / "said"
        self._up: subprocess.Popen[bytes] | None = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]

    def environment(self) -> dict[str, str]:
        ours = {"LIBRARIAN_STATE": str(self.state), "LIBRARIAN_PORT": str(self.port)}
        return super().environment() | ours

    def make_demo(self) -> None:
        with self.said.open("wb") as out:
            self._up = subprocess.Popen(
                [*COSERVER, "-c", str(self.file), "up"],
                cwd=EXAMPLE.parent.parent,
                env=self.environment(),
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        until(lambda: self.progress() is not None, "the search page answers", PATIENCE)

    def interrupt(self) -> int:
        """Press Ctrl-C; return the exit status."""
        assert self._up is not None
        self._up.send_signal(signal.SIGINT)
        return self._up.wait(60)

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=30) as answer:
            page: str = answer.read().decode()
        return page

    def progress(self) -> dict[str, Any] | None:
        assert self._up is not None
        assert self._up.poll() is None, self.said.read_text()
        try:
            found: dict[str, Any] = json.loads(self.get("/progress"))
        except (urllib.error.URLError, ConnectionError):
            return None
        return found

    def jobs(self, *states: str) -> int:
        """Return how many jobs are in these states."""
        now = self.progress()
        return -1 if now is None else sum(now["jobs"].get(state, 0) for state in states)

    def all_done(self, jobs: int = ENOUGH) -> bool:
        ended = self.jobs("succeeded", "failed") >= jobs
        return ended and self.jobs("new", "scheduled", "queued", "running") == 0


def keys(value: Any, path: str = "") -> Iterator[str]:
    """Yield the path of each value of a status, as the reference writes it."""
    if path == "jobs":
        yield "jobs.STATE"
    elif path in ("services[].held_stopped", "unserved"):
        yield f"{path}[]"
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from keys(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for inner in value:
            yield from keys(inner, f"{path}[]")
    else:
        yield path


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    site = Demo(tmp_path)
    try:
        yield site
    finally:
        if site._up is not None and site._up.poll() is None:
            site._up.kill()
            site._up.wait()
        site.end()


@pytest.mark.timeout(400)
def test_the_demo_indexes_the_library_and_ends_without_a_trace(
    demo: Demo, record_property: pytest.RecordProperty
) -> None:
    begun = time.monotonic()
    demo.make_demo()
    until(lambda: demo.jobs("succeeded") >= ENOUGH, "the library is indexed", PATIENCE)
    took = time.monotonic() - begun
    record_property("seconds until 1,500 files were indexed", round(took, 1))
    if os.getloadavg()[0] < (os.cpu_count() or 1):
        assert took < PROMISED, f"{took:.0f} s although the machine has little else to do"

    status = demo.status()
    processes = {p["name"]: p for service in status["services"] for p in service["processes"]}
    assert processes.keys() == PROCESSES
    assert {p["state"] for p in processes.values()} == {"running"}
    assert status["jobs"]["succeeded"] >= ENOUGH
    assert set(keys(status)) == STATUS.keys()
    assert f"http://127.0.0.1:{demo.port}" in demo.said.read_text()

    page = demo.get("/?q=heappush")
    assert "heapq.<mark>heappush</mark></a> <small>function</small>" in page
    assert 'id="L1"' in demo.get("/source/heapq?from=1&to=2")
    assert "<script>alert" not in demo.get("/?q=%3Cscript%3Ealert(1)")
    assert "Unreadable" in demo.get("/problems")
    with pytest.raises(urllib.error.HTTPError, match="404"):
        demo.get("/source/..%2f..%2fetc%2fpasswd")

    until(demo.all_done, "failed files have been tried once more", PATIENCE)
    failed = json.loads(demo.run("jobs", "list", "--state", "failed", "--json").stdout)["jobs"]
    for job in failed:
        assert job["error"]["type"] in ("SyntaxError", "UnicodeDecodeError", "ValueError"), job
    [(workers,)] = demo.sql("SELECT count(*) FROM coserver_worker WHERE process NOT LIKE 'indexers/%'")
    assert workers == 0

    # The watcher, which is no Python program, sees an edited file and submits a job for it.
    ended = demo.jobs("succeeded")
    os.utime(EXAMPLE / "librarian" / "pages.py")
    until(lambda: demo.jobs("succeeded") > ended, "the edited file is looked at again", PATIENCE)

    assert demo.interrupt() == 0
    assert "everything has stopped" in demo.said.read_text()
    assert demo.marked() == set()

    # Again: what has not changed is only looked at.
    files = status["jobs"]["succeeded"] + len(failed)
    demo.make_demo()
    until(lambda: demo.all_done(2 * files), "the second run is done", PATIENCE)
    assert "heapq.<mark>heappush</mark>" in demo.get("/?q=heappush")
    assert demo.interrupt() == 0
    assert demo.marked() == set()


@pytest.mark.timeout(300)
def test_an_indexer_that_is_killed_loses_and_doubles_nothing(demo: Demo) -> None:
    demo.make_demo()
    until(lambda: demo.jobs("succeeded") >= 100, "the indexers are at work", PATIENCE)
    os.kill(demo.pids()["indexers/1"], signal.SIGKILL)
    until(demo.all_done, "every job has ended", PATIENCE)
    assert demo.process("indexers/1")["restarts"] >= 1
    now = demo.progress()
    assert now is not None
    assert now["done"]
    assert now["jobs"].get("lost", 0) == 0
    [(rows, ids)] = demo.sql("SELECT count(*), count(DISTINCT id) FROM coserver_done")
    assert rows == ids == now["files"] + 1  # and the scan
    [(failed,)] = demo.sql("SELECT count(*) FROM coserver_done WHERE state = 11")
    assert failed == now["unreadable"]
    assert demo.interrupt() == 0
    assert demo.marked() == set()
