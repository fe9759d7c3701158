"""What a node does for the site's store: leases, the dead, due jobs and rows that plain SQL put there.

Theory. One thread makes nearly all of the node's calls into the store, because they block and the node's loop must not.
It serves a short list of duties, each of which says when it wants to be looked at again:

* *bury* the workers of a process that the kernel reported dead. Asked for by the loop, kept until the store has
  accepted it, and told in order; this is what puts the jobs of a killed worker back within milliseconds.
* *tick*: route rows that plain SQL added, promote what is due, free what expired, prune. Once a second, as soon as
  something is due, and within 50 ms of a commit by anybody else, since plain SQL announces nothing.
* *count*: jobs by state, those that nobody takes, jobs by queue; each only while somebody asks, once a second at most.

A second thread renews the leases of the workers whose processes are alive, because no other duty, however long it waits
in the store, may let a lease run out. A third one waits for the store's notifications where it has any. While the store
is down every duty waits, with a growing pause, and nothing else of the node does.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from coserver.errors import CoserverError
from coserver.model.job import Counts, QueueInfo, State
from coserver.model.why import Unserved, WorkerInfo
from coserver.runtime.lease import RETRY
from coserver.runtime.spec import RENEWALS
from coserver.runtime.started import read_started
from coserver.store.contract import Listener, Rescue, Store
from coserver.store.inquiry import ask_all

log = logging.getLogger("coserver.store")

T = TypeVar("T")

LOOK = 0.05
TICK = 1.0
COUNTS_KEPT = 1.0


@dataclass(frozen=True, slots=True)
class Death:
    """A process with a worker that is no more. Fields as in `store.contract.Keeping.bury`."""

    token: str
    process: str
    note: str
    file: Path | None = None
    """where the worker noted which jobs it had begun; it stays until the store knows"""

    def started(self) -> list[int] | None:
        """Return the jobs that had begun, None when nobody can say."""
        return read_started(self.file) if self.file is not None else None

    def settled(self) -> None:
        """The store knows."""
        if self.file is not None:
            self.file.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Tally:
    """The store's jobs at one moment: how many are in each state, and the groups that nobody takes."""

    counts: Counts
    unserved: Sequence[Unserved]


@dataclass(frozen=True, slots=True)
class Ledger:
    """The store's queues and the workers that are present, at one moment."""

    queues: Sequence[QueueInfo]
    workers: Sequence[WorkerInfo]


class _Question(Generic[T]):
    """Something that the loop may want to know of the store. What was found is as good for a second, if it `lasts`."""

    def __init__(self, find: Callable[[Store], T], *, lasts: Callable[[T], bool] = lambda _: True) -> None:
        self._find = find
        self._lasts = lasts
        self._askers: deque[Future[T]] = deque()
        self._found: tuple[float, T] | None = None

    async def ask(self, bell: threading.Event, patience: float) -> T | None:
        """Return what is found; None when the store does not answer in time."""
        asked: Future[T] = Future()
        self._askers.append(asked)
        bell.set()
        try:
            return await asyncio.wait_for(asyncio.wrap_future(asked), patience)
        except (TimeoutError, CoserverError):
            return None
        finally:
            asked.cancel()
            try:
                self._askers.remove(asked)
            except ValueError:
                pass  # answered, or being answered

    def answer(self, store: Store, now: float) -> None:
        """Answer whoever asks."""
        if not self._askers:
            return
        if self._found is None or now - self._found[0] > COUNTS_KEPT or not self._lasts(self._found[1]):
            self._found = (now, self._find(store))
        while self._askers:
            asked = self._askers.popleft()
            if asked.set_running_or_notify_cancel():
                asked.set_result(self._found[1])

    def refuse(self, error: CoserverError) -> None:
        """Tell whoever asks that the store does not answer."""
        while self._askers:
            asked = self._askers.popleft()
            if asked.set_running_or_notify_cancel():
                asked.set_exception(error)


class Upkeep:
    """Owns the node's store and the threads that use it."""

    def __init__(
        self,
        open_store: Callable[[], Store],
        *,
        alive: Callable[[], frozenset[str]],
        wake: Callable[[], None],
        lease: float,
        listens: bool,
        retention: Mapping[State, float],
        rescued: Callable[[Death, Rescue], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        """`alive` returns the tokens of living processes and `wake` rouses their workers; both are called from the
        upkeep's threads, and so are `rescued`, with what became of a dead worker's jobs, and `failed`, with an error
        that nobody foresaw. `listens`: the store notifies, and one thread waits for that."""
        self._open = open_store
        self._alive = alive
        self._wake = wake
        self._lease = lease
        self._listens = listens
        self._listener: Listener | None = None
        self._retention = [(state, int(kept * 1e6)) for state, kept in retention.items()]
        self._rescued = rescued
        self._failed = failed
        self._tick_at = 0.0
        self._store: Store | None = None
        self._deaths: deque[Death] = deque()
        # That nobody takes a job may be over at any moment: a worker that was just started registers.
        self._tally = _Question(
            lambda store: Tally(store.counts(), ask_all(store)), lasts=lambda tally: not tally.unserved
        )
        self._ledger = _Question(lambda store: Ledger(store.queues(), store.workers()))
        self._bell = threading.Event()
        self._leaving = False
        self._left = threading.Event()
        self._trouble: str | None = None
        self._threads = [threading.Thread(target=self._keep, name="upkeep", daemon=True)]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    async def close(self, *, patience: float = 5.0) -> None:
        """Finish the burials, then end the threads and close the store; gives up after `patience` seconds."""
        self._leaving = True
        self._left.set()
        self._bell.set()
        listener = self._listener
        if listener is not None:
            listener.close()
        await asyncio.to_thread(self._join, patience)

    def _join(self, patience: float) -> None:
        until = time.monotonic() + patience
        for thread in list(self._threads):
            thread.join(max(0.0, until - time.monotonic()))

    def bury(self, death: Death) -> None:
        """Free the jobs of a dead process as soon as the store allows."""
        self._deaths.append(death)
        self._bell.set()

    @property
    def trouble(self) -> str | None:
        """Why the store cannot be used just now, or None."""
        return self._trouble

    async def tally(self, *, patience: float = 1.0) -> Tally | None:
        """Count the jobs, at most a second old; None when the store does not answer in time."""
        return await self._tally.ask(self._bell, patience)

    async def ledger(self, *, patience: float = 1.0) -> Ledger | None:
        """Look at queues and workers, as `tally` counts jobs."""
        return await self._ledger.ask(self._bell, patience)

    # The thread ---------------------------------------------------------------------------------------------

    def _keep(self) -> None:
        try:
            self._serve()
        except BaseException as error:
            self._failed(error)
            raise

    def _serve(self) -> None:
        pause = 0.0
        while True:
            try:
                store = self._ready_store()
                wait = self._one_pass(store)
                if self._trouble is not None:
                    # Only a whole pass proves it: a store may still be read when it can no longer be written.
                    log.warning("the store works again")
                    self._trouble = None
                pause = 0.0
                if self._leaving:
                    store.close()
                    return
            except CoserverError as error:
                if self._trouble != str(error):
                    self._trouble = str(error)
                    log.warning("%s", error)
                self._tally.refuse(error)
                self._ledger.refuse(error)
                if self._leaving:
                    return
                wait = pause = min(5.0, pause * 2 or 0.2)
            self._bell.wait(wait)
            self._bell.clear()

    def _ready_store(self) -> Store:
        if self._store is None:
            store = self._open()
            try:
                # `up` has done this, unless the store was away then.
                for name in store.migrate():
                    log.info("store: applied migration %s", name)
            except CoserverError:
                store.close()
                raise
            self._store = store
            self._beside(self._renew, "leases", store)
            if self._listens:
                self._beside(self._listen, "listen", store)
        return self._store

    def _beside(self, duty: Callable[[Store], None], name: str, store: Store) -> None:
        """Let a thread of its own do one duty."""

        def keep() -> None:
            try:
                duty(store)
            except BaseException as error:
                if not self._leaving:
                    self._failed(error)
                raise

        thread = threading.Thread(target=keep, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _one_pass(self, store: Store) -> float:
        """Do what is due; return how many seconds may pass before the next look."""
        now = time.monotonic()
        while self._deaths:
            death = self._deaths[0]
            rescue = store.bury(death.token, started=death.started(), note=death.note)
            death.settled()
            self._deaths.popleft()
            self._rescued(death, rescue)
        if self._leaving:
            return 0.0
        if now >= self._tick_at or store.probe():
            upkeep = store.tick(retention=self._retention)
            self._tick_at = now if upkeep.more else now + self._until_next(upkeep.next_due)
            if upkeep.routed or upkeep.promoted or upkeep.rescued:
                self._wake()
        self._tally.answer(store, now)
        self._ledger.answer(store, now)
        look = LOOK if self._alive() else TICK
        return max(0.0, min(look, self._tick_at - time.monotonic()))

    @staticmethod
    def _until_next(next_due: int | None) -> float:
        return TICK if next_due is None else min(TICK, max(0.001, next_due / 1e6))

    def _renew(self, store: Store) -> None:
        """Renew leases until the store is closed."""
        rest = 0.0
        while not self._left.wait(rest):
            rest = self._lease / RENEWALS
            try:
                alive = self._alive()
                workers = [worker for worker, token in store.live_tokens() if token in alive] if alive else []
                if workers:
                    store.renew(workers, lease=self._lease)
            except CoserverError:  # the upkeep meets the same trouble and says so
                rest = min(rest, RETRY)

    def _listen(self, store: Store) -> None:
        """Pass the store's notifications on until the store is closed."""
        pause = 0.2
        while not self._leaving:
            try:
                self._listener = store.listener()
                try:
                    while not self._leaving:
                        if self._listener.wait(TICK, guesses=False):
                            self._wake()
                            self._bell.set()
                        pause = 0.2
                finally:
                    self._listener.close()
            except CoserverError:
                self._left.wait(pause)
                pause = min(5.0, pause * 2)
