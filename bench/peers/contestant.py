"""What is measured of the peers: the side that starts their processes and reads the marks of their jobs."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from bench import rows
from bench.databases import Database
from bench.marks import Marks, rate
from bench.ours.crash import HELD, run_again
from bench.ours.idle import SETTLED
from bench.ours.wait import percentiles
from bench.ours.workers import ROOT
from bench.peers.catalogue import Peer
from bench.peers.environments import Unavailable, environment
from bench.peers.redis_server import Redis
from bench.processes import cpu_seconds, kill_tree, proportional_mb, spawn, tree
from bench.report import Note, Report
from bench.scenario import FULL, RUN_LIMIT, Contestant, Scenario, Sizes

LATENCY_RATE = 20.0
"""Jobs per second for latencies: what the slowest of the peers can take without a queue."""
CRASH_JOBS = 2 * HELD
"""Two-second jobs in the crash: fewer than ours, so that the other ones are not in the way for long."""


def contestants(
    stack: ExitStack,
    directory: Path,
    report: Report,
    peers: Sequence[Peer],
    databases: Sequence[Database],
    sizes: Sizes,
    *,
    say: Callable[[str], None],
) -> list[Contestant]:
    """Make what the peers need, and return those that can be measured; the report is told why others cannot."""
    stores: dict[str, Callable[[], str]] = {database.name: database.empty for database in databases}
    why_not: dict[str, str] = {}
    if any(peer.store == "Redis" for peer in peers):
        try:
            redis = Redis(directory)
        except Unavailable as error:
            why_not["Redis"] = str(error)
        else:
            stack.callback(redis.close)
            report.tell("Redis", redis.settings())
            stores["Redis"] = redis.empty
    made = []
    for peer in peers:
        say(f"making ready: {peer.name}, {peer.store}")
        try:
            if peer.store in why_not:
                raise Unavailable(why_not[peer.store])
            home = environment(peer.adapter, peer.requirements)
        except Unavailable as error:
            report.note(Note(peer.name, peer.store, str(error)))
            continue
        report.tell(
            f"{peer.name}, {peer.store}", {"versions": " ".join(peer.requirements), "settings": peer.settings}
        )
        place = directory / peer.key
        place.mkdir()
        made.append(_contestant(Bench(peer, home, place, stores[peer.store]), sizes))
    return made


def _contestant(bench: Bench, sizes: Sizes) -> Contestant:
    peer = bench.peer
    scenarios = (
        Scenario("drain", (rows.DRAIN,), partial(drain, bench, sizes, 1)),
        Scenario("drain", (rows.DRAIN_2,), partial(drain, bench, sizes, 2)),
        Scenario("submit", (rows.SUBMIT,), partial(submit, bench, sizes, "one")),
        *(
            [Scenario("submit", (rows.SUBMIT_MANY,), partial(submit, bench, sizes, "many"))]
            if bench.has_many
            else []
        ),
        Scenario("start", (rows.START_P50, rows.START_P99), partial(start, bench, sizes)),
        Scenario("idle", (rows.IDLE_CPU, rows.MEMORY), partial(idle, bench, sizes), once=True, together=True),
        Scenario("crash", (rows.TAKEOVER,), partial(takeover, bench, sizes), once=True, together=True),
    )
    return Contestant(peer.name, peer.store, scenarios)


class Bench:
    """One peer's virtual environment, its directory and its stores."""

    def __init__(self, peer: Peer, home: Path, place: Path, new_store: Callable[[], str]) -> None:
        self.peer = peer
        self._bin = home / "bin"
        self._place = place
        self._stores = {settings: new_store() for settings in ("best", "defaults")}
        self.has_many = bool(self.ask("has_many"))

    def jobs(self, sizes: Sizes) -> int:
        """Return how many no-op jobs it is given: its own number, scaled as ours are."""
        return max(100, self.peer.jobs * sizes.jobs // FULL.jobs)

    def ask(self, *words: object, marks: Marks | None = None, settings: str = "best") -> Any:
        """Let the driver do something in the peer's virtual environment; return what it says."""
        done = subprocess.run(
            [self._bin / "python", "-m", "bench.peers.driver", self.peer.adapter, *map(str, words)],
            env={**os.environ, **self._environment(marks, settings)},
            cwd=self._place,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=RUN_LIMIT,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"its driver failed: {_last(done.stderr)}")
        return json.loads(done.stdout.splitlines()[-1])

    @contextlib.contextmanager
    def worker(
        self, marks: Marks, processes: int = 1, at_once: int = 0, settings: str = "best"
    ) -> Iterator[list[subprocess.Popen[bytes]]]:
        """One worker of so many processes for the block."""
        started: list[subprocess.Popen[bytes]] = []
        try:
            with (self._place / "worker.log").open("wb") as log:
                environment = self._environment(marks, settings)
                for name, *words in self.ask("workers", processes, at_once, settings=settings):
                    program = shutil.which(name, path=environment["PATH"]) or name
                    started.append(
                        spawn([program, *words], environment, cwd=self._place, stdout=log, stderr=log)
                    )
            yield started
        except TimeoutError as error:
            said = (self._place / "worker.log").read_text(errors="replace")
            raise TimeoutError(f"{error}; its worker said: {_last(said)}") from error
        finally:
            for process in started:
                kill_tree(process)

    def _environment(self, marks: Marks | None, settings: str) -> dict[str, str]:
        return {
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PATH": f"{self._bin}:{os.environ['PATH']}",
            "BENCH_STORE": self._stores[settings],
            "BENCH_SETTINGS": settings,
            **(marks.environment if marks is not None else {}),
        }


def drain(bench: Bench, sizes: Sizes, processes: int) -> Sequence[float]:
    """Queue no-op jobs, then start a worker; returns the rate from the first job's beginning to the last one's."""
    count = bench.jobs(sizes)
    bench.ask("prepare")
    bench.ask("many" if bench.has_many else "one", "noop", 0, count)
    with Marks(count) as marks, bench.worker(marks, processes):
        marks.await_begun(count, RUN_LIMIT)
        return (rate(marks.all()),)


def submit(bench: Bench, sizes: Sizes, how: str) -> Sequence[float]:
    """Submit no-op jobs, one or a thousand per call; returns the rate."""
    count = bench.jobs(sizes)
    if how == "one":
        count = min(count, max(sizes.submits, 50))
    bench.ask("prepare")
    return (count / bench.ask(how, "noop", 0, count),)


def start(bench: Bench, sizes: Sizes) -> Sequence[float]:
    """Submit to an idle worker at a steady pace; returns p50 and p99 from before the call to the job's first line."""
    count = sizes.waits // 2
    bench.ask("prepare")
    with Marks(count + 1) as marks, bench.worker(marks):
        bench.ask("one", "noop", 0, 1)
        marks.await_begun(1, RUN_LIMIT)
        time.sleep(SETTLED / 3)
        sent: list[int] = bench.ask("paced", 1, count, LATENCY_RATE)
        marks.await_begun(count + 1, RUN_LIMIT)
        began = [one.began for one in marks.all()][1:]
    return percentiles([(ran - asked) / 1e6 for asked, ran in zip(sent, began, strict=True)])


def idle(bench: Bench, sizes: Sizes) -> Sequence[float]:
    """Return CPU in % of one core and memory in MB of a worker, with all its processes, that has run one job."""
    bench.ask("prepare")
    with Marks(1) as marks, bench.worker(marks) as started:
        bench.ask("one", "noop", 0, 1)
        marks.await_begun(1, RUN_LIMIT)
        time.sleep(SETTLED)
        pids = [pid for process in started for pid in tree(process.pid)]
        used, begun = cpu_seconds(pids), time.monotonic()
        time.sleep(sizes.idle)
        used = cpu_seconds(pids) - used
        return 100 * used / (time.monotonic() - begun), proportional_mb(pids)


def takeover(bench: Bench, sizes: Sizes) -> Sequence[float]:
    """Kill a worker, with all its processes, that runs ten two-second jobs, with the peer's defaults, and start
    another one at once; returns the seconds until the last of the ten has begun again."""
    bench.ask("prepare", settings="defaults")
    how = "many" if bench.has_many else "one"
    bench.ask(how, "sleep2", 0, CRASH_JOBS, settings="defaults")
    with Marks(CRASH_JOBS) as marks:
        deadline = time.monotonic() + RUN_LIMIT
        with bench.worker(marks, at_once=HELD, settings="defaults"):
            while len(marks.all()) < HELD:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"only {len(marks.all())} jobs began")
                time.sleep(0.01)
        held = [one.number for one in marks.all() if not one.ended]
        killed = time.monotonic_ns()
        with bench.worker(marks, at_once=HELD, settings="defaults"):
            return (run_again(marks, held, killed, sizes.takeover),)


def _last(said: str) -> str:
    lines = [line for line in said.splitlines() if line.strip()]
    return lines[-1].strip()[:300] if lines else "nothing"
