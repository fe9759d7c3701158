"""Submitting and asking from anywhere: all it needs is a store.

Theory. A `Client` is a URL until it is used; the first call opens the store, and makes its tables if it has none. It is
safe in threads and in coroutines: each call is one short transaction, and the `a…` twins run it on a few threads that
the client owns, so that an event loop never waits for a disk.

It also survives `fork`, which copies memory but not threads: a child's client begins as if nothing had been opened.
What the parent had open is kept aside there, untouched, since closing it would speak on the parent's connections.
"""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from datetime import datetime
from itertools import islice
from types import TracebackType
from typing import Any, Self, TypedDict, TypeVar, Unpack

from coserver.client.waiting import Watch
from coserver.errors import ResultTimeout, StoreUnavailable, UsageError
from coserver.model import units
from coserver.model.job import Counts, JobFilter, JobInfo, NewJob, QueueInfo, State
from coserver.model.why import Unserved
from coserver.model.why_words import Why
from coserver.store import open_store
from coserver.store.contract import Opener, Store
from coserver.store.inquiry import ask, ask_all
from coserver.store.url import parse_url
from coserver.tasks import instrument
from coserver.tasks.by_name import job_by_name
from coserver.tasks.handle import Job
from coserver.tasks.options import SubmitOptions, options, queue_known

__all__ = ["Client"]

FOLLOWED = 10
"""Jobs that others wait for, whose traces are looked up at a submit while somebody follows it."""
THREADS = 4
"""Calls of `a…` methods that are in the store at the same time, at most."""

StateName = str
T = TypeVar("T")


class JobQuery(TypedDict, total=False):
    """Which jobs to list. `states`: such as `["failed", "lost"]`. `error` and `args`: parts of these texts, whatever
    the case of their letters. `since` and `until`: when it was submitted. Nothing, or None, means no restriction."""

    states: Iterable[State | StateName]
    queue: str | None
    task: str | None
    tag: str | None
    error: str | None
    args: str | None
    since: datetime | None
    until: datetime | None


class Client:
    """A way to one store: `Client("sqlite:site.db")`, `Client("postgresql://shop@db/shop")`.

    All methods raise `StoreUnavailable` when the store cannot be opened or reached, and `SchemaMismatch` when its
    tables are of another version. Each that does I/O has a twin for coroutines whose name begins with `a`.
    """

    _store: Store | None
    _lock: threading.Lock
    _watch: Watch
    _threads: ThreadPoolExecutor

    def __init__(self, url: str, *, opener: Opener = open_store) -> None:
        """`opener` makes a store of the URL; tests bring stores with a clock of their own."""
        self._url = url
        self._opener = opener
        self._closed = False
        self._begin()
        _clients.add(self)

    def __repr__(self) -> str:
        # The URL itself may hold a password; an opened store knows how to show it.
        store = self._store
        return "<Client, not opened>" if store is None else f"<Client {store.url}>"

    @property
    def url(self) -> str:
        """The URL of its store, with a password masked. Raises `UsageError` for one that names no store."""
        return parse_url(self._url).masked

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    # Jobs ---------------------------------------------------------------------------------------------------

    def submit(
        self,
        task: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **said: Unpack[SubmitOptions],
    ) -> Job[Any]:
        """Submit a job by the name of its task: `client.submit("shop.jobs:report", args=["daily"], priority="high")`.

        A task that this process has imported is checked and defaults as if submitted itself; of any other one only
        that JSON can hold the arguments. Without a queue such a job goes where the task's workers say. The options
        are those of `Task.options`.

        `connection`: your own connection to the store's database (psycopg, sqlite3, apsw, SQLAlchemy, Django), in
        whose open transaction the job is stored: it comes with your commit and goes with your rollback.

        Raises `InvalidArguments`, `UnknownTask` (for a name that the task's module, imported here, does not have) and
        `UsageError` before anything is stored.
        """
        checked = options(**said)
        ids = self.enqueue([job_by_name(task, args, kwargs or {}, checked)], connection=checked.connection)
        return Job(abs(ids[0]), self, created=ids[0] > 0)

    async def asubmit(
        self,
        task: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **said: Unpack[SubmitOptions],
    ) -> Job[Any]:
        """As `submit`, without blocking the event loop; `connection` may be an asynchronous one."""
        checked = options(**said)
        jobs = [job_by_name(task, args, kwargs or {}, checked)]
        ids = await self.aenqueue(jobs, connection=checked.connection)
        return Job(abs(ids[0]), self, created=ids[0] > 0)

    def job(self, id: int) -> Job[Any]:
        """Return the handle of a job by its number. Does not look whether it exists."""
        return Job(id, self, created=False)

    def jobs(
        self, *, limit: int = 100, before: int | None = None, **where: Unpack[JobQuery]
    ) -> list[JobInfo]:
        """Return up to `limit` jobs, newest first, below the number `before` when given: `client.jobs(queue="mail",
        states=["failed"])`. Raises `UsageError` for an unknown state.
        """
        return self._opened().jobs(_filter(where), limit=limit, before=before)

    async def ajobs(
        self, *, limit: int = 100, before: int | None = None, **where: Unpack[JobQuery]
    ) -> list[JobInfo]:
        """As `jobs`, without blocking the event loop."""
        return await self._in_thread(lambda: self.jobs(limit=limit, before=before, **where))

    def counts(self) -> Counts:
        """Return how many jobs are in each state; finished ones are counted since the store was made."""
        return self._opened().counts()

    async def acounts(self) -> Counts:
        """As `counts`, without blocking the event loop."""
        return await self._in_thread(self.counts)

    def retry(self, ids: Iterable[int]) -> list[int]:
        """Put finished jobs that did not succeed back into their queues, with a fresh budget and under their old ids.

        Returns the ids that were put back; succeeded, living and unknown ones are left alone, those whose unique key a
        living job has, and those that wait for a job which has not ended as they ask and is not put back with them.
        """
        return self._opened().retry(list(ids))

    async def aretry(self, ids: Iterable[int]) -> list[int]:
        """As `retry`, without blocking the event loop."""
        return await self._in_thread(lambda: self.retry(ids))

    def why(self, id: int) -> Why | None:
        """Return why a job is where it is: one cause from a fixed list, in words, and what mends it.

        None when there is no such job (any more).
        """
        return ask(self._opened(), id)

    async def awhy(self, id: int) -> Why | None:
        """As `why`, without blocking the event loop."""
        return await self._in_thread(lambda: self.why(id))

    def unserved(self) -> list[Unserved]:
        """Return the groups of waiting jobs that no live worker takes, each with its cause, the oldest first."""
        return ask_all(self._opened())

    async def aunserved(self) -> list[Unserved]:
        """As `unserved`, without blocking the event loop."""
        return await self._in_thread(self.unserved)

    def cancel(self, ids: Iterable[int]) -> dict[int, State]:
        """Cancel living jobs. Returns the state of each that was living: cancelled, or running when it was asked to
        stop (see `Job.cancel`)."""
        return self._opened().cancel(list(ids))

    async def acancel(self, ids: Iterable[int]) -> dict[int, State]:
        """As `cancel`, without blocking the event loop."""
        return await self._in_thread(lambda: self.cancel(ids))

    def release(self, ids: Iterable[int]) -> list[int]:
        """Let held jobs go; return those that were held."""
        return self._opened().release_held(list(ids))

    async def arelease(self, ids: Iterable[int]) -> list[int]:
        """As `release`, without blocking the event loop."""
        return await self._in_thread(lambda: self.release(ids))

    def discard(self, ids: Iterable[int]) -> list[int]:
        """Forget finished jobs at once, with their results; return those that were there."""
        return self._opened().discard(list(ids))

    async def adiscard(self, ids: Iterable[int]) -> list[int]:
        """As `discard`, without blocking the event loop."""
        return await self._in_thread(lambda: self.discard(ids))

    def queues(self) -> list[QueueInfo]:
        """Return every known queue: how many jobs are in which state, since when, paused by whom, under what limit."""
        return self._opened().queues()

    async def aqueues(self) -> list[QueueInfo]:
        """As `queues`, without blocking the event loop."""
        return await self._in_thread(self.queues)

    def pause_queue(self, name: str, *, by: str = "") -> None:
        """Let nobody take jobs of this queue any more; what is claimed goes on. `by`: who says so, for others."""
        self._opened().pause_queue(queue_known(name), by=by)

    async def apause_queue(self, name: str, *, by: str = "") -> None:
        """As `pause_queue`, without blocking the event loop."""
        await self._in_thread(lambda: self.pause_queue(name, by=by))

    def resume_queue(self, name: str) -> None:
        """End of `pause_queue`."""
        self._opened().resume_queue(queue_known(name))

    async def aresume_queue(self, name: str) -> None:
        """As `resume_queue`, without blocking the event loop."""
        await self._in_thread(lambda: self.resume_queue(name))

    def close(self) -> None:
        """Close the store's connections and end the client's threads. Whoever still waits gets `StoreUnavailable`."""
        with self._lock:
            self._closed = True
            store, self._store = self._store, None
        self._watch.close()
        self._threads.shutdown(wait=True)
        if store is not None:
            store.close()

    async def aclose(self) -> None:
        """As `close`, without blocking the event loop."""
        await asyncio.to_thread(self.close)

    # As a Submitter (see coserver.tasks.binding) --------------------------------------------------------------

    def enqueue(self, jobs: Sequence[NewJob], *, connection: Any = None) -> list[int]:
        """Store the jobs in one transaction, the caller's own if `connection` is given; return their ids in order,
        negated where a living job had the unique key."""
        if instrument.active is None:
            return self._enqueue(jobs, connection)
        with instrument.active.submitting(jobs, self._carried(jobs)) as submitting:
            ids = self._enqueue(submitting.jobs, connection)
            submitting.stored(ids)
            return ids

    async def aenqueue(self, jobs: Sequence[NewJob], *, connection: Any = None) -> list[int]:
        """As `enqueue`, without blocking the event loop."""
        if connection is None:
            context = copy_context()  # a trace goes on in the thread
            return await self._in_thread(lambda: context.run(self.enqueue, jobs))
        store = await self._in_thread(lambda: self._opened(tables=False))
        if instrument.active is None:
            return await store.asubmit_on(connection, jobs)
        carried = await self._in_thread(lambda: self._carried(jobs))
        with instrument.active.submitting(jobs, carried) as submitting:
            ids = await store.asubmit_on(connection, submitting.jobs)
            submitting.stored(ids)
            return ids

    def _enqueue(self, jobs: Sequence[NewJob], connection: Any) -> list[int]:
        if connection is None:
            return self._opened().submit(jobs)
        return self._opened(tables=False).submit_on(connection, jobs)

    def _carried(self, jobs: Sequence[NewJob]) -> list[instrument.Carrier]:
        """What the jobs carry of their traces that these wait for, of a few of them."""
        ids = dict.fromkeys(edge.job for job in jobs for edge in job.after if not edge.here)
        found = [self.look(job) for job in islice(ids, FOLLOWED)]
        return [instrument.carrier(info.options) for info in found if info is not None]

    def look(self, id: int) -> JobInfo | None:
        """Return what is known of a job, or None."""
        return self._opened().job(id)

    async def alook(self, id: int) -> JobInfo | None:
        """As `look`, without blocking the event loop."""
        return await self._in_thread(lambda: self.look(id))

    def wait(self, id: int, timeout: float | None) -> JobInfo | None:
        """Block until the job has ended; None when it is not there. Raises `ResultTimeout` after `timeout` seconds."""
        ended = self._watch.enter(id)
        try:
            now = self.look(id)
            if now is None or now.state.final:
                return now
            return ended.result(timeout)
        except TimeoutError:
            raise _too_late(id, timeout) from None
        finally:
            self._watch.leave(id, ended)

    async def await_end(self, id: int, timeout: float | None) -> JobInfo | None:
        """As `wait`, without blocking the event loop."""
        ended = self._watch.enter(id)
        try:
            async with asyncio.timeout(timeout):
                now = await self.alook(id)
                if now is None or now.state.final:
                    return now
                return await asyncio.wrap_future(ended)
        except TimeoutError:
            raise _too_late(id, timeout) from None
        finally:
            self._watch.leave(id, ended)

    # Opening --------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Set everything that belongs to this process, as nothing opened yet."""
        self._lock = threading.Lock()
        self._store = None
        self._tables = False
        self._watch = Watch(self._opened)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="coserver-client")

    def _opened(self, *, tables: bool = True) -> Store:
        """Open the store at its first use; `tables`: make them if there are none. What goes through the caller's own
        connection does that by itself, since its transaction may lock everybody else out."""
        store = self._store
        if store is not None and (self._tables or not tables):
            return store
        with self._lock:
            if self._closed:
                raise StoreUnavailable("cannot use the store: the client is closed; make a new one")
            store = self._store or self._opener(self._url)
            if tables and not self._tables:
                _make_tables(store, close=self._store is None)
                self._tables = True
            self._store = store
            return store

    async def _in_thread(self, call: Callable[[], T]) -> T:
        if self._closed:
            raise StoreUnavailable("cannot use the store: the client is closed; make a new one")
        future: Future[T] = self._threads.submit(call)
        return await asyncio.wrap_future(future)

    def _after_fork(self) -> None:
        if self._store is not None:
            _parents_stores.append(self._store)
        self._begin()


def _make_tables(store: Store, *, close: bool) -> None:
    """Make tables where there are none. Those of another version the store refuses by itself. `close`: if it fails."""
    try:
        if store.schema().version == 0:
            store.migrate()
    except BaseException:
        if close:
            store.close()
        raise


def _filter(where: JobQuery) -> JobFilter:
    return JobFilter(
        tuple(_state(state) for state in where.get("states") or ()),
        where.get("queue"),
        where.get("task"),
        where.get("tag"),
        where.get("error"),
        where.get("args"),
        _moment(where.get("since")),
        _moment(where.get("until")),
    )


def _moment(time: datetime | None) -> int | None:
    return None if time is None else int(time.timestamp() * 1e6)


def _state(name: State | str) -> State:
    if isinstance(name, State):
        return name
    found = State.__members__.get(name.upper())
    if found is None:
        known = ", ".join(state.name.lower() for state in State)
        raise UsageError(f"cannot list jobs by state {name!r}: there is none of that name; known are {known}")
    return found


def _too_late(id: int, timeout: float | None) -> ResultTimeout:
    waited = "" if timeout is None else f" after {units.format_seconds(timeout)}"
    return ResultTimeout(
        f"cannot get the result of job {id}: it has not ended{waited}; wait longer, or see that a worker runs its task"
    )


_clients: weakref.WeakSet[Client] = weakref.WeakSet()
_parents_stores: list[Store] = []
"""Stores that a parent process opened, kept from being closed by the collector."""


def _after_fork() -> None:
    for client in list(_clients):
        client._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
