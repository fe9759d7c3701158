"""Log lines say which job they are of, wherever it runs, and in which format they are written."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from datetime import datetime
from typing import Any

import pytest

from coserver import logs
from coserver.model.job import Claimed
from coserver.tasks.current import CurrentJob, running

log = logging.getLogger("tests.logs.deep.inside")


@contextmanager
def written(formatter: logging.Formatter) -> Iterator[Callable[[], list[str]]]:
    """What the handler of a service would write, meanwhile."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.addFilter(logs.JobFilter())
    handler.setFormatter(formatter)
    root, level = logging.getLogger(), logging.getLogger().level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield lambda: stream.getvalue().splitlines()
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


def in_job(call: Callable[..., Any], *args: object, id: int = 7, **more: Any) -> Any:
    """Call as a job's function is called."""

    def run() -> Any:
        running.set(CurrentJob(id, 2, "shop:send", "mail"))
        return call(*args, **more)

    return copy_context().run(run)


def test_text_begins_with_the_job_only_where_there_is_one() -> None:
    with written(logs.TextFormatter()) as lines:
        log.info("outside")
        in_job(log.info, "inside %d", 1)
        log.warning("outside again")
    assert lines() == [
        "INFO tests.logs.deep.inside: outside",
        "job=7 INFO tests.logs.deep.inside: inside 1",
        "WARNING tests.logs.deep.inside: outside again",
    ]


def test_every_line_of_a_traceback_names_the_job() -> None:
    def wrong() -> None:
        try:
            raise LookupError("no such\nbook")
        except LookupError:
            log.exception("it\nfailed")

    with written(logs.TextFormatter()) as lines:
        in_job(wrong)
    assert lines()[:3] == [
        "job=7 ERROR tests.logs.deep.inside: it",
        "job=7 failed",
        "job=7 Traceback (most recent call last):",
    ]
    assert all(line.startswith("job=7 ") for line in lines())
    assert lines()[-2:] == ["job=7 LookupError: no such", "job=7 book"]


def test_a_record_as_json_is_one_line_with_all_of_it() -> None:
    def wrong() -> None:
        try:
            raise LookupError("no such book")
        except LookupError:
            log.exception(
                "it\nfailed: %s", "ü", extra={"shelf": 3, "when": datetime(2026, 1, 31), "level": "x"}
            )

    with written(logs.JsonFormatter()) as lines:
        in_job(wrong)
        log.info("outside")
    inside, outside = map(json.loads, lines())
    assert datetime.fromisoformat(inside.pop("time")).tzinfo is not None
    assert inside.pop("exception").startswith("Traceback (most recent call last):\n")
    assert inside == {
        "level": "ERROR",
        "logger": "tests.logs.deep.inside",
        "message": "it\nfailed: ü",
        "job": 7,
        "task": "shop:send",
        "queue": "mail",
        "attempt": 2,
        "shelf": 3,
        "when": "2026-01-31 00:00:00",
    }
    assert set(outside) == {"time", "level", "logger", "message"}


def test_extra_that_json_cannot_hold_is_written_as_text() -> None:
    circle: list[object] = []
    circle.append(circle)
    with written(logs.JsonFormatter()) as lines:
        log.info("odd", extra={"circle": circle, "number": float("nan"), "keys": {(1, 2): 3}})
    (line,) = lines()
    assert json.loads(line)["circle"] == "[[...]]"
    assert json.loads(line)["number"] == "nan"


def test_somebodys_extra_of_the_same_name_breaks_nothing() -> None:
    with written(logs.JsonFormatter()) as lines:
        in_job(log.info, "said", extra={"task": "mine", "queue": "mine", "job_id": 1})
    (line,) = lines()
    said = json.loads(line)
    assert (said["job"], said["task"], said["queue"]) == (7, "shop:send", "mail")


def test_a_record_about_a_job_that_runs_elsewhere_names_it() -> None:
    claimed = Claimed(9, 1, "shop:pack", "heavy", "[]", 0, 0, 1, 0, None)
    with written(logs.JsonFormatter()) as lines:
        log.warning("gone", extra=logs.about(claimed))
        log.warning("late", extra=logs.about(11))
    gone, late = map(json.loads, lines())
    assert (gone["job"], gone["task"], gone["queue"], gone["attempt"]) == (9, "shop:pack", "heavy", 1)
    assert (late["job"], "task" in late) == (11, False)


def test_jobs_side_by_side_are_told_apart() -> None:
    async def job(id: int) -> None:
        running.set(CurrentJob(id, 1, "t", "q"))
        for _ in range(3):
            log.info("of %d", id)
            await asyncio.sleep(0)
            await asyncio.to_thread(log.info, "of %d", id)

    async def both() -> None:
        await asyncio.gather(*(asyncio.create_task(job(number)) for number in (1, 2)))

    with written(logs.TextFormatter()) as lines:
        thread = threading.Thread(target=in_job, args=(log.info, "of %d", 3), kwargs={"id": 3})
        thread.start()
        asyncio.run(both())
        thread.join()
    assert len(lines()) == 13
    assert all(line.startswith(f"job={line[-1]} ") for line in lines())


def test_other_logging_libraries_can_ask() -> None:
    assert logs.job_fields() == {}
    found = {"job": 7, "task": "shop:send", "queue": "mail", "attempt": 2}
    assert in_job(logs.job_fields) == found


@pytest.mark.parametrize(("format", "shown"), [("text", "INFO a: b"), ("json", '"message": "b"')])
def test_a_service_writes_to_stderr_unless_the_application_has_handlers(format: str, shown: str) -> None:
    code = f"import logging; from coserver import logs; logs.configure({format!r}); logging.getLogger('a').info('b')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown in done.stderr
    own = f"import logging, sys; logging.basicConfig(stream=sys.stdout, level=20, format='own %(message)s'); {code}"
    done = subprocess.run([sys.executable, "-c", own], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("own b\n", "")
