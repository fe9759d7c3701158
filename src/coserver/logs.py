"""Log lines that say which job they belong to.

Theory. A worker runs many jobs at once, so their lines mix. What a job's code says through `logging`, by whatever
logger and in whatever library, is said in the job's own context; a filter on the *handler* finds the job there and
puts it on the record. So nothing is done per job, only per line, and loggers need not be set up for it.

The handler of a Python service writes one of two formats. As text, each line of a record that belongs to a job begins
with `job=123 `, tracebacks included, so that a search for the number finds all of them. As JSON, a record is one
object on one line. An application with a logging configuration of its own gets the same by using `JobFilter`, and the
formatters if it likes, in that configuration.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

from coserver.model.job import Claimed
from coserver.tasks import instrument
from coserver.tasks.current import running

__all__ = ["JobFilter", "JsonFormatter", "LogFormat", "TextFormatter", "about", "configure", "job_fields"]

LogFormat = Literal["text", "json"]


class JobTag(NamedTuple):
    """Which job a record is about; `attempt` is 1 for the first."""

    id: int
    task: str | None = None
    queue: str | None = None
    attempt: int | None = None


def about(job: Claimed | int) -> dict[str, Any]:
    """Return the `extra` of a record about a job that does not run in this context, given as claimed or by its id."""
    if isinstance(job, int):
        return {"coserver_job": JobTag(job)}
    return {"coserver_job": JobTag(job.id, job.task, job.queue, job.attempt + 1)}


def job_fields() -> dict[str, Any]:
    """Return the running job as `job`, `task`, `queue` and `attempt`, and its trace as `trace_id` and `span_id` where
    there is one: for logging libraries other than the standard one. Empty outside of jobs."""
    job = running.get()
    found: dict[str, Any] = {}
    if job is not None:
        found = {"job": job.id, "task": job.task, "queue": job.queue, "attempt": job.attempt}
    if instrument.active is not None:
        found |= instrument.active.fields()
    return found


class JobFilter(logging.Filter):
    """Lets every record pass and puts on it `job_id`, `job_task`, `job_queue`, `job_attempt`, `trace_id` and `span_id`,
    each None where there is none. Belongs on handlers: a filter on a logger does not see its children's records."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Complete the record; True."""
        tag: JobTag | None = getattr(record, "coserver_job", None)
        if tag is None and (job := running.get()) is not None:
            tag = JobTag(job.id, job.task, job.queue, job.attempt)
        if tag is None:
            record.job_id = record.job_task = record.job_queue = record.job_attempt = None
        else:
            record.job_id, record.job_task, record.job_queue, record.job_attempt = tag
        traced: Mapping[str, str] = {} if instrument.active is None else instrument.active.fields()
        record.trace_id = traced.get("trace_id")
        record.span_id = traced.get("span_id")
        return True


class TextFormatter(logging.Formatter):
    """`INFO shop.jobs: said so`; of a job, every line of it, `job=123 INFO shop.jobs: said so`."""

    def __init__(self) -> None:
        super().__init__("%(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines of a record."""
        text = super().format(record)
        job = getattr(record, "job_id", None)
        if job is None:
            return text
        mark = f"job={job} "
        return mark + text.replace("\n", f"\n{mark}")


_TAKEN = frozenset(
    {
        *logging.makeLogRecord({}).__dict__,
        *("message", "asctime", "taskName", "coserver_job", "trace_id", "span_id"),
        *("job_id", "job_task", "job_queue", "job_attempt"),
    }
)
"""Attributes of a record that are not somebody's `extra`."""


class JsonFormatter(logging.Formatter):
    """One JSON object on one line: `time` (ISO 8601, UTC), `level`, `logger`, `message`; of a job `job`, `task`,
    `queue` and `attempt`; of a trace `trace_id` and `span_id`; `exception` and `stack` as text; then what `extra` has.

    `extra` never replaces one of those; what JSON cannot hold is written as text.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds")
        entry: dict[str, Any] = {
            "time": time,
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name, attribute in _FIELDS:
            if (value := getattr(record, attribute, None)) is not None:
                entry[name] = value
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        if record.exc_text:
            entry["exception"] = record.exc_text
        if record.stack_info:
            entry["stack"] = record.stack_info
        more = {
            name: value for name, value in record.__dict__.items() if name not in _TAKEN and name not in entry
        }
        try:
            return json.dumps(entry | more, default=str, ensure_ascii=False, allow_nan=False)
        except (TypeError, ValueError, RecursionError):
            shown = {name: repr(value) for name, value in more.items()}
            return json.dumps(entry | shown, ensure_ascii=False)


_FIELDS = (
    ("job", "job_id"),
    ("task", "job_task"),
    ("queue", "job_queue"),
    ("attempt", "job_attempt"),
    ("trace_id", "trace_id"),
    ("span_id", "span_id"),
)


def configure(format: LogFormat) -> None:
    """Have the root logger write to stderr, from INFO up, unless it writes anywhere already."""
    handler = logging.StreamHandler()
    handler.addFilter(JobFilter())
    handler.setFormatter(TextFormatter() if format == "text" else JsonFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
