"""Names of processes and runs, and patterns over them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coserver.model.names import Run, Target, is_queue, near_task, parse_key, resolve, shown, suggestion

SITE = {"web": [1, 2], "worker": [1, 2, 3], "mail-in": [1]}


@given(st.from_regex(r"[a-z][a-z0-9_-]{0,20}", fullmatch=True), st.integers(1, 10**6), st.integers(1, 10**9))
def test_a_key_names_its_run_and_nothing_else(service: str, index: int, run: int) -> None:
    assert parse_key(Run(service, index, run).key) == Run(service, index, run)


@pytest.mark.parametrize(
    "key", ["", "web", "web/1", "#1", "web#1", "web/x#1", "web/1#x", "coserver/printer#7", "/1#2"]
)
def test_what_is_no_key_of_a_run_names_none(key: str) -> None:
    assert parse_key(key) is None


@pytest.mark.parametrize(
    ("patterns", "found"),
    [
        (["web"], ["web"]),
        (["w*"], ["web", "worker"]),
        (["worker/2"], ["worker/2"]),
        (["web/*"], ["web/1", "web/2"]),
        (["*/1"], ["web/1", "worker/1", "mail-in/1"]),
        (["worker", "web", "worker"], ["web", "worker"]),
        (["mail-in/1", "mail-in"], ["mail-in"]),
    ],
)
def test_patterns_name_services_or_processes_once_in_the_sites_order(
    patterns: list[str], found: list[str]
) -> None:
    targets, unknown = resolve(patterns, SITE)
    assert [target.name for target in targets] == found
    assert unknown == []


def test_a_pattern_that_names_nothing_is_told() -> None:
    assert resolve(["wbe", "web", "web/9"], SITE) == ([Target("web")], ["wbe", "web/9"])
    assert suggestion("wbe", SITE) == '; did you mean "web"?'
    assert suggestion("zzz", SITE) == ""


TASKS = ["lab:rich", "lab:ring", "shop.jobs:report", "shop.jobs:resize", "tidy"]


@pytest.mark.parametrize(
    ("name", "close"),
    [
        ("lab:nosuch", None),
        ("lab:wring", "lab:ring"),
        ("shop.jobs:reprot", "shop.jobs:report"),
        ("shop.job:report", "shop.jobs:report"),
        ("shop.jobs.report", "shop.jobs:report"),
        ("report", "shop.jobs:report"),
        ("other:report", "shop.jobs:report"),
        ("shop.jobs:send", None),
        ("tdiy", "tidy"),
        ("unlike:anything", None),
    ],
)
def test_a_task_is_taken_for_another_only_when_its_own_part_is_alike(name: str, close: str | None) -> None:
    assert near_task(name, TASKS) == close


@pytest.mark.parametrize(
    ("name", "can"),
    [("mail", True), ("a.b:c-d_1", True), ("a" * 63, True), ("a" * 64, False), ("", False), ("a*", False),
     ("-a", False), ("a b", False), ("Ünï", False), ("a\n", False)],
)  # fmt: skip
def test_a_queue_has_a_plain_name(name: str, can: bool) -> None:
    assert is_queue(name) is can


def test_what_is_long_is_cut_when_it_is_shown() -> None:
    assert shown("short") == "'short'"
    assert shown("x" * 100) == "'" + "x" * 79 + "… (102 characters)"
