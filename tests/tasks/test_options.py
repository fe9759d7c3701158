"""What travels with a job beside its arguments."""

from __future__ import annotations

import json

import pytest

from coserver.errors import UsageError
from coserver.model.job import Priority
from coserver.model.retry import RetryPolicy
from coserver.tasks.options import Options, options, policy_over
from coserver.tasks.retry import Retry

OWN = RetryPolicy(2, 1.0, 60.0, (OSError,), (FileNotFoundError,))


def test_unset_options_are_those_beneath() -> None:
    over, under = options(priority="high"), options(priority="low", queue="mail", delay=0)
    assert over.over(under) == Options(Priority.HIGH, 0, "mail", None)
    assert Options().over(under) == under


@pytest.mark.parametrize(
    ("retries", "policy"),
    [
        (0, RetryPolicy(0, 1.0, 60.0, OWN.on, OWN.never)),
        (7, RetryPolicy(7, 1.0, 60.0, OWN.on, OWN.never)),
        (Retry(None), RetryPolicy(None, 1.0, 600.0, OWN.on, OWN.never)),
        (Retry(4, backoff="5s"), RetryPolicy(4, 5.0, 5.0, OWN.on, OWN.never)),
    ],
)
def test_retries_of_a_submit_go_before_the_tasks_own(retries: int | Retry, policy: RetryPolicy) -> None:
    text = options(retries=retries).retries
    assert text is not None
    json.loads(text)
    assert policy_over(OWN, text) == policy


@pytest.mark.parametrize(
    "text", [None, "{}", '{"timeout":3}', "nonsense", "[1]", '{"retries":"x"}', '"\\ud800"']
)
def test_options_that_say_nothing_about_retries_change_nothing(text: str | None) -> None:
    assert policy_over(OWN, text) == OWN


@pytest.mark.parametrize("name", ["", "  ", "a\nb", 3, None])
def test_a_queue_needs_a_name(name: object) -> None:
    if name is None:
        assert options(queue=None).queue is None
    else:
        with pytest.raises(UsageError, match="as a queue"):
            options(queue=name)  # type: ignore[arg-type]
