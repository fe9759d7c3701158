"""Everything that runs beside your web application, run and seen as one site.

This is the face for applications: every public name, loaded at its first use, so that `import coserver` costs next to
nothing. It is also the one place that tells a submit how to open a store; the floors below import nothing from here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from coserver.tasks import binding as _binding

if TYPE_CHECKING:
    from coserver.client import Client
    from coserver.errors import (
        CoserverError,
        InvalidArguments,
        JobCancelled,
        JobError,
        JobExpired,
        JobFailed,
        JobLost,
        JobNoLongerHeld,
        JobTimeout,
        NotConfigured,
        ResultGone,
        ResultTimeout,
        SchemaMismatch,
        StoreUnavailable,
        UnknownTask,
        UsageError,
        WouldDeadlock,
    )
    from coserver.model.job import Counts, JobInfo, State
    from coserver.tasks.binding import configure, using
    from coserver.tasks.current import CurrentJob, current_job
    from coserver.tasks.declaration import AsyncTask, Bound, PlainTask, Task, TaskWithOptions, task
    from coserver.tasks.failure import Failure
    from coserver.tasks.flow import Flow, chain, group
    from coserver.tasks.handle import Job
    from coserver.tasks.options import SubmitOptions
    from coserver.tasks.retry import Retry, RetryLater

    __version__: str

__all__ = [
    "AsyncTask",
    "Bound",
    "Client",
    "CoserverError",
    "Counts",
    "CurrentJob",
    "Failure",
    "Flow",
    "InvalidArguments",
    "Job",
    "JobCancelled",
    "JobError",
    "JobExpired",
    "JobFailed",
    "JobInfo",
    "JobLost",
    "JobNoLongerHeld",
    "JobTimeout",
    "NotConfigured",
    "PlainTask",
    "ResultGone",
    "ResultTimeout",
    "Retry",
    "RetryLater",
    "SchemaMismatch",
    "State",
    "StoreUnavailable",
    "SubmitOptions",
    "Task",
    "TaskWithOptions",
    "UnknownTask",
    "UsageError",
    "WouldDeadlock",
    "__version__",
    "chain",
    "configure",
    "current_job",
    "group",
    "task",
    "using",
]

if not TYPE_CHECKING:  # for checkers, only what stands above exists
    _HOMES = {
        "client": ("Client",),
        "model.job": ("Counts", "JobInfo", "State"),
        "tasks.binding": ("configure", "using"),
        "tasks.current": ("CurrentJob", "current_job"),
        "tasks.declaration": ("AsyncTask", "Bound", "PlainTask", "Task", "TaskWithOptions", "task"),
        "tasks.failure": ("Failure",),
        "tasks.flow": ("Flow", "chain", "group"),
        "tasks.handle": ("Job",),
        "tasks.options": ("SubmitOptions",),
        "tasks.retry": ("Retry", "RetryLater"),
    }
    _HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

    def __getattr__(name):
        if name == "__version__":
            from importlib.metadata import version

            value = version("coserver")
        elif name in __all__:
            from importlib import import_module

            value = getattr(import_module(f"coserver.{_HOME_OF.get(name, 'errors')}"), name)
        else:
            raise AttributeError(f"module 'coserver' has no attribute {name!r}")
        globals()[name] = value
        return value

    def __dir__():
        return sorted({*globals(), *__all__})


def _open(url: str) -> _binding.Submitter:
    from coserver.client.connect import client_for

    return client_for(url)


def _find() -> str | None:
    from coserver.client.connect import configured_store

    return configured_store()


_binding.connect_with(_open, _find)
