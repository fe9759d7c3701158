"""A job as the command line shows it: a line of a table, an object for programs."""

from __future__ import annotations

import json
import time
from typing import Any

from coserver.cli.table import Column, duration, shortened
from coserver.model.job import Flag, JobInfo

COLUMNS = (
    Column("ID", right=True),
    Column("STATE"),
    Column("TASK"),
    Column("QUEUE", spare=2),
    Column("PRIORITY", spare=4),
    Column("TRY", right=True, spare=3),
    Column("AGE", right=True, spare=1),
    Column("TOOK", right=True, spare=2),
    Column("ERROR OR ARGUMENTS", least=24),
)


def row(info: JobInfo) -> list[str]:
    """Return the cells of a job under `COLUMNS`."""
    age = time.time() - info.created_at / 1e6
    took = None
    if info.started_at is not None and info.finished_at is not None:
        took = max(0.0, (info.finished_at - info.started_at) / 1e6)
    return [
        str(info.id),
        info.state.name.lower(),
        shortened(info.task, 80),
        shortened(info.queue or "-", 40),
        info.priority.name.lower(),
        str(info.attempt),
        duration(max(0.0, age)),
        "-" if took is None else f"{took * 1000:.0f} ms" if took < 1 else duration(took),
        shortened(
            f"{info.error.type}: {info.error.message}".splitlines()[0] if info.error else info.args, 120
        ),
    ]


def as_dict(info: JobInfo) -> dict[str, Any]:
    """Return what every listing knows of a job."""
    return {
        "id": info.id,
        "task": info.task,
        "queue": info.queue,
        "state": info.state.name.lower(),
        "priority": info.priority.name.lower(),
        "args": stored(info.args),
        "attempt": info.attempt,
        "crashes": info.crashes,
        "worker": info.worker,
        "created_at": iso(info.created_at),
        "run_at": iso(info.run_at),
        "started_at": iso(info.started_at),
        "finished_at": iso(info.finished_at),
        "result": None if info.result is None else stored(info.result),
        "error": None
        if info.error is None
        else {
            "type": info.error.type,
            "message": info.error.message,
            "traceback": info.error.traceback,
        },
    }


def as_whole(info: JobInfo) -> dict[str, Any]:
    """Return all that a look at this one job knows."""
    told = info.progress is not None or info.note
    return as_dict(info) | {
        "begin_by": iso(info.begin_by),
        "cancel_requested": cancel_requested(info),
        "progress": {"fraction": info.progress, "note": info.note} if told else None,
        "tags": list(info.tags),
        "unique": info.unique,
        "limit": info.limit,
        "blocked_on": info.blocked_on,
        "parents": list(info.parents),
        "children": list(info.children),
        "options": {} if info.options is None else stored(info.options),
    }


def cancel_requested(info: JobInfo) -> bool:
    """Whether it runs and was asked to stop."""
    return not info.state.final and Flag.CANCEL in info.flags


def stored(text: str) -> Any:
    """Return what JSON text of the store stands for; text that is none as it is."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def iso(at: int | None) -> str | None:
    """Return a time of the store in local time, with its offset."""
    from coserver.host.log_text import timestamp

    return None if at is None else timestamp(at)
