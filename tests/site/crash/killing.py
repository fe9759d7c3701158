"""Whom the crash test kills, and how: whatever belongs to a site, its producers, and the database."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psycopg

from tests.postgres import Server
from tests.site.live import LiveSite, alive, command

ROOT = Path(__file__).parents[3]
KEEPER = b"host/keeper.py"
ROLES = {
    "node": b"coserver.boot\0node",
    "output": b"host/output.py",
    "worker": b"coserver.runtime.process",
    "child": b"isolated_child",
}


def _children(pid: int) -> list[int]:
    with suppress(OSError):
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


class Witness:
    """Writes into the file of effects whom somebody is about to kill."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def write(self, word: str, *more: object) -> None:
        """Append one line."""
        os.write(self._file, (" ".join(map(str, (word, time.monotonic_ns(), *more))) + "\n").encode())

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


class Producers:
    """Processes that submit, replaced when somebody kills them."""

    def __init__(self, directory: Path, store: str, seed: int, count: int, ends: float) -> None:
        self._directory = directory
        self._store = store
        self._seed = seed
        self._ends = ends
        self._started = 0
        self.ledgers: list[Path] = []
        self._all: list[subprocess.Popen[bytes]] = []
        for _ in range(count):
            self.start()

    def start(self) -> None:
        """One more, until the time is over."""
        self._started += 1
        number = self._started
        path = self._directory / f"ledger-{number}"
        self.ledgers.append(path)
        path.touch()
        left = self._ends - time.monotonic()
        with (self._directory / f"producer-{number}.log").open("wb") as log:
            words = (self._store, str(path), str(number), str(self._seed), str(left))
            self._all.append(
                subprocess.Popen(
                    [sys.executable, "-m", "tests.site.crash.produce", *words],
                    cwd=ROOT,
                    stdout=log,
                    stderr=log,
                    env={
                        name: value for name, value in os.environ.items() if not name.startswith("COSERVER_")
                    },
                )
            )

    def kill(self, chance: random.Random) -> bool:
        """Kill one of them; another takes its place."""
        living = [one for one in self._all if one.poll() is None]
        if not living:
            return False
        chance.choice(living).kill()
        self.start()
        return True

    def wait(self) -> list[str]:
        """Wait until their time is over; return what those said that failed."""
        failed = []
        for number, one in enumerate(self._all, 1):
            if one.wait(120) not in (0, -signal.SIGKILL):
                failed.append((self._directory / f"producer-{number}.log").read_text()[-3000:])
        return failed

    def end(self) -> None:
        """Leave none."""
        for one in self._all:
            one.kill()
            one.wait(30)


class Killer:
    """Kills at random; `killed` counts what it did."""

    def __init__(
        self,
        chance: random.Random,
        witness: Witness,
        sites: list[LiveSite],
        producers: Producers,
        server: Server | None,
        url: str,
    ) -> None:
        self._chance = chance
        self._witness = witness
        self._sites = sites
        self._producers = producers
        self._server = server
        self._url = url
        self._paused: list[tuple[int, threading.Timer]] = []
        self.killed: Counter[str] = Counter()
        self.acts: dict[str, tuple[int, Callable[[], bool]]] = {
            "worker": (8, lambda: self._signal("worker", signal.SIGKILL)),
            "worker asked": (2, lambda: self._signal("worker", signal.SIGTERM)),
            "worker stopped": (3, lambda: self._stop("worker")),
            "node": (3, lambda: self._signal("node", signal.SIGKILL)),
            "node stopped": (1, lambda: self._stop("node")),
            "output": (1, lambda: self._signal("output", signal.SIGKILL)),
            "child": (3, lambda: self._signal("child", signal.SIGKILL)),
            "child stopped": (1, lambda: self._stop("child")),
            "producer": (2, lambda: producers.kill(chance)),
            "host": (1, self._host),
        }
        if server is not None:
            self.acts["sessions"] = (3, self._sessions)
            self.acts["database"] = (1, self._database)

    def run(self, until: float, pause: float) -> None:
        """Go on until that moment, `pause` seconds from one to the next at most."""
        names = list(self.acts)
        weights = [self.acts[name][0] for name in names]
        first = list(names)  # each of them comes once, in any case
        self._chance.shuffle(first)
        while time.monotonic() < until:
            name = first.pop() if first else self._chance.choices(names, weights)[0]
            for _ in range(50):
                if self.acts[name][1]():
                    self.killed[name] += 1
                    break
                if name not in ("worker", "node", "output"):
                    break  # there may be none
                time.sleep(0.05)
            time.sleep(self._chance.uniform(0.0, pause))
        self.rest()

    def rest(self) -> None:
        """Let go on whoever was stopped."""
        for pid, timer in self._paused:
            timer.join()
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self._paused.clear()

    def _victims(self, role: str) -> list[int]:
        found = sorted(self._chance.choice(self._sites).marked())
        if role == "output":  # nothing but its parent tells whose it is
            found = [child for pid in found if KEEPER in command(pid) for child in _children(pid)]
        # The keeper's command names that of the node, too.
        return [pid for pid in found if ROLES[role] in (said := command(pid)) and KEEPER not in said]

    def _signal(self, role: str, how: signal.Signals) -> bool:
        victims = self._victims(role)
        if not victims:
            return False
        victim = self._chance.choice(victims)
        self._witness.write("kill" if how == signal.SIGKILL else "asked", victim)
        with suppress(ProcessLookupError):
            os.kill(victim, how)
        return True

    def _host(self) -> bool:
        """Kill the keeper, without which its node stops all it had, and bring the host up again at once."""
        site = self._chance.choice(self._sites)
        keepers = [pid for pid in site.marked() if KEEPER in command(pid)]
        for pid in keepers:
            self._witness.write("kill", pid)
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        site.up()
        return bool(keepers)

    def _stop(self, role: str) -> bool:
        """Stop somebody for a while that is shorter than any lease."""
        victims = self._victims(role)
        if not victims:
            return False
        victim = self._chance.choice(victims)

        def go_on() -> None:
            if alive(victim):
                with suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGCONT)

        with suppress(ProcessLookupError):
            os.kill(victim, signal.SIGSTOP)
        timer = threading.Timer(self._chance.uniform(0.05, 1.5), go_on)
        timer.start()
        self._paused.append((victim, timer))
        return True

    def _sessions(self) -> bool:
        """End random sessions at the server."""
        with suppress(psycopg.Error), psycopg.connect(self._url, autocommit=True, connect_timeout=10) as base:
            found = base.execute(
                "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
                " AND application_name <> 'crash-test' ORDER BY pid"
            ).fetchall()
            for (pid,) in found:
                if self._chance.random() < 0.5:
                    base.execute("SELECT pg_terminate_backend(%s)", (pid,))
            return True
        return False

    def _database(self) -> bool:
        """Kill the whole server at once, and start it again."""
        assert self._server is not None
        self._witness.write("crash")
        self._server.crash()
        time.sleep(self._chance.choice([0.0, 0.5, 1.5]))
        self._server.start()
        return True
