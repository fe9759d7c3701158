"""A process beside a worker, which runs isolated jobs one after the other: `python -m coserver.runtime.isolated_child`.

Theory. It is a fresh interpreter in a session of its own, so that it can be ended with everything its jobs started.
The main thread runs the jobs; a second one talks with the worker, and so answers while a job runs: it takes jobs in,
gives back what has not begun, and reports what has ended and how far the running job is, together when much happens
and within milliseconds when little does. Each job is noted in the worker's file of started jobs (`runtime.started`)
before its first instruction, so that whoever looks at the death of this process sees which jobs had begun. What has
ended and is not yet reported lies in a *journal*, memory shared with the worker, so it is not lost either.

When the worker is gone nobody waits for the results: the process ends at once, and takes its group along.
"""

from __future__ import annotations

import asyncio
import contextvars
import ctypes
import inspect
import mmap
import os
import random
import select
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Any

import msgspec

from coserver import logs
from coserver.errors import CoserverError
from coserver.model.job import Outcome, Progress
from coserver.runtime import attempt
from coserver.runtime.line import Stop
from coserver.runtime.loading import CannotLoad, load_tasks, run_setup
from coserver.runtime.progress import Board
from coserver.runtime.started import StartedSlots
from coserver.tasks import around, instrument
from coserver.tasks.current import CurrentJob, running
from coserver.tasks.registry import registry
from coserver.wire.children import (
    Began,
    FromChild,
    Halt,
    Item,
    Ready,
    Recall,
    Returned,
    Told,
    Work,
    encode,
    pack,
    to_child,
)

ENVIRONMENT = "COSERVER_ISOLATED"

FLUSH = 0.002
"""Seconds for which an outcome waits for company while further jobs are at hand."""
_WORD = 8
_PR_SET_PDEATHSIG = 1


class ChildSpec(msgspec.Struct, frozen=True):
    """What the process is told at its start, as JSON in `COSERVER_ISOLATED`: `link`, `started` and `journal` are
    descriptors, `parent` is the worker's process, `store` the place of its store (`store.url.place_of`), `path` all of
    `sys.path`; the rest as in `runtime.spec.ServiceSpec`.
    """

    link: int
    started: int
    journal: int
    parent: int
    store: str
    path: tuple[str, ...]
    setup: str | None
    tasks: tuple[str, ...]
    log_format: logs.LogFormat = "text"


def main() -> int:
    """Be the process; return its exit status."""
    spec = msgspec.json.decode(os.environ.pop(ENVIRONMENT), type=ChildSpec)
    _die_with(spec.parent)
    logs.configure(spec.log_format)
    for fd in (spec.link, spec.started, spec.journal):
        os.set_inheritable(fd, False)
    link = socket.socket(fileno=spec.link)
    slots = StartedSlots(spec.started)
    sys.path[:] = spec.path
    try:
        if spec.setup is not None:
            run_setup(spec.setup)
        load_tasks(spec.tasks)
    except CannotLoad as error:
        sys.stderr.write(error.report)
        print(error, file=sys.stderr, flush=True)
        return 1
    except CoserverError as error:
        print(error, file=sys.stderr, flush=True)
        return 1
    _Child(link, slots, Journal(spec.journal), spec.store).run()
    return 0


def _die_with(parent: int) -> None:
    """Have the kernel end this process when the worker's thread that started it ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


class Journal:
    """Frames in shared memory: eight bytes that say how many bytes follow, then these. The process writes it, and
    nobody else while it lives."""

    SIZE = 1 << 16

    def __init__(self, fd: int) -> None:
        """Share the memory of a file of `SIZE` bytes."""
        self._map = mmap.mmap(fd, self.SIZE)
        self._length = memoryview(self._map)[:_WORD].cast("q")

    def __bool__(self) -> bool:
        return self._length[0] > 0

    def add(self, frame: bytes | bytearray) -> bool:
        """Append a frame; False when there is no room."""
        begin = _WORD + self._length[0]
        if begin + len(frame) > self.SIZE:
            return False
        self._map[begin : begin + len(frame)] = bytes(frame)
        self._length[0] += len(frame)
        return True

    def read(self) -> bytes:
        """Return what lies there."""
        return self._map[_WORD : _WORD + self._length[0]]

    def clear(self) -> None:
        """All of it has been reported."""
        self._length[0] = 0

    def close(self) -> None:
        """Give the memory back."""
        self._length.release()
        self._map.close()


class _Running:
    """The job that runs, as its code reaches it (see `tasks.current.Control`)."""

    def __init__(self, item: Item, board: Board) -> None:
        self.item = item
        self._board = board
        self.cancelled = False

    def progress(self, fraction: float | None, note: str) -> None:
        """As `tasks.current.Control.progress`."""
        self._board.tell(self.item.id, self.item.claim, fraction, note)


class _Child:
    def __init__(self, link: socket.socket, slots: StartedSlots, journal: Journal, store: str) -> None:
        self._link = link
        self._slots = slots
        self._journal = journal
        self._store = store
        self._sending = threading.Lock()
        self._queue: SimpleQueue[Item | None] = SimpleQueue()
        self._flushed = 0.0
        self._current: _Running | None = None
        self._armed = False
        """whether the function of the current job is being called, and may be cut short"""
        self._halted: int | None = None
        self._ear, self._mouth = socket.socketpair()
        self._mouth.setblocking(False)
        self._board = Board(self._poke)
        self._context = contextvars.copy_context()

    # The jobs, in the main thread -----------------------------------------------------------------------------

    def run(self) -> None:
        """Work until the worker is gone or a job was stopped."""
        signal.signal(signal.SIGTERM, self._asked_to_end)
        talker = threading.Thread(target=self._talk, name="worker", daemon=True)
        talker.start()
        self._send(Ready())
        get, get_now = self._queue.get, self._queue.get_nowait
        while True:
            try:
                item = get_now()
            except Empty:
                self._flush()
                item = get()
            if item is None:
                return
            outcome = self._context.copy().run(self._attempt, item)
            self._tell(outcome)
            if self._halted is not None:
                self._flush()
                return
            if time.monotonic() - self._flushed > FLUSH:
                self._flush()

    def _attempt(self, item: Item) -> Outcome:
        claimed = item.claimed()
        self._current = here = _Running(item, self._board)
        if item.place is not None:
            self._slots.began(item.place, item.id)
        if item.tell:
            self._send(Began(item.id))
        at = time.time_ns()
        task = registry.get(item.task)
        outcome: Outcome
        readable = False
        followed = None
        try:
            if task is None:
                raise attempt.unknown(item.task)
            running.set(CurrentJob(item.id, item.attempt + 1, task.name, item.queue, None, here))
            if instrument.active is not None:
                followed = instrument.active.begin(claimed)
            args, kwargs = task.decode_args(item.args)
            readable = True
            value = self._call(task.function, args, kwargs)
            outcome = attempt.success(task, claimed, value, at, store=self._store)
        except BaseException as error:
            stop = None if self._halted is None else Stop.CANCEL
            outcome = attempt.failure(
                task, claimed, error, at, readable=readable, stop=stop, chance=random.random()
            )
        self._current = None
        if followed is not None:
            followed(outcome, False)
        return outcome

    def _call(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self._armed = True
        try:
            if self._halted is not None:
                raise SystemExit("the job was asked to stop")
            framework = around.active
            if inspect.iscoroutinefunction(function):
                made = function(*args, **kwargs)
                return asyncio.run(made if framework is None else around.wait(framework, made))
            if framework is None:
                return function(*args, **kwargs)
            return around.call(framework, function, args, kwargs)
        finally:
            self._armed = False

    def _asked_to_end(self, number: int, _frame: FrameType | None) -> None:
        if self._halted is None:  # somebody else asks: end as if nobody listened
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        here = self._current
        if self._armed and here is not None and here.item.id == self._halted:
            self._armed = False
            raise SystemExit("the job was asked to stop")

    # The worker, in the other thread --------------------------------------------------------------------------

    def _talk(self) -> None:
        decoder = to_child()
        try:
            while True:
                readable, _, _ = select.select([self._link, self._ear], [], [], self._patience())
                if self._ear in readable:
                    self._ear.recv(512)
                if self._link in readable:
                    data = self._link.recv(1 << 18)
                    if not data:
                        break
                    for message in decoder.feed(data):
                        self._hear(message)
                self._flush()
        except OSError:
            pass
        self._end()

    def _patience(self) -> float | None:
        """Seconds after which something has to be sent; None when only the worker or the job can change that."""
        rest = self._board.due() - time.monotonic()
        if self._journal or not self._queue.empty():
            return max(0.0, min(rest, FLUSH))
        return None if rest > 1e6 else max(0.0, rest)

    def _hear(self, message: Work | Recall | Halt) -> None:
        match message:
            case Work(items=items):
                for item in items:
                    self._queue.put(item)
            case Recall():
                self._send(Returned([item.id for item in self._unbegun()]))
            case Halt(id=id):
                self._halt(id)

    def _unbegun(self) -> list[Item]:
        taken: list[Item] = []
        with suppress(Empty):
            while (item := self._queue.get_nowait()) is not None:
                taken.append(item)
        return taken

    def _halt(self, id: int) -> None:
        taken = self._unbegun()
        for item in taken:
            if item.id != id:
                self._queue.put(item)
        if any(item.id == id for item in taken):
            self._send(Returned([id]))
            return
        here = self._current
        if here is not None and here.item.id == id:
            self._halted = id
            here.cancelled = True
            os.killpg(0, signal.SIGTERM)

    def _end(self) -> None:
        """The worker is gone, or done with us."""
        if self._current is None:
            self._queue.put(None)
            time.sleep(0.5)  # for the main thread to end the process in order
        os.killpg(0, signal.SIGKILL)

    # Both -----------------------------------------------------------------------------------------------------

    def _poke(self) -> None:
        with suppress(OSError):
            self._mouth.send(b".")

    def _tell(self, outcome: Outcome) -> None:
        """Put an outcome where it is not lost, after the last words of its job."""
        frame = encode(pack([outcome]))
        with self._sending:
            if self._board:
                words = self._board.take(time.monotonic(), [(outcome.id, outcome.claim)])
                if words:
                    frame = encode(_told(words)) + frame
            if not self._journal.add(frame):
                self._report()
                self._link.sendall(frame)

    def _flush(self) -> None:
        """Send what has ended and what is due of progress."""
        with self._sending:
            self._flushed = time.monotonic()
            if self._board.due() <= self._flushed:
                self._link.sendall(encode(_told(self._board.take(self._flushed))))
            self._report()

    def _report(self) -> None:
        if self._journal:
            self._link.sendall(self._journal.read())
            self._journal.clear()

    def _send(self, message: FromChild) -> None:
        with self._sending:
            self._link.sendall(encode(message))


def _told(words: list[Progress]) -> Told:
    return Told([(word.id, word.claim, word.fraction, word.note) for word in words])


if __name__ == "__main__":
    sys.exit(main())
