"""Workers, nodes, isolated children, producers and the database itself are killed at random moments while jobs of every
kind are submitted; then all comes to rest, and nothing was lost, doubled, left over or done out of turn.

Which acts follow each other is drawn from a seed, which a failure names; when exactly they meet is up to the machine.
`make soak` runs the long form, for CRASH_MINUTES (3) on each database, with CRASH_SEED (11).
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from coserver import Client, CoserverError
from tests.postgres import Server
from tests.site.crash.base import LEDGER, Base, PostgresBase, SQLiteBase
from tests.site.crash.killing import ROOT, Killer, Producers, Witness
from tests.site.crash.observing import Observer
from tests.site.crash.verdict import Effects, Ledger, check
from tests.site.live import LiveSite, ending, until

SITE = """
[site]
name = "crashing"
store = "STORE"
[node]
name = "HOST"
[app]
path = ["ROOT"]
tasks = ["tests.site.crash.work"]
[limit.pair]
max_running = 2
[limit.rated]
rate = "10/500ms"
[queue.narrow]
max_running = 3
[service.work]
queues = { default = 6, narrow = 2 }
processes = PROCESSES
isolated = 1
env = { CRASH_EFFECTS = "EFFECTS" }
restart = { backoff = "10ms..200ms", give_up = "never" }
stop = { timeout = "5s" }
"""


@dataclass
class Shaken:
    """Sites on one store below a directory, in which everything that happens has a witness."""

    directory: Path
    url: str
    base: Base
    hosts: dict[str, int]
    server: Server | None = None
    sites: list[LiveSite] = field(default_factory=list)

    @property
    def effects(self) -> Path:
        return self.directory / "effects"

    def up(self) -> None:
        """Start the hosts, each with so many processes."""
        for name, processes in self.hosts.items():
            site = LiveSite(self.directory / name)
            site.directory.mkdir()
            words = {
                "STORE": self.url,
                "HOST": name,
                "ROOT": str(ROOT),
                'EFFECTS"': f'{self.effects}"',
                "PROCESSES": str(processes),
            }
            text = SITE
            for word, said in words.items():
                text = text.replace(word, said)
            site.write(text)
            self.sites.append(site)
            site.up()

    def shake(self, seconds: float, seed: int, *, producers: int = 3, pause: float = 0.5) -> None:
        """Do all of it."""
        try:
            self._shake(seconds, seed, producers, pause)
        except BaseException as error:
            error.add_note(f"seed {seed}, {seconds} s; what all of them said is below {self.directory}")
            raise

    def _shake(self, seconds: float, seed: int, count: int, pause: float) -> None:
        witness = Witness(self.effects)
        self.up()
        ends = time.monotonic() + seconds
        producers = Producers(self.directory, self.url, seed, count, ends)
        observer = Observer(self.base)
        killer = Killer(random.Random(seed), witness, self.sites, producers, self.server, self.url)
        try:
            observer.start()
            killer.run(ends, pause)
            failed = producers.wait()
            assert not failed, failed[0]
            self._come_to_rest()
        finally:
            killer.rest()
            producers.end()
            observer.end()
            witness.close()
        effects, ledger = Effects.read(self.effects), Ledger.read(producers.ledgers)
        wrong = observer.wrong + check(self.base, ledger, effects)
        assert not wrong, f"{len(wrong)} things are wrong:\n" + "\n".join(wrong[:20])
        assert observer.broken is None, observer.broken
        self._is_healthy()
        for site in self.sites:
            site.down()
            until(lambda site=site: not site.marked(), "nothing is left")  # type: ignore[misc]
        # Else the test has proved little.
        assert min(killer.killed[name] for name in ("worker", "node", "output")) > 0, killer.killed
        assert self.server is None or killer.killed["database"] > 0
        assert len(ledger.sure) > 3 * seconds, len(ledger.sure)
        assert len(effects.runs) > 5 * seconds, len(effects.runs)
        assert observer.looks > seconds

    def _come_to_rest(self) -> None:
        """Let go what is held, and wait until nothing lives any more."""
        with Client(self.url) as client:

            def done() -> bool:
                try:
                    client.release([info.id for info in client.jobs(states=["held"], limit=1000)])
                    return not any(n for state, n in client.counts().by_state.items() if not state.final)
                except CoserverError:
                    return False

            try:
                until(done, "nothing lives any more", patience=90)
            except AssertionError as error:
                for row in self.base.rows("SELECT * FROM coserver_job ORDER BY id LIMIT 10"):
                    error.add_note(f"{row}: {client.why(row['id'])}")
                raise

    def _is_healthy(self) -> None:
        for site in self.sites:
            until(lambda site=site: site.run("status", "-q", check=None).returncode == 0, "it is healthy")  # type: ignore[misc]
            status = site.status()
            assert status["unowned"] == [] and status["unserved"] == [], status
            states = {p["state"] for s in status["services"] for p in s["processes"]}
            assert states == {"running"}, status


@pytest.fixture
def on_sqlite(tmp_path: Path, sqlite_url: str) -> Iterator[Shaken]:
    """One host with three processes on one file."""
    yield from _living(Shaken(tmp_path, sqlite_url, SQLiteBase(sqlite_url), {"one": 3}))


@pytest.fixture
def on_postgres(tmp_path: Path) -> Iterator[Shaken]:
    """Two hosts with two processes each, on a server of their own."""
    server = Server()
    try:
        url = server.create()
        yield from _living(Shaken(tmp_path, url, PostgresBase(url), {"one": 2, "two": 2}, server))
    finally:
        server.close()


def _living(shaken: Shaken) -> Iterator[Shaken]:
    _make_ledger(shaken.url)
    try:
        yield shaken
    finally:
        for site in shaken.sites:
            for _ in ending(site):
                pass


def _make_ledger(url: str) -> None:
    """A table of the application's own, beside ours."""
    if url.startswith("sqlite:"):
        import apsw

        database = apsw.Connection(url.removeprefix("sqlite:"))
        database.execute(LEDGER)
        database.close()
    else:
        import psycopg

        with psycopg.connect(url) as connection:
            connection.execute(LEDGER)


def test_whatever_is_killed_on_sqlite_nothing_is_lost_or_doubled(on_sqlite: Shaken) -> None:
    on_sqlite.shake(15.0, seed=1)


def test_whatever_is_killed_on_postgres_nothing_is_lost_or_doubled(on_postgres: Shaken) -> None:
    on_postgres.shake(15.0, seed=1)


MINUTES = float(os.environ.get("CRASH_MINUTES", "3"))
SEED = int(os.environ.get("CRASH_SEED", "11"))


@pytest.mark.soak
@pytest.mark.timeout(60 * MINUTES + 600)
def test_minutes_of_kills_on_sqlite_lose_and_double_nothing(on_sqlite: Shaken) -> None:
    on_sqlite.shake(60 * MINUTES, SEED)


@pytest.mark.soak
@pytest.mark.timeout(60 * MINUTES + 600)
def test_minutes_of_kills_on_postgres_lose_and_double_nothing(on_postgres: Shaken) -> None:
    on_postgres.shake(60 * MINUTES, SEED)
