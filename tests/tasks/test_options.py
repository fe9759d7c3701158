"""What travels with a job beside its arguments."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from coserver.errors import UsageError
from coserver.model.job import Priority
from coserver.model.retry import RetryPolicy
from coserver.tasks.options import Options, options, policy_over
from coserver.tasks.retry import Retry

OWN = RetryPolicy(2, 1.0, 60.0, (OSError,), (FileNotFoundError,))


def test_unset_options_are_those_beneath() -> None:
    over, under = options(priority="high"), options(priority="low", queue="mail", delay=0)
    assert over.over(under) == Options(priority=Priority.HIGH, delay=0, queue="mail")
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


def test_a_unique_key_belongs_to_its_task() -> None:
    assert options(unique="a").key("mail", "[]") != options(unique="a").key("report", "[]")
    assert options(unique="a").key("mail", "[1]") == options(unique="a").key("mail", "[2]")


def test_unique_by_arguments_tells_other_arguments_apart() -> None:
    by_arguments = options(unique=True)
    assert by_arguments.key("mail", "[1]") == by_arguments.key("mail", "[1]")
    assert by_arguments.key("mail", "[1]") != by_arguments.key("mail", "[2]")
    assert options(unique=False).key("mail", "[]") is None
    assert options().key("mail", "[]") is None


def test_the_nearer_of_delay_and_time_counts() -> None:
    later = datetime(2030, 1, 1, tzinfo=UTC)
    assert options(delay=3).over(options(at=later)).run_at is None
    assert options(at=later).over(options(delay=3)).delay is None


def test_none_is_as_good_as_unset() -> None:
    assert options(queue=None, delay=None, unique=None) == Options()


def test_an_option_that_does_not_exist_is_refused_like_a_wrong_argument() -> None:
    with pytest.raises(TypeError, match="no such option of a submit: prio"):
        options(prio="high")  # type: ignore[call-arg]
