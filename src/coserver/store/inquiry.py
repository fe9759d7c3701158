"""Gathering the evidence of `model.why` from a store, for one job or for all that wait.

Theory. The job, the workers and the job's standing are three short reads, and the store moves on between them. A job
that was claimed meanwhile would look as if its worker were dead. So they are read again while they do not fit together:
the states differ, or the job runs under a worker that was not there yet. After a few times the last look counts, since
a worker that is gone for good never turns up.
"""

from __future__ import annotations

from coserver.model.job import JobInfo
from coserver.model.why import Evidence, Standing, Unserved, WorkerInfo, takers, unserved, why
from coserver.model.why_words import Why
from coserver.store.contract import Inquiry, Store

LOOKS = 3
"""How often a job and its worker may fail to fit."""


def ask(store: Store, id: int) -> Why | None:
    """Return why a job is where it is, None when there is no such job (any more)."""
    looks = 0
    while True:
        job = store.job(id)
        if job is None:
            return None
        if job.state.final:
            return Why(job, why(Evidence(job)))
        workers = store.workers()
        standing = store.standing(id, sorted({task for one in takers(job, workers) for task in one.tasks}))
        if standing is None:
            continue  # it ended between the two looks
        looks += 1
        if looks == LOOKS or _fits(job, workers, standing):
            return Why(job, why(Evidence(job, workers, standing)))


def ask_all(store: Inquiry) -> list[Unserved]:
    """Return the groups of waiting jobs that nobody takes, those that wait longest first."""
    groups = store.waiting()
    return unserved(groups, store.workers()) if groups else []


def _fits(job: JobInfo, workers: list[WorkerInfo], standing: Standing) -> bool:
    return standing.state is job.state and (
        standing.worker is None or any(one.id == standing.worker for one in workers)
    )
