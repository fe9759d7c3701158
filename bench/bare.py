"""The yardstick: the fastest plain loop that one would write by hand on the same database.

One table, one process, one transaction per batch that keeps the previous batch's results and claims the next, one
asyncio task per job with its arguments read from JSON and its result kept. No retries, no leases, no fence, no
priorities, no counters, no queues, nothing for a worker that dies. To rouse it: on SQLite it looks once a millisecond,
on PostgreSQL it listens.

`python -m bench.bare KIND URL drain COUNT` prints seconds; `… listen` runs until it is killed.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import apsw
import msgspec
import psycopg

from bench.jobs import MARK

BATCH = 500
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

    def __init__(self, url: str) -> None:
        self._db = apsw.Connection(url.removeprefix("sqlite:"))
        self._db.set_busy_timeout(10_000)
        self._db.execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL")

    def prepare(self) -> None:
        self._db.execute(_SQLITE)

    def insert(self, args: list[str]) -> None:
        with self._db:
            self._db.executemany("INSERT INTO bare (args) VALUES (?)", [(text,) for text in args])

    def exchange(self, done: list[tuple[int, str]]) -> list[tuple[int, str]]:
        self._db.execute("BEGIN IMMEDIATE")
        if done:
            self._db.executemany("UPDATE bare SET state = 2, result = ?2 WHERE id = ?1 AND state = 1", done)
        rows = self._db.execute(
            "UPDATE bare SET state = 1 WHERE id IN (SELECT id FROM bare WHERE state = 0 ORDER BY id LIMIT ?) "
            "RETURNING id, args",
            (BATCH,),
        ).fetchall()
        self._db.execute("COMMIT")
        return rows

    def wait(self) -> None:
        time.sleep(0.001)

    def announce(self) -> None:
        pass

    def close(self) -> None:
        self._db.close()


class PostgresLoop:
    """The statements on PostgreSQL."""

    def __init__(self, url: str) -> None:
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
        return self._db.execute(_EXCHANGE, (ids, results, BATCH), prepare=True, binary=True).fetchall()

    def wait(self) -> None:
        self._db.execute("LISTEN bare")
        for _ in self._db.notifies(timeout=1.0, stop_after=1):
            pass

    def announce(self) -> None:
        self._db.execute("NOTIFY bare")

    def close(self) -> None:
        self._db.close()


def loop(kind: str, url: str) -> Any:
    """Return the statements of a kind of database."""
    return SQLiteLoop(url) if kind == "SQLite" else PostgresLoop(url)


async def noop(number: int) -> int:
    """What is run."""
    return number


async def _run(decode: Any, job: int, args: str, done: list[tuple[int, str]]) -> None:
    done.append((job, str(await noop(*decode(args)))))


async def _drain(kind: str, url: str, count: int) -> float:
    """Run everything; return the seconds that it took."""
    database = loop(kind, url)
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
    took = time.perf_counter() - begun
    database.close()
    return took


def _listen(kind: str, url: str) -> None:
    """Run whatever comes, and write down when each began."""
    database = loop(kind, url)
    file = os.open(os.environ["BENCH_MARKS"], os.O_WRONLY | os.O_APPEND)
    done: list[tuple[int, str]] = []
    while True:
        claimed = database.exchange(done)
        done = []
        for job, args in claimed:
            os.write(file, MARK.pack(msgspec.json.decode(args)[0], time.monotonic_ns()))
            done.append((job, "null"))
        if not claimed:
            database.wait()


# Measuring --------------------------------------------------------------------------------------------------------


def enqueue_single(kind: str, url: str, count: int) -> float:
    """Return rows per second, one durable commit each."""
    database = loop(kind, url)
    database.insert(["[0]"])
    begun = time.perf_counter()
    for number in range(count):
        database.insert([f"[{number}]"])
    took = time.perf_counter() - begun
    database.close()
    return count / took


def enqueue_bulk(kind: str, url: str, count: int) -> float:
    """Return rows per second, a thousand per commit."""
    database = loop(kind, url)
    begun = time.perf_counter()
    for first in range(0, count, BULK):
        database.insert([f"[{number}]" for number in range(first, min(first + BULK, count))])
    took = time.perf_counter() - begun
    database.close()
    return count / took


def drain(kind: str, url: str, count: int) -> float:
    """Return jobs per second of a loop in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.bare", kind, url, "drain", str(count)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return count / float(done.stdout)


def latency(kind: str, url: str, count: int, rate: float) -> list[float]:
    """Return milliseconds from before an insert to the beginning of its job in a process of its own."""
    with tempfile.NamedTemporaryFile(prefix="coserver-marks-") as marks:
        path = Path(marks.name)
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.bare", kind, url, "listen"],
            env={**os.environ, "BENCH_MARKS": marks.name},
        )
        database = loop(kind, url)
        try:
            sent = {}
            for number in range(-2, count):
                time.sleep(1 / rate)
                sent[number] = time.monotonic_ns()
                database.insert([f"[{number}]"])
                database.announce()
                while number < 0 and path.stat().st_size < (number + 3) * MARK.size:
                    time.sleep(0.005)
            while path.stat().st_size < (count + 2) * MARK.size:
                time.sleep(0.005)
        finally:
            process.kill()
            process.wait()
            database.close()
        seen = dict(MARK.iter_unpack(path.read_bytes()))
        return [(seen[number] - sent[number]) / 1e6 for number in range(count)]


if __name__ == "__main__":
    _, kind, url, what, *rest = sys.argv
    if what == "drain":
        print(asyncio.run(_drain(kind, url, int(rest[0]))))
    else:
        _listen(kind, url)
