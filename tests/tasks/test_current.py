"""The job around the running code."""

from __future__ import annotations

from typing import Any

import pytest

from coserver.errors import UsageError
from coserver.tasks.current import CurrentJob, current_job, running


def test_outside_of_a_job_there_is_none() -> None:
    with pytest.raises(UsageError, match="no job is running here; call current_job\\(\\) inside a task"):
        current_job()


def test_inside_a_job_it_is_what_the_worker_set() -> None:
    token = running.set(CurrentJob(7, 1, "shop.jobs:report", "default"))
    try:
        assert (current_job().id, current_job().attempt, current_job().queue) == (7, 1, "default")
    finally:
        running.reset(token)


class Told:
    """A control that remembers."""

    def __init__(self, *, cancelled: bool = False) -> None:
        self.cancelled = cancelled
        self.heard: list[tuple[float | None, str]] = []

    def progress(self, fraction: float | None, note: str) -> None:
        self.heard.append((fraction, note))


def test_what_a_job_says_of_its_progress_reaches_its_worker() -> None:
    told = Told(cancelled=True)
    job = CurrentJob(7, 1, "shop.jobs:report", "default", None, told)
    job.progress(1, "half\0way \ud800")
    job.progress(note="x" * 600)
    assert told.heard == [(1.0, "half\\x00way \\ud800"), (None, "x" * 500)]
    assert job.cancelled


def test_without_a_worker_progress_goes_nowhere() -> None:
    job = CurrentJob(7, 1, "shop.jobs:report", "default")
    job.progress(0.5)
    assert not job.cancelled


@pytest.mark.parametrize("odd", [-0.1, 1.1, float("nan"), float("inf"), "half", True])
def test_progress_that_is_no_fraction_is_refused(odd: Any) -> None:
    with pytest.raises(UsageError, match="write a number from 0 to 1, or None"):
        CurrentJob(7, 1, "shop.jobs:report", "default").progress(odd)
    with pytest.raises(UsageError, match="write text"):
        CurrentJob(7, 1, "shop.jobs:report", "default").progress(None, 3)  # type: ignore[arg-type]
