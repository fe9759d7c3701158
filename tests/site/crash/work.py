"""The jobs of the crash test. Each run writes one line when it begins and one when it ends, appended to a file that
outlives whoever is killed: the only witness besides the store.

A line is a word, the monotonic time in ns (the same for all processes of the machine), and more, parted by blanks:

    begin TIME RUN JOB CLAIM PID PARENT TOKEN KEY      CLAIM 0: the process does not know it; KEY: what limits it, or -
    end   TIME RUN
"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import apsw
import psycopg

from coserver import Failure, Job, Retry, current_job, task

_runs = itertools.count()


@contextmanager
def effect(token: str, key: str = "-") -> Iterator[None]:
    """Write that this run has begun, and that it has ended, however it does."""
    job, pid = current_job(), os.getpid()
    run = f"{pid}.{next(_runs)}.{time.monotonic_ns()}"
    write("begin", run, job.id, job.claim, pid, os.getppid(), token, key)
    try:
        yield
    finally:
        write("end", run)


def write(word: str, *more: object) -> None:
    """Append one line to the file of effects, all of it or nothing."""
    line = " ".join(map(str, (word, time.monotonic_ns(), *more))) + "\n"
    file = os.open(os.environ["CRASH_EFFECTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)


STUBBORN = Retry(1000, backoff="20ms..200ms")
"""For jobs that speak with the database themselves: it may be away."""


@task
async def nap(token: str, seconds: float = 0.0, key: str = "-") -> str:
    with effect(token, key):
        await asyncio.sleep(seconds)
    return token


@task
def busy(token: str, seconds: float = 0.0, key: str = "-") -> str:
    with effect(token, key):
        current_job().progress(0.5, token)
        time.sleep(seconds)
    return token


@task(isolate=True)
def apart(token: str, seconds: float = 0.0, key: str = "-") -> str:
    with effect(token, key):
        current_job().progress(0.5, token)
        time.sleep(seconds)
    return token


@task
def wide(token: str, text: str) -> str:
    """Its argument and its result are too large for its row."""
    with effect(token):
        return token + text


@task(retries=Retry(3, backoff="10ms..100ms"))
def shaky(token: str, failures: int) -> str:
    with effect(token):
        if current_job().attempt <= failures:
            raise ValueError(token)
    return token


@task
async def after(text: str) -> str:
    with effect("-"):
        return f"after {text[:100]}"


@task
async def collect(texts: list[str]) -> str:
    with effect("-"):
        return " ".join(texts)


@task
async def alert(failure: Failure) -> str:
    with effect("-"):
        return f"alert {failure.state}"


@task(retries=STUBBORN)
async def over(token: str) -> Job[str]:
    """Ends as the job ends that it returns."""
    with effect(token):
        return await nap.options(unique=f"over {token}").asubmit(f"{token}/inner")


@task(retries=STUBBORN)
def exact(token: str) -> str:
    """What it does and that it has ended are one transaction: so it is done exactly once."""
    with effect(token):
        store = os.environ["COSERVER_STORE"]
        if store.startswith("sqlite:"):
            database = apsw.Connection(store.removeprefix("sqlite:"))
            try:
                database.set_busy_timeout(10_000)
                database.execute("BEGIN IMMEDIATE")
                database.execute("INSERT INTO crash_ledger VALUES ('exact', ?)", (token,))
                current_job().complete(connection=database, result=token)
                database.execute("COMMIT")
            finally:
                database.close(True)
        else:
            with psycopg.connect(store, connect_timeout=10) as connection:
                connection.execute("INSERT INTO crash_ledger VALUES ('exact', %s)", (token,))
                current_job().complete(connection=connection, result=token)
    return token
