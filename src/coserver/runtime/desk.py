"""What a worker has at hand: claimed jobs, running ones, and outcomes that the store has not heard of.

Theory. Four kinds of threads meet here: lanes bring claimed jobs and carry outcomes away, the event loop runs
coroutines, pool threads run plain functions, and one thread serves the processes that run isolated ones. The desk is
the one structure between them. It has a lock that is held for a few instructions at a time, never during I/O and never
while anybody's code runs, so that even with the event loop blocked the lanes go on: they record what has finished and
hand back what has not begun.

A claimed job passes through

    waiting ──hand out──▶ handed out ──begin──▶ begun ──finish──▶ done ──carried away──▶ gone
       │                      │                                    ▲
       └──────────────────────┴── give back (old, paused, leaving) ┘ as Release

Handing out takes a slot of the job's queue and of the worker (and for a plain function one of the pool's threads, for
an isolated one one of the processes), in the order of priority, then of arrival, over all kinds alike. Handed-out
coroutines lie in `for_loop`, plain functions in `for_pool`; the runner that picks one up asks `begin`, which says no
if the job was given back in the meantime. For an isolated job a *turn* lies in `for_children` (see `runtime.line`);
whoever serves the turn asks for `more` jobs of its queue while they are short and nothing better waits for a process.
All that was sent to a process counts as begun here; what it had not begun is taken back by `put_back` when the process
dies, and when `recalls` changes: when nothing unbegun is to be held any more.

A job that was running when a worker died comes alone from the store, and runs at once: most often it had nothing to do
with it, and what a dead worker held must be running again within milliseconds. One that was there `SUSPECT` times is a
*suspect*. It runs alone in its process, so that if it is the one that kills, it takes nobody along to the limit: while
a suspect is here nothing is claimed, it is handed out when nothing else is out, and nothing is handed out beside it.

What had to be given back because it did not begin in time is not claimed again at once, or a blocked loop would claim
and give back in circles. If the job was handed out, its kind of runner (loop or threads) is *stuck*, and nothing of its
kind is claimed until such a runner shows a sign of life, by asking to begin something or by finishing; a kind of which
there is no task counts as stuck for ever. If it waited for a slot, its queue is *shut* until some slot becomes free.

What is at hand goes *stale*: before a job begins whose place a better one may have taken in the store, a lane has to
look again (see `model.batch`).

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
from types import MappingProxyType

from coserver.model import batch
from coserver.model.batch import Go, Park, View, Wait, decide
from coserver.model.job import Claimed, Input, Interrupted, Outcome, Priority, Release
from coserver.model.reconcile import Key
from coserver.runtime.line import (
    COROUTINE,
    ISOLATED,
    KINDS,
    LEAVING,
    PLAIN,
    Job,
    Line,
    Stop,
    Turn,
    key,
    order,
)
from coserver.runtime.progress import Board
from coserver.store.contract import Want

AGAIN = (0.05, 2.0)
"""First and longest pause in seconds until outcomes that could not be recorded for somebody's sake are told again."""

_NEVER = 1 << 60
_FOR_LOOP, _FOR_CHILDREN = 1, 2


def _nobody() -> None:
    pass


@dataclass(frozen=True, slots=True)
class Load:
    """What a lane takes along: outcomes to record, and what to claim; whether that is because jobs at hand are stale,
    and when it sets out."""

    done: list[Outcome]
    want: Want
    stale: bool = False
    at: float = 0.0


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
        isolated: int = 0,
        lanes: int,
        rouse_loop: Callable[[], None],
        rouse_lane: Callable[[], None],
        rouse_children: Callable[[], None] = _nobody,
        late: Callable[[Sequence[Outcome]], None],
    ) -> None:
        """`queues`: jobs at once by queue; `kinds`: the kind of each task by name; `concurrency`: jobs at once in
        all; `isolated`: processes for isolated jobs; `lanes`: how many there are. `rouse_loop` is called when
        `for_loop` got something, `rouse_children` when `for_children` did or `recalls` changed, `rouse_lane` when a
        lane should call `next`. `late` is told of outcomes that nobody wants any more, because the incarnation under
        which they were claimed is dead. None is called with the lock held."""
        present = set(kinds.values())
        if COROUTINE not in present:  # slots beyond the threads and processes could never be used
            can = (threads if PLAIN in present else 0) + (isolated if ISOLATED in present else 0)
            concurrency = min(concurrency, can) if present else concurrency
        self.for_loop: deque[Job] = deque()
        self.for_pool: SimpleQueue[Job | None] = SimpleQueue()
        self.for_children: deque[Turn] = deque()
        self.recalls = 0
        self.board = Board(rouse_lane)
        self._lines = {
            queue: Line(queue, min(slots, concurrency), self.board) for queue, slots in queues.items()
        }
        self._kinds = dict(kinds)
        self._pairs = {
            queue: tuple(tuple((queue, task) for task, of in kinds.items() if of == kind) for kind in KINDS)
            for queue in queues
        }
        self._concurrency = concurrency
        self._most = (concurrency, threads, isolated)
        self._lanes = lanes
        self._rouse_loop = rouse_loop
        self._rouse_lane = rouse_lane
        self._rouse_children = rouse_children
        self._late = late
        self._lock = threading.Lock()
        self._waiting = 0  # over all lines, as the following
        self._out = 0
        self._came = 0  # ever
        self._out_of = [0, 0, 0]
        self._extra = 0
        self._reserved = 0
        self._handed: set[Job] = set()
        self._begun: set[Job] = set()
        self._stuck = [kind not in present for kind in KINDS]
        self._suspects = 0  # at hand or begun
        self._alone = False  # whether a suspect is handed out or begun
        self._orphans: set[Job] = set()  # begun under an incarnation that is dead
        self._done: list[Outcome] = []
        self._done_since = 0.0
        self._unsure: list[Outcome] = []
        self._later: list[Outcome] = []
        self._later_at = inf
        self._later_at_last = -inf
        self._later_pause = AGAIN[0]
        self._urgent = False
        self._countdown = _NEVER
        self._flying = 0
        self._short_at = -inf
        self._fresh_until = -inf
        self._stale = False
        self._parked = False
        self._came_before_park = 0
        self._paused = False
        self._leaving = False
        self._doubtful = False
        self._shut = False  # whether any line is
        self._look_for_old = inf
        self._ended = 0  # ever
        self._milestone: tuple[int, Callable[[], None]] = (-1, _nobody)

    # Lanes ----------------------------------------------------------------------------------------------------

    def next(self, now: float, *, main: bool) -> Load | Park | Wait:
        """Return what a lane has to do. After a `Load` it must call `settle` or `lost`, after `Park` `parked`."""
        with self._lock:
            if now >= self._look_for_old:
                self._give_back_old(now)
            if now >= self._later_at:
                self._take_up(now)
            step = decide(self._view(now, main=main))
            match step:
                case Go():
                    return self._load(step, now)
                case Park():
                    self._came_before_park = self._came
                case Wait():
                    self._countdown = min(self._countdown, step.finishes)
                    if main and (turn := min(self._look_for_old, self._later_at)) < inf:
                        until = max(0.0, turn - now)
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
            free = self._concurrency - self._out - self._waiting - self._extra - self._reserved
            free = max(0, free + ahead_in_all * (self._lanes + 1))
            room = min(room, free)
            spare = min(spare, free - room)
        return View(
            room=room,
            spare=spare,
            batch=min(batch.CAP, load),
            at_hand=self._waiting + self._extra,
            running=self._out,
            done=len(self._done),
            done_for=now - self._done_since if self._done else 0.0,
            urgent=self._urgent,
            stale=self._stale and not (self._closed() or self._suspects),
            short_for=now - self._short_at,
            parked=self._parked,
            main=main,
            others=self._flying,
        )

    def _room(self, line: Line, ahead: int) -> int:
        return line.slots + ahead * (self._lanes + 1) - line.out - line.at_hand() - line.reserved

    def _load(self, go: Go, now: float) -> Load:
        done, self._done = self._done, []
        self._urgent = False
        self._flying += 1
        pairs: list[tuple[str, str]] = []
        rooms: list[tuple[str, int]] = []
        for line in self._lines.values() if go.limit else ():
            some = min(max(self._room(line, line.ahead(now)), int(self._stale)), go.limit)
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
        return Load(done, Want(limit, pairs, rooms), self._stale, now)

    def settle(
        self,
        load: Load,
        claimed: Sequence[Claimed],
        now: float,
        inputs: Mapping[int, Sequence[Input]] = MappingProxyType({}),
    ) -> None:
        """The trip succeeded and brought `claimed`; `inputs` by id of those that take how other jobs ended."""
        with self._lock:
            self._land(load)
            brought: dict[str, int] = {}
            for number, row in enumerate(claimed, self._came):
                line = self._lines[row.queue]
                brought[row.queue] = brought.get(row.queue, 0) + 1
                if line.idle():
                    line.busy_since = now
                kind = self._kinds[row.task]
                job = Job(row, line, kind, now, number, inputs.get(row.id) if inputs else None)
                line.waiting[kind].append(job)
                if job.suspect:
                    self._suspects += 1
            self._waiting += len(claimed)
            self._came += len(claimed)
            for queue in brought:
                self._lines[queue].order()
            if load.want.limit or load.stale:
                self._fresh_until = now + batch.fresh_for(now - load.at)
                self._stale = False
            # A suspect comes alone, however many wait behind it.
            if load.want.limit and len(claimed) < load.want.limit and not any(row.crashes for row in claimed):
                self._short_at = now if claimed else -inf
                for queue, some in load.want.room:
                    if brought.get(queue, 0) < some:
                        self._lines[queue].stocked = False
            if claimed:
                self._parked = False
                self._look_for_old = min(self._look_for_old, now + batch.UNSTARTED)
                if self._closed() and not self._doubtful:
                    self._give_back(lambda _: False, now)
            wanted = self._hand_out(now)
        self._rouse(wanted)

    def put_off(self, outcomes: Sequence[Outcome], now: float) -> None:
        """The store could not record these, because a transaction of somebody else's holds what they change: carry them
        again after a pause, each time a longer one. To be told before `settle`."""
        with self._lock:
            if not self._later:
                if now > self._later_at_last + 2 * AGAIN[1]:
                    self._later_pause = AGAIN[0]
                self._later_at = self._later_at_last = now + self._later_pause
                self._later_pause = min(2 * self._later_pause, AGAIN[1])
            self._later += outcomes

    def _take_up(self, now: float) -> None:
        """Carry what was put off."""
        if not self._done:
            self._done_since = now
        self._done += self._later
        self._later, self._later_at = [], inf
        self._urgent = True

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

    def parked(self, *, more: bool) -> None:
        """The store knows that we sleep; `more`: it says that there may be work, so look before."""
        with self._lock:
            if self._came == self._came_before_park:  # else another lane's claim has unparked us meanwhile
                self._parked = True
            if more:
                self._stock()

    def unpark(self) -> None:
        """The store does not know that we sleep."""
        with self._lock:
            self._parked = False

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
        job.ended = True
        with self._lock:
            self._begun.discard(job)
            line.finished += 1
            self._ended += 1
            reached = self._ended == self._milestone[0]
            if stuck := self._stuck[job.kind]:
                self._stuck[job.kind] = False
                self._stock()
            if job.suspect:
                self._suspects -= 1
            self._free(job, now)
            orphan = False
            if job.told or self._orphans:
                orphan = self._tell(job, outcome, now)
            else:  # `_tell`, without the call: this runs once per job
                if not self._done:
                    self._done_since = now
                self._done.append(outcome)
            self._countdown -= 1
            rouse = stuck or self._countdown <= 0
            if rouse:
                self._countdown = _NEVER
            wanted = self._hand_out(now) if self._waiting else 0
        if rouse or self._stale:
            self._rouse_lane()
        if wanted and (wanted != _FOR_LOOP or not in_loop):
            self._rouse(wanted & ~_FOR_LOOP if in_loop else wanted)
        if orphan or job.told:
            self.board.forget(key(job.claimed))
        if orphan:
            self._late([outcome])
        if reached:
            self._milestone[1]()

    def _tell(self, job: Job, outcome: Outcome, now: float) -> bool:
        """Have the store told of an outcome, unless it was told another before; True when it comes too late."""
        if job.told:
            return False
        if job in self._orphans:
            self._orphans.discard(job)
            return True
        if not self._done:
            self._done_since = now
        self._done.append(outcome)
        return False

    def fail_early(self, job: Job, outcome: Outcome, now: float) -> bool:
        """Have the store told how a job ended that still runs and cannot be stopped; it keeps its slot until it ends.
        False when it has ended by itself."""
        with self._lock:
            if job not in self._begun or job.told:
                return False
            orphan = self._tell(job, outcome, now)
            job.told = True
        self._rouse_lane()
        if orphan:
            self._late([outcome])
        return True

    def _free(self, job: Job, now: float) -> None:
        """Give the slot of a job back that was handed out, or one place in its turn."""
        line = job.line
        line.moved = now
        turn = job.turn
        if turn is not None:
            job.turn = None
            turn.left -= 1
            if turn.left:
                line.extra -= 1
                self._extra -= 1
                return
        line.out -= 1
        self._out -= 1
        self._out_of[job.kind] -= 1
        self._alone = False  # if a suspect was out, it was this one
        if line.idle():
            line.busy += now - line.busy_since
        if self._shut:
            self._shut = False
            for each in self._lines.values():
                each.stocked |= each.shut
                each.shut = False

    def _hand_out(self, now: float) -> int:
        """Hand out what slots allow; return who has to be roused, _FOR_LOOP and _FOR_CHILDREN."""
        wanted = 0
        out_of, most = self._out_of, self._most
        fresh = now <= self._fresh_until
        while self._waiting and self._out < self._concurrency and not self._alone:
            best: deque[Job] | None = None
            for line in self._lines.values():
                if line.out < line.slots:
                    coroutines, plain, isolated = line.waiting
                    if coroutines and (best is None or order(coroutines[0]) < order(best[0])):
                        best = coroutines
                    if plain and out_of[PLAIN] < most[PLAIN]:  # noqa: SIM102 - the order decides what is cheap
                        if best is None or order(plain[0]) < order(best[0]):
                            best = plain
                    if isolated and out_of[ISOLATED] < most[ISOLATED]:  # noqa: SIM102
                        if best is None or order(isolated[0]) < order(best[0]):
                            best = isolated
            if best is None:
                break
            if not fresh and self._must_look(best[0], now):
                break
            if self._suspects and best[0].suspect:
                if self._out:
                    break
                self._alone = True
            job = best.popleft()
            self._waiting -= 1
            self._out += 1
            job.line.out += 1
            job.handed = True
            self._handed.add(job)
            out_of[job.kind] += 1
            if job.kind == COROUTINE:
                self.for_loop.append(job)
                wanted |= _FOR_LOOP
            elif job.kind == PLAIN:
                self.for_pool.put(job)
            else:
                job.turn = Turn(job)
                self.for_children.append(job.turn)
                wanted |= _FOR_CHILDREN
        return wanted

    def _must_look(self, job: Job, now: float) -> bool:
        """Whether a better job may have come since the last look, so that a lane has to look before this one begins."""
        if job.claimed.priority <= Priority.HIGH or now <= self._fresh_until:
            return False
        if self._suspects or self._closed():  # nothing is claimed just now
            return False
        self._stale = True
        return True

    def _rouse(self, wanted: int) -> None:
        if wanted & _FOR_LOOP:
            self._rouse_loop()
        if wanted & _FOR_CHILDREN:
            self._rouse_children()

    # Turns of processes beside the worker ---------------------------------------------------------------------

    def more(self, turn: Turn, most: int, now: float) -> list[Job]:
        """Return up to `most` further jobs for a turn that is not over; they have begun. None when the worker should
        hold nothing unbegun, or when the slot had better go to another job."""
        taken: list[Job] = []
        with self._lock:
            line = turn.line
            waiting = line.waiting[ISOLATED]
            if not turn.left or not waiting or self._closed():
                return taken
            others = [
                order(each.waiting[kind][0])
                for each in self._lines.values()
                if each is line or each.out < each.slots
                for kind in KINDS
                if each.waiting[kind]
                and (self._out_of[kind] < self._most[kind] if kind != ISOLATED else each is not line)
            ]
            best = min(others) if others else None
            stale = self._must_look(waiting[0], now)
            while waiting and not stale and len(taken) < most and (best is None or order(waiting[0]) < best):
                job = waiting.popleft()
                job.turn = turn
                job.handed = True
                self._begun.add(job)
                taken.append(job)
            turn.left += len(taken)
            line.extra += len(taken)
            self._waiting -= len(taken)
            self._extra += len(taken)
            if taken:
                line.moved = now
        if stale:
            self._rouse_lane()
        return taken

    def revive(self, kind: int) -> None:
        """Runners of this kind are there again."""
        if self._stuck[kind]:
            self._unstick(kind)

    def put_back(self, jobs: Sequence[Job], now: float) -> None:
        """Processes had these jobs and have not begun them: they wait again, or go back to the store."""
        with self._lock:
            back = []
            for job in jobs:
                self._begun.discard(job)
                self._free(job, now)
                if job in self._orphans:
                    self._orphans.discard(job)
                else:
                    back.append(job)
            for job in reversed(back):
                if job.line.idle():
                    job.line.busy_since = now
                job.handed = False
                job.came = now
                job.line.waiting[ISOLATED].appendleft(job)
                self._look_for_old = min(self._look_for_old, now + batch.UNSTARTED)
            self._waiting += len(back)
            for line in {job.line for job in back}:
                line.order()
            if self._closed():
                self._give_back(lambda _: False, now)
            else:
                self._give_back(lambda job: job.stop is None, now)
            wanted = self._hand_out(now)
        self._rouse_lane()
        self._rouse(wanted)

    # Stopping what runs ---------------------------------------------------------------------------------------

    def cancel(self, keys: Collection[Key], now: float) -> list[Job]:
        """Somebody asked to cancel these. What has not begun goes back, for the store to end it; return what runs, and
        was not asked to stop before."""
        with self._lock:
            self._give_back(lambda job: key(job.claimed) not in keys, now)
            asked = [
                job
                for job in list(self._begun)
                if job.stop is not Stop.CANCEL and not job.told and key(job.claimed) in keys
            ]
            for job in asked:
                job.stop = Stop.CANCEL
        return asked

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
            self.recalls += 1
        self._rouse_lane()
        self._rouse_children()

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
            if job.handed or (job.kind != COROUTINE and self._out_of[job.kind] >= self._most[job.kind]):
                self._stuck[job.kind] = True
            elif job.line.out >= job.line.slots or self._out >= self._concurrency:
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
            self._suspects -= sum(job.suspect for job in taken)
        return taken

    # After a lost reply ---------------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether anything has begun and not ended."""
        return bool(self._begun)

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
            at_hand = {key(job.claimed) for job in chain(waiting, list(self._handed))}
            others = {key(job.claimed) for job in list(self._begun)}
            others |= {key(one) for one in chain(self._done, self._later)}
            return at_hand, others, list(self._unsure)

    def reconciled(self, outcomes: Sequence[Outcome], forget: Collection[Key], now: float) -> None:
        """What was lost is known: carry `outcomes`, drop what has not begun and is in `forget`, and go on."""
        with self._lock:
            self._take_unbegun(lambda job: key(job.claimed) not in forget, now)
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
            self._orphans |= {job for job in list(self._begun) if not job.told}
            self.recalls += 1
            late, self._done = [*self._unsure, *self._later, *self._done], []
            self._unsure, self._later, self._later_at = [], [], inf
            self._urgent = False
        self._rouse_children()
        for one in late:
            self.board.forget(key(one))
        self._late(late)
        return dropped

    def give_back(self, releases: Sequence[Outcome], now: float) -> None:
        """Carry releases, or other ends, of jobs that the store says are ours, though they never arrived here."""
        with self._lock:
            if not self._done:
                self._done_since = now
            self._done += releases
            self._urgent = True

    def farewell(self) -> Load:
        """Take what is done, and what still runs as interrupted, whatever comes of it; nothing is claimed any more."""
        with self._lock:
            done, self._done = [*self._unsure, *self._later, *self._done], []
            for job in list(self._begun):
                if not job.told and job not in self._orphans:
                    job.told = True
                    done.append(Interrupted(job.claimed.id, job.claimed.claim, LEAVING))
            self._unsure, self._later, self._later_at = [], [], inf
            self._flying += 1
            return Load(done, Want(0, (), ()))

    def at(self, ended: int, call: Callable[[], None]) -> None:
        """Have `call` called, in some thread, when so many jobs have ended here."""
        self._milestone = (ended, call)

    # Looking in -----------------------------------------------------------------------------------------------

    @property
    def ended(self) -> int:
        """How many jobs have ended here."""
        return self._ended

    def figures(self) -> Figures:
        """Return how busy the worker is."""
        with self._lock:
            return Figures(
                self._out, max(0, self._concurrency - self._out), self._waiting, self._unrecorded()
            )

    def settled(self) -> bool:
        """Whether nothing is at hand, runs or waits to be recorded, and no lane is on its way. What still runs after
        its end was told counts for nothing: it may hang for ever, and what becomes of it is dropped."""
        with self._lock:
            if self._waiting or self._unrecorded() or self._flying:
                return False
            return self._out <= sum(job.told for job in list(self._begun))

    def _unrecorded(self) -> int:
        return len(self._done) + len(self._unsure) + len(self._later)

    def begun(self) -> list[Job]:
        """Return the jobs that run."""
        return list(self._begun)
