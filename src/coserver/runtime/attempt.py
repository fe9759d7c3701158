"""One attempt at a job, around the call itself: its arguments before, its outcome after.

Theory. The three places in which jobs run call their functions in three ways; what comes before and after is the same
and stands here. A job's arguments are its own text, unless its options say that it takes how the jobs ended that it
waited for. What a function returned becomes a success, or, when it is the handle of another job, a take-over; what it
raised is judged by the task's policy (`tasks.settle`), unless it had been asked to stop. Whatever it raised after its
time was over, the attempt took too long, and the error says what else there was.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from coserver.errors import JobCancelled, JobTimeout, UnknownTask, UsageError
from coserver.logs import about
from coserver.model.job import Cancelled, Claimed, Failed, Input, Outcome, Retry, State, Succeeded, TakeOver
from coserver.model.units import format_seconds
from coserver.runtime.line import Stop
from coserver.store.url import place_of
from coserver.tasks.declaration import Task
from coserver.tasks.handle import Job as Handle
from coserver.tasks.options import takes
from coserver.tasks.settle import describe, settle

log = logging.getLogger("coserver.worker")


def needs_inputs(claimed: Claimed) -> bool:
    """Whether the job takes how others ended. Cheap: asked for every job that was claimed."""
    return claimed.options is not None and '"takes"' in claimed.options and takes(claimed.options) is not None


def args_text(claimed: Claimed, inputs: Sequence[Input] | None) -> str:
    """Return a job's arguments as JSON text."""
    if inputs is None:
        return claimed.args
    match takes(claimed.options):
        case "result":
            return f"[{_result(inputs[0])}]" if inputs else "[null]"
        case "results":
            return f"[[{','.join(map(_result, inputs))}]]"
        case "failure":
            return msgspec.json.encode([_failure(inputs[0])] if inputs else [None]).decode()
        case None:
            return claimed.args


def _result(one: Input) -> str:
    return one.result if one.result is not None and one.state is State.SUCCEEDED else "null"


def _failure(one: Input) -> dict[str, Any]:
    error = one.error
    return {
        "job": one.job,
        "state": one.state.name.lower(),
        "type": error.type if error else "",
        "message": error.message if error else "",
        "traceback": error.traceback if error else "",
    }


def unknown(name: str) -> UnknownTask:
    """The error of a job whose task is not here."""
    return UnknownTask(f"cannot run {name}: no such task in this process; import its module by tasks = […]")


def too_long(claimed: Claimed, timeout: float | None) -> JobTimeout:
    """The error of an attempt that took longer than `timeout` seconds."""
    return JobTimeout(f"cannot finish {claimed.task} in time: it may take {format_seconds(timeout or 0.0)}")


def success(
    task: Task[..., Any], claimed: Claimed, value: Any, at: int, *, store: str | None = None
) -> Succeeded | TakeOver:
    """Return the outcome of a function that returned `value`; `at` is when it began (ns); `store`: the place of the
    worker's store (`store.url.place_of`). Raises `TypeError` when the value is none that JSON can hold, `UsageError`
    for a job of another store."""
    if type(value) is Handle:
        there = None if store is None else value._store
        if there is not None and place_of(there) != store:
            raise UsageError(
                f"cannot take over job {value.id} of {there}: this job is in another store, {store}; return the other "
                "one's result"
            )
        return TakeOver(claimed.id, claimed.claim, value.id, at // 1000)
    result = None if value is None else task.encode_result(value)
    return Succeeded(claimed.id, claimed.claim, result, at // 1000, time.time_ns() // 1000)


def failure(
    task: Task[..., Any] | None,
    claimed: Claimed,
    error: BaseException,
    at: int,
    *,
    readable: bool,
    stop: Stop | None,
    chance: float,
) -> Failed | Retry | Cancelled:
    """Return the outcome of a function that raised `error`. `readable`: its arguments were; `stop`: why it was asked
    to stop; `chance` in [0, 1) spreads retries."""
    ended = time.time_ns() // 1000
    try:
        if task is None:
            return Failed(claimed.id, claimed.claim, describe(error), at // 1000, ended)
        if stop is Stop.CANCEL and isinstance(error, asyncio.CancelledError | JobCancelled | SystemExit):
            return Cancelled(claimed.id, claimed.claim, None, at // 1000, ended)
        if stop is Stop.TIMEOUT:
            late = too_long(claimed, task.timeout(claimed.options))
            if isinstance(error, asyncio.CancelledError | SystemExit):
                late = late.with_traceback(error.__traceback__)
            else:
                late.__cause__ = error
            error = late
        return settle(
            task,
            claimed,
            error,
            chance=chance,
            started_at=at // 1000,
            finished_at=ended,
            final=not readable,
        )
    except BaseException as second:  # the job's own options may be past reading
        return Failed(claimed.id, claimed.claim, describe(second), at // 1000, ended)


class _Said(msgspec.Struct):
    type: str
    message: str


_said = msgspec.json.Decoder(_Said).decode


def tell(claimed: Claimed, outcome: Outcome) -> None:
    """Say in the log that an attempt failed or was cancelled, in one line."""
    match outcome:
        case Retry():
            then = f"attempt {claimed.attempt + 2} follows in {outcome.delay / 1e6:.3g} s"
        case Failed():
            then = "failed for good"
        case Cancelled():
            log.warning("job %d (%s) was cancelled", claimed.id, claimed.task, extra=about(claimed))
            return
        case _:
            return
    said = _said(outcome.error)
    first = said.message.partition("\n")[0][:200]
    kind = said.type.rpartition(".")[2]
    log.warning(
        "job %d (%s) raised %s: %s; %s", claimed.id, claimed.task, kind, first, then, extra=about(claimed)
    )
