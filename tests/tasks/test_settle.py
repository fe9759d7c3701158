"""What follows an attempt that raised."""

from __future__ import annotations

import json
from typing import Any
from unittest.mock import ANY

import pytest

from coserver.model.job import Claimed, Failed, Retry
from coserver.model.retry import LONGEST
from coserver.tasks.declaration import Task, task
from coserver.tasks.retry import Retry as Policy
from coserver.tasks.retry import RetryLater
from coserver.tasks.settle import MESSAGE_KEPT, TRACEBACK_KEPT, describe, settle


def claimed(*, attempt: int = 0, options: str | None = None) -> Claimed:
    return Claimed(7, 3, "fetch", "default", "[]", attempt, 0, 1, 0, options)


@pytest.fixture
def fetch() -> Task[..., None]:
    @task(name="fetch", retries=Policy(2, backoff="10s..15s", never=(KeyError,)))
    def fetch() -> None: ...

    return fetch


def end(fetch: Task[..., None], error: BaseException, job: Claimed, **more: Any) -> Failed | Retry:
    return settle(fetch, job, error, chance=0.5, started_at=1, finished_at=2, **more)


def test_a_failed_attempt_is_tried_again_while_the_budget_lasts(fetch: Task[..., None]) -> None:
    waits = [end(fetch, OSError(), claimed(attempt=attempt)) for attempt in range(3)]
    assert [wait.delay for wait in waits if isinstance(wait, Retry)] == [7_500_000, 11_250_000]
    assert isinstance(waits[2], Failed)
    assert (waits[2].id, waits[2].claim, waits[2].started_at, waits[2].finished_at) == (7, 3, 1, 2)


def test_no_wait_is_longer_than_ten_years(fetch: Task[..., None]) -> None:
    @task(name="patient", retries=Policy(1, backoff=99 * 365 * 86_400))
    def patient() -> None: ...

    careless = RetryLater(1)
    careless.delay = 1e300
    assert end(patient, OSError(), claimed()) == Retry(7, 3, ANY, round(LONGEST * 0.75e6))
    for asked in (RetryLater(99 * 365 * 86_400), careless):
        assert end(fetch, asked, claimed()) == Retry(7, 3, ANY, round(LONGEST * 1e6))


def test_retry_later_names_its_own_time_within_the_budget(fetch: Task[..., None]) -> None:
    first = end(fetch, RetryLater("1h"), claimed())
    assert isinstance(first, Retry)
    assert first.delay == 3_600_000_000
    assert isinstance(end(fetch, RetryLater("1h"), claimed(attempt=2)), Failed)


def test_an_error_that_is_never_worth_it_is_final(fetch: Task[..., None]) -> None:
    assert isinstance(end(fetch, KeyError(), claimed()), Failed)
    assert isinstance(end(fetch, SystemExit(), claimed()), Failed)
    assert isinstance(end(fetch, OSError(), claimed(), final=True), Failed)


def test_the_jobs_own_options_count(fetch: Task[..., None]) -> None:
    assert isinstance(end(fetch, OSError(), claimed(options='{"retries":0}')), Failed)
    assert isinstance(end(fetch, OSError(), claimed(attempt=9, options='{"retries":null}')), Retry)


def test_the_traceback_begins_in_the_tasks_own_function() -> None:
    @task(name="deep", retries=0)
    def deep() -> None:
        {}["missing"]

    def worker() -> BaseException:
        try:
            deep.function()
        except KeyError as error:
            return error
        raise AssertionError

    outcome = end(deep, worker(), claimed())
    assert isinstance(outcome, Failed)
    record = json.loads(outcome.error)
    assert (record["type"], record["message"]) == ("KeyError", "'missing'")
    assert '{}["missing"]' in record["traceback"]
    assert "in deep" in record["traceback"]
    assert "in worker" not in record["traceback"]


def test_a_class_of_a_module_is_named_with_it() -> None:
    assert json.loads(describe(RetryLater(1)))["type"] == "coserver.RetryLater"
    assert json.loads(describe(json.JSONDecodeError("m", "d", 0)))["type"] == "json.decoder.JSONDecodeError"


def test_text_that_no_database_could_hold_is_escaped() -> None:
    assert json.loads(describe(ValueError("a\0b\ud800")))["message"] == "a\\x00b\\ud800"


def test_long_texts_are_cut_in_the_middle() -> None:
    def down(levels: int) -> None:
        if levels:
            down(levels - 1)
        raise ValueError("x" * 100_000)

    with pytest.raises(ValueError, match="x") as caught:
        down(1)
    record = json.loads(describe(caught.value))
    assert MESSAGE_KEPT <= len(record["message"]) < MESSAGE_KEPT + 50
    assert TRACEBACK_KEPT <= len(record["traceback"]) < TRACEBACK_KEPT + 50
    assert "characters left out" in record["message"]


def test_an_exception_that_cannot_be_shown_is_still_described() -> None:
    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    record = json.loads(describe(Broken()))
    assert record["type"].endswith("Broken")
    assert "RuntimeError" in record["message"]
