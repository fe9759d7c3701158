"""Every error that coserver raises on purpose, and what it means to a shell and to HTTP.

An error is one class with one `code` (a stable word for JSON), one exit status and one HTTP status, so that
the command line, the control API and the library never translate by hand. Messages begin with "cannot …",
name the cause after a colon and end with what mends it after a semicolon.

    CoserverError
     ├─ UsageError            the command line or the configuration is wrong
     │   └─ ConfigError       (in coserver.config) every problem of a configuration at once
     ├─ NotRunning            the site is not up
     ├─ UnknownName           no service, process, job or queue of that name
     ├─ NodeUnreachable       the node does not answer
     ├─ Denied                not allowed
     ├─ TimedOut              a command did not finish in time
     ├─ NotConfigured         a submit that does not know its store
     ├─ UnknownTask           no such task
     ├─ InvalidArguments      a job's arguments cannot be stored, or do not fit the task
     ├─ StoreUnavailable      the store cannot be opened or reached
     │   ├─ SchemaMismatch    the store's tables are older than this coserver, or not there yet
     │   │   └─ TooOld        they ask for a newer coserver than this one
     │   └─ StoreRefused      the store works, but what it was told it cannot keep
     ├─ BackupFailed          a store could not be copied; nothing is where the copy was to be
     ├─ WouldDeadlock         waiting here could never end
     └─ JobError              what `result()` raises
         ├─ JobFailed(type, message, traceback)
         ├─ JobCancelled, JobExpired, JobLost
         ├─ JobTimeout        what an attempt fails with that took too long
         ├─ JobNoLongerHeld   a job that was to be completed is not this worker's any more
         ├─ ResultTimeout     also a TimeoutError
         └─ ResultGone        finished, but its record was pruned
"""

from __future__ import annotations

import builtins


class CoserverError(Exception):
    """Base of all errors below; never raised itself."""

    code = "error"
    exit_status = 1
    http_status = 500


class UsageError(CoserverError):
    """The command line or the configuration is wrong."""

    code = "usage"
    exit_status = 2
    http_status = 400


class NotRunning(CoserverError):
    """The site is not up."""

    code = "not-running"
    exit_status = 3
    http_status = 503


class UnknownName(CoserverError):
    """No object of that name."""

    code = "unknown-name"
    exit_status = 4
    http_status = 404


class NodeUnreachable(CoserverError):
    """The node is there but does not answer."""

    code = "unreachable"
    exit_status = 5
    http_status = 502


class Denied(CoserverError):
    """The operating system or a role does not allow it."""

    code = "denied"
    exit_status = 6
    http_status = 403


class TimedOut(CoserverError):
    """A command did not finish in the time it was given."""

    code = "timed-out"
    exit_status = 124
    http_status = 504


class NotConfigured(CoserverError):
    """A job was submitted where no store is known."""

    code = "not-configured"
    exit_status = 2
    http_status = 500


class UnknownTask(CoserverError):
    """No task of that name is registered."""

    code = "unknown-task"
    exit_status = 4
    http_status = 404


class InvalidArguments(CoserverError):
    """A job's arguments cannot be stored, or do not fit the task's signature."""

    code = "invalid-arguments"
    exit_status = 2
    http_status = 422


class StoreUnavailable(CoserverError):
    """The store cannot be opened, reached, read or written just now."""

    code = "store-unavailable"
    exit_status = 5
    http_status = 503


class SchemaMismatch(StoreUnavailable):
    """The store's tables are not those of this coserver, or are not there yet."""

    code = "schema-mismatch"
    exit_status = 1


class StoreRefused(StoreUnavailable):
    """The database refused what it was told for its content, and would do so again; nothing was changed."""

    code = "store-refused"
    exit_status = 1
    http_status = 422


class TooOld(SchemaMismatch):
    """The store asks for a newer coserver than this one; trying again does not help."""

    code = "too-old"


class BackupFailed(CoserverError):
    """A backup of the store could not be made; there is no file, and an older one is as it was."""

    code = "backup-failed"


class WouldDeadlock(CoserverError):
    """Waiting for a result here would block what has to produce it."""

    code = "would-deadlock"


class JobError(CoserverError):
    """What waiting for a result may raise."""

    code = "job-error"


class JobFailed(JobError):
    """The job's function raised and no retry is left.

    `type` is the exception's qualified name in the worker, `message` its text, `traceback` the formatted
    traceback of the worker.
    """

    code = "job-failed"

    def __init__(self, type: str, message: str, traceback: str = "") -> None:
        super().__init__(f"{type}: {message}" if message else type)
        self.type = type
        self.message = message
        self.traceback = traceback

    def __reduce__(self) -> tuple[builtins.type[JobFailed], tuple[str, str, str]]:
        return self.__class__, (self.type, self.message, self.traceback)


class JobCancelled(JobError):
    """The job was cancelled before it ended."""

    code = "job-cancelled"


class JobExpired(JobError):
    """The job had not begun by the time it had to."""

    code = "job-expired"


class JobLost(JobError):
    """Worker after worker died while running the job, or one had to stop, and it may not be tried again."""

    code = "job-lost"


class JobTimeout(JobError):
    """An attempt took longer than its job's timeout; it counts as failed."""

    code = "job-timeout"


class JobNoLongerHeld(JobError):
    """A job was to be completed in a transaction of its own, but it is not this worker's any more."""

    code = "job-no-longer-held"
    http_status = 409


class ResultTimeout(JobError, TimeoutError):
    """The job had not ended in the time that the caller was ready to wait."""

    code = "result-timeout"
    exit_status = 124


class ResultGone(JobError):
    """The job is not in the store: its record was pruned, or it never existed."""

    code = "result-gone"
    exit_status = 4
    http_status = 404
