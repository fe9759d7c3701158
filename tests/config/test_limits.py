"""Limits of queues and of keys, as the file declares them."""

from __future__ import annotations

import pytest

from coserver.model.job import Limit
from tests.config.sites import Desk


def test_limits_of_queues_and_of_keys_are_read(desk: Desk) -> None:
    site = desk.load(
        """
        [queue.mail]
        max_running = 1
        [queue."a.b:c"]
        rate = "10/s"
        [limit.user]
        max_running = 3
        rate = "100/5m"
        """
    )
    assert site.limits == (
        Limit("queue:a.b:c", None, 10, 1_000_000),
        Limit("queue:mail", running=1),
        Limit("user", 3, 100, 300_000_000),
    )
    assert site.settings["limit.user.rate"].value == "100/5m"
    assert desk.load("[site]\nname = 'x'").limits == ()


@pytest.mark.parametrize(
    ("rate", "starts", "period"),
    [
        ("10/s", 10, 1_000_000),
        ("100/1m", 100, 60_000_000),
        ("5 / 10s", 5, 10_000_000),
        ("1/100ms", 1, 100_000),
    ],
)
def test_a_rate_is_a_count_in_a_time(desk: Desk, rate: str, starts: int, period: int) -> None:
    assert desk.load(f'[queue.a]\nrate = "{rate}"').limits == (Limit("queue:a", None, starts, period),)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[queue.a]\nrate = "fast"', 'cannot read "fast" as a rate; write a count and a duration'),
        ('[queue.a]\nrate = "0/s"', "both numbers must be above zero"),
        ('[queue.a]\nrate = "5/x"', 'cannot read "5/x" as a rate; write a count and a duration: "10/s"'),
        ('[queue.a]\nrate = "5/0s"', "both numbers must be above zero"),
        ("[queue.a]\nrate = 5", 'a rate such as "10/s"'),
        ("[queue.a]\nmax_running = 0", "0 is too small; the least is 1"),
        ("[queue.a]\nconcurrency = 2", 'did you mean "max_running"?'),
        ("[queue.a]", "it limits nothing; give it max_running, rate, or both"),
        ("[queue.'a b']\nmax_running = 1", '"a b" cannot be a queue'),
        ("[limit.'user:7']\nmax_running = 1", '"user:7" cannot be a limit'),
        ("[limit.queue]\nmax_running = 1", '"queue" cannot be a limit'),
        ("[limit]\nuser = 3", "expected a table, [limit.user]"),
        ("queue = 3", "expected [queue.NAME] tables"),
        ("[queues.mail]\nmax_running = 1", 'did you mean "queue"?'),
    ],
)
def test_what_is_no_limit_is_refused_in_words(desk: Desk, text: str, problem: str) -> None:
    found = desk.problems(text)
    assert len(found) == 1
    assert problem in found[0]
