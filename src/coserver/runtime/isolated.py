"""The processes beside a worker that run isolated jobs, and the thread that serves them.

Theory. A process is started when a job waits for one and none is idle, up to `count`; it stays. It gets turns from the
desk (`runtime.line`), and of a turn as many jobs ahead as a few milliseconds of work, measured for each process: so
short jobs flow at the pace of the pipe, and behind a long one nothing waits. What was sent ahead and does not begin
within a tenth of a second is called back, as is everything unbegun when the worker pauses or leaves.

The death of a process is that of the job that it ran, which is told as `Crashed`. What had ended and was not reported
yet lies in the journal, memory that the process shared with this one; what it had not begun is put back and runs
elsewhere, uncharged. Which was begun stands in the file of started jobs, where the process notes it itself. A process
that cannot even start is tried again with growing pauses, and its jobs wait, visibly.

A job that must stop is halted: `SystemExit` is raised in it and its group is asked to end by TERM; after `grace`
seconds the group is killed. Either way a process that was cut short is not used again. Whatever ends a process, its
group is killed before it is reaped, so nothing that its jobs started stays behind.

What a process prints goes where the worker's own output goes, by way of this thread, which remembers the last lines
for the error of a job that dies.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import IO, Any

import msgspec

from coserver.logs import LogFormat, about
from coserver.model import batch
from coserver.model.job import Cancelled, Crashed, Interrupted, Outcome, Release
from coserver.runtime import attempt
from coserver.runtime.bell import Bell
from coserver.runtime.desk import Desk
from coserver.runtime.isolated_child import ENVIRONMENT, ChildSpec, Journal
from coserver.runtime.line import ISOLATED, LEAVING, Job, Stop, Turn
from coserver.runtime.started import StartedFile
from coserver.runtime.wear import resident
from coserver.tasks import instrument
from coserver.tasks.declaration import Task
from coserver.wire.children import (
    Began,
    FromChild,
    Halt,
    Item,
    Outcomes,
    Ready,
    Recall,
    Returned,
    Told,
    Work,
    encode,
    from_child,
    unpack,
)

log = logging.getLogger("coserver.worker")

GRACE = 5.0
"""Seconds from asking a job to stop until its process is killed."""
PAUSES = (0.2, 30.0)
"""First and longest wait in seconds before a process is started again that could not even begin."""
LOOK = 1.0
"""Seconds between looks at how large a process is."""
ENDING = 2.0
"""Seconds that idle processes have to end when the worker leaves."""
KEPT = 4096
"""Bytes of a process's last output that an error keeps."""
_CHUNK = 1 << 18
_PIPE = 1 << 16


@dataclass(frozen=True, slots=True)
class Isolation:
    """How many processes there may be, and what each imports; fields as in `runtime.spec.ServiceSpec`. One that takes
    more than `max_memory` bytes is not used again. A job has `grace` seconds to stop.
    """

    count: int
    setup: str | None = None
    tasks: tuple[str, ...] = ()
    grace: float = GRACE
    max_memory: int | None = None
    log_format: LogFormat = "text"


class _Child:
    """One process: what it has in its hands, in order, and since when nothing has come from it."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        link: socket.socket,
        journal: Journal,
        pidfd: int | None,
        now: float,
    ) -> None:
        self.process = process
        self.link = link
        self.journal = journal
        self.pidfd = pidfd
        self.decoder = from_child()
        self.unsent = bytearray()
        self.unheard: list[Outcome] = []
        """what it has told and nobody has taken yet: something unforeseen came between"""
        self.tail = bytearray()
        self.earlier = b""
        """of the tail, what was perhaps printed by jobs that have ended"""
        self.outputs: list[IO[bytes]] = []
        self.turn: Turn | None = None
        self.jobs: dict[int, Job] = {}
        self.deadlines: dict[int, int] = {}
        """of the jobs that may run for so long only, their numbers among the worker's"""
        self.sent_at: dict[int, int] = {}
        """when the jobs were sent, in ns since 1970: as far as is known, when they began"""
        self.moved = now
        self.pace = batch.FIRST_PACE
        self.ready = False
        self.recalled = False
        self.worn = False
        self.measured = now
        self.halted: dict[int, float] = {}
        """jobs that it was told to stop and has not told the end of, with the time at which it is killed for it"""

    def old_at(self) -> float:
        """When the first of those that lie ahead has waited for too long."""
        ahead = iter(self.jobs.values())
        next(ahead)
        return next(ahead).came + batch.UNSTARTED

    @property
    def free(self) -> bool:
        """Whether it can be given a turn."""
        return self.ready and not self.jobs and not self.worn


class Isolated:
    """Owns the processes and the thread. `start` and `close` once; the other methods may be called by any thread."""

    def __init__(
        self,
        desk: Desk,
        isolation: Isolation,
        *,
        store: str,
        tasks: Mapping[str, Task[..., Any]],
        started: StartedFile,
        began: Callable[[Job], int | None],
        ended: Callable[[int], None],
        failed: Callable[[Job, BaseException, int], Outcome],
    ) -> None:
        """`store`: its place (`store.url.place_of`). `began` is told of the begin of jobs with a timeout and returns
        the number of the deadline, which `ended` is told when the job is out of a process's hands; `failed` judges an
        attempt that ended in an error, given when it began (ns)."""
        self._desk = desk
        self._isolation = isolation
        self._store = store
        self._tasks = tasks
        self._began = began
        self._ended = ended
        self._failed = failed
        self._bell = Bell()
        self._started = started
        self._children: list[_Child] = []
        self._turns: deque[Turn] = deque()
        self._stops: deque[Job] = deque()
        self._selector = selectors.DefaultSelector()
        self._recalls = desk.recalls
        self._misstarts = 0
        self._start_at = 0.0
        self._over = False
        self._dropping = False
        self._thread = threading.Thread(target=self._serve, name="isolated", daemon=True)

    # Any thread -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def rouse(self) -> None:
        """There is something new at the desk."""
        self._bell.ring()

    def stop(self, job: Job) -> None:
        """Stop a job that has begun; its `stop` says why."""
        self._stops.append(job)
        self._bell.ring()

    def drop(self) -> None:
        """The worker has to leave: kill what runs; its jobs go back uncharged."""
        self._dropping = True
        self._bell.ring()

    def close(self) -> None:
        """End all processes, at once if they run something, and the thread."""
        self._over = True
        self._bell.ring()
        self._thread.join()
        self._bell.close()
        self._selector.close()

    # The thread -----------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        self._selector.register(self._bell.receiver, selectors.EVENT_READ, self._hear_bell)
        try:
            while not self._over:
                try:
                    self._turn()
                except Exception:
                    log.exception(
                        "cannot serve the processes of isolated jobs; they are ended and begun anew"
                    )
                    self._begin_anew()
        finally:
            self._end_all()

    def _turn(self) -> None:
        self._bell.arm()
        now = time.monotonic()
        self._assign(now)
        self._stop_jobs(now)
        self._look(now)
        if self._dropping:
            self._drop_jobs()
        for key, _ in self._selector.select(self._patience(time.monotonic())):
            key.data()

    def _begin_anew(self) -> None:
        """Something happened that nobody foresaw: take what has ended, give all else back, and have no process."""
        why = "its process was ended"
        for child in self._children:
            try:
                self._cut_short(child, why)
            except Exception:
                log.exception(
                    "cannot learn what a process for isolated jobs has done; what it had is given back"
                )
                self._give_back(child, why)
        self._end_all()
        self._misstarted(time.monotonic())

    def _hear_bell(self) -> None:
        self._bell.wait(0.0)

    def _patience(self, now: float) -> float | None:
        """Seconds until the thread has to look by itself."""
        until = inf
        for child in self._children:
            until = min([until, *child.halted.values()])
            if len(child.jobs) > 1 and not child.recalled:
                until = min(until, child.old_at())
        if self._turns and now < self._start_at:
            until = min(until, self._start_at)
        return None if until == inf else max(0.0, until - now)

    # Giving work ----------------------------------------------------------------------------------------------

    def _assign(self, now: float) -> None:
        """Give turns to idle processes; start one when there is none."""
        waiting = self._desk.for_children
        while waiting:
            self._turns.append(waiting.popleft())
        if not self._turns:
            return
        idle = [child for child in self._children if child.free]
        for child in idle:
            if self._worn(child, now):
                self._let_go(child)
        idle = [child for child in idle if not child.worn]
        while self._turns and idle:
            turn = self._turns.popleft()
            if self._desk.begin(turn.first):
                child = idle.pop()
                child.turn = turn
                child.moved = now
                self._give(child, [turn.first])
                self._feed(child, now)
        coming = sum(not child.ready for child in self._children)
        leaving = sum(child.worn and not child.jobs for child in self._children)
        room = self._isolation.count - (len(self._children) - leaving)
        wanted = min(len(self._turns), room + coming)
        if wanted > coming and now >= self._start_at:
            for _ in range(wanted - coming):
                self._spawn(now)

    def _feed(self, child: _Child, now: float) -> None:
        """Let a process have enough ahead."""
        turn = child.turn
        if turn is None or child.halted or child.recalled or self._worn(child, now):
            return
        ahead = batch.ahead(child.pace, still=now - child.moved)
        missing = 1 + ahead - len(child.jobs)
        if missing > 0 and missing * 2 > ahead:
            jobs = self._desk.more(turn, missing, now)
            if jobs:
                self._give(child, jobs)

    def _worn(self, child: _Child, now: float) -> bool:
        """Whether a process has grown too large; measured once a second."""
        most = self._isolation.max_memory
        if most is not None and not child.worn and now >= child.measured + LOOK:
            child.measured = now
            child.worn = (resident(child.process.pid) or 0) > most
        return child.worn

    def _let_go(self, child: _Child) -> None:
        """Have an idle process end in order."""
        with suppress(OSError):
            child.link.shutdown(socket.SHUT_WR)

    def _give(self, child: _Child, jobs: list[Job]) -> None:
        if not child.jobs:
            child.moved = time.monotonic()
        at = time.time_ns()
        items = []
        refused: list[tuple[Job, Exception]] = []
        for job in jobs:
            try:
                items.append(self._item(job))
            except Exception as error:  # else it would be one that is given for ever, and stops all others
                refused.append((job, error))
                continue
            child.jobs[job.claimed.id] = job
            child.sent_at[job.claimed.id] = at
        if items:
            self._say(child, encode(Work(items)))
        for job, reason in refused:
            outcome = self._failed(job, reason, at)
            attempt.tell(job.claimed, outcome)
            self._desk.finish(job, outcome, time.monotonic(), in_loop=False)

    def _item(self, job: Job) -> Item:
        claimed = job.claimed
        args = attempt.args_text(claimed, job.inputs)
        timed = self._tasks[claimed.task].timeout(claimed.options) is not None
        return Item(
            claimed.id,
            claimed.claim,
            claimed.task,
            claimed.queue,
            args,
            claimed.attempt,
            claimed.crashes,
            claimed.priority,
            claimed.created_at,
            claimed.options,
            self._started.reserve(claimed.id, claimed.claim),
            timed,
        )

    def _say(self, child: _Child, frame: bytearray) -> None:
        waiting = bool(child.unsent)
        child.unsent += frame
        if not waiting:
            self._send(child)

    def _send(self, child: _Child) -> None:
        try:
            while child.unsent:
                sent = child.link.send(child.unsent)
                del child.unsent[:sent]
        except BlockingIOError:
            pass
        except OSError:
            child.unsent.clear()  # it is gone, which is heard of soon
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if child.unsent else 0)
        with suppress(KeyError):
            if self._selector.get_key(child.link).events != events:
                self._selector.modify(child.link, events, partial(self._converse, child))

    # Hearing --------------------------------------------------------------------------------------------------

    def _converse(self, child: _Child) -> None:
        if child not in self._children:
            return  # it was buried in this very turn
        if child.unsent:
            self._send(child)
        if self._read(child) is False and child.pidfd is None:
            self._bury(child)

    def _read(self, child: _Child) -> bool | None:
        """Take in what a process says: True when there was something, False at its end, None when there was nothing."""
        try:
            data = child.link.recv(_CHUNK)
        except BlockingIOError:
            return None
        except OSError:
            data = b""
        if not data:
            with suppress(KeyError):
                self._selector.unregister(child.link)
            return False
        self._take_in(child, data)
        return True

    def _read_journal(self, child: _Child) -> None:
        child.decoder = (
            from_child()
        )  # the end may have come in the middle of a frame, which the journal still has
        self._take_in(child, child.journal.read())

    def _take_in(self, child: _Child, data: bytes) -> None:
        for message in child.decoder.feed(data):
            if isinstance(message, Outcomes):
                child.unheard += unpack(message)
            else:
                self._hear(child, message)
        if child.unheard:
            self._take(child, child.unheard, time.monotonic())
            child.unheard = []

    def _hear(self, child: _Child, message: FromChild) -> None:
        now = time.monotonic()
        match message:
            case Ready():
                child.ready = True
                child.moved = now
                self._misstarts = 0
                self._desk.revive(ISOLATED)
            case Began(id=id):
                if (job := child.jobs.get(id)) is not None:
                    child.sent_at[id] = time.time_ns()
                    number = self._began(job)
                    if number is not None:
                        child.deadlines[id] = number
            case Outcomes():
                raise AssertionError("taken together")
            case Told(words=words):
                for number, _, fraction, note in words:
                    if (job := child.jobs.get(number)) is not None:
                        job.progress(fraction, note)
            case Returned(ids=ids):
                child.recalled = False
                back = [job for number in ids if (job := self._out_of_hands(child, number)) is not None]
                for job in back:
                    self._started.ended(job.claimed.id, job.claimed.claim)
                if back:
                    child.pace = max(child.pace, batch.UNSTARTED)
                    self._desk.put_back(back, now)

    def _take(self, child: _Child, outcomes: list[Outcome], now: float) -> None:
        child.pace = batch.pace_after(child.pace, finished=len(outcomes), busy=now - child.moved)
        child.moved = now
        ended: list[tuple[Job, Outcome]] = []
        turn = child.turn
        for outcome in outcomes:
            halted = outcome.id in child.halted
            child.worn |= halted  # it ends now, or was told too late
            job = child.jobs.get(outcome.id)
            if job is None:
                continue
            if halted and job.stop is Stop.TIMEOUT:  # that has decided, whatever it made of being told
                outcome = self._late(job, child.sent_at[outcome.id])
            attempt.tell(job.claimed, outcome)
            ended.append((job, outcome))
        for job, _ in ended:
            self._out_of_hands(child, job.claimed.id)
        self._forget_words(child)
        child.turn = turn
        try:
            self._feed(child, now)  # before the slot is free, so that the turn goes on
        finally:
            for job, outcome in ended:
                self._desk.finish(job, outcome, now, in_loop=False)
        if not child.jobs:
            child.turn = None
            if child.worn:
                self._let_go(child)

    def _forget_words(self, child: _Child) -> None:
        """Jobs have ended: what was printed until now are their words. Only where others lay ahead, one of them may
        have spoken since."""
        for pipe, fd in zip(child.outputs, (1, 2), strict=True):
            self._pass_on(child, pipe, fd)
        child.earlier = bytes(child.tail) if child.jobs else b""
        child.tail.clear()

    def _out_of_hands(self, child: _Child, id: int) -> Job | None:
        child.sent_at.pop(id, None)
        child.halted.pop(id, None)
        deadline = child.deadlines.pop(id, None)
        if deadline is not None:
            self._ended(deadline)
        job = child.jobs.pop(id, None)
        if not child.jobs:
            child.turn = None
        return job

    def _late(self, job: Job, at: int) -> Outcome:
        timeout = self._tasks[job.claimed.task].timeout(job.claimed.options)
        return self._failed(job, attempt.too_long(job.claimed, timeout), at)

    # Stopping -------------------------------------------------------------------------------------------------

    def _stop_jobs(self, now: float) -> None:
        while self._stops:
            job = self._stops.popleft()
            for child in self._children:
                if child.jobs.get(job.claimed.id) is job and job.claimed.id not in child.halted:
                    child.halted[job.claimed.id] = now + self._isolation.grace
                    self._say(child, encode(Halt(job.claimed.id)))

    def _look(self, now: float) -> None:
        """Call back what lies unbegun for too long, and kill what does not stop."""
        all_back = self._recalls != self._desk.recalls
        self._recalls = self._desk.recalls
        for child in self._children:
            for number, kill_at in list(child.halted.items()):
                if now < kill_at:
                    continue
                claimed = child.jobs[number].claimed
                if self._started.noted(claimed.id, claimed.claim):
                    child.halted[number] = inf
                    _kill(child)
                else:  # it is another job that lets nobody speak, and that is none of its faults
                    child.halted[number] = now + self._isolation.grace
            if len(child.jobs) > 1 and not child.recalled and (all_back or now >= child.old_at()):
                child.recalled = True
                self._say(child, encode(Recall()))

    def _drop_jobs(self) -> None:
        self._dropping = False
        for child in list(self._children):
            if child.jobs:
                self._cut_short(child, LEAVING)

    def _cut_short(self, child: _Child, why: str) -> None:
        """Kill a process, and give back what it had that has not ended."""
        child.worn = True  # it gets nothing more
        _kill(child)
        _await_end(child, ENDING)
        if child.unheard:
            self._take(child, child.unheard, time.monotonic())
            child.unheard = []
        while self._read(child):
            pass  # what has ended in time
        self._read_journal(child)
        self._give_back(child, why)

    def _give_back(self, child: _Child, why: str) -> None:
        now = time.monotonic()
        for job in list(child.jobs.values()):
            self._out_of_hands(child, job.claimed.id)
            self._desk.finish(job, self._return(job, why), now, in_loop=False)

    def _return(self, job: Job, why: str) -> Outcome:
        """What is told of a job that was in the hands of a process which we ended."""
        claimed = job.claimed
        if self._started.noted(claimed.id, claimed.claim):
            return Interrupted(claimed.id, claimed.claim, why)
        return Release(claimed.id, claimed.claim)

    # Starting and ending --------------------------------------------------------------------------------------

    def _spawn(self, now: float) -> None:
        try:
            with tempfile.TemporaryFile() as file:
                file.truncate(Journal.SIZE)
                ours, theirs = socket.socketpair()
                with theirs:
                    try:
                        self._spawn_with(ours, theirs, file.fileno(), now)
                    except OSError:
                        ours.close()
                        raise
        except OSError as error:
            log.error("cannot start a process for isolated jobs: %s; they wait", error)
            self._misstarted(now)

    def _spawn_with(self, ours: socket.socket, theirs: socket.socket, file: int, now: float) -> None:
        spec = ChildSpec(
            link=theirs.fileno(),
            started=self._started.fd,
            journal=file,
            parent=os.getpid(),
            store=self._store,
            path=tuple(sys.path),
            setup=self._isolation.setup,
            log_format=self._isolation.log_format,
            tasks=self._isolation.tasks,
        )
        journal = Journal(file)
        try:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "coserver.runtime.isolated_child"],
                env={**os.environ, ENVIRONMENT: msgspec.json.encode(spec).decode()},
                pass_fds=(theirs.fileno(), self._started.fd, file),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
            )
        except OSError:
            journal.close()
            raise
        ours.setblocking(False)
        child = _Child(process, ours, journal, _pidfd(process.pid), now)
        self._children.append(child)
        self._selector.register(ours, selectors.EVENT_READ, partial(self._converse, child))
        if child.pidfd is not None:
            self._selector.register(child.pidfd, selectors.EVENT_READ, partial(self._bury, child))
        for pipe, fd in ((process.stdout, 1), (process.stderr, 2)):
            assert pipe is not None
            os.set_blocking(pipe.fileno(), False)
            child.outputs.append(pipe)
            self._selector.register(pipe, selectors.EVENT_READ, partial(self._pass_on, child, pipe, fd))

    def _misstarted(self, now: float) -> None:
        first, longest = PAUSES
        self._start_at = now + min(longest, first * 2.0 ** min(self._misstarts, 16))
        self._misstarts += 1

    def _pass_on(self, child: _Child, pipe: IO[bytes], fd: int) -> None:
        """Pass on what a process has printed, as much as a pipe holds."""
        if pipe.closed:
            return  # it was buried in this very turn
        try:
            data = os.read(pipe.fileno(), _PIPE)
        except BlockingIOError:
            return
        if not data:
            with suppress(KeyError):
                self._selector.unregister(pipe)
            return
        child.tail += data
        del child.tail[:-KEPT]
        with suppress(OSError):
            while data:
                data = data[os.write(fd, data) :]

    def _bury(self, child: _Child) -> None:
        """A process has ended, or closed its connection: end what it left behind, and learn all that it said."""
        if child not in self._children:
            return
        child.worn = True  # it gets nothing more
        _kill(child)  # first: what it started may print for ever
        while self._read(child):
            pass
        self._read_journal(child)
        child.journal.close()
        for pipe, fd in zip(child.outputs, (1, 2), strict=True):
            # All that lies in the pipe. What has escaped from the group may go on, and is heard no more.
            self._pass_on(child, pipe, fd)
        how = self._reap(child)
        self._children.remove(child)
        for deadline in child.deadlines.values():
            self._ended(deadline)
        now = time.monotonic()
        if not child.ready:
            log.error("a process for isolated jobs ended before it could work (%s); its jobs wait", how)
            self._misstarted(now)
        begun: list[Job] = []
        unbegun: list[Job] = []
        for job in child.jobs.values():
            noted = self._started.noted(job.claimed.id, job.claimed.claim)
            (begun if noted else unbegun).append(job)
        for job in begun:
            outcome = self._death(child, job, how)
            if instrument.active is not None:
                instrument.active.crashed(job.claimed, child.sent_at[job.claimed.id], outcome)
            self._desk.finish(job, outcome, now, in_loop=False)
        for job in unbegun:
            self._started.ended(job.claimed.id, job.claimed.claim)
        if unbegun:
            self._desk.put_back(unbegun, now)

    def _death(self, child: _Child, job: Job, how: str) -> Outcome:
        claimed = job.claimed
        at = child.sent_at[claimed.id]
        if claimed.id in child.halted:
            if job.stop is Stop.TIMEOUT:
                return self._late(job, at)
            log.warning(
                "job %d (%s) was cancelled; its process was %s",
                claimed.id,
                claimed.task,
                how,
                extra=about(claimed),
            )
            return Cancelled(claimed.id, claimed.claim, None, at // 1000, time.time_ns() // 1000)
        log.error("job %d (%s) ended its process: %s", claimed.id, claimed.task, how, extra=about(claimed))
        for words, whose in (
            (child.tail, "it printed last"),
            (child.earlier, "it or a job before it printed last"),
        ):
            lines = words.decode(errors="replace").strip()
            if lines:
                how = f"{how}; {whose}:\n{lines}"
                break
        return Crashed(claimed.id, claimed.claim, how)

    def _reap(self, child: _Child) -> str:
        """Kill the group, let the process go, and say in words how it ended."""
        if child.pidfd is not None:
            self._selector.unregister(child.pidfd)
            os.close(child.pidfd)
        with suppress(KeyError):
            self._selector.unregister(child.link)
        child.link.close()
        _kill(child)  # the leader is not reaped yet, so the group's number is still its own
        status = child.process.wait()
        for pipe in child.outputs:
            with suppress(KeyError):
                self._selector.unregister(pipe)
            pipe.close()
        if status < 0:
            with suppress(ValueError):
                return f"killed by signal {-status} ({signal.Signals(-status).name})"
            return f"killed by signal {-status}"
        return f"left with exit status {status}"

    def _end_all(self) -> None:
        for child in self._children:
            with suppress(OSError):
                child.link.shutdown(socket.SHUT_RDWR)
        until = time.monotonic() + ENDING
        for child in self._children:
            if not child.jobs:
                with suppress(subprocess.TimeoutExpired):
                    # Its group can outlive it, and be killed, only while it is not reaped.
                    _await_end(child, until - time.monotonic())
            try:
                child.journal.close()
                self._reap(child)
            except (OSError, ValueError, KeyError):  # after trouble it may have been half buried already
                _kill(child)
        self._children.clear()


def _pidfd(pid: int) -> int | None:
    """A descriptor that says when the process has ended, None where there is none to be had."""
    try:
        return os.pidfd_open(pid) if hasattr(os, "pidfd_open") else None
    except OSError:
        return None


def _await_end(child: _Child, seconds: float) -> None:
    """Wait for the end of a process without reaping it, as far as this system lets us: a reaped one's number may be
    that of somebody else's group already. Raises `subprocess.TimeoutExpired` at most where it does not."""
    if child.pidfd is None and not hasattr(os, "waitid"):
        child.process.wait(max(0.0, seconds))
        return
    if child.pidfd is None:
        until = time.monotonic() + seconds
        ended = os.WEXITED | os.WNOWAIT | os.WNOHANG
        while os.waitid(os.P_PID, child.process.pid, ended) is None and time.monotonic() < until:
            time.sleep(LOOK / 100)
        return
    with selectors.DefaultSelector() as selector:
        selector.register(child.pidfd, selectors.EVENT_READ)
        selector.select(max(0.0, seconds))


def _kill(child: _Child) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.process.pid, signal.SIGKILL)
