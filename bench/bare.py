"""The yardstick: the fastest plain loop that one would write by hand on the same database.

One table, one process, one transaction per batch that keeps the previous batch's results and claims the next, one
asyncio task per job with its arguments read from JSON and its result kept. No retries, no leases, no fence, no
priorities, no counters, no queues, nothing for a worker that dies. To rouse it: on SQLite it looks once a millisecond,
on PostgreSQL it listens.

`python -m bench.bare KIND URL BATCH drain COUNT` prints seconds; `… listen` runs until it is killed.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import apsw
import msgspec
import psycopg

from bench import rows
from bench.databases import Database
from bench.marks import Marks, mark
from bench.ours.wait import percentiles
from bench.ours.workers import ROOT
from bench.processes import spawn
from bench.scenario import RUN_LIMIT, Contestant, Scenario, Sizes

BATCH, SMALL = 500, 50
"""How many jobs one claim takes, and how many in the drain of a second loop."""
BULK = 1000
_SQLITE = """
CREATE TABLE bare (id INTEGER PRIMARY KEY, state INTEGER NOT NULL DEFAULT 0, args TEXT NOT NULL, result TEXT);
CREATE INDEX bare_ready ON bare (id) WHERE state = 0;
"""
_POSTGRES = """
CREATE TABLE bare (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, state smallint NOT NULL DEFAULT 0,
                   args text NOT NULL, result text);
CREATE INDEX bare_ready ON bare (id) WHERE state = 0;
"""
_EXCHANGE = """
WITH ended AS (
    UPDATE bare SET state = 2, result = d.result FROM unnest(%s::bigint[], %s::text[]) AS d (id, result)
     WHERE bare.id = d.id AND bare.state = 1
), picked AS (
    SELECT id FROM bare WHERE state = 0 ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED
)
UPDATE bare SET state = 1 FROM picked WHERE bare.id = picked.id RETURNING bare.id, bare.args
"""


class SQLiteLoop:
    """The statements on SQLite, durable as coserver's."""

    def __init__(self, url: str, batch: int = BATCH) -> None:
        self._batch = batch
        self._db = apsw.Connection(url.removeprefix("sqlite:"))
        self._db.set_busy_timeout(10_000)
        self._db.execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL").fetchall()

    def prepare(self) -> None:
        self._db.execute(_SQLITE)

    def insert(self, args: list[str]) -> None:
        with self._db:
            self._db.executemany("INSERT INTO bare (args) VALUES (?)", [(text,) for text in args])

    def exchange(self, done: list[tuple[int, str]]) -> list[tuple[int, str]]:
        self._db.execute("BEGIN IMMEDIATE")
        if done:
            self._db.executemany("UPDATE bare SET state = 2, result = ?2 WHERE id = ?1 AND state = 1", done)
        claimed: list[Any] = self._db.execute(
            "UPDATE bare SET state = 1 WHERE id IN (SELECT id FROM bare WHERE state = 0 ORDER BY id LIMIT ?) "
            "RETURNING id, args",
            (self._batch,),
        ).fetchall()
        self._db.execute("COMMIT")
        return claimed

    def wait(self) -> None:
        time.sleep(0.001)

    def announce(self) -> None:
        pass

    def close(self) -> None:
        self._db.close()


class PostgresLoop:
    """The statements on PostgreSQL."""

    def __init__(self, url: str, batch: int = BATCH) -> None:
        self._batch = batch
        self._db = psycopg.connect(url, autocommit=True)

    def prepare(self) -> None:
        self._db.execute(_POSTGRES)

    def insert(self, args: list[str]) -> None:
        if len(args) == 1:
            self._db.execute("INSERT INTO bare (args) VALUES (%s)", args, prepare=True)
        else:
            self._db.execute("INSERT INTO bare (args) SELECT unnest(%s::text[])", (args,), prepare=True)

    def exchange(self, done: list[tuple[int, str]]) -> list[tuple[int, str]]:
        ids, results = [job for job, _ in done], [result for _, result in done]
        return self._db.execute(_EXCHANGE, (ids, results, self._batch), prepare=True, binary=True).fetchall()

    def wait(self) -> None:
        self._db.execute("LISTEN bare")
        for _ in self._db.notifies(timeout=1.0, stop_after=1):
            pass

    def announce(self) -> None:
        self._db.execute("NOTIFY bare")

    def close(self) -> None:
        self._db.close()


def loop(kind: str, url: str, batch: int = BATCH) -> Any:
    """Return the statements of a kind of database."""
    return SQLiteLoop(url, batch) if kind == "SQLite" else PostgresLoop(url, batch)


async def noop(number: int) -> int:
    """What is run."""
    mark(number)
    return number


async def _run(decode: Any, job: int, args: str, done: list[tuple[int, str]]) -> None:
    done.append((job, str(await noop(*decode(args)))))


async def _drain(database: Any, count: int) -> float:
    """Run everything; return the seconds that it took."""
    decode = msgspec.json.Decoder(list[int]).decode
    begun = time.perf_counter()
    done: list[tuple[int, str]] = []
    left = count
    while left or done:
        claimed = database.exchange(done)
        left -= len(done)
        done = []
        tasks = [asyncio.create_task(_run(decode, job, args, done)) for job, args in claimed]
        if tasks:
            await asyncio.gather(*tasks)
    return time.perf_counter() - begun


def _listen(database: Any) -> None:
    """Run whatever comes."""
    done: list[tuple[int, str]] = []
    while True:
        claimed = database.exchange(done)
        done = []
        for job, args in claimed:
            mark(msgspec.json.decode(args)[0])
            done.append((job, "null"))
        if not claimed:
            database.wait()


# Measuring --------------------------------------------------------------------------------------------------------


def contestants(database: Database, sizes: Sizes) -> list[Contestant]:
    """Return the loops on one database."""
    scenarios = (
        Scenario("drain", (rows.DRAIN,), lambda: drain(database, sizes, BATCH)),
        Scenario("submit", (rows.SUBMIT,), lambda: insert_one(database, sizes)),
        Scenario("submit", (rows.SUBMIT_MANY,), lambda: insert_many(database, sizes)),
        Scenario("start", (rows.START_P50, rows.START_P99), lambda: start(database, sizes)),
    )
    small = Scenario("drain", (rows.DRAIN,), lambda: drain(database, sizes, SMALL))
    return [
        Contestant(rows.BARE, database.name, scenarios),
        Contestant(f"{rows.BARE} of {SMALL}", database.name, (small,)),
    ]


def insert_one(database: Database, sizes: Sizes) -> Sequence[float]:
    """Return rows per second, one durable commit each."""
    with closing(loop(database.name, _prepared(database))) as by_hand:
        by_hand.insert(["[0]"])
        begun = time.perf_counter()
        for number in range(sizes.submits):
            by_hand.insert([f"[{number}]"])
        return (sizes.submits / (time.perf_counter() - begun),)


def insert_many(database: Database, sizes: Sizes) -> Sequence[float]:
    """Return rows per second, a thousand per commit."""
    with closing(loop(database.name, _prepared(database))) as by_hand:
        begun = time.perf_counter()
        _insert(by_hand, sizes.jobs)
        return (sizes.jobs / (time.perf_counter() - begun),)


def drain(database: Database, sizes: Sizes, batch: int) -> Sequence[float]:
    """Return jobs per second of a loop in a process of its own."""
    url = _prepared(database)
    with closing(loop(database.name, url)) as by_hand:
        _insert(by_hand, sizes.jobs)
    with Marks(sizes.jobs) as marks:
        process = _start(database, url, batch, marks, "drain", str(sizes.jobs))
        printed, _ = process.communicate(timeout=RUN_LIMIT)
    return (sizes.jobs / float(printed),)


def start(database: Database, sizes: Sizes) -> Sequence[float]:
    """From before an insert to the beginning of its job in a process of its own; returns p50 and p99 in ms."""
    url = _prepared(database)
    with Marks(sizes.waits + 2) as marks, closing(loop(database.name, url)) as by_hand:
        process = _start(database, url, BATCH, marks, "listen")
        try:
            sent = {}
            for number in range(sizes.waits + 2):
                time.sleep(1 / sizes.rate)
                sent[number] = time.monotonic_ns()
                by_hand.insert([f"[{number}]"])
                by_hand.announce()
                if number < 2:  # the first ones find a process that is still starting
                    marks.await_begun(number + 1, RUN_LIMIT)
            marks.await_begun(sizes.waits + 2, RUN_LIMIT)
        finally:
            process.kill()
            process.communicate()
        return percentiles([(one.began - sent[one.number]) / 1e6 for one in marks.all() if one.number >= 2])


def _start(database: Database, url: str, batch: int, marks: Marks, *words: str) -> subprocess.Popen[bytes]:
    return spawn(
        [sys.executable, "-m", "bench.bare", database.name, url, str(batch), *words],
        marks.environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
    )


def _prepared(database: Database) -> str:
    url = database.fresh()
    with closing(loop(database.name, url)) as by_hand:
        by_hand.prepare()
    return url


def _insert(by_hand: Any, count: int) -> None:
    for first in range(0, count, BULK):
        by_hand.insert([f"[{number}]" for number in range(first, min(first + BULK, count))])


def main(kind: str, url: str, batch: str, what: str, *rest: str) -> None:
    """Be the loop's process."""
    with closing(loop(kind, url, int(batch))) as by_hand:
        if what == "drain":
            print(asyncio.run(_drain(by_hand, int(rest[0]))))
        else:
            _listen(by_hand)


if __name__ == "__main__":
    main(*sys.argv[1:])
