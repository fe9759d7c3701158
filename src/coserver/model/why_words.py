"""The causes of `model.why` in words: a fixed name for programs, a clause for people, and what mends it.

Every command that a mend names exists as it is written there; names that come from jobs or workers are quoted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from shlex import quote
from typing import assert_never

from coserver.model.job import JobInfo, State
from coserver.model.limit import QUEUE
from coserver.model.names import QUEUE_RULE, is_queue
from coserver.model.units import format_seconds
from coserver.model.why import (
    MANY,
    MANY_WAITING,
    Behind,
    Cause,
    DeadLease,
    Finished,
    Held,
    Limited,
    NotDue,
    NoWorker,
    OtherQueues,
    Paused,
    Running,
    UnknownTask,
    UnreadQueue,
    Unserved,
    WaitingFor,
)

NAMED = 3
"""How many names a sentence lists."""

BY_FILE = "in coserver.toml, then `coserver down` and `coserver up -d`"


@dataclass(frozen=True, slots=True)
class Why:
    """The answer about one job."""

    job: JobInfo
    cause: Cause

    @property
    def says(self) -> str:
        """The cause as a clause: `no live worker has the task "shop.jobs:report"`."""
        return says(self.cause)

    @property
    def mend(self) -> str | None:
        """What to do about it, None when it passes by itself."""
        return mend(self.cause)


def word(cause: Cause) -> str:
    """Return the cause's fixed name, for programs."""
    match cause:
        case Finished():
            return "finished"
        case Held():
            return "held"
        case WaitingFor():
            return "waiting_for"
        case Limited():
            return "limited"
        case NotDue():
            return "not_due"
        case Paused():
            return "paused"
        case NoWorker():
            return "no_worker"
        case UnknownTask():
            return "unknown_task"
        case UnreadQueue():
            return "unread_queue"
        case OtherQueues():
            return "other_queues"
        case Behind():
            return "behind"
        case DeadLease():
            return "dead_lease"
        case Running():
            return "running"
        case _:
            assert_never(cause)


def says(cause: Cause) -> str:
    """Return the cause as a clause for a person."""
    match cause:
        case Finished(job, State.SUCCEEDED, _):
            return f"it has ended: succeeded; `coserver jobs show {job}` shows what it returned"
        case Finished(_, state, None):
            return f"it has ended: {state.name.lower()}"
        case Finished(_, state, error):
            return f"it has ended: {state.name.lower()} with {error}"
        case Held():
            return "it is held until somebody releases it"
        case WaitingFor(None):
            return "another job has to end first"
        case WaitingFor(parent):
            return f"job {parent} has to end first"
        case Limited(limit, _, left):
            return _limited(limit, left)
        case NotDue(_, left, None):
            return f"it is due in {_span(left)}"
        case NotDue(_, left, error):
            return f"it is tried again in {_span(left)}; its last attempt failed with {error}"
        case Paused(queue):
            return f"the queue {_name(queue)} is paused"
        case NoWorker():
            return "no worker is live"
        case UnknownTask(task, near, _):
            hint = "" if near is None else f"; one has {_name(near)}"
            return f"no live worker has the task {_name(task)}{hint}"
        case UnreadQueue(queue, _, _, services, read):
            return (
                f"nobody reads the queue {_name(queue)}; the workers that have its task ({_list(services)}) "
                f"read {_names(read)}"
            )
        case OtherQueues(queue, _, services, read, readers):
            return (
                f"the workers that read the queue {_name(queue)} ({_list(readers)}) lack its task; those that have it "
                f"({_list(services)}) read {_names(read)}"
            )
        case Behind(0, workers, busy):
            if busy == workers:
                return f"it is next; {_all(workers)} that can take it {'is' if workers == 1 else 'are'} busy"
            return "it is next; a worker takes it at any moment"
        case Behind(ahead, workers, busy):
            others = "1 job comes" if ahead == 1 else f"{_count(ahead, MANY)} jobs come"
            return f"{others} first; {busy} of {_count(workers, workers)} workers that can take it are busy"
        case DeadLease(None, _):
            return "the worker that ran it is dead"
        case DeadLease(process, _):
            return f"the worker that ran it, {process}, is dead: its lease ran out, or its process ended"
        case Running(_, process, host, pid, took):
            return f"it runs since {_span(took)} on {process} (process {pid} on {host})"
        case _:
            assert_never(cause)


def mend(cause: Cause) -> str | None:
    """Return what to do about the cause, None when it passes by itself."""
    match cause:
        case Finished(_, State.SUCCEEDED, _):
            return None
        case Finished(job, _, _):
            return f"`coserver jobs retry {job}` puts it back into its queue"
        case Held(job):
            return f"`coserver jobs release {job}` lets it go"
        case WaitingFor(None) | NotDue():
            return None
        case WaitingFor(parent):
            return f"`coserver why {parent}` tells why that one has not ended"
        case Limited(limit, _, left):
            return _mend_limit(limit, left)
        case Paused(queue):
            return f"`coserver queues resume {quote(queue)}` lets it go on"
        case NoWorker():
            return "`coserver up -d` starts the site's workers; `coserver status` tells why one does not run"
        case UnknownTask(_, _, services):
            names = " ".join(map(quote, services[:NAMED]))
            return (
                "define the task in a module that a service names under `tasks`, then "
                f"`coserver restart {names}`; or submit the job by its right name"
            )
        case UnreadQueue(queue, _, near, services, _) if near is not None:
            return f"{_add(queue, services)}; or submit the job to {_name(near)}"
        case UnreadQueue(queue, _, _, services, _) | OtherQueues(queue, _, services, _, _):
            return _add(queue, services)
        case Behind(0, _, _, _):
            return None
        case Behind(_, _, _, services):
            return f"raise `processes` of [service.{services[0]}] {BY_FILE}; or submit with a better priority"
        case DeadLease(_, 0):
            return "`coserver up -d` frees it and starts workers"
        case DeadLease():
            return None
        case Running(_, process, _, _, _):
            return (
                f"`coserver logs -f {quote(process)}` shows what it prints; `coserver restart {quote(process)}` "
                "ends the process, and the job runs again"
            )
        case _:
            assert_never(cause)


def says_of_group(one: Unserved, now: int) -> str:
    """Return what waits and why: `3 jobs of "a:b" wait in the queue "pdf", the oldest, 17, since 4m: nobody …`."""
    group = one.group
    jobs = "1 job" if group.number == 1 else f"{_count(group.number, MANY_WAITING)} jobs"
    wait = "waits" if group.number == 1 else "wait"
    where = "" if group.queue is None else f" in the queue {_name(group.queue)}"
    which = f"job {group.oldest}," if group.number == 1 else f"the oldest, {group.oldest},"
    since = _span(max(0, now - group.since))
    return f"{jobs} of {_name(group.task)} {wait}{where}, {which} since {since}: {says(one.cause)}"


def _add(queue: str, services: Sequence[str]) -> str:
    if not is_queue(queue):
        return f"no configuration can name that queue ({QUEUE_RULE}); `coserver queues purge` it, and submit to another"
    return f"add {_name(queue)} to `queues` of [service.{services[0]}] {BY_FILE}"


def _limited(limit: str | None, left: int | None) -> str:
    if left is None:
        return f"as many jobs run as {_limit(limit)} allows"
    if left == 0:
        return f"it waits at {_limit(limit)}; whoever looks next decides whether it may begin"
    return f"as many jobs have begun as the rate of {_limit(limit)} allows; the next may in {_soon(left)}"


def _mend_limit(limit: str | None, left: int | None) -> str | None:
    if left is None:
        of = f" --queue {quote(limit.removeprefix(QUEUE))}" if limit and limit.startswith(QUEUE) else ""
        higher = "" if limit is None else f"; or raise `max_running` of {_section(limit)} {BY_FILE}"
        return f"`coserver jobs list --state running{of}` shows who is before it{higher}"
    return None if limit is None or left == 0 else f"raise `rate` of {_section(limit)} {BY_FILE}"


def _limit(key: str | None) -> str:
    if key is None:
        return "its limit"
    if key.startswith(QUEUE):
        return f"the limit of the queue {_name(key.removeprefix(QUEUE))}"
    return f"the limit {_name(key)}"


def _section(key: str) -> str:
    """The table that declares the limit of a key."""
    if key.startswith(QUEUE):
        return f"[queue.{_bare(key.removeprefix(QUEUE))}]"
    return f"[limit.{_bare(key.partition(':')[0])}]"


def _bare(text: str) -> str:
    """A key of TOML, quoted where it has to be."""
    return text if re.fullmatch(r"[A-Za-z0-9_-]+", text, re.ASCII) else _name(text)


def _soon(microseconds: int) -> str:
    """A span that may be short: with tenths below ten seconds, never none."""
    return f"{max(microseconds / 1e6, 0.1):.1f} s" if microseconds < 10_000_000 else _span(microseconds)


def _name(text: str) -> str:
    """A name as people quote it; what cannot be seen is escaped."""
    return json.dumps(text, ensure_ascii=False)


def _names(names: Sequence[str]) -> str:
    return _list([_name(name) for name in names]) or "none"


def _list(names: Sequence[str]) -> str:
    if len(names) > NAMED:
        return f"{', '.join(names[:NAMED])} and {len(names) - NAMED} more"
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def _all(workers: int) -> str:
    return "the one worker" if workers == 1 else f"all {workers} workers"


def _count(number: int, most: int) -> str:
    return f"more than {most:,}" if number > most else f"{number:,}"


def _span(microseconds: int) -> str:
    """A span as precise as its length deserves."""
    whole = microseconds // 1_000_000
    step = 1 if whole < 120 else 60 if whole < 86_400 else 3600
    return format_seconds(whole - whole % step)
