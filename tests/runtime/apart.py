"""Tasks that run in processes beside the worker."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from coserver.client import Client
from coserver.tasks.current import current_job
from coserver.tasks.declaration import task
from coserver.tasks.handle import Job
from coserver.tasks.retry import Retry
from tests.runtime import jobs


def append(path: str, word: str = "x") -> None:
    with open(path, "a") as file:
        file.write(f"{word}\n")


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


@task(name="apart_add", isolate=True)
def add(a: int, b: int) -> int:
    return a + b


@task(name="apart_add_async", isolate=True)
async def add_async(a: int, b: int) -> int:
    await asyncio.sleep(0)
    return a + b


@task(name="apart_where", isolate=True)
def where() -> dict[str, object]:
    job = current_job()
    return {"pid": os.getpid(), "session": os.getsid(0), "id": job.id, "attempt": job.attempt}


@task(name="apart_fail", isolate=True, retries=Retry(1, backoff="1ms..2ms"))
def fail(why: str) -> None:
    raise LookupError(why)


@task(name="apart_die", isolate=True)
def die(path: str, number: int = signal.SIGKILL) -> None:
    append(path)
    print("last words", flush=True)
    print("of mine", file=sys.stderr, flush=True)
    os.kill(os.getpid(), number)
    time.sleep(30)


@task(name="apart_die_once", isolate=True)
def die_once(path: str) -> str:
    if not Path(path).exists():
        append(path)
        os.kill(os.getpid(), signal.SIGKILL)
    return "survived"


@task(name="apart_wait", isolate=True)
def wait(started: str, gate: str) -> str:
    append(started, str(os.getpid()))
    while not Path(gate).exists():
        time.sleep(0.005)
    return "waited"


@task(name="apart_touch", isolate=True)
def touch(path: str) -> None:
    append(path, str(current_job().id))


@task(name="apart_clean_up", isolate=True)
def clean_up(started: str, cleaned: str) -> None:
    append(started)
    try:
        time.sleep(30)
    finally:
        append(cleaned, str(current_job().cancelled))


@task(name="apart_stubborn", isolate=True)
def stubborn(started: str) -> None:
    """Ignores every wish, and has started a program that does, too."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    program = subprocess.Popen([sys.executable, "-c", "import time, signal\ntime.sleep(60)"])
    append(started, str(program.pid))
    while True:
        time.sleep(1)


@task(name="apart_slow", isolate=True, timeout=0.3, retries=Retry(1, backoff="1ms..2ms"))
def slow(started: str) -> None:
    append(started)
    time.sleep(30)


@task(name="apart_hour", isolate=True, timeout=3600)
def hour(*, dies: bool = False) -> None:
    if dies:
        os.kill(os.getpid(), signal.SIGKILL)


@task(name="apart_hand_over", isolate=True)
def hand_over(url: str, job: int) -> Job[Any]:
    with Client(url) as client:
        return client.job(job)


@task(name="apart_far", isolate=True)
def far(steps: int) -> None:
    for step in range(steps):
        current_job().progress((step + 1) / steps, f"step {step + 1}")


@task(name="apart_take", isolate=True)
def take(of: Any) -> Any:
    return of


@task(name="apart_nap", isolate=True)
def nap(seconds: float) -> None:
    time.sleep(seconds)


@task(name="apart_throw", isolate=True)
def throw(error: str, *, later: bool = False) -> None:
    raise jobs.ERRORS[error]


@task(name="apart_throw_async", isolate=True)
async def throw_async(error: str, *, later: bool = False) -> None:
    if later:
        await asyncio.sleep(0.001)
    raise jobs.ERRORS[error]


@task(name="apart_late_and_glad", isolate=True, timeout=0.3)
def late_and_glad() -> str:
    with suppress(SystemExit):
        time.sleep(30)
    return "in time"


@task(name="apart_say", isolate=True)
def say(words: str, *, dies: bool = False) -> None:
    if words:
        print(words, flush=True)
    if dies:
        os.kill(os.getpid(), signal.SIGKILL)


@task(name="apart_chatter", isolate=True)
def chatter(started: str, *, escaped: bool = False) -> None:
    """Dies, and leaves a program behind that prints for as long as it can."""
    program = subprocess.Popen(["yes", "chatter"], start_new_session=escaped)
    append(started, str(program.pid))
    time.sleep(0.1)
    os.kill(os.getpid(), signal.SIGKILL)
