"""`Retry` and `RetryLater`."""

from __future__ import annotations

import pickle
from datetime import timedelta
from typing import Any

import pytest

from coserver.errors import UsageError
from coserver.model.retry import RetryPolicy
from coserver.tasks.retry import Retry, RetryLater


def test_a_range_is_the_first_and_the_longest_wait() -> None:
    assert Retry(3).policy() == RetryPolicy(3, 1.0, 600.0)
    assert Retry(3, backoff="100ms..1h30m").policy() == RetryPolicy(3, 0.1, 5400.0)


@pytest.mark.parametrize("backoff", ["10s", 10, 10.0, timedelta(seconds=10)])
def test_one_duration_is_always_waited(backoff: Any) -> None:
    assert Retry(None, backoff=backoff).policy() == RetryPolicy(None, 10.0, 10.0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"retries": -1}, "whole number from 0, or Retry(None)"),
        ({"retries": "3"}, "cannot use '3' as a number of retries"),
        ({"retries": 1, "backoff": "10m..1s"}, "(backoff of a Retry)"),
        ({"retries": 1, "backoff": "soon"}, "(backoff of a Retry)"),
        (
            {"retries": 1, "on": ("OSError",)},
            "cannot use 'OSError' in on= of a Retry: it is no exception class",
        ),
        ({"retries": 1, "never": OSError()}, "in never= of a Retry"),
    ],
)
def test_a_retry_that_means_nothing_is_refused(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        Retry(**arguments)
    assert said in str(caught.value)


def test_retry_later_names_its_time_and_says_so() -> None:
    later = RetryLater("90s")
    assert later.delay == 90.0
    assert str(later) == "asked to be tried again after 1m30s"
    assert str(RetryLater(timedelta(seconds=1), "rate limited")) == "rate limited"
    assert pickle.loads(pickle.dumps(later)).delay == 90.0


def test_retry_later_refuses_what_is_no_time() -> None:
    with pytest.raises(ValueError, match="soon"):
        RetryLater("soon")
