"""Which store a submit goes to.

Theory. Code that submits should not have to carry a client around, and importing it must not open a database. So the
store is looked for at the first submit, in this order:

1. `with using(client):` around the call (a context variable: it follows `await` and `asyncio.to_thread`);
2. `configure(store=…)`, once per process;
3. the environment variable COSERVER_STORE, which every process of a site has;
4. the configuration file found upward from the working directory.

What 3 or 4 found is kept for the life of the process; when all are silent, `NotConfigured` names all four. Two things
stand beside this order for the sake of tests: `pin` takes every submit of the process that 1 does not, in every
thread, and `refuse` closes 2 to 4, so that a test run cannot fill a real queue by accident.

This floor knows no client and no configuration. The package's face hands both in by `connect_with` (see `coserver`).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

from coserver.errors import NotConfigured

if TYPE_CHECKING:
    from coserver.model.job import JobInfo, NewJob, State


class Submitter(Protocol):
    """Takes jobs and answers for them. All methods are thread-safe and may raise `StoreUnavailable`."""

    def enqueue(self, jobs: Sequence[NewJob], *, connection: Any = None) -> list[int]:
        """Store the jobs, all or none; return their ids in order, negated where a living job had the unique key.

        `connection`: the caller's own, in whose open transaction the jobs come and go."""

    def aenqueue(self, jobs: Sequence[NewJob], *, connection: Any = None) -> Awaitable[list[int]]:
        """As `enqueue`, without blocking the event loop."""

    def cancel(self, ids: Sequence[int]) -> dict[int, State]:
        """Cancel living jobs; return the state of each: CANCELLED, or RUNNING when it was asked to stop."""

    def acancel(self, ids: Sequence[int]) -> Awaitable[dict[int, State]]:
        """As `cancel`, without blocking the event loop."""

    def release(self, ids: Sequence[int]) -> list[int]:
        """Let held jobs go; return those that were held."""

    def arelease(self, ids: Sequence[int]) -> Awaitable[list[int]]:
        """As `release`, without blocking the event loop."""

    def look(self, id: int) -> JobInfo | None:
        """Return what is known of a job, or None when the store does not have it."""

    def alook(self, id: int) -> Awaitable[JobInfo | None]:
        """As `look`, without blocking the event loop."""

    def wait(self, id: int, timeout: float | None) -> JobInfo | None:
        """Block until the job has ended and return it, or None when the store does not have it (any more).

        Raises `ResultTimeout` after `timeout` seconds; None waits for ever."""

    def await_end(self, id: int, timeout: float | None) -> Awaitable[JobInfo | None]:
        """As `wait`, without blocking the event loop; cancelling it leaves nothing behind."""


Opener = Callable[[str], Submitter]
"""Makes a submitter for a store's URL, without opening the store yet."""
Finder = Callable[[], str | None]
"""Returns the URL of the store that the nearest configuration file names, or None when there is no such file."""

_used: ContextVar[Submitter | None] = ContextVar("coserver.using", default=None)


class _Process:
    """What is bound for the whole process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.open: Opener | None = None
        self.find: Finder | None = None
        self.configured: Submitter | None = None
        self.found: Submitter | None = None
        self.pinned: Submitter | None = None
        self.refusal: str | None = None


_process = _Process()


def connect_with(open: Opener, find: Finder) -> None:
    """Say how a URL becomes a submitter and how a configuration file is found. Called once, by the face."""
    _process.open, _process.find = open, find


@contextmanager
def using(client: Submitter) -> Iterator[None]:
    """Within the block, tasks submit to this client: `with coserver.using(Client("sqlite:site.db")): …`.

    The binding follows the context: coroutines and `asyncio.to_thread` see it, threads started by hand do not.
    """
    token = _used.set(client)
    try:
        yield
    finally:
        _used.reset(token)


def configure(*, store: str | Submitter | None) -> None:
    """Bind the whole process to a store: a URL such as "sqlite:site.db", a client, or None to undo it.

    Nothing is opened before the first submit. Goes before COSERVER_STORE and any configuration file.
    """
    made = _opener()(store) if isinstance(store, str) else store
    with _process.lock:
        _process.configured = made


def current() -> Submitter:
    """Return the submitter that a submit here and now goes to. Raises `NotConfigured` when there is none."""
    used = _used.get()
    if used is not None:
        return used
    process = _process
    if process.pinned is not None:
        return process.pinned
    if process.refusal is not None:
        raise NotConfigured(process.refusal)
    return process.configured or process.found or _search()


@contextmanager
def pin(client: Submitter) -> Iterator[None]:
    """Within the block, every submit of this process goes to this client, in all threads. For tests."""
    before = _process.pinned
    _process.pinned = client
    try:
        yield
    finally:
        _process.pinned = before


@contextmanager
def refuse(message: str) -> Iterator[None]:
    """Within the block, submits that nobody bound by `using` or `pin` raise `NotConfigured(message)`. For tests."""
    before = _process.refusal
    _process.refusal = message
    try:
        yield
    finally:
        _process.refusal = before


def _search() -> Submitter:
    opener = _opener()
    with _process.lock:
        if _process.found is not None:
            return _process.found
        url = os.environ.get("COSERVER_STORE")
        if not url and _process.find is not None:
            url = _process.find()
        if not url:
            raise NotConfigured(
                "cannot submit a job: no store is known here; wrap the call in `with coserver.using(client):`, call "
                "`coserver.configure(store=…)`, set COSERVER_STORE, or work in a directory with a coserver.toml"
            )
        _process.found = opener(url)
        return _process.found


def _opener() -> Opener:
    if _process.open is None:
        raise NotConfigured(
            "cannot open a store: nothing has connected one; import coserver before coserver.tasks"
        )
    return _process.open


def _after_fork() -> None:
    # Another thread may have held the lock when the process was copied.
    _process.lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
