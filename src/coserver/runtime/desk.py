"""What a worker has at hand: claimed jobs, running ones, and outcomes that the store has not heard of.

Theory. Three kinds of threads meet here: lanes bring claimed jobs and carry outcomes away, the event loop runs
coroutines, and pool threads run plain functions. The desk is the one structure between them. It has a lock that is
held for a few instructions at a time, never during I/O and never while anybody's code runs, so that even with the
event loop blocked the lanes go on: they record what has finished and hand back what has not begun.

A claimed job passes through

    waiting ──hand out──▶ handed out ──begin──▶ begun ──finish──▶ done ──carried away──▶ gone
       │                      │                                    ▲
       └──────────────────────┴── give back (old, paused, leaving) ┘ as Release

Handing out takes a slot of the job's queue and of the worker (and for a plain function one of the pool's threads), in
the order of priority, then of arrival, over coroutines and plain functions alike. Handed-out coroutines lie in
`for_loop`, plain functions in `for_pool`; the runner that picks one up asks `begin`, which says no if the job was
given back in the meantime.

A job that was running when a worker died comes alone from the store, and runs at once: most often it had nothing to do
with it, and what a dead worker held must be running again within milliseconds. One that was there `SUSPECT` times is a
*suspect*. It runs alone in its process, so that if it is the one that kills, it takes nobody along to the limit: while
a suspect is here nothing is claimed, it is handed out when nothing else is out, and nothing is handed out beside it.

What had to be given back because it did not begin in time is not claimed again at once, or a blocked loop would claim
and give back in circles. If the job was handed out, its kind of runner (loop or threads) is *stuck*, and nothing of its
kind is claimed until such a runner shows a sign of life, by asking to begin something or by finishing; a kind of which
there is no task counts as stuck for ever. If it waited for a slot, its queue is *shut* until some slot becomes free.

A queue is *stocked* while the store may have jobs of it for us: from the moment we are roused until a claim with room
for it comes back short.

How much is claimed, and when, is decided by `model.batch`; the desk makes the view and performs the answer.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from math import inf
from queue import SimpleQueue

from coserver.model import batch
from coserver.model.batch import Go, Park, View, Wait, decide
from coserver.model.job import Claimed, Outcome, Release
from coserver.model.reconcile import Key
from coserver.store.contract import Want

COROUTINE, PLAIN = 0, 1

_NEVER = 1 << 60
SUSPECT = 2
"""Deaths of workers at which a job was there, from which on it runs alone."""


class Job:
    """A claimed job with its queue, its kind (COROUTINE or PLAIN), when it came (monotonic seconds) and as which, and
    whether it has been handed out."""

    __slots__ = ("came", "claimed", "handed", "kind", "line", "number")

    def __init__(self, claimed: Claimed, line: Line, kind: int, came: float, number: int) -> None:
        self.claimed = claimed
        self.line = line
        self.kind = kind
        self.came = came
        self.number = number
        self.handed = False


class Line:
    """One queue of this worker."""

    __slots__ = (
        "busy",
        "busy_since",
        "finished",
        "moved",
        "out",
        "pace",
        "queue",
        "reserved",
        "shut",
        "slots",
        "stocked",
        "waiting",
    )

    def __init__(self, queue: str, slots: int) -> None:
        self.queue = queue
        self.slots = slots
        self.out = 0  # slots taken: handed out or begun
        self.waiting: tuple[deque[Job], deque[Job]] = (deque(), deque())  # by kind
        self.reserved = 0  # asked for by lanes on their way
        self.stocked = True
        self.shut = False
        self.pace = batch.FIRST_PACE
        self.finished = (
            0  # since the pace was measured, in `busy` seconds, and since `busy_since` if anything is held
        )
        self.busy = 0.0
        self.busy_since = 0.0
        self.moved = 0.0  # when a job last began or ended to run here

    def idle(self) -> bool:
        return not (self.out or self.waiting[COROUTINE] or self.waiting[PLAIN])

    def measure(self, now: float) -> None:
        if self.finished:
            if not self.idle():
                self.busy += now - self.busy_since
                self.busy_since = now
            self.pace = batch.pace_after(self.pace, finished=self.finished, busy=self.busy)
            self.finished, self.busy = 0, 0.0

    def ahead(self, now: float) -> int:
        return batch.ahead(self.pace, still=now - self.moved if self.out >= self.slots else 0.0)


@dataclass(frozen=True, slots=True)
class Load:
    """What a lane takes along: outcomes to record, and what to claim."""

    done: list[Outcome]
    want: Want


@dataclass(frozen=True, slots=True)
class Figures:
    """How busy a worker is: slots taken, slots free, jobs waiting for a slot, outcomes to record."""

    busy: int
    free: int
    waiting: int
    done: int


class Desk:
    """See the module's theory. Any thread may call any method; times are monotonic seconds."""

    def __init__(
        self,
        queues: Mapping[str, int],
        kinds: Mapping[str, int],
        *,
        concurrency: int,
        threads: int,
        lanes: int,
        rouse_loop: Callable[[], None],
        rouse_lane: Callable[[], None],
        late: Callable[[Sequence[Outcome]], None],
    ) -> None:
        """`queues`: jobs at once by queue; `kinds`: COROUTINE or PLAIN by task name; `concurrency`: jobs at once in
        all; `lanes`: how many there are. `rouse_loop` is called when `for_loop` got something, `rouse_lane` when a
        lane should call `next`. `late` is told of outcomes that nobody wants any more, because the incarnation under
        which they were claimed is dead. None is called with the lock held."""
        if COROUTINE not in kinds.values():  # slots beyond the threads could never be used
            concurrency = min(concurrency, threads)
        self.for_loop: deque[Job] = deque()
        self.for_pool: SimpleQueue[Job | None] = SimpleQueue()
        self._lines = {queue: Line(queue, min(slots, concurrency)) for queue, slots in queues.items()}
        self._kinds = dict(kinds)
        self._pairs = {
            queue: tuple(
                tuple((queue, task) for task, of in kinds.items() if of == kind)
                for kind in (COROUTINE, PLAIN)
            )
            for queue in queues
        }
        self._concurrency = concurrency
        self._threads = threads
        self._lanes = lanes
        self._rouse_loop = rouse_loop
        self._rouse_lane = rouse_lane
        self._late = late
        self._lock = threading.Lock()
        self._waiting = 0  # over all lines, as the following
        self._out = 0
        self._came = 0  # ever
        self._out_plain = 0
        self._reserved = 0
        self._handed: set[Job] = set()
        self._begun: set[Job] = set()
        self._stuck = [kind not in kinds.values() for kind in (COROUTINE, PLAIN)]
        self._suspects = 0  # at hand or begun
        self._alone = False  # whether a suspect is handed out or begun
        self._orphans: set[Job] = set()  # begun under an incarnation that is dead
        self._done: list[Outcome] = []
        self._done_since = 0.0
        self._unsure: list[Outcome] = []
        self._urgent = False
        self._countdown = _NEVER
        self._flying = 0
        self._short_at = -inf
        self._parked = False
        self._came_before_park = 0
        self._paused = False
        self._leaving = False
        self._doubtful = False
        self._shut = False  # whether any line is
        self._look_for_old = inf

    # Lanes ----------------------------------------------------------------------------------------------------

    def next(self, now: float, *, main: bool) -> Load | Park | Wait:
        """Return what a lane has to do. After a `Load` it must call `settle` or `lost`, after `Park` `parked`."""
        with self._lock:
            if now >= self._look_for_old:
                self._give_back_old(now)
            step = decide(self._view(now, main=main))
            match step:
                case Go():
                    return self._load(step, now)
                case Park():
                    self._came_before_park = self._came
                case Wait():
                    self._countdown = min(self._countdown, step.finishes)
                    if main and self._look_for_old < inf:
                        until = max(0.0, self._look_for_old - now)
                        return Wait(
                            until if step.seconds is None else min(until, step.seconds), step.finishes
                        )
            return step

    def _closed(self) -> bool:
        return self._paused or self._leaving or self._doubtful

    def _view(self, now: float, *, main: bool) -> View:
        room = spare = load = free = 0
        if not (self._closed() or self._suspects or all(self._stuck)):
            ahead_in_all = 0
            for line in self._lines.values():
                line.measure(now)
                if line.shut:
                    continue
                ahead = line.ahead(now)
                ahead_in_all += ahead
                some = max(0, self._room(line, ahead))
                if line.stocked:
                    room += some
                    load += ahead
                else:
                    spare += some
            free = self._concurrency - self._out - self._waiting - self._reserved
            free = max(0, free + ahead_in_all * (self._lanes + 1))
            room = min(room, free)
            spare = min(spare, free - room)
        return View(
            room=room,
            spare=spare,
            batch=min(batch.CAP, load),
            at_hand=self._waiting,
            running=self._out,
            done=len(self._done),
            done_for=now - self._done_since if self._done else 0.0,
            urgent=self._urgent,
            short_for=now - self._short_at,
            parked=self._parked,
            main=main,
            others=self._flying,
        )

    def _room(self, line: Line, ahead: int) -> int:
        waiting = len(line.waiting[COROUTINE]) + len(line.waiting[PLAIN])
        return line.slots + ahead * (self._lanes + 1) - line.out - waiting - line.reserved

    def _load(self, go: Go, now: float) -> Load:
        done, self._done = self._done, []
        self._urgent = False
        self._flying += 1
        pairs: list[tuple[str, str]] = []
        rooms: list[tuple[str, int]] = []
        for line in self._lines.values() if go.limit else ():
            some = min(self._room(line, line.ahead(now)), go.limit)
            if some > 0 and (line.stocked or go.everywhere) and not line.shut:
                offered = [
                    pair
                    for stuck, of_kind in zip(self._stuck, self._pairs[line.queue], strict=True)
                    if not stuck
                    for pair in of_kind
                ]
                if offered:
                    rooms.append((line.queue, some))
                    line.reserved += some
                    pairs += offered
        limit = go.limit if pairs else 0
        self._reserved += limit
        return Load(done, Want(limit, pairs, rooms))

    def settle(self, load: Load, claimed: Sequence[Claimed], now: float) -> None:
        """The trip succeeded and brought `claimed`."""
        with self._lock:
            self._land(load)
            brought: dict[str, int] = {}
            for number, row in enumerate(claimed, self._came):
                line = self._lines[row.queue]
                brought[row.queue] = brought.get(row.queue, 0) + 1
                if line.idle():
                    line.busy_since = now
                kind = self._kinds[row.task]
                line.waiting[kind].append(Job(row, line, kind, now, number))
                if row.crashes and row.crashes >= SUSPECT:
                    self._suspects += 1
            self._waiting += len(claimed)
            self._came += len(claimed)
            for queue in brought:
                self._order(self._lines[queue])
            if load.want.limit and len(claimed) < load.want.limit:
                self._short_at = now if claimed else -inf
                for queue, some in load.want.room:
                    if brought.get(queue, 0) < some:
                        self._lines[queue].stocked = False
            if claimed:
                self._parked = False
                self._look_for_old = min(self._look_for_old, now + batch.UNSTARTED)
                if self._closed() and not self._doubtful:
                    self._give_back(lambda _: False, now)
            wanted = self._hand_out()
        if wanted:
            self._rouse_loop()

    def lost(self, load: Load) -> None:
        """The trip failed: nobody knows whether its outcomes were recorded and what it claimed. Nothing is claimed
        until `reconciled`."""
        with self._lock:
            self._land(load)
            self._unsure += load.done
            self._doubtful = True

    def doubt(self) -> None:
        """The store could not be reached: as `lost`, though no trip was under way."""
        with self._lock:
            self._doubtful = True

    def _land(self, load: Load) -> None:
        self._flying -= 1
        self._reserved -= load.want.limit
        for queue, some in load.want.room:
            self._lines[queue].reserved -= some

    @staticmethod
    def _order(line: Line) -> None:
        """Put better priorities first, then by arrival; nearly always it is so already."""
        for waiting in line.waiting:
            previous = -1
            for job in waiting:
                if job.claimed.priority < previous:
                    ordered = sorted(waiting, key=_order)
                    waiting.clear()
                    waiting.extend(ordered)
                    break
                previous = job.claimed.priority

    def parked(self, *, more: bool) -> None:
        """The store knows that we sleep; `more`: it says that there may be work, so look before."""
        with self._lock:
            if self._came == self._came_before_park:  # else another lane's claim has unparked us meanwhile
                self._parked = True
            if more:
                self._stock()

    def stock(self) -> None:
        """There may be work in the store; said by a lane."""
        with self._lock:
            self._stock()

    def wake(self) -> None:
        """There may be work in the store; said by anybody else."""
        self.stock()
        self._rouse_lane()

    def _stock(self) -> None:
        for line in self._lines.values():
            line.stocked = True

    # Runners --------------------------------------------------------------------------------------------------

    def begin(self, job: Job) -> bool:
        """The runner begins the job now; False when the job was given back and must not begin."""
        if self._stuck[job.kind]:
            self._unstick(job.kind)
        self._begun.add(job)  # first, so that the job is seen at every moment
        try:
            self._handed.remove(job)
        except KeyError:
            with self._lock:  # `forget` may have taken it for one that runs
                self._begun.discard(job)
                self._orphans.discard(job)
            return False
        return True

    def _unstick(self, kind: int) -> None:
        with self._lock:
            self._stuck[kind] = False
            self._stock()
        self._rouse_lane()

    def finish(self, job: Job, outcome: Outcome, now: float, *, in_loop: bool) -> None:
        """A job that had begun has ended. `in_loop`: the caller is the event loop and looks into `for_loop` itself."""
        line = job.line
        with self._lock:
            self._begun.discard(job)
            line.finished += 1
            if stuck := self._stuck[job.kind]:
                self._stuck[job.kind] = False
                self._stock()
            if self._suspects and job.claimed.crashes >= SUSPECT:
                self._suspects -= 1
            self._free(job, now)
            if orphan := job in self._orphans:
                self._orphans.discard(job)
            else:
                if not self._done:
                    self._done_since = now
                self._done.append(outcome)
            self._countdown -= 1
            rouse = stuck or self._countdown <= 0
            if rouse:
                self._countdown = _NEVER
            wanted = self._hand_out() if self._waiting else False
        if rouse:
            self._rouse_lane()
        if wanted and not in_loop:
            self._rouse_loop()
        if orphan:
            self._late([outcome])

    def _free(self, job: Job, now: float) -> None:
        """Give the slot of a job back that was handed out."""
        line = job.line
        line.out -= 1
        line.moved = now
        self._out -= 1
        if job.kind == PLAIN:
            self._out_plain -= 1
        self._alone = False  # if a suspect was out, it was this one
        if line.idle():
            line.busy += now - line.busy_since
        if self._shut:
            self._shut = False
            for each in self._lines.values():
                each.stocked |= each.shut
                each.shut = False

    def _hand_out(self) -> bool:
        """Hand out what slots allow; True when the loop got something."""
        wanted = False
        while self._waiting and self._out < self._concurrency and not self._alone:
            best: deque[Job] | None = None
            for line in self._lines.values():
                if line.out < line.slots:
                    coroutines, plain = line.waiting
                    if coroutines and (best is None or _order(coroutines[0]) < _order(best[0])):
                        best = coroutines
                    if not plain or self._out_plain >= self._threads:
                        continue
                    if best is None or _order(plain[0]) < _order(best[0]):
                        best = plain
            if best is None:
                break
            if self._suspects and best[0].claimed.crashes >= SUSPECT:
                if self._out:
                    break
                self._alone = True
            job = best.popleft()
            self._waiting -= 1
            self._out += 1
            job.line.out += 1
            job.handed = True
            self._handed.add(job)
            if job.kind == PLAIN:
                self._out_plain += 1
                self.for_pool.put(job)
            else:
                self.for_loop.append(job)
                wanted = True
        return wanted

    # Giving back ----------------------------------------------------------------------------------------------

    def pause(self, now: float) -> None:
        """Claim nothing more and give back what has not begun; what runs goes on."""
        self._close(now, paused=True)

    def resume(self) -> None:
        """End of `pause`."""
        with self._lock:
            self._paused = False
            self._stock()
        self._rouse_lane()

    def leave(self, now: float) -> None:
        """As `pause`, for good."""
        self._close(now, leaving=True)

    def _close(self, now: float, *, paused: bool = False, leaving: bool = False) -> None:
        with self._lock:
            self._paused |= paused
            self._leaving |= leaving
            self._give_back(lambda _: False, now)
        self._rouse_lane()

    def _give_back_old(self, now: float) -> None:
        oldest = inf
        limit = now - batch.UNSTARTED

        def keep(job: Job) -> bool:
            nonlocal oldest
            if job.came > limit:
                oldest = min(oldest, job.came)
            return job.came > limit

        back = self._give_back(keep, now)
        for job in back:
            if job.handed or (job.kind == PLAIN and self._out_plain >= self._threads):
                self._stuck[job.kind] = True
            elif self._out:  # else no slot could become free
                job.line.shut = self._shut = True
        self._look_for_old = oldest + batch.UNSTARTED

    def _give_back(self, keep: Callable[[Job], bool], now: float) -> list[Job]:
        back = self._take_unbegun(keep, now)
        if back:
            if not self._done:
                self._done_since = now
            self._done += [Release(job.claimed.id, job.claimed.claim) for job in back]
            self._urgent = True
        return back

    def _take_unbegun(self, keep: Callable[[Job], bool], now: float) -> list[Job]:
        """Remove and return the jobs that have not begun, except those to be kept."""
        taken: list[Job] = []
        for line in self._lines.values():
            for waiting in line.waiting:
                for _ in range(len(waiting)):
                    job = waiting.popleft()
                    if keep(job):
                        waiting.append(job)
                    else:
                        taken.append(job)
        self._waiting -= len(taken)
        for job in list(self._handed):
            if not keep(job):
                try:
                    self._handed.remove(job)
                except KeyError:
                    continue  # it has just begun
                taken.append(job)
                self._free(job, now)
        if self._suspects:
            self._suspects -= sum(job.claimed.crashes >= SUSPECT for job in taken)
        return taken

    # After a lost reply ---------------------------------------------------------------------------------------

    @property
    def flying(self) -> int:
        """How many lanes are on their way."""
        return self._flying

    @property
    def doubtful(self) -> bool:
        """Whether a trip was lost and `reconciled` has not been called since."""
        return self._doubtful

    def belongings(self) -> tuple[set[Key], set[Key], list[Outcome]]:
        """Return what has not begun; what runs or has an outcome that no trip took along yet; and the outcomes that
        lost trips took along."""
        with self._lock:
            waiting = chain.from_iterable(chain.from_iterable(line.waiting for line in self._lines.values()))
            at_hand = {_key(job.claimed) for job in chain(waiting, list(self._handed))}
            others = {_key(job.claimed) for job in list(self._begun)} | {_key(one) for one in self._done}
            return at_hand, others, list(self._unsure)

    def reconciled(self, outcomes: Sequence[Outcome], forget: Collection[Key], now: float) -> None:
        """What was lost is known: carry `outcomes`, drop what has not begun and is in `forget`, and go on."""
        with self._lock:
            self._take_unbegun(lambda job: _key(job.claimed) not in forget, now)
            if outcomes and not self._done:
                self._done_since = now
            self._done = [*outcomes, *self._done]
            self._unsure = []
            self._urgent = bool(self._done)
            self._doubtful = False
            self._stock()

    def forget(self, now: float) -> int:
        """The incarnation is dead: drop what has not begun, and return how much it was. What runs goes on, but its
        outcome and those not yet recorded are late."""
        with self._lock:
            self._stock()
            self._parked = False
            dropped = len(self._take_unbegun(lambda _: False, now))
            self._orphans |= set(self._begun)
            late, self._done = [*self._unsure, *self._done], []
            self._unsure = []
            self._urgent = False
        self._late(late)
        return dropped

    def give_back(self, releases: Sequence[Release], now: float) -> None:
        """Carry releases of jobs that the store says are ours, though they never arrived."""
        with self._lock:
            if not self._done:
                self._done_since = now
            self._done += releases
            self._urgent = True

    def farewell(self) -> Load:
        """Take what is done; nothing is claimed any more."""
        with self._lock:
            done, self._done = [*self._unsure, *self._done], []
            self._unsure = []
            self._flying += 1
            return Load(done, Want(0, (), ()))

    # Looking in -----------------------------------------------------------------------------------------------

    def figures(self) -> Figures:
        """Return how busy the worker is."""
        with self._lock:
            return Figures(
                self._out, max(0, self._concurrency - self._out), self._waiting, self._unrecorded()
            )

    def settled(self) -> bool:
        """Whether nothing is at hand, runs or waits to be recorded, and no lane is on its way."""
        with self._lock:
            return not (self._out or self._waiting or self._unrecorded() or self._flying)

    def _unrecorded(self) -> int:
        return len(self._done) + len(self._unsure)

    def begun(self) -> list[Job]:
        """Return the jobs that run."""
        return list(self._begun)


def _order(job: Job) -> tuple[int, int]:
    return job.claimed.priority, job.number


def _key(of: Claimed | Outcome) -> Key:
    return of.id, of.claim
