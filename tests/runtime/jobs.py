"""Tasks for the tests of the worker, and what they saw."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections import Counter
from typing import Any

from coserver.errors import InvalidArguments, JobCancelled
from coserver.tasks.current import current_job
from coserver.tasks.declaration import task
from coserver.tasks.retry import Retry, RetryLater

ran: Counter[int] = Counter()
"""How often each job id began."""
order: list[Any] = []
"""What `note` was told, in order."""
gates: dict[str, threading.Event] = {}
"""Events that `hold` and `hold_plain` wait for."""
held: Counter[str] = Counter()
"""How many jobs wait at each gate."""

seen: contextvars.ContextVar[int] = contextvars.ContextVar("seen", default=0)


def reset() -> None:
    ran.clear()
    order.clear()
    gates.clear()
    held.clear()


def gate(name: str) -> threading.Event:
    return gates.setdefault(name, threading.Event())


@task(name="add")
async def add(a: int, b: int) -> int:
    ran[current_job().id] += 1
    await asyncio.sleep(0)
    return a + b


@task(name="add_plain")
def add_plain(a: int, b: int) -> int:
    ran[current_job().id] += 1
    return a + b


@task(name="note")
async def note(what: str) -> None:
    ran[current_job().id] += 1
    order.append(what)


@task(name="note_plain")
def note_plain(what: str) -> None:
    ran[current_job().id] += 1
    order.append(what)


@task(name="whoami")
async def whoami() -> dict[str, object]:
    job = current_job()
    return {"id": job.id, "attempt": job.attempt, "task": job.task, "queue": job.queue}


@task(name="context")
async def context() -> int:
    before = seen.get()
    seen.set(before + 1)
    await asyncio.sleep(0)
    return before


@task(name="context_plain")
def context_plain() -> int:
    before = seen.get()
    seen.set(before + 1)
    return before


@task(name="hold")
async def hold(name: str) -> str:
    ran[current_job().id] += 1
    held[name] += 1
    while not gate(name).is_set():  # noqa: ASYNC110 - any thread may open the gate
        await asyncio.sleep(0.005)
    return "held"


@task(name="hold_plain")
def hold_plain(name: str) -> str:
    ran[current_job().id] += 1
    held[name] += 1
    gate(name).wait(30)
    return "held"


@task(name="block")
async def block(name: str) -> None:
    ran[current_job().id] += 1
    held[name] += 1
    gate(name).wait(30)  # it blocks the loop, which is what it is for


@task(name="block_for")
async def block_for(seconds: float) -> None:
    time.sleep(seconds)  # noqa: ASYNC251


@task(name="fail", retries=Retry(2, backoff="1ms..2ms"))
async def fail(why: str) -> None:
    ran[current_job().id] += 1
    raise LookupError(why)


@task(name="fail_plain", retries=Retry(2, backoff="1ms..2ms"))
def fail_plain(why: str) -> None:
    ran[current_job().id] += 1
    raise LookupError(why)


@task(name="fail_twice", retries=Retry(2, backoff="1ms..2ms"))
async def fail_twice() -> int:
    if current_job().attempt < 3:
        raise LookupError("not yet")
    return current_job().attempt


@task(name="later", retries=1)
async def later(seconds: float) -> int:
    if current_job().attempt == 1:
        raise RetryLater(seconds)
    return current_job().attempt


@task(name="mistaken", retries=Retry(1, backoff="1ms..2ms"))
async def mistaken() -> int:
    if current_job().attempt == 1:
        raise InvalidArguments("of somebody whom the task called")
    return current_job().attempt


@task(name="mistaken_plain", retries=Retry(1, backoff="1ms..2ms"))
def mistaken_plain() -> int:
    if current_job().attempt == 1:
        raise InvalidArguments("of somebody whom the task called")
    return current_job().attempt


@task(name="unsayable")
async def unsayable() -> object:
    return object()


@task(name="leave")
async def leave() -> None:
    raise SystemExit(3)


@task(name="sleep_long")
async def sleep_long(name: str) -> None:
    held[name] += 1
    try:
        await asyncio.sleep(60)
    finally:
        order.append(current_job().cancelled)


@task(name="swallow")
async def swallow(name: str) -> str:
    held[name] += 1
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        return "finished all the same"
    return "never asked"


@task(name="look_plain")
def look_plain(name: str) -> None:
    """A plain function that looks whether it should stop."""
    held[name] += 1
    while not current_job().cancelled:
        time.sleep(0.005)
    raise JobCancelled("as asked")


@task(name="too_long", timeout=0.2, retries=Retry(1, backoff="1ms..2ms"))
async def too_long() -> None:
    ran[current_job().id] += 1
    await asyncio.sleep(60)


@task(name="too_long_plain", timeout=0.2)
def too_long_plain(name: str) -> str:
    held[name] += 1
    gate(name).wait(30)
    order.append(current_job().cancelled)
    return "too late"


@task(name="tell")
async def tell(steps: int, pause: float) -> None:
    for step in range(steps):
        current_job().progress((step + 1) / steps, f"step {step + 1}")
        await asyncio.sleep(pause)


@task(name="tell_plain")
def tell_plain(name: str) -> None:
    current_job().progress(0.5, "half way")
    held[name] += 1
    gate(name).wait(30)
    current_job().progress(1.0, "all of it")


@task(name="hand_over")
async def hand_over(a: int, b: int) -> object:
    return await add.asubmit(a, b)


@task(name="take")
async def take(of: Any) -> Any:
    return of


@task(name="take_plain")
def take_plain(of: Any) -> Any:
    return of


@task(name="pace")
async def pace(what: str, seconds: float) -> None:
    order.append(what)
    if seconds:
        await asyncio.sleep(seconds)


@task(name="pace_plain")
def pace_plain(what: str, seconds: float) -> None:
    order.append(what)
    if seconds:
        time.sleep(seconds)


class Unspeakable(BaseException):
    """An error that nothing can be said of."""

    def __str__(self) -> str:
        raise KeyboardInterrupt


ERRORS: dict[str, type[BaseException]] = {
    error.__name__: error
    for error in (
        ValueError,
        StopIteration,
        StopAsyncIteration,
        GeneratorExit,
        SystemExit,
        KeyboardInterrupt,
        asyncio.CancelledError,
        MemoryError,
        Unspeakable,
    )
}


@task(name="throw")
async def throw(error: str, *, later: bool = False) -> None:
    if later:
        await asyncio.sleep(0.001)
    raise ERRORS[error]


@task(name="throw_plain")
def throw_plain(error: str, *, later: bool = False) -> None:
    raise ERRORS[error]


@task(name="cancel_oneself")
async def cancel_oneself() -> None:
    current = asyncio.current_task()
    assert current is not None
    current.cancel()
    await asyncio.sleep(60)


@task(name="late_and_glad", timeout=0.1, retries=Retry(1, backoff="1ms..2ms"))
async def late_and_glad() -> str:
    ran[current_job().id] += 1
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        pass
    return "in time"


@task(name="late_and_sorry", timeout=0.1)
async def late_and_sorry() -> None:
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        raise LookupError("while it was cleaning up") from None
