"""The only reader of the site's output pipes: what processes print goes to their log files, whatever happens.

One self-contained file, run by path in an isolated interpreter (`python -I -S output.py FD`), small enough
to be there always and simple enough to be killed at any moment. The keeper starts it, gives it pipes and
starts it again at once.

Theory
------
*Who owns what.* The keeper holds duplicates of every pipe and of the current file, so nothing is closed
when this process dies. The kernel holds the bytes: they lie in the pipe until one `splice` has put them
into the file, and a killed splice moves exactly the bytes that it has written. No byte is ever in this
process's memory only, hence none is lost and none is written twice, at whatever instruction the process
ends. (Where a file system cannot splice, bytes are copied, and that promise shrinks to "between two
calls".)

*The end of the file is the truth.* Each chunk is appended at the file's end as it is now; no offset is
remembered that a restart or somebody's `truncate` could make wrong.

*The index* `PATH.idx` holds records of sixteen bytes: an offset in the file and the wall time in
microseconds since 1970 when the bytes from there on came, both little-endian unsigned. A record is written
*before* its chunk, at most one per millisecond. It is a hint: records may be missing at the end, or promise
an offset that is not there yet.

*Rotation* keeps lines whole. A file past its limit is cut after the last line end of the newest chunk; what
follows the cut becomes the start of the next file. Steps, each of which a restart can find and finish:
  1. copy what follows the cut to `PATH.new`;
  2. rename it `PATH.next-CUT`: from here on the rotation has happened;
  3. cut `PATH` at CUT;
  4. rename `PATH.1` to `PATH.2` and so on, oldest first, and `PATH` to `PATH.1`;
  5. rename `PATH.next-CUT` to `PATH`.
A line longer than the limit is split only when the file has reached twice the limit.

*Several pipes may feed one file*: a run's descendants may hold its pipe while the next run already prints.
When another pipe takes over in the middle of a line, a line end is put between them.

*A child never waits for a disk.* When the file cannot be written, its bytes are discarded and counted;
stderr says so once a minute, and the file itself says so, at the place, as soon as it can be written again.

*Pauses.* A pipe holds 64 KiB. While a process prints much (a mebibyte in 50 ms) its pipe grows to 1 MiB, if
the user's budget of pipe memory allows, and after a small read it is left alone for a millisecond, so that
few system calls move many bytes. Only grown pipes pause; they shrink after a quiet second.

Conversation
------------
Frames on the stream socket FD, both ways: payload length (4 bytes, big-endian), number of descriptors that
belong to the frame (1 byte), payload (a JSON object). Descriptors come by SCM_RIGHTS with the frame's
bytes, in order.

  keeper: {"op":"attach","id","stream":"out"|"err","path","max_bytes","keep"} + [pipe] or, after a restart, [pipe, file]
          {"op":"detach","id"}: take what is in its pipes now, then close them
  output: {"op":"file","id","stream"} + [file] whenever a pipe's current file has changed
          {"op":"closed","id","stream","bytes","discarded"} after the last byte; counted since this process began

`max_bytes` 0 never rotates; `keep` is the number of older files beside the current one. When the keeper's
end closes, the processes are about to be stopped by somebody else: their last words are still taken until
every pipe is closed or half a minute has passed.
"""

from __future__ import annotations

import array
import errno
import fcntl
import json
import os
import resource
import select
import signal
import socket
import struct
import sys
import time
from collections import deque

PIPE_SMALL = 64 * 1024
PIPE_LARGE = 1024 * 1024
PAGE = 4096
BLOCK = 64 * 1024  # bytes looked at or copied at once

STAMP = struct.Struct("<QQ")  # offset in the file, microseconds since 1970
STAMP_EVERY = 1_000  # microseconds

BUSY_BYTES = 1024 * 1024
BUSY_SECONDS = 0.05
QUIET_SECONDS = 1.0
PAUSE = 0.001
BUDGET_RETRY = 10.0

RETRY = 1.0  # seconds between attempts to write a file that failed
SAY_EVERY = 60.0
LINGER = 30.0

FRAME_HEAD = struct.Struct(">IB")
FRAME_MAX = 16 * 1024 * 1024
FDS_MAX = 253  # the kernel's limit per message
FIONREAD = 0x541B  # Linux; `termios` would have it, for the price of one more module
SPLICE_FLAGS = 3  # SPLICE_F_MOVE | SPLICE_F_NONBLOCK


# ------------------------------------------------------------------------------------------------------------- frames


class FrameError(Exception):
    """The other side does not speak the protocol: the conversation cannot go on."""


def encode(message: dict[str, object], fds: int = 0) -> bytes:
    """One frame that states `fds` descriptors; they must be sent with its first byte."""
    payload = json.dumps(message, separators=(",", ":")).encode()
    if len(payload) > FRAME_MAX or fds > FDS_MAX:
        raise FrameError(
            f"cannot send a frame of {len(payload)} bytes and {fds} descriptors: it is over the limit"
        )
    return FRAME_HEAD.pack(len(payload), fds) + payload


class Decoder:
    """Bytes and descriptors in, whole messages out. Descriptors are handed out in the order in which they came."""

    __slots__ = ("_bytes", "_fds")

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._fds: deque[int] = deque()

    def feed(self, data: bytes, fds: list[int]) -> list[tuple[dict[str, object], list[int]]]:
        """The messages that `data` completes, each with its descriptors, which the caller then owns.

        Raises FrameError when the bytes are no frame, or when a frame names descriptors that did not come.
        """
        self._bytes += data
        self._fds.extend(fds)
        messages = []
        while len(self._bytes) >= FRAME_HEAD.size:
            length, count = FRAME_HEAD.unpack_from(self._bytes)
            if length > FRAME_MAX:
                raise FrameError(f"cannot read a frame of {length} bytes: the limit is {FRAME_MAX}")
            end = FRAME_HEAD.size + length
            if len(self._bytes) < end:
                break
            if len(self._fds) < count:
                raise FrameError(
                    f"cannot read a frame: it names {count} descriptors and {len(self._fds)} came"
                )
            try:
                message = json.loads(bytes(self._bytes[FRAME_HEAD.size : end]))
            except ValueError as error:
                raise FrameError(f"cannot read a frame: {error}") from None
            if not isinstance(message, dict):
                raise FrameError("cannot read a frame: it is not a JSON object")
            del self._bytes[:end]
            messages.append((message, [self._fds.popleft() for _ in range(count)]))
        return messages

    def close(self) -> None:
        """Close descriptors that no message claimed."""
        while self._fds:
            os.close(self._fds.popleft())


# --------------------------------------------------------------------------------------------------------- small tools


def write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def move(old: str, new: str) -> None:
    """Rename, or, where there is nothing to rename, see to it that `new` is not there either."""
    try:
        os.replace(old, new)
    except FileNotFoundError:
        remove(new)


def say(text: str) -> None:
    """One line on stderr, unless whoever reads it has stopped reading: output must never wait."""
    ready = select.poll()
    try:
        ready.register(2, select.POLLOUT)
        if any(mask & select.POLLOUT for _, mask in ready.poll(0)):
            os.write(2, f"coserver output: {text}\n".encode(errors="backslashreplace"))
    except OSError:
        pass  # nobody listens


def read_number(path: str, default: int) -> int:
    try:
        with open(path, encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return default


# ---------------------------------------------------------------------------------------------------------------- logs


class Log:
    """One file with its index and its older ones. Raises nothing: a failure is a state (`failure`), left by `ready`."""

    __slots__ = (
        "discarded", "end", "failing", "failure", "fd", "index", "keep", "look_at", "max_bytes", "owner", "path",
        "retry_at", "rotate_from", "said_at", "splices", "stamped", "users",
    )  # fmt: skip

    def __init__(self, path: str, max_bytes: int, keep: int, failing: set[Log]) -> None:
        self.path = path
        self.max_bytes = max_bytes
        self.keep = keep
        self.users: list[Stream] = []
        self.owner: Stream | None = None  # whose bytes are last in the file; None: not known
        self.fd = -1
        self.index = -1
        self.end = 0
        self.stamped = 0  # wall time of the newest index record
        self.rotate_from = max_bytes  # size from which a rotation is tried
        self.splices = True
        self.failing = failing  # of all logs, those that must be tried again
        self.failure = ""
        self.discarded = 0  # since the file could not be written
        self.look_at = 0.0  # when to see whether PATH is still this file
        self.retry_at = 0.0
        self.said_at = -SAY_EVERY

    # -- opening

    def ready(self, now: float) -> bool:
        """Whether the file can be written now; after a failure, try again once a second."""
        if self.fd >= 0 and not self.failure:
            return True
        if now < self.retry_at:
            return False
        try:
            if self.fd < 0:
                self._open()
            if self.discarded:
                self._mark_gap()
        except OSError as error:
            self.fail(error, now)
            return False
        self.failure = ""
        self.failing.discard(self)
        self.discarded = 0
        return True

    def adopt(self, fd: int) -> None:
        """Go on in the file that the keeper held, where PATH itself cannot be opened now."""
        self.fd = os.dup(fd)
        self.end = os.lseek(self.fd, 0, os.SEEK_END)
        self.failure = ""
        self.failing.discard(self)
        self._open_index(self.path + ".idx")
        self._announce()

    def _open(self) -> None:
        directory = os.path.dirname(self.path) or "."
        os.makedirs(directory, mode=0o700, exist_ok=True)
        self._recover(directory)
        # Reading is needed to find line ends; not O_APPEND, because splice refuses it.
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY, 0o600)
        self.close_file()
        self.fd = fd
        self.end = os.lseek(fd, 0, os.SEEK_END)
        self._open_index(self.path + ".idx")
        self._announce()

    def _look(self, now: float) -> None:
        """Once a second: if somebody moved or removed PATH, begin a new one as soon as that is possible."""
        self.look_at = now + RETRY
        try:
            there = os.stat(self.path).st_ino == os.fstat(self.fd).st_ino
        except OSError:
            there = False
        if not there:
            try:
                self._open()
            except OSError:
                pass  # the file at hand is better than none

    def _recover(self, directory: str) -> None:
        """Finish the rotation that an earlier process had begun, and forget one that had not happened yet."""
        try:
            remove(self.path + ".new")
        except OSError:
            pass  # the next rotation will say what is wrong
        prefix = os.path.basename(self.path) + ".next-"
        for name in os.listdir(directory):
            if name.startswith(prefix) and name[len(prefix) :].isdigit():
                self._finish_rotation(int(name[len(prefix) :]))
        kept = self.keep + 1
        while os.path.lexists(f"{self.path}.{kept}"):  # `keep` was greater once
            remove(f"{self.path}.{kept}")
            remove(f"{self.path}.{kept}.idx")
            kept += 1

    def _open_index(self, path: str) -> None:
        """A log without timestamps is better than no log: failing here is no failure of the log."""
        self.stamped = 0
        try:
            self.index = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            size = os.lseek(self.index, 0, os.SEEK_END) // STAMP.size * STAMP.size
            if size:
                offset, _ = STAMP.unpack(os.pread(self.index, STAMP.size, size - STAMP.size))
                if offset > self.end:  # of a file that is gone
                    size = 0
            os.ftruncate(self.index, size)
        except OSError as error:
            say(f"cannot write {path}: {error.strerror}; its lines will have no time")
            self._close_index()

    def _close_index(self) -> None:
        if self.index >= 0:
            os.close(self.index)
            self.index = -1

    def _announce(self) -> None:
        for stream in self.users:
            stream.announce()

    # -- writing

    def accept(self, stream: Stream, limit: int, now: float) -> int | None:
        """Move up to `limit` bytes from the pipe to the file, or away. 0 at its end, None if nothing is there."""
        if not self.ready(now):
            return self._discard(stream, limit)
        try:
            if now >= self.look_at:
                self._look(now)
            if self.owner is not stream:
                self._take_over(stream)
            start = os.lseek(self.fd, 0, os.SEEK_END)
            if start < self.end and self.index >= 0:  # somebody emptied the file
                os.ftruncate(self.index, 0)
                self.stamped = 0
            self.end = start
            self._stamp(start)
            moved = self._move(stream.pipe, limit)
        except BlockingIOError:
            return None
        except OSError as error:
            self.fail(error, now)
            return self._discard(stream, limit)
        self.end = start + moved
        if self.max_bytes and moved and self.end > self.rotate_from:
            self._rotate_within(start, now)
        return moved

    def room(self, most: int) -> int:
        """How many bytes, up to `most`, to move at once: small steps at the limit keep files near it."""
        if not self.max_bytes:
            return most
        return min(most, max(self.max_bytes - self.end, 0) + max(PAGE, self.max_bytes // 64))

    def _move(self, pipe: int, limit: int) -> int:
        if self.splices:
            try:
                return os.splice(pipe, self.fd, limit, flags=SPLICE_FLAGS)
            except AttributeError:  # not Linux
                self.splices = False
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
                    raise
                self.splices = False  # a file system that cannot
        data = os.read(pipe, min(limit, BLOCK))
        try:
            write_all(self.fd, data)
        except OSError:
            self.discarded += len(data)
            raise
        return len(data)

    def _take_over(self, stream: Stream) -> None:
        """Another pipe begins a line of its own. A pipe that was here before a restart goes on where it was."""
        end = os.lseek(self.fd, 0, os.SEEK_END)
        if not (self.owner is None and stream.resumed) and end and os.pread(self.fd, 1, end - 1) != b"\n":
            write_all(self.fd, b"\n")
        self.owner = stream

    def _stamp(self, offset: int) -> None:
        if self.index < 0:
            return
        wall = time.time_ns() // 1000
        if 0 <= wall - self.stamped < STAMP_EVERY:
            return
        try:
            os.write(self.index, STAMP.pack(offset, wall))
            self.stamped = wall
        except OSError:
            # Full disk: the log itself will fail next and say so. Never leave half a record.
            try:
                os.ftruncate(self.index, os.lseek(self.index, 0, os.SEEK_END) // STAMP.size * STAMP.size)
            except OSError:
                self._close_index()

    def _mark_gap(self) -> None:
        end = os.lseek(self.fd, 0, os.SEEK_END)
        broken = end and os.pread(self.fd, 1, end - 1) != b"\n"
        line = f"*** coserver: {self.discarded} bytes of output are missing here: {self.failure} ***\n"
        self._stamp(end)
        try:
            write_all(self.fd, ("\n" * broken + line).encode(errors="backslashreplace"))
        except OSError:
            os.ftruncate(self.fd, end)
            raise
        say(f"{self.path} can be written again; {self.discarded} bytes of output were discarded")
        self.said_at = -SAY_EVERY

    def fail(self, error: OSError, now: float) -> None:
        self.failure = error.strerror or str(error)
        self.failing.add(self)
        self.retry_at = now + RETRY
        if now - self.said_at >= SAY_EVERY:
            self.said_at = now
            mend = "free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "make it writable"
            say(f"cannot write {self.path}: {self.failure}; {mend}; until then its output is discarded")

    def _discard(self, stream: Stream, limit: int) -> int | None:
        try:
            gone = len(os.read(stream.pipe, min(limit, BLOCK)))
        except BlockingIOError:
            return None
        self.discarded += gone
        stream.discarded += gone
        return gone

    # -- rotation

    def _rotate_within(self, start: int, now: float) -> None:
        """Rotate after the last line end in the chunk that began at `start`; without one, wait for the next chunk."""
        try:
            cut = self._last_line_end(start)
            if cut < 0:
                if self.end < 2 * self.max_bytes:
                    return
                cut = self.end
            fresh = self._copy_tail(cut)
        except OSError as error:
            # The old file goes on to grow, and another attempt comes with the next mebibyte.
            self.rotate_from = self.end + BUSY_BYTES
            if now - self.said_at >= SAY_EVERY:
                self.said_at = now
                say(f"cannot rotate {self.path}: {error.strerror}; it goes on growing; mend its directory")
            return
        self.rotate_from = self.max_bytes
        try:
            os.rename(self.path + ".new", f"{self.path}.next-{cut}")
            self._finish_rotation(cut)
        except OSError as error:
            os.close(fresh)
            self.close_file()
            self.fail(error, now)
            return
        stamped = self.stamped
        self.close_file()
        self.fd = fresh
        self.end = os.lseek(fresh, 0, os.SEEK_END)
        self._open_index(self.path + ".idx")
        if self.end and self.index >= 0:
            try:
                os.write(self.index, STAMP.pack(0, stamped))
                self.stamped = stamped
            except OSError:
                self._close_index()
        self._announce()

    def _last_line_end(self, start: int) -> int:
        """The offset after the last line feed from `start` on; -1 if there is none."""
        high = self.end
        while high > start:
            low = max(start, high - BLOCK)
            found = os.pread(self.fd, high - low, low).rfind(b"\n")
            if found >= 0:
                return low + found + 1
            high = low
        return -1

    def _copy_tail(self, cut: int) -> int:
        fresh = os.open(self.path + ".new", os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            while cut < self.end:
                block = os.pread(self.fd, min(BLOCK, self.end - cut), cut)
                if not block:
                    break
                write_all(fresh, block)
                cut += len(block)
        except OSError:
            os.close(fresh)
            remove(self.path + ".new")
            raise
        return fresh

    def _finish_rotation(self, cut: int) -> None:
        """Steps 3 to 5; may be repeated from any point between them."""
        path = self.path
        if os.path.exists(path):
            if os.path.getsize(path) > cut:
                os.truncate(path, cut)
            # Up to the first gap: an interrupted shift has left one, and what is above it has moved already.
            last = 1
            while last < self.keep and os.path.exists(f"{path}.{last}"):
                last += 1
            for number in range(last, 0, -1) if self.keep else ():
                older = f"{path}.{number - 1}" if number > 1 else path
                move(older + ".idx", f"{path}.{number}.idx")
                move(older, f"{path}.{number}")
            if not self.keep:
                remove(path + ".idx")
                remove(path)
        os.rename(f"{path}.next-{cut}", path)

    def close_file(self) -> None:
        self._close_index()
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


# --------------------------------------------------------------------------------------------------------------- pipes


class Stream:
    """One pipe: where its bytes go, how much of it the kernel may hold, and whether it rests."""

    __slots__ = (
        "announced", "bytes", "capacity", "closed", "discarded", "id", "log", "name", "output", "pipe", "resting",
        "resumed", "tally", "tally_since",
    )  # fmt: skip

    def __init__(
        self, output: Output, id_: str, name: str, pipe: int, log: Log, resumed: bool, now: float
    ) -> None:
        self.output = output
        self.id = id_
        self.name = name
        self.pipe = pipe
        self.log = log
        self.resumed = resumed
        self.bytes = 0
        self.discarded = 0
        self.capacity = PIPE_SMALL
        self.tally = 0
        self.tally_since = now
        self.resting = False
        self.announced = False  # the keeper is going to be told of the current file
        self.closed = False

    def announce(self) -> None:
        if not self.announced and not self.closed:
            self.announced = True
            self.output.news.append(self)


class Output:
    """The loop: pipes to files, one chunk per ready pipe and round, so that no child can drown the others."""

    def __init__(self, control: socket.socket) -> None:
        self.control: socket.socket | None = control
        self.decoder = Decoder()
        self.poll = select.epoll()
        self.streams: dict[int, Stream] = {}
        self.logs: dict[str, Log] = {}
        self.failing: set[Log] = set()
        self.news: deque[Stream | dict[str, object]] = deque()  # to be told to the keeper, oldest first
        self.half_sent = b""
        self.control_mask = select.EPOLLIN
        self.resting: deque[tuple[float, Stream]] = deque()
        self.grown: set[Stream] = set()
        self.grow_at = 0.0
        self.check_at = 0.0
        self.leave_at: float | None = None
        self.large = min(PIPE_LARGE, read_number("/proc/sys/fs/pipe-max-size", PIPE_LARGE))
        # Others of this user need pipes too: take at most a quarter of the budget.
        budget = read_number("/proc/sys/fs/pipe-user-pages-soft", 16384) * PAGE or 64 * PIPE_LARGE
        self.may_grow = budget // 4 // self.large if self.large > PIPE_SMALL else 0
        control.setblocking(False)
        self.poll.register(control.fileno(), select.EPOLLIN)

    def run(self) -> None:
        """Until the keeper has gone and the pipes with it."""
        while self.control is not None or self.streams:
            events = self.poll.poll(self._timeout(time.monotonic()))
            now = time.monotonic()
            if self.leave_at is not None and now >= self.leave_at:
                break
            for fd, _ in events:
                stream = self.streams.get(fd)
                if stream is not None:
                    self._serve(stream, now)
                elif self.control is not None and fd == self.control.fileno():
                    self._hear(now)
            while self.resting and self.resting[0][0] <= now:
                self._wake(self.resting.popleft()[1])
            if now >= self.check_at:
                self._check(now)
            if self.news and self.control is not None:
                self._tell()
        for stream in list(self.streams.values()):
            self._drain(stream, time.monotonic())

    def _timeout(self, now: float) -> float | None:
        if self.resting:
            return PAUSE
        waits = [self.leave_at] if self.leave_at is not None else []
        if self.grown or self.failing:
            waits.append(self.check_at)
        return max(0.0, min(waits) - now) if waits else None

    # -- pipes

    def _serve(self, stream: Stream, now: float) -> None:
        room = stream.log.room(stream.capacity)
        moved = stream.log.accept(stream, room, now)
        if moved is None:
            return
        if not moved:
            self._close(stream)
            return
        stream.bytes += moved
        stream.tally += moved
        if stream.tally >= BUSY_BYTES:
            busy = now - stream.tally_since < BUSY_SECONDS
            stream.tally = 0
            stream.tally_since = now
            if busy and stream.capacity == PIPE_SMALL:
                self._grow(stream, now)
        if stream.capacity > PIPE_SMALL and moved < room * 3 // 4 and not stream.resting:
            stream.resting = True
            self.resting.append((now + PAUSE, stream))
            self.poll.modify(stream.pipe, 0)

    def _wake(self, stream: Stream) -> None:
        stream.resting = False
        if not stream.closed:
            self.poll.modify(stream.pipe, select.EPOLLIN)

    def _grow(self, stream: Stream, now: float) -> None:
        if len(self.grown) >= self.may_grow or now < self.grow_at:
            return
        try:
            stream.capacity = fcntl.fcntl(stream.pipe, fcntl.F_SETPIPE_SZ, self.large)
        except OSError:  # EPERM: the user's budget is used up, by whomever
            self.grow_at = now + BUDGET_RETRY
            return
        self.grown.add(stream)
        self.check_at = min(self.check_at, now + QUIET_SECONDS)

    def _shrink(self, stream: Stream) -> None:
        try:
            fcntl.fcntl(stream.pipe, fcntl.F_SETPIPE_SZ, PIPE_SMALL)
        except OSError:
            return  # EBUSY: it holds more than that; later
        stream.capacity = PIPE_SMALL
        self.grown.discard(stream)

    def _check(self, now: float) -> None:
        """Once a second while there is cause: shrink quiet pipes, try failed files."""
        self.check_at = now + QUIET_SECONDS
        for stream in list(self.grown):
            if now - stream.tally_since > QUIET_SECONDS:
                self._shrink(stream)
        for log in list(self.failing):
            log.ready(now)

    def _drain(self, stream: Stream, now: float) -> None:
        """Take what is in the pipe now, however fast somebody fills it, then close."""
        count = array.array("i", [0])
        fcntl.ioctl(stream.pipe, FIONREAD, count)
        left = count[0]
        while left > 0:
            moved = stream.log.accept(stream, stream.log.room(left), now)
            if not moved:
                break
            stream.bytes += moved
            left -= moved
        self._close(stream)

    def _close(self, stream: Stream) -> None:
        self.poll.unregister(stream.pipe)
        del self.streams[stream.pipe]
        os.close(stream.pipe)
        stream.closed = True
        self.grown.discard(stream)
        log = stream.log
        log.users.remove(stream)
        if not log.users:
            if log.failure:
                log.retry_at = 0.0
                log.ready(time.monotonic())  # the last chance to say what is missing
            log.close_file()
            self.failing.discard(log)
            del self.logs[log.path]
        self.news.append(
            {
                "op": "closed",
                "id": stream.id,
                "stream": stream.name,
                "bytes": stream.bytes,
                "discarded": stream.discarded,
            }
        )

    # -- the keeper

    def _hear(self, now: float) -> None:
        assert self.control is not None
        try:
            data, ancillary, _, _ = self.control.recvmsg(BLOCK, socket.CMSG_SPACE(FDS_MAX * 4))
        except BlockingIOError:  # it only has room again
            return self._tell()
        except ConnectionError:
            data, ancillary = b"", []
        fds = array.array("i")
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(payload[: len(payload) // fds.itemsize * fds.itemsize])
        if not data:
            return self._lose_keeper(now)
        try:
            for message, passed in self.decoder.feed(data, fds.tolist()):
                self._obey(message, passed, now)
        except FrameError as error:
            say(f"{error}; the keeper and this file are of different versions")
            self._lose_keeper(now)
        if self.control is not None:
            self._tell()
        return None

    def _lose_keeper(self, now: float) -> None:
        assert self.control is not None
        self.poll.unregister(self.control.fileno())
        self.control.close()
        self.control = None
        self.decoder.close()
        self.news.clear()
        self.leave_at = now + LINGER

    def _obey(self, message: dict[str, object], fds: list[int], now: float) -> None:
        match message:
            case {"op": "attach", "id": str(id_), "stream": str(name), "path": str(path), **rest} if fds:
                max_bytes, keep = rest.get("max_bytes"), rest.get("keep")
                if isinstance(max_bytes, int) and isinstance(keep, int):
                    self._attach(id_, name, path, max_bytes, keep, fds, now)
                    return
            case {"op": "detach", "id": str(id_), **rest}:
                only = rest.get("stream")
                for stream in list(self.streams.values()):
                    if stream.id == id_ and only in (None, stream.name):
                        self._drain(stream, now)
                return
        for fd in fds:
            os.close(fd)
        say(f"cannot follow the keeper's message {message!r:.200}: it is not known here")

    def _attach(
        self, id_: str, name: str, path: str, max_bytes: int, keep: int, fds: list[int], now: float
    ) -> None:
        pipe = fds[0]
        os.set_blocking(pipe, False)
        log = self.logs.get(path)
        if log is None:
            log = self.logs[path] = Log(path, max_bytes, keep, self.failing)
        log.max_bytes, log.keep = max_bytes, keep  # the newest run's word counts
        log.rotate_from = max_bytes
        stream = Stream(self, id_, name, pipe, log, len(fds) > 1, now)
        log.users.append(stream)
        self.streams[pipe] = stream
        self.poll.register(pipe, select.EPOLLIN)
        opened = log.fd >= 0
        if not log.ready(now) and len(fds) > 1 and log.fd < 0:
            log.adopt(fds[1])
        if opened:
            stream.announce()
        for fd in fds[1:]:
            os.close(fd)
        try:
            stream.capacity = max(PIPE_SMALL, fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ))
        except OSError:
            pass  # not a pipe: read it all the same
        if stream.capacity > PIPE_SMALL:
            self.grown.add(stream)
            self.check_at = min(self.check_at, now + QUIET_SECONDS)

    def _tell(self) -> None:
        """Send the news that the keeper's socket takes; the rest goes when it has room again."""
        assert self.control is not None
        try:
            while True:
                if self.half_sent:
                    self.half_sent = self.half_sent[self.control.send(self.half_sent) :]
                    continue
                if not self.news:
                    break
                news = self.news[0]
                if isinstance(news, Stream):
                    if news.closed or news.log.fd < 0:
                        news.announced = False
                        self.news.popleft()
                        continue
                    frame = encode({"op": "file", "id": news.id, "stream": news.name}, 1)
                    sent = socket.send_fds(self.control, [frame], [news.log.fd])
                    news.announced = False
                else:
                    frame = encode(news)
                    sent = self.control.send(frame)
                self.news.popleft()
                self.half_sent = frame[sent:]
        except BlockingIOError:
            pass
        except OSError:
            self.half_sent = b""
            self.news.clear()  # the keeper has gone: reading its socket will say so
            return
        mask = select.EPOLLIN | (select.EPOLLOUT if self.news or self.half_sent else 0)
        if mask != self.control_mask:
            self.control_mask = mask
            self.poll.modify(self.control.fileno(), mask)


def main() -> None:
    # Terminals, init systems and impatient people signal whole groups; only the end of all pipes ends this process.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    os.umask(0o077)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):
        pass  # then as many files as the soft limit allows
    Output(socket.socket(fileno=int(sys.argv[1]))).run()


if __name__ == "__main__":
    main()
