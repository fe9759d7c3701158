"""Running a program within limits: of time, of output, and of what it may leave behind.

Theory. A program gets a session of its own, so it and its children are one process group, and its output goes into two
pipes that are always emptied: of more than the limit the beginning and the end are kept, for the end says how it went.

It is over when the program itself has ended, or its time. Out of time, the group is asked to end (TERM) and gets a few
seconds for it; a cancelled job gives less. In every case, success included, whatever of the group is left is then
killed, while the ended program still holds the group's number: it is reaped last, so that number can mean nobody else.
Who left the group for a session of its own is found by a mark in its environment, where there is a /proc. A program
that hides from both, by wiping its environment and daemonizing, is out of reach here. One that became another user's
(`sudo`) cannot be killed by us either; its job does not wait for it, and the log says so.

Standard input is a file, not a pipe: nobody has to feed a program that does not read.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PATIENCE = 5.0
"""Seconds between TERM and KILL for a program whose time is up."""
HURRY = 1.0
"""The same, for one whose job was cancelled: the worker may be about to leave."""
LAST_WORDS = 1.0
"""Seconds for reading what is left in the pipes; longer only if somebody out of reach holds them."""
BEYOND = 5.0
"""Seconds after KILL until a program counts as one that we cannot end."""
SWEEPS = 20
"""Looks at most for marked processes; each ends those that the last one's fork left."""

_MARK = "COSERVER_COMMAND"
_beyond: list[subprocess.Popen[bytes]] = []
"""Programs that we could not end, kept so that they are reaped when they do."""

log = logging.getLogger("coserver.command")


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended. `status`: its exit status, or a signal's number below zero. `late`: its time was up.

    `stdout` and `stderr` are text; what was no UTF-8 stands there as `\\xff`. `seconds` it ran.
    """

    status: int
    stdout: str
    stderr: str
    seconds: float
    late: bool


class Kept:
    """The beginning and the end of a stream of bytes, `limit` bytes together."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._first = limit - limit // 2
        self._head = bytearray()
        self._tail = bytearray()
        self._total = 0

    def add(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        self._total += len(data)
        room = self._first - len(self._head)
        self._head += data[:room]
        self._tail += data[room:]
        if len(self._tail) > 2 * self._limit:
            self._trim()

    def _trim(self) -> None:
        del self._tail[: max(0, len(self._tail) - (self._limit - self._first))]

    def text(self) -> str:
        """Return what was kept as text that any store takes; says how much was left out where it was."""
        self._trim()
        if self._total <= self._limit:
            return _text(bytes(self._head + self._tail))
        head, tail = _whole_characters(bytes(self._head), bytes(self._tail))
        left = self._total - len(head) - len(tail)
        return f"{_text(head)}\n… {left} bytes left out …\n{_text(tail)}"


def _whole_characters(head: bytes, tail: bytes) -> tuple[bytes, bytes]:
    """Return both without the parts of a character that the cut went through."""
    for back in range(1, min(4, len(head) + 1)):
        byte = head[-back]
        if byte >= 0xC0:
            length = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            head = head[:-back] if length > back else head
            break
        if byte < 0x80:
            break
    begin = 0
    while begin < min(3, len(tail)) and 0x80 <= tail[begin] < 0xC0:
        begin += 1
    return head, tail[begin:]


def _text(data: bytes) -> str:
    return data.decode(errors="backslashreplace").replace("\0", "\\x00")


async def run(
    argv: Sequence[str],
    *,
    executable: str,
    cwd: str | None,
    env: Mapping[str, str],
    stdin: str | None,
    timeout: float,
    limit: int,
) -> Ended:
    """Run a program, no shell, and return how it ended; nothing of it is left then.

    `argv` are its words, `executable` its file, `env` its whole environment, `timeout` its seconds, `limit` the bytes
    kept of each output. Cancelled, it ends the program first. Raises OSError when the program cannot be started.
    """
    loop = asyncio.get_running_loop()
    _beyond[:] = [left for left in _beyond if left.poll() is None]
    mark = uuid.uuid4().hex
    with tempfile.TemporaryFile() as given:
        given.write((stdin or "").encode())
        given.seek(0)
        began = loop.time()
        process = subprocess.Popen(  # noqa: ASYNC220 - short: it returns as soon as the program is loaded
            list(argv),
            executable=executable,
            stdin=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd,
            env={**env, _MARK: mark},
            start_new_session=True,
            bufsize=0,
        )
    assert process.stdout is not None and process.stderr is not None
    pipes = [_Pipe(file.fileno(), limit) for file in (process.stdout, process.stderr)]
    end = _End(process)
    late = False
    try:
        if not await end.within(timeout):
            late = True
            await _ask(process, end, PATIENCE)
    except asyncio.CancelledError:
        await _ask(process, end, HURRY)
        raise
    finally:
        try:
            seconds = loop.time() - began
            _signal_group(process, signal.SIGKILL)
            await end.within(BEYOND)
            await asyncio.to_thread(_sweep, f"{_MARK}={mark}".encode())
            await asyncio.wait([pipe.ended for pipe in pipes], timeout=LAST_WORDS)
        finally:
            end.close()
            for pipe, file in zip(pipes, (process.stdout, process.stderr), strict=True):
                pipe.close()
                file.close()
            _reap(process, over=end.over)
    status = -signal.SIGKILL if process.returncode is None else process.returncode
    return Ended(status, pipes[0].kept.text(), pipes[1].kept.text(), seconds, late)


def _reap(process: subprocess.Popen[bytes], *, over: bool) -> None:
    if not over:
        _signal_group(process, signal.SIGKILL)
        try:
            process.wait(0.5)  # cancelled twice: nobody awaits any more
        except subprocess.TimeoutExpired:
            log.warning("program %d has not ended after KILL; it may be another user's now", process.pid)
            _beyond.append(process)
    else:
        process.wait()


async def _ask(process: subprocess.Popen[bytes], end: _End, patience: float) -> None:
    """Ask the group to end, and give it `patience` seconds."""
    _signal_group(process, signal.SIGTERM)
    # A stopped program hears nothing.
    _signal_group(process, signal.SIGCONT)
    await end.within(patience)


def _signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    if process.returncode is not None:
        return  # reaped: the number may be another's by now
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):
        pass  # nobody is left, or (macOS) only the ended program itself


class _End:
    """The end of a program that nobody reaps before `Popen.wait`."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._process = process
        self._fd: int | None = None
        try:
            self._fd = os.pidfd_open(process.pid)
        except (AttributeError, OSError):
            self._poll()  # not Linux, or not allowed
        else:
            self._loop.add_reader(self._fd, self._set)

    def _set(self) -> None:
        self.close()
        if not self._over.done():
            self._over.set_result(None)

    def _poll(self) -> None:
        if _has_ended(self._process):
            self._set()
        elif not self._over.done():
            self._loop.call_later(0.02, self._poll)

    @property
    def over(self) -> bool:
        """Whether it has come."""
        return self._over.done()

    async def within(self, timeout: float) -> bool:
        """Wait for the end, `timeout` seconds at most; whether it has come."""
        await asyncio.wait([self._over], timeout=timeout)
        return self.over

    def close(self) -> None:
        """Watch no longer."""
        if self._fd is not None:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = None


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether it has, without reaping it where the system can tell."""
    if not hasattr(os, "waitid"):
        return process.poll() is not None
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


class _Pipe:
    """Empties a pipe into `kept` until it `ended` or is closed here."""

    def __init__(self, fd: int, limit: int) -> None:
        self.kept = Kept(limit)
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self._fd: int | None = fd
        os.set_blocking(fd, False)
        self._loop.add_reader(fd, self._read)

    def _read(self) -> None:
        assert self._fd is not None
        try:
            data = os.read(self._fd, 65536)
        except BlockingIOError:
            return
        if data:
            self.kept.add(data)
        else:
            self.close()

    def close(self) -> None:
        """Read no more."""
        if self._fd is not None:
            self._loop.remove_reader(self._fd)
            self._fd = None
        if not self.ended.done():
            self.ended.set_result(None)


def _sweep(mark: bytes) -> None:
    """Kill every process with the mark in its environment. Blocks for some ten microseconds per process there is."""
    once = False
    for _ in range(SWEEPS):
        found = [pid for pid in _processes() if mark in _environment(pid) and _kill(pid, mark)]
        if not found and not once:
            return
        # Whoever was found may have forked in between: done when a look after that shows nobody.
        once = bool(found)
        time.sleep(0.005)


def _processes() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdecimal()]  # noqa: PTH208 - twice as fast
    except OSError:
        return []


def _environment(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


def _kill(pid: int, mark: bytes) -> bool:
    """Kill a process if it still is the one that was found."""
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        if mark not in _environment(pid):
            return False
        signal.pidfd_send_signal(fd, signal.SIGKILL)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True
