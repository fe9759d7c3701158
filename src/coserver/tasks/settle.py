"""What follows an attempt that raised: another one, or the end.

Theory. The worker runs the function and knows what it raised; whether that is a retry, when, and what is remembered
of it are decided here, as a value for the store. Only `RetryLater` names its own time. Arguments that cannot be read
will not read better the next time, so those are final.

What is kept is text for people: the exception's name, its message, and its traceback from the task's own function
on, each cut to a size that a list of a thousand failures can bear.
"""

from __future__ import annotations

import traceback
from types import CodeType, TracebackType
from typing import TYPE_CHECKING, Any

import msgspec

from coserver.model.job import Claimed, Failed, Retry
from coserver.model.retry import next_wait
from coserver.tasks.retry import RetryLater

if TYPE_CHECKING:
    from coserver.tasks.declaration import Task

MESSAGE_KEPT = 8 * 1024
"""Characters of an exception's message."""
TRACEBACK_KEPT = 32 * 1024
"""Characters of a traceback; its two ends are kept."""


def settle(
    task: Task[..., Any],
    job: Claimed,
    error: BaseException,
    *,
    chance: float,
    started_at: int,
    finished_at: int,
    final: bool = False,
) -> Failed | Retry:
    """Return the outcome of an attempt that ended in `error`.

    `chance` lies in [0, 1) and spreads the retries; times are µs UTC; `final` forbids a retry.
    """
    wait = None
    if not final:
        asked = error.delay if isinstance(error, RetryLater) else None
        policy = task.policy(job.options)
        wait = next_wait(policy, failed=job.attempt, error=error, asked=asked, chance=chance)
    text = describe(error, code=getattr(task.function, "__code__", None))
    if wait is None:
        return Failed(job.id, job.claim, text, started_at, finished_at)
    return Retry(job.id, job.claim, text, round(wait * 1_000_000))


def describe(error: BaseException, *, code: CodeType | None = None) -> str:
    """Return JSON text of an object with `type`, `message` and `traceback`.

    The traceback begins at the frame that runs `code`, when it is there; what lies before is the worker's. Making text
    of an error runs code of its class, whose own errors end nothing here.
    """
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    try:
        message = str(error)
    except BaseException as second:
        message = f"(its text cannot be made: str() of it raised {type(second).__name__})"
    try:
        lines = traceback.format_exception(kind, error, _from(error.__traceback__, code))
        trace = "".join(lines)
    except BaseException as second:
        trace = f"(its traceback cannot be made: {type(second).__name__})"
    record = {
        "type": _storable(name),
        "message": _storable(_cut(message, MESSAGE_KEPT)),
        "traceback": _storable(_cut(trace, TRACEBACK_KEPT)),
    }
    return msgspec.json.encode(record).decode()


def _from(trace: TracebackType | None, code: CodeType | None) -> TracebackType | None:
    here = trace
    while here is not None:
        if here.tb_frame.f_code is code:
            return here
        here = here.tb_next
    return trace


def _cut(text: str, size: int) -> str:
    if len(text) <= size:
        return text
    half = size // 2
    return f"{text[:half]}\n… {len(text) - 2 * half} characters left out …\n{text[-half:]}"


def _storable(text: str) -> str:
    """Escape what a database's text or UTF-8 cannot hold."""
    return text.replace("\0", "\\x00").encode(errors="backslashreplace").decode()
