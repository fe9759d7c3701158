"""The job around the running code."""

from __future__ import annotations

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
