"""A real site in a directory of its own: written, started, asked and ended as a user does it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import apsw

T = TypeVar("T")

COSERVER = [sys.executable, "-m", "coserver"]
PATIENCE = 45.0
"""Seconds after which a condition counts as never coming true; these machines may be busy."""


def until(condition: Callable[[], T], what: str, patience: float = PATIENCE) -> T:
    """Wait for a condition and return its first true value."""
    deadline = time.monotonic() + patience
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, f"never came true: {what}"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def command(pid: int) -> bytes:
    """Return a process's command line, its words ended by NUL; nothing when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


class LiveSite:
    """One site below `directory`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.command = COSERVER
        self.variables: dict[str, str] = {}
        """what the user's shell sets besides"""
        self.file = directory / "coserver.toml"
        self.state = directory / ".coserver"
        self.store = directory / "site.db"

    def write(self, text: str, **files: str) -> None:
        """Write the configuration, and modules as `name="source"`."""
        self.file.write_text(text)
        for name, source in files.items():
            (self.directory / f"{name}.py").write_text(source)

    def environment(self) -> dict[str, str]:
        """Return the environment of a user's shell, without what a surrounding site or test run put there."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("COSERVER_")}
        return kept | self.variables

    def run(self, *words: str, check: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Run a verb and return what it said; `check` is the exit code that it must have."""
        done = subprocess.run(
            [*self.command, "-c", str(self.file), *words],
            cwd=self.directory,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=PATIENCE * 2,
        )
        if check is not None:
            assert done.returncode == check, (
                f"{words}: {done.returncode}\n{done.stdout}{done.stderr}\n{self.node_log()}"
            )
        return done

    def foreground(self, *words: str) -> subprocess.Popen[str]:
        """Start a verb that stays."""
        return subprocess.Popen(
            [*self.command, "-c", str(self.file), *words],
            cwd=self.directory,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def up(self, *words: str, check: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Start the site in the background and wait until it runs."""
        return self.run("up", "-d", "--timeout", f"{PATIENCE:.0f}s", *words, check=check)

    def down(self) -> None:
        """Stop the site."""
        self.run("down")

    def status(self) -> dict[str, Any]:
        """Return what `status --json` says."""
        found: dict[str, Any] = json.loads(self.run("status", "--json", check=None).stdout)
        return found

    def process(self, name: str) -> dict[str, Any]:
        """Return one process of `status`."""
        return next(p for s in self.status()["services"] for p in s["processes"] if p["name"] == name)

    def pids(self) -> dict[str, int]:
        """Return the process id of each process that runs."""
        return {p["name"]: p["pid"] for s in self.status()["services"] for p in s["processes"] if p["pid"]}

    def node_pid(self) -> int:
        """Return the node's process id."""
        return int(self.status()["node"]["pid"])

    def keeper_pid(self) -> int:
        """Return the keeper's process id."""
        return int(self.status()["node"]["keeper_pid"])

    def output_pid(self) -> int:
        """Return the process id of the keeper's output process."""
        keeper = self.keeper_pid()
        for child in Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split():
            if b"output.py" in Path(f"/proc/{child}/cmdline").read_bytes():
                return int(child)
        raise AssertionError("no output process")

    def node_log(self) -> str:
        """Return what the node has said."""
        path = self.state / "log" / "coserver.log"
        return path.read_text() if path.exists() else ""

    def log(self, process: str) -> bytes:
        """Return all that a process has printed, rotated files included, oldest first."""
        service, _, index = process.rpartition("/")
        current = self.state / "log" / service / f"{index}.log"
        older = sorted(current.parent.glob(f"{index}.log.*[0-9]"), key=lambda p: -int(p.suffix[1:]))
        return b"".join(path.read_bytes() for path in [*older, current] if path.exists())

    def sql(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Ask the store, by the library by which a `Client` of this process has it open."""
        connection = apsw.Connection(str(self.store))
        connection.set_busy_timeout(30_000)
        try:
            return connection.execute(statement, values).fetchall()
        finally:
            connection.close()

    def end(self) -> None:
        """Leave nothing behind, whatever the test did."""
        for pid in self.marked():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        until(lambda: not self.marked(), "the site's processes are gone")

    def marked(self) -> set[int]:
        """Return all processes that belong to this site, by marker, working directory of its keeper, or command."""
        found = set()
        for entry in Path("/proc").iterdir():
            if not entry.name.isdecimal() or not alive(int(entry.name)):
                continue
            try:
                words = (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if os.fsencode(str(self.directory)) in words and int(entry.name) != os.getpid():
                found.add(int(entry.name))
        return found


def living(directory: Path) -> Iterator[LiveSite]:
    """Yield a site, and end it afterwards."""
    yield from ending(LiveSite(directory))


def ending(site: LiveSite) -> Iterator[LiveSite]:
    """Yield this site, and end it afterwards."""
    try:
        yield site
    finally:
        if site.state.exists():
            site.run("down", "--now", "--timeout", "20s", check=None)
        site.end()
