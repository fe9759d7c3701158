"""What a job's arguments become when it takes how others ended, and what stopping makes of an error."""

from __future__ import annotations

import asyncio
import json

import pytest

from coserver.errors import JobCancelled
from coserver.model.job import Cancelled, Claimed, Error, Failed, Input, State
from coserver.runtime.attempt import args_text, failure, needs_inputs
from coserver.runtime.line import Stop
from tests.runtime import jobs


def claimed(options: str | None = None, args: str = "[]") -> Claimed:
    return Claimed(7, 3, "take", "default", args, 0, 0, 1, 0, options)


def takes(what: str) -> Claimed:
    return claimed(json.dumps({"takes": what}))


good = Input(1, State.SUCCEEDED, '{"a":1}', None)
silent = Input(2, State.SUCCEEDED, None, None)
bad = Input(3, State.LOST, None, Error("JobLost", "its worker died", "no traceback"))


def test_only_jobs_that_take_something_need_a_further_look() -> None:
    assert not needs_inputs(claimed())
    assert not needs_inputs(claimed('{"retries":3}'))
    assert not needs_inputs(claimed('{"takes":"everything"}'))
    assert not needs_inputs(claimed('{"takes"'))
    assert needs_inputs(takes("result"))


def test_what_is_taken_becomes_the_only_argument() -> None:
    assert args_text(claimed(args="[5]"), None) == "[5]"
    assert args_text(takes("result"), [good]) == '[{"a":1}]'
    assert args_text(takes("result"), [silent]) == "[null]"
    assert args_text(takes("result"), [bad]) == "[null]"
    assert args_text(takes("results"), [good, silent, bad]) == '[[{"a":1},null,null]]'
    assert args_text(takes("results"), []) == "[[]]"
    assert json.loads(args_text(takes("failure"), [bad])) == [
        {
            "job": 3,
            "state": "lost",
            "type": "JobLost",
            "message": "its worker died",
            "traceback": "no traceback",
        }
    ]


@pytest.mark.parametrize("error", [asyncio.CancelledError(), JobCancelled("as asked"), SystemExit("stop")])
def test_a_job_that_was_asked_to_stop_and_does_is_cancelled_and_failed_else(error: BaseException) -> None:
    asked = failure(jobs.take, claimed(), error, 5000, readable=True, stop=Stop.CANCEL, chance=0.5)
    assert isinstance(asked, Cancelled)
    assert (asked.id, asked.claim, asked.started_at) == (7, 3, 5)
    alone = failure(jobs.take, claimed(), error, 5000, readable=True, stop=None, chance=0.5)
    assert isinstance(alone, Failed)


def test_another_error_of_a_job_that_was_asked_to_stop_is_that_error() -> None:
    told = failure(jobs.take, claimed(), LookupError("x"), 5000, readable=True, stop=Stop.CANCEL, chance=0.5)
    assert isinstance(told, Failed)
    assert json.loads(told.error)["type"] == "LookupError"


def test_options_past_reading_fail_nothing_but_themselves() -> None:
    told = failure(
        jobs.take, claimed("nonsense"), LookupError("x"), 5000, readable=True, stop=None, chance=0.5
    )
    assert isinstance(told, Failed)
    assert json.loads(told.error)["type"] == "LookupError"
