"""The threads through which a worker talks to its store.

Theory. Store calls block, so each lane is a thread. A lane asks the desk what to do, makes the trip and tells the
desk what it brought; the event loop takes no part, so all this goes on while it is blocked. One lane is the *main*
one: it also sleeps on the bell, parks, looks by itself now and then, and puts things right after trouble. On
PostgreSQL a second lane keeps another batch in flight; SQLite has one writer, so there one lane is enough.

The worker never ends because of its store, unless it finds another version's tables at its start. After a failed trip
the main lane waits for the other lanes, reaches the store again, however long that takes, and compares what the store
holds with what the worker has (`model.reconcile`). Since a transaction that was under way when its connection broke
may still be committed later, it compares again after each of `RECHECKS`.

What nobody foresaw is a fault of ours, or a store that speaks differently than ever: it is told with its traceback and
treated as trouble, and its like waits, longer each time, while the trips that carry jobs go on.

Looking may succeed where recording fails: the disk is full, or the database refuses one of the outcomes. So between
failed trips the main lane rests, the longer the more have failed in a row. Outcomes that two trips could not record
are carried one by one; the one that is refused is replaced by something simpler (`_carry_alone`), so it holds up
nobody else's.

When the store says that the incarnation is dead (its lease ran out while we were stopped, say), the worker registers
anew. What it has not begun is forgotten, since it belongs to others now; what it runs goes on, and its finishes will
be stale.

While a node tends us, it looks after the store (`tick`) and rouses us; a lone worker does both itself.

Whether any running job is to be cancelled is asked when somebody roused us, and once a second, while anything runs.
What jobs say of their progress goes along when it is due, and in any case before their outcomes.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from math import inf
from typing import assert_never

from coserver.errors import SchemaMismatch, StoreRefused, StoreUnavailable, TooOld
from coserver.logs import about
from coserver.model.batch import Park, Wait
from coserver.model.job import (
    Cancelled,
    Claimed,
    Crashed,
    Failed,
    Input,
    Interrupted,
    Outcome,
    Release,
    Retry,
    Succeeded,
    TakeOver,
)
from coserver.model.reconcile import Key, reconcile
from coserver.runtime.attempt import needs_inputs
from coserver.runtime.bell import Bell
from coserver.runtime.desk import Desk, Load
from coserver.runtime.started import StartedFile
from coserver.store.contract import Store, Want, WorkerIdentity
from coserver.tasks.settle import describe

log = logging.getLogger("coserver.worker")

POLL = 1.0
"""Seconds after which a sleeping worker looks by itself."""
PROBE = 0.05
"""Seconds between cheap looks of a lone worker on a store whose other writers cannot rouse it."""
TICK = 1.0
"""Seconds between a lone worker's turns of upkeep."""
ASK = 1.0
"""Seconds between questions whether running jobs are to be cancelled, when nobody roused us."""
SOON = 0.05
"""Shortest time between two of them."""
RECHECKS = (10.0, 35.0)
"""Seconds after trouble when what the store holds is compared again; a database may go on with a transaction for as
long as a statement may take there, on PostgreSQL half a minute."""
PAUSES = (0.05, 2.0)
"""First and longest wait in seconds between attempts to reach the store."""
CALM = 60.0
"""Seconds without anything unforeseen after which pauses are short again."""
PUT_OFF = 600.0
"""Seconds until a job runs again of which the store takes no end."""


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
        cancelled: Callable[[Collection[Key]], None],
        ended: Callable[[], None],
    ) -> None:
        """`count` lanes in all. `probes`: use `store.probe` while alone. `tended` says whether a node looks after us
        just now. `registered` is called when the worker has got an incarnation, `cancelled` with the jobs that somebody
        asked to cancel, once each, `ended` by the main lane as the last thing, when the worker has left the store."""
        self._store = store
        self._identity = identity
        self._lease = lease
        self._bell = bell
        self._helper_bells = [Bell() for _ in range(count - 1)]
        self._started = started
        self._probes = probes
        self._tended = tended
        self._registered = registered
        self._cancelled = cancelled
        self._ended = ended
        self._registering = threading.Lock()
        self._worker: int | None = None
        self._trouble: str | None = None
        self.failure: SchemaMismatch | None = None
        self._threads: list[threading.Thread] = []
        self._closing = False
        self._abandoning = False
        self._poll_at = self._probe_at = self._tick_at = 0.0
        self._due_at = inf
        self._dead: int | None = None
        self._cancels_at = 0.0
        self._roused = False
        self._asked_to_cancel: set[Key] = set()
        self._rechecks: list[float] = []  # when, ascending
        self._stumbles = 0  # unforeseen errors, of which the last was at
        self._stumbled_at = -inf
        self._put_off = -inf  # until when the main lane does nothing but carry
        self._unparked = False  # whether it sleeps without the store knowing
        self._failed = 0  # trips in a row; two lanes may miscount, which costs nothing
        self._resent: frozenset[Key] = frozenset()  # by the comparison before
        self._given_up: set[Key] = set()  # jobs that we hold in the store, and nowhere else

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

    def dead(self, worker: int) -> None:
        """The store says that this incarnation is dead. It matters although nothing is to be carried just now."""
        self._dead = worker
        self.rouse()

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
            doubtful = desk.doubtful
            try:
                if not doubtful:
                    self._turn(desk)
                elif not self._reconcile(desk):
                    return
            except Exception:
                pause = self._stumble(desk)
                if doubtful:  # nothing can be done before it is known what the store holds
                    self._sleep(pause)

    def _turn(self, desk: Desk) -> None:
        now = time.monotonic()
        alone = not self._tended()
        if now >= self._put_off:
            if self._unparked:
                self._unparked = False
                desk.unpark()
            self._chores(desk, now, alone=alone)
        if now >= min(self._poll_at, self._due_at):
            self._poll_at = now + POLL
            self._due_at = inf
            desk.stock()
        match desk.next(now, main=True):
            case Load() as load:
                self._bell.disarm()
                self._carry(desk, load)
            case Park():
                self._unparked = now < self._put_off
                if self._unparked:
                    desk.parked(more=False)
                else:
                    self._park(desk)
            case Wait(seconds):
                until = min(self._recheck_at(), desk.board.due())
                if desk.running:
                    until = min(until, self._ask_at())
                if alone:
                    until = min(until, self._tick_at, self._probe_at if self._probes else inf)
                until = max(-inf if self._unparked else until, self._put_off)
                until = min(until, self._poll_at, self._due_at)
                rest = max(0.0, until - now)
                if self._bell.wait(rest if seconds is None else min(seconds, rest)):
                    self._roused = True
                    desk.stock()

    def _chores(self, desk: Desk, now: float, *, alone: bool) -> None:
        """What the main lane does by itself from time to time, at most one trip a turn."""
        try:
            if self._dead is not None:
                dead, self._dead = self._dead, None
                self._begin_anew(desk, dead)
            elif now >= self._recheck_at():
                self._recheck(desk, now)
            elif alone and now >= self._tick_at:
                self._tick_at = now + TICK
                upkeep = self._store.tick()
                self._tick_at = now + (0.0 if upkeep.more else TICK)
                self._due(upkeep.next_due, now)
                if upkeep.routed or upkeep.promoted or upkeep.rescued:
                    desk.stock()
            elif alone and self._probes and now >= self._probe_at:
                self._probe_at = now + PROBE
                if self._store.probe():
                    self._roused = True
                    desk.stock()
            elif desk.running and now >= self._ask_at():
                self._ask_for_cancels(now)
            elif desk.board.due() <= now:
                self._tell(desk, ())
        except StoreUnavailable as error:
            self._fail(error)
            desk.doubt()

    def _stumble(self, desk: Desk) -> float:
        """Something happened that nobody foresaw. Doubt, and put off what the main lane does beside carrying; return
        the pause in seconds."""
        now = time.monotonic()
        if now > self._stumbled_at + CALM:
            self._stumbles = 0
        log.exception("cannot talk to the store for a reason that nobody foresaw; the worker tries again")
        first, longest = PAUSES
        pause = min(longest, first * 2.0 ** min(self._stumbles, 20))
        self._stumbles += 1
        self._stumbled_at = now
        self._put_off = now + pause
        desk.doubt()
        return pause

    def roused(self) -> None:
        """Somebody outside this worker has news; said by any thread."""
        self._roused = True

    def _ask_at(self) -> float:
        """When to ask next whether anything is to be cancelled."""
        return self._cancels_at - (ASK - SOON if self._roused else 0.0)

    def _ask_for_cancels(self, now: float) -> None:
        assert self._worker is not None
        self._roused = False
        self._cancels_at = now + ASK
        found = {(one.id, one.claim) for one in self._store.cancels(self._worker)}
        new = found - self._asked_to_cancel
        self._asked_to_cancel = found
        if new:
            self._cancelled(new)

    def _tell(self, desk: Desk, done: Sequence[Outcome]) -> None:
        """Carry what is due of progress, and the last words of jobs that are done. Raises StoreUnavailable."""
        assert self._worker is not None
        words = desk.board.take(time.monotonic(), [(one.id, one.claim) for one in done])
        if words:
            try:
                self._store.progress(self._worker, words)
            except StoreUnavailable:
                desk.board.again(words)
                raise

    def _park(self, desk: Desk) -> None:
        assert self._worker is not None
        try:
            more = self._store.park(self._worker)
        except StoreUnavailable as error:
            self._fail(error)
            desk.doubt()
        else:
            desk.parked(more=more)

    def _due(self, next_due: int | None, now: float) -> None:
        self._due_at = inf if next_due is None else now + max(0.0, next_due / 1e6)

    def _leave(self, desk: Desk) -> None:
        """Record what is done and what is interrupted, and end the incarnation."""
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
        except Exception:
            log.exception(
                "cannot leave the store for a reason that nobody foresaw; what is left is put right by others"
            )

    # Helping lanes --------------------------------------------------------------------------------------------

    def _help(self, desk: Desk, bell: Bell) -> None:
        while not self._closing:
            bell.arm()
            match desk.next(time.monotonic(), main=False):
                case Load() as load:
                    bell.disarm()
                    try:
                        self._carry(desk, load)
                    except Exception:
                        self._stumble(desk)
                        self.rouse()
                case Wait(seconds):
                    bell.wait(seconds)
                case Park():
                    raise AssertionError("only the main lane parks")

    # Trips ----------------------------------------------------------------------------------------------------

    def _carry(self, desk: Desk, load: Load) -> None:
        worker = self._worker
        assert worker is not None
        try:
            if desk.board:
                self._tell(desk, load.done)
            brought = self._store.exchange(worker, load.done, load.want)
        except StoreUnavailable as error:
            self._fail(error)
            desk.lost(load)
        except Exception:
            log.exception("cannot talk to the store; the worker compares with it and tries again")
            self._failed += 1
            desk.lost(load)
        else:
            self._failed = 0
            self._answered()
            now = time.monotonic()
            if brought.busy:
                desk.put_off(brought.busy, now)
            self._recorded(_without(load.done, brought.busy), brought.stale)
            if brought.live:
                if load.want.limit and not brought.claimed:
                    self._due(brought.next_due, now)
                self._bring(desk, load, brought.claimed, now)
            else:
                desk.settle(load, (), now)
                self._begin_anew(desk, worker)
            return
        self._bell.ring()

    def _bring(self, desk: Desk, load: Load, claimed: Sequence[Claimed], now: float) -> None:
        """Lay claimed jobs on the desk, with how others ended where they take that. What cannot be looked up now goes
        back."""
        if not any(map(needs_inputs, claimed)):
            desk.settle(load, claimed, now)
            return
        inputs: dict[int, Sequence[Input]] = {}
        back: list[Outcome] = []
        for one in filter(needs_inputs, claimed):
            try:
                inputs[one.id] = self._store.inputs(one.id)
            except StoreUnavailable as error:
                self._complain(error)
                back.append(Release(one.id, one.claim))
            except Exception as error:
                log.exception("cannot read what job %d takes; it fails", one.id, extra=about(one))
                now_us = time.time_ns() // 1000
                back.append(Failed(one.id, one.claim, describe(error), now_us, now_us))
        left = {one.id for one in back}
        desk.settle(load, [one for one in claimed if one.id not in left], now, inputs)
        if back:
            desk.give_back(back, now)

    def _recorded(self, done: Sequence[Outcome], stale: Sequence[int]) -> None:
        if self._started is not None:
            ended = self._started.ended
            for outcome in done:
                ended(outcome.id, outcome.claim)
        late = set(stale)
        for outcome in done if late else ():
            if outcome.id in late and not isinstance(outcome, Release | Interrupted):
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
            except TooOld as error:  # a migration has ended all that this coserver could still do
                self.failure = error
                self._closing = self._abandoning = True
                self.rouse()
                return
            except StoreUnavailable as error:
                self._complain(error)
                return  # the next trip will say so again
        self._registered()
        self._given_up.clear()
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
                if not self._failed:  # else the next trip has to show it
                    self._answered()
                return True
        return False

    def _reconcile(self, desk: Desk) -> bool:
        """Find out what a lost trip did; False when the worker has to leave first."""
        while desk.flying and not self._abandoning:
            self._bell.wait(PROBE)
            self._bell.arm()
        self._rest()
        return self._persist(lambda: self._compare(desk))

    def _rest(self) -> None:
        """Wait before the trip after one that failed; not at all the first time, for most replies are lost alone."""
        if self._failed < 2:
            return
        first, longest = PAUSES
        self._sleep(min(longest, first * 2.0 ** min(self._failed - 2, 20)))

    def _sleep(self, seconds: float) -> None:
        """Let so much time pass, unless the worker has to leave at once."""
        until = time.monotonic() + seconds
        while not self._abandoning and (left := until - time.monotonic()) > 0:
            self._bell.arm()
            self._bell.wait(left)

    def _compare(self, desk: Desk) -> None:
        worker = self._worker
        assert worker is not None
        held = {(one.id, one.claim) for one in self._store.held(worker)}
        at_hand, others, carried = desk.belongings()
        verdict = reconcile(held, at_hand=at_hand, others=others | self._given_up, carried=carried)
        ask = verdict.ask
        settled = (
            {(one.id, one.claim) for one in self._store.settled([one.id for one in ask])} if ask else set()
        )
        for outcome in ask:
            if (outcome.id, outcome.claim) not in settled:
                self._complain_late(outcome)
        again = {(one.id, one.claim): one for one in verdict.resend}
        self._recorded([one for one in carried if (one.id, one.claim) not in again], ())
        if not self._resent.isdisjoint(again):
            for resent in verdict.resend:
                self._carry_alone(desk, worker, resent)
            again = {}
        self._resent = frozenset(again)
        now = time.monotonic()
        self._rechecks = [now + wait for wait in RECHECKS]
        desk.reconciled([*again.values(), *verdict.release], verdict.forget, now)

    def _recheck_at(self) -> float:
        return self._rechecks[0] if self._rechecks else inf

    def _recheck(self, desk: Desk, now: float) -> None:
        """Hand back what a late commit has claimed for us. Only when no lane is on its way: what one has claimed and
        not brought yet is the same to look at. What comes and goes during the look is seen on one of its sides."""
        assert self._worker is not None
        before = desk.belongings()
        held = () if desk.flying else self._store.held(self._worker)
        after = desk.belongings()
        if desk.flying:
            self._rechecks[0] = now + PROBE
            return
        verdict = reconcile(
            {(one.id, one.claim) for one in held},
            at_hand=before[0] | after[0],
            others=before[1] | after[1] | self._given_up,
            carried={*before[2], *after[2]},
        )
        del self._rechecks[0]
        if verdict.release:
            desk.give_back(verdict.release, now)

    def _carry_alone(self, desk: Desk, worker: int, outcome: Outcome) -> None:
        """Record one outcome. If the store refuses it, the job is recorded as failed; if not even that, it is put off;
        and if that is refused too, it stays as it is until the worker leaves. Raises StoreUnavailable when the store
        cannot record anything just now."""
        refusal = self._try_alone(desk, worker, outcome)
        if refusal is None:
            return
        then = "it stays as it is until this worker leaves"
        for instead, meaning in _simpler(outcome, refusal):
            if self._try_alone(desk, worker, instead) is None:
                then = meaning
                break
        else:
            self._given_up.add((outcome.id, outcome.claim))
            self._recorded([outcome], ())
        log.error(
            "cannot record the %s of job %d: %s; %s",
            _name(outcome),
            outcome.id,
            refusal,
            then,
            extra=about(outcome.id),
        )

    def _try_alone(self, desk: Desk, worker: int, outcome: Outcome) -> Exception | None:
        """Carry one outcome; why it was refused, None when it was not."""
        try:
            brought = self._store.exchange(worker, [outcome], Want(0, (), ()))
        except StoreRefused as error:
            return error
        except StoreUnavailable:
            raise
        except Exception as error:
            return error  # it could not even be told
        if brought.busy:
            desk.put_off(brought.busy, time.monotonic())
        self._recorded(_without([outcome], brought.busy), brought.stale)
        return None

    def _fail(self, error: StoreUnavailable) -> None:
        self._failed += 1
        self._complain(error)

    def _answered(self) -> None:
        if self._trouble is not None:
            self._trouble = None
            log.warning("the store answers again")

    def _complain(self, error: StoreUnavailable) -> None:
        """Say what is wrong, once until it is something else or over."""
        if str(error) != self._trouble:
            self._trouble = str(error)
            log.warning("%s", error)

    @staticmethod
    def _complain_late(outcome: Outcome) -> None:
        log.warning(
            "the %s of job %d came too late: the job is no longer this worker's",
            _name(outcome),
            outcome.id,
            extra=about(outcome.id),
        )


def _without(outcomes: Sequence[Outcome], busy: Sequence[Outcome]) -> Sequence[Outcome]:
    """Those of `outcomes` that are not `busy`."""
    left = {(one.id, one.claim) for one in busy}
    return [one for one in outcomes if (one.id, one.claim) not in left] if left else outcomes


def _simpler(outcome: Outcome, refusal: Exception) -> Iterator[tuple[Outcome, str]]:
    """Yield what may be said instead of an outcome that the store refuses, and what it means for the job."""
    job, claim = outcome.id, outcome.claim
    match outcome:
        case (
            Succeeded(started_at=began, finished_at=ended)
            | Failed(started_at=began, finished_at=ended)
            | Cancelled(started_at=began, finished_at=ended)
        ):
            pass
        case Retry() | TakeOver() | Crashed():
            began = ended = time.time_ns() // 1000
        case Release() | Interrupted():
            return
        case _:
            assert_never(outcome)
    why = describe(StoreUnavailable(f"cannot record how the job ended: {refusal}"))
    yield Failed(job, claim, why, began, ended), "it is recorded as failed"
    yield Retry(job, claim, why, int(PUT_OFF * 1e6)), f"it runs again in {PUT_OFF / 60:g} minutes"


def _name(outcome: Outcome) -> str:
    match outcome:
        case Succeeded():
            return "success"
        case Failed():
            return "failure"
        case Retry():
            return "wish to be tried again"
        case Release() | Interrupted():
            return "return"
        case Cancelled():
            return "cancelling"
        case TakeOver():
            return "handing over"
        case Crashed():
            return "crash"
        case _:
            assert_never(outcome)
