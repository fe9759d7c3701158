"""The threads through which a worker talks to its store.

Theory. Store calls block, so each lane is a thread. A lane asks the desk what to do, makes the trip and tells the
desk what it brought; the event loop takes no part, so all this goes on while it is blocked. One lane is the *main*
one: it also sleeps on the bell, parks, looks by itself now and then, and puts things right after trouble. On
PostgreSQL a second lane keeps another batch in flight; SQLite has one writer, so there one lane is enough.

The worker never ends because of its store, unless it finds another version's tables at its start. After a failed trip
the main lane waits for the other lanes, reaches the store again, however long that takes, and compares what the store
holds with what the worker has (`model.reconcile`). Since a transaction that was under way when its connection broke
may still be committed a moment later, it compares once more after `RECHECK` seconds.

When the store says that the incarnation is dead (its lease ran out while we were stopped, say), the worker registers
anew. What it has not begun is forgotten, since it belongs to others now; what it runs goes on, and its finishes will
be stale.

While a node tends us, it looks after the store (`tick`) and rouses us; a lone worker does both itself.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from math import inf

from coserver.errors import SchemaMismatch, StoreUnavailable
from coserver.model.batch import Park, Wait
from coserver.model.job import Failed, Outcome, Release, Succeeded
from coserver.model.reconcile import reconcile
from coserver.runtime.bell import Bell
from coserver.runtime.desk import Desk, Load
from coserver.runtime.started import StartedFile
from coserver.store.contract import Store, WorkerIdentity

log = logging.getLogger("coserver.worker")

POLL = 1.0
"""Seconds after which a sleeping worker looks by itself."""
PROBE = 0.05
"""Seconds between cheap looks of a lone worker on a store whose other writers cannot rouse it."""
TICK = 1.0
"""Seconds between a lone worker's turns of upkeep."""
RECHECK = 10.0
"""Seconds after trouble when what the store holds is compared once more."""
PAUSES = (0.05, 2.0)
"""First and longest wait in seconds between attempts to reach the store."""


class Lanes:
    """Owns the lanes' threads. `start`, then `close` and `join`; the other methods may be called by any thread."""

    def __init__(
        self,
        store: Store,
        identity: WorkerIdentity,
        *,
        lease: float,
        count: int,
        bell: Bell,
        started: StartedFile | None,
        probes: bool,
        tended: Callable[[], bool],
        registered: Callable[[], None],
        ended: Callable[[], None],
    ) -> None:
        """`count` lanes in all. `probes`: use `store.probe` while alone. `tended` says whether a node looks after us
        just now. `registered` is called when the worker has got an incarnation, `ended` by the main lane as the last
        thing, when the worker has left the store."""
        self._store = store
        self._identity = identity
        self._lease = lease
        self._bell = bell
        self._helper_bells = [Bell() for _ in range(count - 1)]
        self._started = started
        self._probes = probes
        self._tended = tended
        self._registered = registered
        self._ended = ended
        self._registering = threading.Lock()
        self._worker: int | None = None
        self._trouble: str | None = None
        self.failure: SchemaMismatch | None = None
        self._threads: list[threading.Thread] = []
        self._closing = False
        self._abandoning = False
        self._poll_at = self._probe_at = self._tick_at = 0.0
        self._due_at = self._recheck_at = inf

    @property
    def worker(self) -> int | None:
        """The current incarnation, None before the store could be reached."""
        return self._worker

    def start(self, desk: Desk) -> None:
        """Start the threads; the main lane begins by registering the worker."""
        self._threads = [
            threading.Thread(target=self._main, args=(desk,), name="lane 1", daemon=True),
            *(
                threading.Thread(target=self._help, args=(desk, bell), name=f"lane {number}", daemon=True)
                for number, bell in enumerate(self._helper_bells, 2)
            ),
        ]
        for thread in self._threads:
            thread.start()

    def rouse(self) -> None:
        """Let the lanes look."""
        self._bell.ring()
        for bell in self._helper_bells:
            bell.ring()

    def late(self, outcomes: Sequence[Outcome]) -> None:
        """These came too late: their jobs are no longer this worker's."""
        self._recorded(outcomes, [one.id for one in outcomes])

    def close(self, *, abandon: bool = False) -> None:
        """Leave the store as soon as nothing is at hand, runs, or waits to be recorded; with `abandon`, at once:
        record what is done, and let what still runs go back. The desk must be leaving already."""
        self._closing = True
        self._abandoning |= abandon
        self.rouse()

    def join(self, timeout: float) -> bool:
        """Wait for the threads; whether all have ended in time."""
        until = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        if any(thread.is_alive() for thread in self._threads):
            return False
        for bell in (self._bell, *self._helper_bells):
            bell.close()
        return True

    # The main lane --------------------------------------------------------------------------------------------

    def _main(self, desk: Desk) -> None:
        try:
            if self._persist(self._register_first):
                self._serve(desk)
                self._leave(desk)
        finally:
            self._closing = True
            self.rouse()
            self._ended()

    def _serve(self, desk: Desk) -> None:
        while not (self._abandoning or (self._closing and desk.settled())):
            self._bell.arm()
            if desk.doubtful:
                if not self._reconcile(desk):
                    return
                continue
            now = time.monotonic()
            alone = not self._tended()
            self._chores(desk, now, alone=alone)
            match desk.next(now, main=True):
                case Load() as load:
                    self._bell.disarm()
                    self._carry(desk, load)
                case Park():
                    self._park(desk)
                case Wait(seconds):
                    until = min(self._poll_at, self._due_at, self._recheck_at)
                    if alone:
                        until = min(until, self._tick_at, self._probe_at if self._probes else inf)
                    rest = max(0.0, until - now)
                    if self._bell.wait(rest if seconds is None else min(seconds, rest)):
                        desk.stock()

    def _chores(self, desk: Desk, now: float, *, alone: bool) -> None:
        """What the main lane does by itself from time to time, at most one trip a turn."""
        try:
            if now >= self._recheck_at and not desk.flying:
                self._recheck(desk, now)
            elif alone and now >= self._tick_at:
                upkeep = self._store.tick()
                self._tick_at = now + (0.0 if upkeep.more else TICK)
                self._due(upkeep.next_due, now)
                if upkeep.routed or upkeep.promoted or upkeep.rescued:
                    desk.stock()
            elif alone and self._probes and now >= self._probe_at:
                self._probe_at = now + PROBE
                if self._store.probe():
                    desk.stock()
        except StoreUnavailable as error:
            self._complain(error)
            desk.doubt()
            return
        if now >= min(self._poll_at, self._due_at):
            self._poll_at = now + POLL
            self._due_at = inf
            desk.stock()

    def _park(self, desk: Desk) -> None:
        assert self._worker is not None
        try:
            more = self._store.park(self._worker)
        except StoreUnavailable as error:
            self._complain(error)
            desk.doubt()
        else:
            desk.parked(more=more)

    def _due(self, next_due: int | None, now: float) -> None:
        self._due_at = inf if next_due is None else now + max(0.0, next_due / 1e6)

    def _leave(self, desk: Desk) -> None:
        """Record what is done, and end the incarnation; what still runs goes back uncharged."""
        for _ in self._helper_bells:
            while desk.flying and not self._abandoning:
                self._bell.arm()
                self._bell.wait(PROBE)
        try:
            assert self._worker is not None
            load = desk.farewell()
            if load.done:
                self._carry(desk, load)
            self._store.leave(self._worker)
        except StoreUnavailable as error:
            self._complain(error)

    # Helping lanes --------------------------------------------------------------------------------------------

    def _help(self, desk: Desk, bell: Bell) -> None:
        while not self._closing:
            bell.arm()
            match desk.next(time.monotonic(), main=False):
                case Load() as load:
                    bell.disarm()
                    self._carry(desk, load)
                case Wait(seconds):
                    bell.wait(seconds)
                case Park():
                    raise AssertionError("only the main lane parks")

    # Trips ----------------------------------------------------------------------------------------------------

    def _carry(self, desk: Desk, load: Load) -> None:
        worker = self._worker
        assert worker is not None
        try:
            brought = self._store.exchange(worker, load.done, load.want)
        except StoreUnavailable as error:
            self._complain(error)
            desk.lost(load)
        except Exception:
            log.exception("cannot talk to the store; the worker compares with it and tries again")
            desk.lost(load)
        else:
            self._recorded(load.done, brought.stale)
            now = time.monotonic()
            if brought.live:
                if load.want.limit and not brought.claimed:
                    self._due(brought.next_due, now)
                desk.settle(load, brought.claimed, now)
            else:
                desk.settle(load, (), now)
                self._begin_anew(desk, worker)
            return
        self._bell.ring()

    def _recorded(self, done: Sequence[Outcome], stale: Sequence[int]) -> None:
        if self._started is not None:
            ended = self._started.ended
            for outcome in done:
                ended(outcome.id, outcome.claim)
        late = set(stale)
        for outcome in done if late else ():
            if outcome.id in late and not isinstance(outcome, Release):
                self._complain_late(outcome)

    # Incarnations ---------------------------------------------------------------------------------------------

    def _register_first(self) -> None:
        if self._store.schema().version == 0:
            self._store.migrate()
        self._worker = self._store.register(self._identity, lease=self._lease)
        self._registered()

    def _begin_anew(self, desk: Desk, dead: int) -> None:
        """The incarnation `dead` is over: become another one, unless another lane did so already."""
        with self._registering:
            if self._worker != dead:
                return
            try:
                self._worker = self._store.register(self._identity, lease=self._lease)
            except StoreUnavailable as error:
                self._complain(error)
                return  # the next trip will say so again
        self._registered()
        forgotten = desk.forget(time.monotonic())
        log.warning(
            "the store had given up on worker %d; it goes on as worker %d, without %d jobs that it had not begun",
            dead,
            self._worker,
            forgotten,
        )

    # Trouble --------------------------------------------------------------------------------------------------

    def _persist(self, attempt: Callable[[], None]) -> bool:
        """Try until the store answers; False when the worker has to leave first."""
        pause, longest = PAUSES
        while not self._abandoning:
            self._bell.arm()
            try:
                attempt()
            except SchemaMismatch as error:
                if self._worker is None:
                    self.failure = error
                    return False
                self._bell.wait(longest)
            except StoreUnavailable as error:
                self._complain(error)
                if self._closing and self._worker is None:
                    return False
                self._bell.wait(pause)
                pause = min(longest, pause * 2)
            else:
                if self._trouble is not None:
                    self._trouble = None
                    log.warning("the store answers again")
                return True
        return False

    def _reconcile(self, desk: Desk) -> bool:
        """Find out what a lost trip did; False when the worker has to leave first."""
        while desk.flying and not self._abandoning:
            self._bell.wait(PROBE)
            self._bell.arm()
        return self._persist(lambda: self._compare(desk))

    def _compare(self, desk: Desk) -> None:
        assert self._worker is not None
        held = {(one.id, one.claim) for one in self._store.held(self._worker)}
        at_hand, others, carried = desk.belongings()
        verdict = reconcile(held, at_hand=at_hand, others=others, carried=carried)
        ask = verdict.ask
        settled = (
            {(one.id, one.claim) for one in self._store.settled([one.id for one in ask])} if ask else set()
        )
        for outcome in ask:
            if (outcome.id, outcome.claim) not in settled:
                self._complain_late(outcome)
        again = set(verdict.resend)
        self._recorded([one for one in carried if one not in again], ())
        now = time.monotonic()
        self._recheck_at = now + RECHECK
        desk.reconciled([*verdict.resend, *verdict.release], verdict.forget, now)

    def _recheck(self, desk: Desk, now: float) -> None:
        assert self._worker is not None
        self._recheck_at = now + POLL
        held = {(one.id, one.claim) for one in self._store.held(self._worker)}
        at_hand, others, carried = desk.belongings()
        verdict = reconcile(held, at_hand=at_hand, others=others, carried=carried)
        self._recheck_at = inf
        if verdict.release:
            desk.give_back(verdict.release, now)

    def _complain(self, error: StoreUnavailable) -> None:
        """Say what is wrong, once until it is something else or over."""
        if str(error) != self._trouble:
            self._trouble = str(error)
            log.warning("%s", error)

    @staticmethod
    def _complain_late(outcome: Outcome) -> None:
        match outcome:
            case Succeeded():
                what = "success"
            case Failed():
                what = "failure"
            case _:
                what = "wish to be tried again"
        log.warning("the %s of job %d came too late: the job is no longer this worker's", what, outcome.id)
