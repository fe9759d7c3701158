"""The keeper: the parent of every process of a site. Mechanism only; all policy is the node's.

This file is run by path under `python -I -S`, needs nothing but a few modules of the standard library, and
stays small: it is what a site cannot do without, PID 1 in a container, and it must never be the reason for
a restart. It knows no configuration. It starts processes, keeps what must outlive the node, and tells what
happened.

    keeper ─┬─ output     the reader of all output pipes (output.py beside this file)
            ├─ node       policy; talks to the keeper over a socket pair
            ├─ leaders    one per spawn request, each in a session of its own
            └─ adoptees   orphans of the above, which come here because the keeper is their subreaper

States of a run, by key. The row of a run stays until the node acknowledges its end; an end is told to every
new node until then:

    (none) ─ spawn ─▶ starting ─ exec confirmed ─▶ running ─ leader ends ─▶ exited ─ ack ─▶ (none)
                          └──── a step before or at exec fails ───────────▶ failed ─ ack ─▶ (none)

What holds:

* Spawning happens here and nowhere else. Every process is recorded in the table file before its exec, by
  itself, so that no crash at any moment leaves a process that nobody can find. Whether exec succeeded is
  told by a close-on-exec pipe.
* A leader that ended is left as a zombie until `ack`, so that its process id cannot come to mean another
  process: signals by key never hit a stranger. Adoptees are reaped one by one. Nobody waits for "any
  child", which would steal a status.
* The node may die at any moment. Its successor gets the whole table in its welcome. What the dead one had
  written to its socket is still carried out.
* Output may die at any moment. The keeper has duplicates of each pipe's read end and of each file, so no
  byte is lost.
* Ending: TERM, INT, HUP or QUIT asks the node, which stops everything in order and answers with `finish`.
  If it is silent, dies twice or a third signal comes, the keeper stops the children itself. Exit status:
  what `finish` says; 70 if the keeper had to do it alone; 128 + signal after the third signal; a first
  node's own status if it never greeted.
* One thread, one epoll, no waiting anywhere else. Timers are few and named. Idle it wakes once per ping.

Frames: a header (payload length, number of descriptors), a JSON object in ASCII with bytes as surrogate
escapes, and the descriptors beside the frame's first byte, consumed in order. See `Channel`.
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

MYPY = False
if MYPY:  # `typing` costs half a megabyte at run time; type checkers take MYPY for true
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Any, NoReturn

    Message = dict[str, Any]

PROTOCOL = 1

# ------------------------------------------------------------------------------------------------------------- frames

MAX_DESCRIPTORS = 253  # the kernel's limit for one message (SCM_MAX_FD)
MAX_PAYLOAD = 16 * 1024 * 1024
CHUNK = 64 * 1024
HEADER = struct.Struct("!IB")


class FrameError(Exception):
    """The other side sent what is no frame, or descriptors were lost on the way. The connection is of no
    more use."""


def encode_frame(message: Message, descriptors: int = 0) -> bytes:
    """The bytes of one frame that consumes so many `descriptors`. Raises FrameError if it would be too
    large."""
    payload = json.dumps(message, separators=(",", ":")).encode("ascii")
    if len(payload) > MAX_PAYLOAD or descriptors > MAX_DESCRIPTORS:
        raise FrameError(f"a frame of {len(payload)} bytes and {descriptors} descriptors is too large")
    return HEADER.pack(len(payload), descriptors) + payload


class FrameReader:
    """Bytes and descriptors in, frames out; without any input or output of its own.

    Descriptors arrive no later than the first byte of the frame that consumes them, in order: so the next
    ones in the queue are always the next frame's.
    """

    __slots__ = ("_bytes", "_descriptors")

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._descriptors: list[int] = []

    def feed(self, data: bytes, descriptors: Iterable[int] = ()) -> None:
        """Take what was received together."""
        self._bytes += data
        self._descriptors += descriptors

    def take(self) -> tuple[Message, list[int]] | None:
        """The next whole frame with its descriptors, which then belong to the caller; None if there is none
        yet."""
        if len(self._bytes) < HEADER.size:
            return None
        length, count = HEADER.unpack_from(self._bytes)
        if length > MAX_PAYLOAD or count > MAX_DESCRIPTORS:
            raise FrameError(f"a frame claims {length} bytes and {count} descriptors")
        end = HEADER.size + length
        if len(self._bytes) < end:
            return None
        try:
            message = json.loads(self._bytes[HEADER.size : end])
        except (ValueError, RecursionError) as error:
            raise FrameError(f"a frame is no JSON: {error}") from None
        if not isinstance(message, dict) or not isinstance(message.get("op"), str):
            raise FrameError("a frame names no operation")
        if len(self._descriptors) < count:
            raise FrameError(f"a frame lacks {count - len(self._descriptors)} of its descriptors")
        descriptors = self._descriptors[:count]
        del self._descriptors[:count]
        del self._bytes[:end]
        return message, descriptors

    def drop(self) -> None:
        """Forget what is left and close descriptors nobody took."""
        close_all(self._descriptors)
        self._descriptors = []
        self._bytes.clear()


class Channel:
    """Frames over a connected stream socket, which it owns. Never blocks: what cannot be written waits in a
    queue.

    The owner watches `fileno()` for reading always, and for writing while `flush()` says False. Descriptors
    that have to wait are duplicated, so a sender may close its own as soon as `send` returns.
    """

    __slots__ = ("_queue", "_reader", "_socket")

    def __init__(self, connected: socket.socket) -> None:
        connected.setblocking(False)
        connected.set_inheritable(False)
        self._socket = connected
        self._reader = FrameReader()
        self._queue: list[tuple[memoryview, list[int]]] = []

    def fileno(self) -> int:
        """The descriptor to watch."""
        return self._socket.fileno()

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Write a frame, or queue what does not fit. Raises OSError if the other side is gone."""
        data = memoryview(encode_frame(message, len(descriptors)))
        sent = 0 if self._queue else self._write(data, descriptors)
        if sent < len(data):
            # the descriptors went with the first byte, if there was one
            waiting = [] if sent else [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3) for fd in descriptors]
            self._queue.append((data[sent:], waiting))

    def flush(self) -> bool:
        """Write what waits; True when nothing waits any more. Raises OSError if the other side is gone."""
        while self._queue:
            data, descriptors = self._queue[0]
            sent = self._write(data, descriptors)
            if sent:
                close_all(descriptors)
                descriptors = []
            if sent < len(data):
                self._queue[0] = (data[sent:], descriptors)
                return False
            del self._queue[0]
        return True

    def _write(self, data: memoryview, descriptors: Sequence[int]) -> int:
        beside = (
            [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        )
        try:
            return self._socket.sendmsg([data], beside, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return 0

    def receive(self) -> Iterator[tuple[Message, list[int]]]:
        """The whole frames after one read. Raises EOFError at the end, FrameError if they make no sense."""
        space = socket.CMSG_SPACE(MAX_DESCRIPTORS * array.array("i").itemsize)
        try:
            data, beside, flags, _ = self._socket.recvmsg(CHUNK, space, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return
        except ConnectionError:
            raise EOFError from None
        descriptors = array.array("i")
        for level, kind, content in beside:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                descriptors.frombytes(content[: len(content) - len(content) % descriptors.itemsize])
        self._reader.feed(data, descriptors)
        if flags & socket.MSG_CTRUNC:
            raise FrameError("descriptors were lost: this process may open no more")
        if not data:
            raise EOFError
        yield from self.frames()

    def frames(self) -> Iterator[tuple[Message, list[int]]]:
        """The whole frames among what was received already."""
        while (frame := self._reader.take()) is not None:
            yield frame

    def close(self) -> None:
        """Close the socket and every descriptor on its way."""
        self._reader.drop()
        for _, descriptors in self._queue:
            close_all(descriptors)
        self._queue.clear()
        self._socket.close()


def close_all(descriptors: Iterable[int]) -> None:
    """Close descriptors, whatever their state."""
    for fd in descriptors:
        try:
            os.close(fd)
        except OSError:
            pass


# -------------------------------------------------------------------------------------------------------------- /proc


class Stat:
    """What /proc says of a process: state letter, parent, group, session, start time in clock ticks since
    boot."""

    __slots__ = ("group", "parent", "session", "start", "state")

    def __init__(self, text: bytes) -> None:
        fields = text[text.rindex(b")") + 2 :].split()  # the name before may hold blanks and brackets
        self.state = fields[0].decode("ascii")
        self.parent = int(fields[1])
        self.group = int(fields[2])
        self.session = int(fields[3])
        self.start = int(fields[19])


def stat_of(pid: int | str) -> Stat | None:
    """The state of a process, None if there is none of that id. A zombie has one."""
    text = read_proc(f"/proc/{pid}/stat")
    return Stat(text) if text else None


def children_of(pid: int) -> list[int]:
    """The process ids of a process's children, zombies included; none if it is gone."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []
    return [
        int(child) for thread in threads for child in read_proc(f"/proc/{pid}/task/{thread}/children").split()
    ]


def mark_of(pid: int) -> str:
    """The COSERVER_MARK in a process's environment; empty if it has none, hides it or is not ours."""
    for text in read_proc(f"/proc/{pid}/environ").split(b"\0"):
        if text.startswith(b"COSERVER_MARK="):
            return text.partition(b"=")[2].decode("utf-8", "surrogateescape")
    return ""


def read_proc(path: str) -> bytes:
    """A file of /proc as a whole, empty if it is gone or not for us."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        parts = []
        while part := os.read(fd, CHUNK):
            parts.append(part)
        return b"".join(parts)
    except OSError:
        return b""
    finally:
        os.close(fd)


# ------------------------------------------------------------------------------------------------- the recorded table


class Table:
    """The file that tells the next `up` what may be left if keeper and node both die.

    One JSON object per line: a header with boot id and PID namespace, then a line per process (key, pid,
    start, mark), appended by that process itself before its exec; for an orphan by the keeper, as it comes.
    When nothing can be left of what a line stands for, another one strikes it (gone, start): until then the
    number of a dead leader means its session and group, from then on it may come to mean a stranger's. The
    keeper writes the file anew when most of it is of the past.

    A line begins and ends with a line feed, so that one that a full disk tore spoils no other.
    """

    __slots__ = ("_path", "_stale", "fd")

    def __init__(self, path: str) -> None:
        self._path = path
        self._stale = 0
        self.fd = -1
        self.rewrite([])

    def rewrite(self, rows: Iterable[tuple[str, int, int, str]]) -> None:
        """Replace the file by one with these rows (key, pid, start, mark) and no others."""
        header = {
            "coserver": PROTOCOL,
            "boot": read_proc("/proc/sys/kernel/random/boot_id").decode("ascii").strip(),
            "pidns": os.stat("/proc/self/ns/pid").st_ino,
            "keeper": os.getpid(),
        }
        fresh = self._path + ".new"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
        fd = os.open(fresh, flags, 0o600)
        try:
            write_all(fd, encode_line(header) + b"".join(table_line(*row) for row in rows))
            os.rename(fresh, self._path)
        except BaseException:
            os.close(fd)
            raise
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = fd
        self._stale = 0

    def strike(self, gone: Iterable[tuple[int, int]]) -> None:
        """Say of rows (process id, start time) that they mean nothing any more. Raises OSError."""
        os.write(self.fd, b"".join(b"\n" + encode_line({"gone": pid, "start": start}) for pid, start in gone))

    def outdated(self, live: int) -> bool:
        """Count one row as past; True when it is time to rewrite the file for so many `live` ones."""
        self._stale += 1
        return self._stale > 64 + live

    def remove(self) -> None:
        """Nothing is left: remove the file."""
        os.close(self.fd)
        try:
            os.unlink(self._path)
        except FileNotFoundError:
            pass


def table_line(key: str, pid: int, start: int, mark: str) -> bytes:
    """One row of the table file."""
    return b"\n" + encode_line({"key": key, "pid": pid, "start": start, "mark": mark})


def encode_line(record: Message) -> bytes:
    """A record as one line of JSON."""
    return json.dumps(record, separators=(",", ":")).encode("ascii") + b"\n"


def write_all(fd: int, data: bytes) -> None:
    """Write to a file until everything is there."""
    while data:
        data = data[os.write(fd, data) :]


# ------------------------------------------------------------------------------------------------- starting a program


class RequestError(Exception):
    """A spawn request that cannot be carried out as it stands."""


class Program:
    """What to execute and how. `descriptors` become 3, 4, …; `listen` are their names if they are announced
    by LISTEN_FDS."""

    __slots__ = (
        "argv",
        "cwd",
        "descriptors",
        "env",
        "gid",
        "groups",
        "key",
        "listen",
        "mark",
        "nice",
        "rlimits",
        "stderr",
        "stdout",
        "uid",
        "umask",
    )

    def __init__(self, key: str, argv: list[bytes], env: dict[bytes, bytes]) -> None:
        self.key = key
        self.argv = argv
        self.env = env
        self.mark = ""
        self.cwd: bytes | None = None
        self.descriptors: list[int] = []
        self.listen: list[str] = []
        self.stdout: int | None = None
        self.stderr: int | None = None
        self.uid: int | None = None
        self.gid: int | None = None
        self.groups: list[int] | None = None
        self.umask: int | None = None
        self.nice: int | None = None
        self.rlimits: dict[int, tuple[int, int]] = {}


def program_of(message: Message, held: dict[str, int]) -> Program:
    """The program of a spawn frame. Raises RequestError for what the frame cannot mean."""
    try:
        argv = [to_bytes(word) for word in message["argv"]]
        env = {to_bytes(name): to_bytes(value) for name, value in message["env"].items()}
        cwd = to_bytes(message["cwd"])
    except UnicodeEncodeError as error:
        raise RequestError(f"{error.object[error.start : error.end]!a} stands for no bytes") from None
    if not argv or not argv[0]:
        raise RequestError("no program is named")
    if any(b"\0" in word for word in (cwd, *argv, *env, *env.values())):
        raise RequestError("a NUL character in an argument, the environment or the directory")
    if any(not name or b"=" in name for name in env):
        raise RequestError("an environment variable without a name, or with '=' in it")
    program = Program(message["key"], argv, env)
    program.mark = message["mark"]
    program.cwd = cwd
    program.uid = message["uid"]
    program.gid = message["gid"]
    program.groups = message["groups"]
    if program.groups is None and (program.uid is not None or program.gid is not None):
        program.groups = []
    program.umask = message["umask"]
    program.nice = message["nice"]
    for name, (soft, hard) in message["rlimits"].items():
        which = getattr(resource, "RLIMIT_" + name.upper(), None)
        if which is None:
            raise RequestError(f"no resource limit is called {name!r}")
        program.rlimits[which] = (soft, hard)
    for name, shown in message["sockets"]:
        if name not in held:
            raise RequestError(f"no descriptor is held as {name!r}")
        program.descriptors.append(held[name])
        program.listen.append(shown)
    return program


def to_bytes(text: str) -> bytes:
    """Text as the bytes it stands for."""
    return text.encode("utf-8", "surrogateescape")


class Ground:
    """What every program starts from: the table to record itself in, dispositions and limits to restore,
    /dev/null."""

    __slots__ = ("changed", "nofile", "null", "table")

    def __init__(self, table: Table, changed: list[int], nofile: tuple[int, int], null: int) -> None:
        self.table = table
        self.changed = changed
        self.nofile = nofile
        self.null = null


def fork_program(program: Program, ground: Ground) -> tuple[int, int, int]:
    """Start a program in a session of its own: process id, pidfd, and the pipe that tells how exec went.

    The pipe ends without a byte once the program runs; else it holds stage, errno and message, divided by
    NUL. All signals are blocked across the fork, so none can be handled in the child by the keeper's
    handlers.
    """
    told, tell = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            become(program, ground, tell)
        try:
            return pid, os.pidfd_open(pid), told
        except OSError:  # no descriptor left: without one its end would go unnoticed
            os.kill(pid, signal.SIGKILL)
            os.waitid(os.P_PID, pid, os.WEXITED)
            raise
    except OSError:
        os.close(told)
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(tell)


def become(program: Program, ground: Ground, tell: int) -> NoReturn:
    """In the child: take on every attribute, record itself, execute. Limits and niceness come while rights
    allow it; the working directory after the user changed, since it is that user who must be able to enter
    it."""
    stage = "session"
    try:
        signal.set_wakeup_fd(-1)
        for number in ground.changed:
            signal.signal(number, signal.SIG_DFL)
        os.setsid()
        stage = "record"
        pid = os.getpid()
        itself = stat_of(pid)
        try:
            write_all(
                ground.table.fd, table_line(program.key, pid, itself.start if itself else 0, program.mark)
            )
        except OSError:
            if not program.key.startswith("@"):  # a full disk must not keep a site without its node
                raise
        stage = "stdio"
        os.dup2(ground.null, 0)
        if program.stdout is not None and program.stderr is not None:
            os.dup2(program.stdout, 1)
            os.dup2(program.stderr, 2)
            if program.uid is not None:  # it may open /dev/stdout and /dev/stderr by name
                os.fchown(1, program.uid, -1)
                os.fchown(2, program.uid, -1)
        stage = "nice"
        if program.nice is not None:
            os.setpriority(os.PRIO_PROCESS, 0, program.nice)
        stage = "sockets"
        tell = place_descriptors(program.descriptors, tell)
        if program.listen:
            program.env[b"LISTEN_PID"] = str(pid).encode("ascii")
            program.env[b"LISTEN_FDS"] = str(len(program.listen)).encode("ascii")
            program.env[b"LISTEN_FDNAMES"] = to_bytes(":".join(program.listen))
        stage = "rlimits"
        for which, limits in {resource.RLIMIT_NOFILE: ground.nofile, **program.rlimits}.items():
            resource.setrlimit(which, limits)
        stage = "groups"
        if program.groups is not None and set(program.groups) != set(os.getgroups()):
            os.setgroups(program.groups)
        stage = "gid"
        if program.gid is not None:
            os.setresgid(program.gid, program.gid, program.gid)
        stage = "uid"
        if program.uid is not None:
            os.setresuid(program.uid, program.uid, program.uid)
        stage = "umask"
        if program.umask is not None:
            os.umask(program.umask)
        stage = "chdir"
        if program.cwd is not None:
            os.chdir(program.cwd)
        stage = "exec"
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        execute(program.argv, program.env)
    except OSError as error:
        report = f"{stage}\0{error.errno or 0}\0{error.strerror or error}"
    except BaseException as error:
        report = f"{stage}\0{errno.EINVAL}\0{type(error).__name__}: {error}"
    try:
        os.write(tell, to_bytes(report))
    finally:
        os._exit(127)


def execute(argv: list[bytes], env: dict[bytes, bytes]) -> NoReturn:
    """Execute a program, looked for in the PATH of its own environment unless it is named with a slash.

    (`os.execvpe` would import modules first, which the user of the process may not be able to read any more.)
    """
    if b"/" in argv[0]:
        os.execve(argv[0], argv, env)
    refused: OSError = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    for directory in env.get(b"PATH", to_bytes(os.defpath)).split(b":"):
        try:
            os.execve(os.path.join(directory or b".", argv[0]), argv, env)
        except (FileNotFoundError, NotADirectoryError):
            pass
        except PermissionError as error:
            refused = error
    raise refused


def place_descriptors(descriptors: list[int], tell: int) -> int:
    """Make `descriptors` 3, 4, … and inheritable. First everything moves out of that range. The new place
    of `tell`."""
    above = 3 + len(descriptors)
    tell = fcntl.fcntl(tell, fcntl.F_DUPFD_CLOEXEC, above)
    moved = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, above) for fd in descriptors]
    for number, fd in enumerate(moved, 3):
        os.dup2(fd, number)
    return tell


# --------------------------------------------------------------------------------------------------- what is kept


class Child:
    """One run. `end` is (code, signal, core, monotonic µs) of an exited one, (stage, errno, message) of a
    failed one."""

    __slots__ = ("adopted", "end", "key", "mark", "note", "pid", "pidfd", "start", "state", "told")

    def __init__(self, key: str, mark: str, note: str) -> None:
        self.key = key
        self.mark = mark
        self.note = note
        self.state = "starting"
        self.pid = 0
        self.start = 0
        self.pidfd = -1
        self.told = -1
        self.end: tuple[Any, ...] = ()
        self.adopted: list[tuple[int, int, str | None]] = []

    def fail(self, stage: str, number: int, message: str) -> None:
        """It will never run its program."""
        self.state = "failed"
        self.end = (stage, number, message)

    def row(self) -> Message:
        """The run as a new node is told of it; with `op` added, the frame of its end."""
        row: Message = {
            "key": self.key,
            "pid": self.pid,
            "start": self.start,
            "state": self.state,
            "note": self.note,
        }
        if self.state == "exited":
            row["code"], row["signal"], row["core"], row["at"] = self.end
            row["adopted"] = self.adopted
        elif self.state == "failed":
            row["stage"], row["errno"], row["message"] = self.end
        return row


class Stream:
    """A pipe that output reads, and the file it writes to as far as it told. `leaving` once it shall be
    drained and closed."""

    __slots__ = ("attach", "file", "leaving", "pipe")

    def __init__(self, attach: Message, pipe: int) -> None:
        self.attach = attach
        self.pipe = pipe
        self.file = -1
        self.leaving = False

    def descriptors(self) -> list[int]:
        """What output needs to read on where its predecessor stopped."""
        return [self.pipe] if self.file < 0 else [self.pipe, self.file]

    def close(self) -> None:
        """Let go of the duplicates."""
        close_all(self.descriptors())


class Helper:
    """The node or the output process: started by the keeper for itself, and started again whenever it ends.

    `failures` counts ends in a row that came too early; they lengthen the pause before the next start.
    """

    __slots__ = (
        "argv",
        "channel",
        "failures",
        "greeted",
        "name",
        "passed",
        "pid",
        "pidfd",
        "starts",
        "told",
        "writing",
    )

    def __init__(self, name: str, argv: list[bytes], passed: list[int]) -> None:
        self.name = name
        self.argv = argv
        self.passed = passed
        self.channel: Channel | None = None
        self.pid = 0
        self.pidfd = -1
        self.told = -1
        self.starts = 0
        self.failures = 0
        self.greeted = 0.0
        self.writing = False

    def pause(self) -> float:
        """Seconds until the next start: none after a first failure, then 0.1 doubling up to 5."""
        return 0.0 if self.failures <= 1 else min(5.0, 0.1 * 2.0 ** min(self.failures - 2, 10))


class Settings:
    """What the command line says; times in seconds. See `main`."""

    __slots__ = (
        "abort",
        "grace",
        "lock_fd",
        "output",
        "ping",
        "silence",
        "startup",
        "state",
        "stop_silence",
        "tries",
    )

    def __init__(self) -> None:
        self.state = "."  # the directory of the table file
        self.lock_fd = -1  # the locked file's descriptor, shared with the node
        self.output = ""  # the output program; output.py beside this file if empty
        self.ping = 2.0  # between an answer and the next ping
        self.silence = 10.0  # without an answer until the node counts as hung
        self.stop_silence = 5.0  # the same, while the site is ending
        self.abort = 1.0  # between ABRT and KILL for a hung node
        self.startup = 60.0  # for a node until it greets
        self.grace = 10.0  # between TERM and KILL when the keeper stops the children
        self.tries = 3  # first nodes that may be killed before any greeted


class Keeper:
    """The loop and everything it keeps. `run` returns the exit status once nothing is left."""

    def __init__(self, settings: Settings, node: list[bytes], held: dict[str, int]) -> None:
        self.settings = settings
        self.children: dict[str, Child] = {}
        self.leaders: dict[int, Child] = {}  # by process id, until reaped
        self.streams: dict[str, Stream] = {}
        self.adoptees: dict[int, tuple[int, str | None]] = {}  # process id → start time, key
        self.held = held
        self.family = os.open(f"/proc/self/task/{os.getpid()}/children", os.O_RDONLY | os.O_CLOEXEC)
        self.ended_now: list[Child] = []  # in this pass of the loop
        self.sweep_due = False
        self.struck: list[tuple[int, int]] = []  # rows of the table that are past, not yet struck there
        self.emptying: dict[int, int] = {}  # ended orphans and helpers, id → start: a group may be left

        self.terminate: tuple[int, int] | None = None  # last signal, how many so far
        self.greeted_once = False  # a node was there: from now on nodes are replaced for ever
        self.spare_node = True  # while ending: one more node may be tried
        self.finishing = False  # the node said finish
        self.closing = False  # the keeper ends what is left; spawns are over
        self.killing = False  # with KILL, no longer with TERM
        self.code = 0
        self.done = False

        self.poll = select.epoll()
        self.watched: dict[int, tuple[Callable[[Any], None], Any]] = {}
        self.timers: dict[str, tuple[float, Callable[[float], None]]] = {}

        lock = [settings.lock_fd] if settings.lock_fd >= 0 else []
        self.node = Helper("node", node, lock)
        script = settings.output or os.path.join(os.path.dirname(os.path.abspath(__file__)), "output.py")
        self.output = Helper(
            "output", [os.fsencode(sys.executable), b"-I", b"-S", os.fsencode(script), b"3"], []
        )
        self.pings = 0

        self.env = dict(os.environb)
        self.manager = self.env.get(b"NOTIFY_SOCKET", b"")
        if self.env.get(b"WATCHDOG_PID", b"%d" % os.getpid()) == b"%d" % os.getpid():
            self.feed_watchdog(int(self.env.get(b"WATCHDOG_USEC", b"0")) / 1e6)
        for name in (
            b"NOTIFY_SOCKET",
            b"WATCHDOG_USEC",
            b"WATCHDOG_PID",
            b"LISTEN_FDS",
            b"LISTEN_PID",
            b"LISTEN_FDNAMES",
        ):
            self.env.pop(name, None)
        self.env[b"COSERVER_KEEPER_FD"] = b"3"
        if lock:
            self.env[b"COSERVER_LOCK_FD"] = b"4"
        else:
            self.env.pop(b"COSERVER_LOCK_FD", None)

        self.ground = self.prepare()

    def prepare(self) -> Ground:
        """Take over signals, limits and the table file."""
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        nofile = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (nofile[1], nofile[1]))
        hear, wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGCHLD):
            signal.signal(number, nothing)
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        changed = [n for n in map(int, signal.valid_signals()) if signal.getsignal(n) is not signal.SIG_DFL]
        self.watch(hear, self.on_signals, hear)
        table = Table(os.path.join(self.settings.state, "children"))
        return Ground(table, changed, nofile, null)

    # -- the loop

    def run(self) -> int:
        """Start the helpers and keep going until nothing is left."""
        self.start_helper(self.output)
        self.start_helper(self.node)
        while not self.done:
            try:
                self.turn()
            except Exception as error:  # a fault of the keeper's own must not end a site
                say(f"went on after {type(error).__name__}: {error}{where(error)}")
                time.sleep(0.1)
        self.ground.table.remove()
        return self.code

    def turn(self) -> None:
        """One pass: what is ready, then what follows from it."""
        wait = -1.0
        if self.timers:
            wait = max(0.0, min(due for due, _ in self.timers.values()) - time.monotonic())
        for fd, _ in self.poll.poll(wait):
            if fd in self.watched:
                call, argument = self.watched[fd]
                call(argument)
        now = time.monotonic()
        for name, (due, ring) in list(self.timers.items()):
            if due <= now and self.timers.get(name) == (due, ring):
                del self.timers[name]
                ring(due)
        if self.sweep_due or self.ended_now:
            self.sweep()
        if self.struck:
            self.strike_rows()
        if self.closing:
            self.check_closed()

    def watch(self, fd: int, call: Callable[[Any], None], argument: object) -> None:
        """Have `call(argument)` made whenever `fd` can be read."""
        self.poll.register(fd, select.EPOLLIN)
        self.watched[fd] = (call, argument)

    def forget(self, fd: int) -> None:
        """Watch `fd` no more."""
        if self.watched.pop(fd, None) is not None:
            self.poll.unregister(fd)

    def after(self, name: str, seconds: float, ring: Callable[[float], None]) -> None:
        """Set the timer of that name, in place of what it was set to."""
        self.timers[name] = (time.monotonic() + seconds, ring)

    def cancel(self, *names: str) -> None:
        """Stop timers."""
        for name in names:
            self.timers.pop(name, None)

    # -- processes of any kind

    def sweep(self) -> None:
        """Find new adoptees, reap dead ones, tell the ends of leaders.

        A process whose parent dies comes here without any news, so it is looked for when something died,
        and at each ping. Session, group and marker say whose it is. One that shows none of them and appears
        just as a single leader ended is that leader's; with several ends at once nobody can say.
        """
        self.sweep_due = False
        emptying = list(self.emptying.items())
        here = self.own_children()
        ended, self.ended_now = self.ended_now, []
        for pid in self.adoptees.keys() - here:
            self.drop_adoptee(pid)
        for pid in here:
            if pid in self.leaders or pid in (self.node.pid, self.output.pid):
                continue
            try:
                dead = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG) is not None
            except ChildProcessError:
                dead = True
            if dead:
                self.drop_adoptee(pid)
                continue
            if pid not in self.adoptees and (stat := stat_of(pid)) is not None:
                key = self.owner(pid, stat)
                if key is None and len(ended) == 1:
                    key = ended[0].key
                self.adoptees[pid] = (stat.start, key)
                self.record(key or "@orphan", pid, stat.start)
                if self.closing:
                    self.send_signal(pid, signal.SIGTERM, group=False)
        for child in ended:
            child.adopted = [
                (pid, start, key) for pid, (start, key) in self.adoptees.items() if key == child.key
            ]
            self.tell_node({"op": "exited", **child.row()})
        for pid, start in emptying:  # what they left was there to be recorded by now
            try:
                os.killpg(pid, 0)
            except ProcessLookupError:
                del self.emptying[pid]
                self.struck.append((pid, start))
            except PermissionError:
                pass

    def own_children(self) -> list[int]:
        """The process ids of all that are children now, zombies included. Needs no descriptor, so that nothing is
        overlooked when there are none left."""
        os.lseek(self.family, 0, os.SEEK_SET)
        parts = []
        while part := os.read(self.family, CHUNK):
            parts.append(part)
        return [int(pid) for pid in b"".join(parts).split()]

    def drop_adoptee(self, pid: int) -> None:
        """An orphan is gone, known or not."""
        known = self.adoptees.pop(pid, None)
        if known is not None:
            self.emptying[pid] = known[0]
            self.count_stale()

    def record(self, key: str, pid: int, start: int) -> None:
        """Add an orphan to the table file: nothing else may tell that it belongs to this site."""
        try:
            os.write(self.ground.table.fd, table_line(key, pid, start, ""))
        except OSError as error:
            say(f"cannot record process {pid} in the table of children: {error.strerror}")

    def owner(self, pid: int, stat: Stat) -> str | None:
        """The run that an adoptee shows to stem from."""
        for leader in (stat.session, stat.group):
            if leader in self.leaders:
                return self.leaders[leader].key
        mark = mark_of(pid)
        for child in self.children.values():
            if mark and mark == child.mark:
                return child.key
        return None

    def send_signal(self, pid: int, number: int, *, group: bool) -> str:
        """Signal a child that is not reaped yet, or its group. Says why it could not, or nothing."""
        try:
            if group:
                try:
                    os.killpg(pid, number)
                except ProcessLookupError:  # not its own group yet: between fork and setsid
                    os.kill(pid, number)
            else:
                os.kill(pid, number)
        except OSError as error:
            return error.strerror or str(error)
        return ""

    # -- runs

    def spawn(self, message: Message) -> None:
        """Start a run, or say why not."""
        key = message["key"]
        if key in self.children or f"{key}/out" in self.streams or f"{key}/err" in self.streams:
            self.tell_node({"op": "refused", "key": key, "reason": "a run of this key is known already"})
            return
        if self.finishing or self.closing:
            self.tell_node({"op": "refused", "key": key, "reason": "the site is ending"})
            return
        child = Child(key, message["mark"], message["note"])
        writing: list[int] = []
        try:
            program = program_of(message, self.held)
            if message["output"] is not None:
                self.open_streams(key, message["output"], program, writing)
            child.pid, child.pidfd, child.told = fork_program(program, self.ground)
        except RequestError as error:
            child.fail("request", errno.EINVAL, str(error))
        except OSError as error:
            child.fail("fork", error.errno or 0, error.strerror or str(error))
        finally:
            close_all(writing)
        self.children[key] = child
        if child.state == "failed":
            self.leave_streams(key)
            self.tell_node({"op": "failed", **child.row()})
            return
        self.leaders[child.pid] = child
        self.watch(child.told, self.on_told, child)
        self.watch(child.pidfd, self.on_leader, child)

    def open_streams(self, key: str, spec: Message, program: Program, writing: list[int]) -> None:
        """Make the pipes of a run and let output read them. The write ends go to `writing`."""
        wanted = [("out", spec["path"])]
        if spec["error_path"] is not None:
            wanted.append(("err", spec["error_path"]))
        for name, path in wanted:
            pipe, end = os.pipe2(os.O_CLOEXEC)
            writing.append(end)
            attach = {
                "op": "attach",
                "id": f"{key}/{name}",
                "stream": name,
                "path": path,
                "max_bytes": spec["max_bytes"],
                "keep": spec["keep"],
            }
            stream = self.streams[f"{key}/{name}"] = Stream(attach, pipe)
            self.attach(stream)
        program.stdout, program.stderr = writing[0], writing[-1]

    def leave_streams(self, key: str) -> None:
        """Have what is in a run's pipes written, then closed."""
        for name in ("out", "err"):
            stream = self.streams.get(f"{key}/{name}")
            if stream is not None and not stream.leaving:
                stream.leaving = True
                self.tell(self.output, {"op": "detach", "id": stream.attach["id"]})

    def on_told(self, child: Child) -> None:
        """A starting process told how its exec went."""
        try:
            report = os.read(child.told, 4096)
        except BlockingIOError:
            return
        self.forget(child.told)
        os.close(child.told)
        child.told = -1
        stat = stat_of(child.pid)
        child.start = stat.start if stat else 0
        if not report:
            child.state = "running"
            self.tell_node({"op": "started", "key": child.key, "pid": child.pid, "start": child.start})
            return
        # it failed, but is still there for a moment: told when it has ended
        stage, number, text = report.split(b"\0", 2)
        child.end = (stage.decode("ascii"), int(number), text.decode("utf-8", "surrogateescape"))

    def on_leader(self, child: Child) -> None:
        """A leader ended: learn how, leave it unreaped. One that never ran its program is done with."""
        info = os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)
        if info is None:
            return
        if child.told >= 0:
            self.on_told(child)
        self.forget(child.pidfd)
        os.close(child.pidfd)
        child.pidfd = -1
        if child.end:
            child.state = "failed"
            self.reap(child)
            self.leave_streams(child.key)
            self.tell_node({"op": "failed", **child.row()})
            return
        child.state = "exited"
        child.end = (*ending(info), time.monotonic_ns() // 1000)
        self.ended_now.append(child)

    def reap(self, child: Child) -> None:
        """Let the kernel forget an ended leader; its process id may now come to mean another process."""
        if self.leaders.pop(child.pid, None) is not None:
            os.waitid(os.P_PID, child.pid, os.WEXITED)

    def ack(self, message: Message) -> None:
        """The node has written a run's end down."""
        child = self.children.get(message["key"])
        if child is None:  # refused, or acknowledged to the node's predecessor
            return
        if child.state not in ("exited", "failed"):
            say(f"ignored the acknowledgement of {child.key}: it has not ended")
            return
        del self.children[child.key]
        self.reap(child)
        self.leave_streams(child.key)
        if child.start:
            self.struck.append((child.pid, child.start))
        self.count_stale()

    def count_stale(self) -> None:
        """One row of the table file is of the past."""
        if self.ground.table.outdated(len(self.leaders) + len(self.adoptees)):
            self.rewrite_table()

    def strike_rows(self) -> None:
        """Take out of the table what became past in this pass, with one write however much it is."""
        struck, self.struck = self.struck, []
        try:
            self.ground.table.strike(struck)
        except OSError:
            pass  # the next rewriting leaves them out

    def rewrite_table(self) -> None:
        """Write the table file anew with what is alive, starting processes included: their own line may go
        to the old file."""
        rows = [("@" + helper.name, helper.pid, "") for helper in (self.node, self.output) if helper.pid]
        rows += [(child.key, pid, child.mark) for pid, child in self.leaders.items()]
        rows += [(key or "@orphan", pid, "") for pid, (_, key) in self.adoptees.items()]
        lines = [
            (key, pid, stat.start, mark) for key, pid, mark in rows if (stat := stat_of(pid)) is not None
        ]
        try:
            self.ground.table.rewrite(lines)
        except OSError as error:
            say(f"cannot rewrite the table of children: {error.strerror}; the old one goes on")
            return
        self.struck.clear()
        self.emptying.clear()

    # -- the helpers: node and output

    def start_helper(self, helper: Helper) -> None:
        """Start the node or output, talking to it over a fresh socket pair that it finds as descriptor 3."""
        helper.starts += 1
        pair: tuple[socket.socket, ...] = ()
        try:
            pair = ours, theirs = socket.socketpair()
            program = Program("@" + helper.name, helper.argv, dict(self.env))
            program.descriptors = [theirs.fileno(), *helper.passed]
            helper.pid, helper.pidfd, helper.told = fork_program(program, self.ground)
        except OSError as error:
            for end in pair:
                end.close()
            say(f"cannot start the {helper.name}: {error.strerror}; trying again")
            helper.failures += 1
            self.after("start " + helper.name, max(0.1, helper.pause()), lambda _: self.start_helper(helper))
            return
        theirs.close()
        helper.channel = Channel(ours)
        helper.writing = False
        self.watch(helper.told, self.on_helper_told, helper)
        self.watch(helper.pidfd, self.on_helper_end, helper)
        self.watch(helper.channel.fileno(), self.on_helper_heard, helper)
        if helper is self.node:
            helper.greeted = 0.0
            self.after("silent", self.settings.startup, self.on_silence)
        else:
            for stream in self.streams.values():
                self.attach(stream)

    def on_helper_told(self, helper: Helper) -> None:
        """A helper's exec succeeded or failed."""
        try:
            report = os.read(helper.told, 4096)
        except BlockingIOError:
            return
        self.forget(helper.told)
        os.close(helper.told)
        helper.told = -1
        if report:
            reason = report.split(b"\0")[-1].decode("utf-8", "replace")
            say(f"cannot start the {helper.name} {os.fsdecode(helper.argv[0])}: {reason}")

    def on_helper_heard(self, helper: Helper) -> None:
        """Something came from a helper, or its end of the connection closed."""
        try:
            self.hear(helper)
        except EOFError:
            self.hang_up(helper, "closed its connection", self.settings.abort)  # most often it is dying

    def hear(self, helper: Helper) -> None:
        """Carry out what one read brings. A helper that talks nonsense is ended; it is started again like
        any dead one."""
        if helper.channel is None:
            return
        answer = self.on_node_frame if helper is self.node else self.on_output_frame
        try:
            for message, descriptors in helper.channel.receive():
                try:
                    answer(message, descriptors)
                finally:
                    close_all(descriptors)
        except (FrameError, LookupError, TypeError, ValueError, AttributeError) as error:
            self.hang_up(helper, f"does not speak the protocol ({type(error).__name__}: {error})")

    def hang_up(self, helper: Helper, reason: str, patience: float = 0.0) -> None:
        """A connection came to its end before the process: no use to wait for it longer than `patience`,
        unless it was asked to leave."""
        if helper.channel is None:
            return
        self.forget(helper.channel.fileno())
        helper.channel.close()
        helper.channel = None
        if not (self.finishing if helper is self.node else self.closing):
            self.after("kill " + helper.name, patience, lambda _: self.end_helper(helper, reason))

    def end_helper(self, helper: Helper, reason: str) -> None:
        """KILL a helper that is of no more use, and what it started itself."""
        if helper.pid:
            say(f"the {helper.name} {reason}: ending it")
            self.send_signal(helper.pid, signal.SIGKILL, group=True)

    def tell(self, helper: Helper, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Send a frame to a helper if it is there. If its connection is broken, its end is about to be
        noticed."""
        if helper.channel is None:
            return
        try:
            helper.channel.send(message, descriptors)
            self.flush(helper)
        except ConnectionError:
            pass
        except OSError as error:  # out of descriptors, say: what was not sent must not be missed for ever
            self.hang_up(helper, f"cannot be told everything ({error.strerror})")

    def flush(self, helper: Helper) -> None:
        """Write what waits, and watch for room as long as something does."""
        if helper.channel is None:
            return
        waiting = not helper.channel.flush()
        if waiting != helper.writing:
            helper.writing = waiting
            self.poll.modify(helper.channel.fileno(), select.EPOLLIN | (select.EPOLLOUT if waiting else 0))
            call = self.on_helper_ready if waiting else self.on_helper_heard
            self.watched[helper.channel.fileno()] = (call, helper)

    def on_helper_ready(self, helper: Helper) -> None:
        """A helper that had not read fast enough can be written to, or has said something, or both."""
        try:
            self.flush(helper)
        except OSError:
            pass
        self.on_helper_heard(helper)

    def on_helper_end(self, helper: Helper) -> None:
        """A helper ended: carry out its last words, end what it started itself, go on with another one."""
        info = os.waitid(os.P_PID, helper.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)
        if info is None:
            return
        if helper.told >= 0:
            self.on_helper_told(helper)
        try:
            while readable(helper.channel):
                self.hear(helper)
        except EOFError:
            pass
        if helper.channel is not None:
            self.forget(helper.channel.fileno())
            helper.channel.close()
            helper.channel = None
        self.forget(helper.pidfd)
        os.close(helper.pidfd)
        self.send_signal(helper.pid, signal.SIGKILL, group=True)
        if (stat := stat_of(helper.pid)) is not None:
            self.emptying[helper.pid] = stat.start
        os.waitid(os.P_PID, helper.pid, os.WEXITED)
        helper.pid = 0
        self.sweep_due = True
        self.count_stale()
        code, number, _ = ending(info)
        if helper is self.node:
            self.node_ended(code, number)
        else:
            self.output_ended(code, number)

    # -- output

    def attach(self, stream: Stream) -> None:
        """Hand a pipe to output, with the file its predecessor wrote to."""
        self.tell(self.output, stream.attach, stream.descriptors())
        if stream.leaving:
            self.tell(self.output, {"op": "detach", "id": stream.attach["id"]})

    def on_output_frame(self, message: Message, descriptors: list[int]) -> None:
        """Output opened a file, or is through with a pipe."""
        self.output.failures = 0
        stream = self.streams.get(message["id"])
        if stream is None:
            return
        match message["op"]:
            case "file":
                if stream.file >= 0:
                    os.close(stream.file)
                stream.file = descriptors.pop(0)
            case "closed":
                del self.streams[message["id"]]
                stream.close()

    def output_ended(self, code: int | None, number: int | None) -> None:
        """Start another one, unless there is nothing to read any more."""
        self.cancel("kill output")
        if self.closing and not self.streams:
            return
        say(f"output ended ({status_text(code, number)}): starting another")
        self.output.failures += 1
        self.after("start output", self.output.pause(), lambda _: self.start_helper(self.output))

    # -- the node

    def tell_node(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Send a frame to a node that has greeted; another one will find all that matters in its welcome."""
        if self.node.greeted and not self.finishing:
            self.tell(self.node, message, descriptors)

    def on_node_frame(self, message: Message, descriptors: list[int]) -> None:
        """What the node asks."""
        op = message["op"]
        if op == "hello":
            self.greet(message)
            return
        if not self.node.greeted:
            raise ValueError(f"{op!r} before hello")
        match op:
            case "spawn":
                self.spawn(message)
            case "signal":
                self.signal_run(message)
            case "ack":
                self.ack(message)
            case "note":
                if message["key"] in self.children:
                    self.children[message["key"]].note = message["note"]
            case "hold":
                fresh, name = descriptors.pop(0), message["name"]
                close_all([self.held[name]] if name in self.held else [])
                self.held[name] = fresh
            case "release":
                close_all([self.held.pop(message["name"])] if message["name"] in self.held else [])
            case "adoptees":
                self.sweep()
                rows = [(pid, start, key) for pid, (start, key) in self.adoptees.items()]
                self.tell_node({"op": "answer", "ask": message["ask"], "adoptees": rows})
            case "pong":
                self.on_pong(message)
            case "notify":
                self.notify_manager(message["state"])
            case "finish":
                self.finish(message["code"])
            case _:
                say(f"the node asked for {op!r}, which this keeper does not know")

    def greet(self, message: Message) -> None:
        """Hand everything over to a node that arrives."""
        if message["protocol"] != PROTOCOL:
            reason = f"it speaks protocol {PROTOCOL}, this node {message['protocol']}; run `coserver down` and `up`"
            self.tell(self.node, {"op": "unwelcome", "reason": reason})
            return
        names = list(self.held)
        for first in range(0, len(names), MAX_DESCRIPTORS):
            some = names[first : first + MAX_DESCRIPTORS]
            part = {"op": "welcome", "held": some, "children": [], "last": False}
            self.tell(self.node, part, [self.held[name] for name in some])
        self.sweep()  # so that ends seen in this very pass come complete, in their rows
        rows: list[Message] = []
        size = 0
        for child in self.children.values():
            rows.append(child.row())
            size += 500 + len(child.note)
            if size > CHUNK:
                self.tell(self.node, {"op": "welcome", "children": rows, "last": False})
                rows, size = [], 0
        self.tell(
            self.node,
            {
                "op": "welcome",
                "children": rows,
                "last": True,
                "keeper_pid": os.getpid(),
                "generation": self.node.starts,
                "terminate": self.terminate,
            },
        )
        self.node.greeted = time.monotonic()
        self.greeted_once = True
        self.ping()

    def signal_run(self, message: Message) -> None:
        """Signal a leader, or its group, which may outlive it."""
        child = self.children.get(message["key"])
        reason = "there is no such run"
        if child is not None:
            reason = "it has ended"
            if child.pid in self.leaders and (message["group"] or child.state in ("starting", "running")):
                reason = self.send_signal(child.pid, message["signum"], group=message["group"])
        answer = {"op": "answer", "ask": message["ask"], "ok": not reason, "reason": reason}
        self.tell_node(answer)

    def ping(self, _due: float = 0.0) -> None:
        """Ask the node whether its loop turns, and look for adoptees that came unnoticed."""
        self.cancel("ping")
        self.pings += 1
        self.tell_node({"op": "ping", "number": self.pings})
        self.after(
            "silent",
            self.settings.silence if self.terminate is None else self.settings.stop_silence,
            self.on_silence,
        )
        self.sweep_due = True

    def on_pong(self, message: Message) -> None:
        """The node's loop turns."""
        if message["number"] == self.pings and not self.finishing:
            self.cancel("silent")
            self.after("ping", self.settings.ping, self.ping)

    def on_silence(self, due: float) -> None:
        """The node hangs: ABRT, so that it can say where, then KILL. If the keeper itself was stopped
        meanwhile, ask once more."""
        if time.monotonic() - due > 1.0 and self.node.greeted:
            self.ping()
            return
        say("the node does not answer: ending it")
        if self.terminate is not None:
            self.spare_node = False
        self.send_signal(self.node.pid, signal.SIGABRT, group=False)
        self.after("kill node", self.settings.abort, self.kill_node)

    def kill_node(self, _due: float = 0.0) -> None:
        """End the node and what it started itself."""
        if self.node.pid:
            self.send_signal(self.node.pid, signal.SIGKILL, group=True)

    def node_ended(self, code: int | None, number: int | None) -> None:
        """Start another node, if a node is of any use."""
        self.cancel("silent", "ping", "kill node", "start node")
        greeted = self.node.greeted
        self.node.greeted = 0.0
        if self.finishing or self.closing:
            return
        say(f"the node ended ({status_text(code, number)})")
        if self.terminate is not None:
            if not self.spare_node:
                self.stop_alone()
                return
            self.spare_node = False
        early = not greeted or (number != signal.SIGKILL and time.monotonic() - greeted < 1.0)
        self.node.failures = self.node.failures + 1 if early else 0
        if not self.greeted_once:
            if code is not None:
                self.close_down(code)
                return
            if self.node.starts >= self.settings.tries:
                self.close_down(128 + (number or 0))
                return
        self.after("start node", self.node.pause(), lambda _: self.start_helper(self.node))

    # -- ending

    def on_signals(self, hear: int) -> None:
        """Signals came: a byte each."""
        for number in os.read(hear, 256):
            if number == signal.SIGCHLD:
                self.sweep_due = True
            else:
                self.asked_to_end(number)

    def asked_to_end(self, number: int) -> None:
        """Somebody wants the site to end: in order, at the second signal at once, at the third without the
        node."""
        count = 1 if self.terminate is None else self.terminate[1] + 1
        self.terminate = (number, count)
        if count == 1:
            self.notify_manager("STOPPING=1")
        if self.closing:
            if count > 1 and "output" in self.timers:
                self.give_up_output()
            elif count > 1:
                self.kill_children()
        elif count > 2:
            say("third signal: killing everything")
            self.close_down(128 + number)
            self.kill_children()
        elif self.node.greeted:
            self.tell_node({"op": "terminate", "signal": number, "count": count})
            self.ping()
        elif not self.children:
            self.close_down(0)
        elif count > 1:
            self.stop_alone()
        elif not self.node.pid:
            self.spare_node = False
            self.cancel("start node")
            self.start_helper(self.node)

    def finish(self, code: int) -> None:
        """The node has stopped what it wanted to stop, and leaves."""
        if self.closing:
            return
        self.finishing = True
        self.close_down(code)
        self.after("kill node", self.settings.stop_silence, self.kill_node)

    def stop_alone(self) -> None:
        """The site is to end and there is no node to do it."""
        say("no node to stop the services in order: stopping them all at once")
        self.close_down(70)

    def close_down(self, code: int) -> None:
        """End everything that is left: TERM, after the grace KILL until nothing is left; then output; then
        leave with `code`."""
        self.closing = True
        self.code = code
        self.cancel("silent", "ping", "start node", "kill node")
        if not self.finishing:
            self.kill_node()
        self.sweep()
        for child in self.leaders.values():
            self.send_signal(child.pid, signal.SIGTERM, group=True)
            self.send_signal(child.pid, signal.SIGCONT, group=True)
        for pid in self.adoptees:
            self.send_signal(pid, signal.SIGTERM, group=False)
            self.send_signal(pid, signal.SIGCONT, group=False)
        self.after("kill children", self.settings.grace, self.kill_children)

    def kill_children(self, _due: float = 0.0) -> None:
        """KILL every descendant but output, again and again: what one pass misses has become a child by the
        next."""
        if not self.killing:
            self.killing = True
            self.after("survivors", 10.0, self.name_survivors)
        left = [pid for pid in self.own_children() if pid != self.output.pid]
        while left:
            pid = left.pop()
            left += children_of(pid)
            self.send_signal(pid, signal.SIGKILL, group=False)
        self.after("kill children", 0.05, self.kill_children)

    def name_survivors(self, _due: float) -> None:
        """Even KILL takes its time with a process in the kernel; say which one the keeper waits for."""
        left = [pid for pid in self.own_children() if pid != self.output.pid and pid not in self.leaders]
        left += [pid for pid, child in self.leaders.items() if child.state != "exited"]
        say(f"still waiting for killed processes: {' '.join(map(str, left))}")

    def check_closed(self) -> None:
        """When nothing is left but output: let it write the rest, then leave."""
        if self.node.pid or self.adoptees:
            return
        if any(child.state in ("starting", "running") for child in self.leaders.values()):
            return
        for child in list(self.leaders.values()):
            self.reap(child)
        if self.own_children() != ([self.output.pid] if self.output.pid else []):
            self.sweep_due = True
            self.after("look again", 0.01, lambda _: None)
            return
        if "output" not in self.timers:
            self.cancel("kill children", "survivors")
            self.after("output", self.settings.grace, self.give_up_output)
            for key in {stream.attach["id"].rpartition("/")[0] for stream in self.streams.values()}:
                self.leave_streams(key)
        if self.streams:
            return
        if self.output.channel is not None:
            self.hang_up(self.output, "is not needed any more")
        if not self.output.pid:
            self.done = True

    def give_up_output(self, _due: float = 0.0) -> None:
        """Output does not come to an end."""
        say(f"output did not end in time: ending it, {len(self.streams)} streams may lack their last bytes")
        for stream in self.streams.values():
            stream.close()
        self.streams.clear()
        if self.output.pid:
            self.send_signal(self.output.pid, signal.SIGKILL, group=True)
        self.cancel("start output")
        self.after("output", self.settings.grace, self.give_up_output)

    # -- the service manager above

    def feed_watchdog(self, seconds: float) -> None:
        """Tell the service manager that this loop turns, twice per its period; nothing if that is zero."""
        if not seconds:
            return
        self.notify_manager("WATCHDOG=1")
        self.after("watchdog", seconds / 2, lambda _: self.feed_watchdog(seconds))

    def notify_manager(self, state: str) -> None:
        """Pass a word to the service manager above, if there is one."""
        if not self.manager:
            return
        address = b"\0" + self.manager[1:] if self.manager.startswith(b"@") else self.manager
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            try:
                sender.sendto(to_bytes(state), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL, address)
            except OSError as error:
                say(f"cannot notify the service manager: {error.strerror}")


# --------------------------------------------------------------------------------------------------------- small things


def nothing(_number: int, _frame: object) -> None:
    """A signal handler: the wakeup descriptor does the work."""


def ending(info: os.waitid_result) -> tuple[int | None, int | None, bool]:
    """Exit code or signal, and whether a core was dumped."""
    if info.si_code == os.CLD_EXITED:
        return info.si_status, None, False
    return None, info.si_status, info.si_code == os.CLD_DUMPED


def status_text(code: int | None, number: int | None) -> str:
    """How a process ended, for people."""
    if number is None:
        return f"exit status {code}"
    try:
        return f"killed by {signal.Signals(number).name}"
    except ValueError:
        return f"killed by signal {number}"


def readable(channel: Channel | None) -> bool:
    """Whether something is there to be read, or the end."""
    return channel is not None and is_ready(channel.fileno(), select.POLLIN)


def is_ready(fd: int, kind: int) -> bool:
    """Whether a read or a write (POLLIN, POLLOUT) would not block."""
    asked = select.poll()
    asked.register(fd, kind)
    return bool(asked.poll(0))


def where(error: BaseException) -> str:
    """The line an error came from."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else f" (line {trace.tb_lineno})"


def say(text: str) -> None:
    """One line on stderr, if it goes without waiting: a pager or a stopped terminal must not stop a site."""
    try:
        if is_ready(2, select.POLLOUT):
            os.write(2, to_bytes(f"coserver keeper: {text[:2000]}\n"))
    except OSError:
        pass


def inherited_sockets(env: dict[bytes, bytes]) -> dict[str, int]:
    """The descriptors a service manager passed to this very process (LISTEN_FDS), by "systemd/NAME"."""
    if env.get(b"LISTEN_PID") != str(os.getpid()).encode("ascii"):
        return {}
    count = int(env.get(b"LISTEN_FDS", b"0"))
    names = os.fsdecode(env.get(b"LISTEN_FDNAMES", b"")).split(":")
    held: dict[str, int] = {}
    for number in range(count):
        name = "systemd/" + (names[number] if number < len(names) and names[number] else "unknown")
        if name in held:
            name += f"/{number}"
        os.set_inheritable(3 + number, False)
        held[name] = 3 + number
    return held


USAGE = (
    "usage: keeper.py [--state=DIR] [--lock-fd=N] [--output=FILE] [--SETTING=SECONDS …] -- NODE [ARGUMENT …]"
)


def main(words: list[str]) -> int:
    """Keep a site: `words` are settings as --name=value (see Settings), then -- and the node's command."""
    settings = Settings()
    while words and words[0] != "--":
        name, _, value = words.pop(0).removeprefix("--").partition("=")
        default = getattr(settings, name.replace("-", "_"), None)
        if default is None:
            say(USAGE)
            return 2
        try:
            setattr(settings, name.replace("-", "_"), type(default)(value))
        except ValueError:
            words = []
    if len(words) < 2:
        say(USAGE)
        return 2
    for number in (0, 1, 2):  # a descriptor that is opened later must not become one of these
        try:
            os.fstat(number)
        except OSError:
            os.open("/dev/null", os.O_RDWR)
            os.set_inheritable(number, True)
    if not os.path.exists(f"/proc/self/task/{os.getpid()}/children"):
        say("cannot keep processes: /proc is not mounted, or its kernel does not list children; mount it")
        return 70
    if settings.lock_fd >= 0:
        os.set_inheritable(settings.lock_fd, False)
    held = inherited_sockets(dict(os.environb))
    try:
        keeper = Keeper(settings, [os.fsencode(word) for word in words[1:]], held)
    except OSError as error:
        say(
            f"cannot keep the table of children in {settings.state}: {error.strerror}; mend the directory's rights"
        )
        return 70
    return keeper.run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
