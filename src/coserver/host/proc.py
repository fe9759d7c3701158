"""Reading /proc: which processes there are, whose they are, and signalling exactly those that were meant.

A process id means one process only as long as that process is not reaped. What names a process for ever, on
one boot and in one PID namespace, is its id together with its start time (`Member`). Nothing here remembers
anything, and everything a look at /proc says may be past when the caller reads it; `kill` is the one place
that closes that gap, by a descriptor.

Linux only. Processes that end while they are looked at are left out; they are never an error.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

MARK: Final = b"COSERVER_MARK="
LISTINGS: Final = 5  # of /proc in one pass


class Member(NamedTuple):
    """One process, for ever: its id and its start in the kernel's clock ticks since boot."""

    pid: int
    start: int


class Process(NamedTuple):
    """One line of the process table. A tuple, because hundreds are made per look.

    `state` is the kernel's letter (R running, S sleeping, D waiting for a disk, T stopped, Z zombie …), `comm` the
    first 15 bytes of the program's name. `threads` counts those that have not ended.
    """

    pid: int
    ppid: int
    pgid: int
    sid: int
    start: int
    state: str
    comm: str
    threads: int = 1

    @property
    def member(self) -> Member:
        """What names it for ever."""
        return Member(self.pid, self.start)

    @property
    def alive(self) -> bool:
        """Whether any of it still runs. A process whose first thread has ended shows as a zombie while others go on."""
        return self.state not in "ZXx" or self.threads > 1


ProcTable: TypeAlias = Mapping[int, Process]


class Survey(NamedTuple):
    """One look at everything: the table, and the COSERVER_MARK of each process that shows one.

    `missed` counts processes that ended before they were read, and of which nothing can be said.
    """

    table: ProcTable
    marks: Mapping[int, str]
    missed: int


def scan() -> ProcTable:
    """All processes that this process may see, by id. Blocks for some ten microseconds per process.

    Not an instant: a process that is born or ends during the pass may be missing.
    """
    return _survey(with_marks=False).table


def survey() -> Survey:
    """All processes with their marks, each read at once, so that one soon gone is still recognised.

    Who is born meanwhile is looked for until a listing shows nobody new, a few times at most.
    """
    return _survey(with_marks=True)


def _survey(*, with_marks: bool) -> Survey:
    table: dict[int, Process] = {}
    found: dict[int, str] = {}
    missed = 0
    seen: set[str] = set()
    for _ in range(LISTINGS):
        names = os.listdir("/proc")  # noqa: PTH208  (a path object for each would double the time)
        new = [name for name in names if name.isdecimal() and name not in seen]
        if not new:
            break
        seen.update(new)
        for name in new:
            process = look(int(name))
            if process is None:
                missed += 1
                continue
            table[process.pid] = process
            if with_marks and _may_be_marked(process):
                environment = _environment(process.pid)
                if environment:
                    if (text := _mark_in(environment)) is not None:
                        found[process.pid] = text
                elif (again := look(process.pid)) is None or not again.alive:
                    missed += 1
    return Survey(table, found, missed)


def look(pid: int) -> Process | None:
    """One process; None if there is no such one."""
    data = _read(f"/proc/{pid}/stat", 1024)
    if not data:
        return None
    # The name stands in brackets, and may hold brackets and spaces itself.
    opening, closing = data.index(b"("), data.rindex(b")")
    rest = data[closing + 2 :].split()
    return Process(
        pid,
        int(rest[1]),
        int(rest[2]),
        int(rest[3]),
        int(rest[19]),
        rest[0].decode(),
        data[opening + 1 : closing].decode("utf-8", "backslashreplace"),
        int(rest[17]),
    )


def start_time(pid: int) -> int | None:
    """When the process began, in clock ticks since boot; None if there is no such process."""
    process = look(pid)
    return None if process is None else process.start


def mark(pid: int) -> str | None:
    """The COSERVER_MARK with which the process began its program; None if it has none or hides it."""
    return _mark_in(_environment(pid))


def marks(table: ProcTable) -> dict[int, str]:
    """The marks of those processes that show one. Another user's processes show theirs to root only."""
    found = ((process.pid, mark(process.pid)) for process in table.values() if _may_be_marked(process))
    return {pid: text for pid, text in found if text is not None}


def _may_be_marked(process: Process) -> bool:
    """Kernel threads, the children of 2, have no environment, and neither have zombies."""
    return process.pid != 2 and process.ppid != 2 and process.alive


def _environment(pid: int) -> bytes:
    return _read(f"/proc/{pid}/environ", 1 << 20)


def _mark_in(environment: bytes) -> str | None:
    data = b"\0" + environment
    at = data.find(b"\0" + MARK)
    if at < 0:
        return None
    at += 1 + len(MARK)
    end = data.find(b"\0", at)
    return os.fsdecode(data[at : end if end >= 0 else len(data)])


def cgroup_members(path: Path) -> frozenset[int]:
    """The ids of all processes in the cgroup directory `path` and below it; empty if there is no such group."""
    found: set[int] = set()
    for directory, _, files in os.walk(path):
        if "cgroup.procs" in files:
            found.update(int(pid) for pid in _read(f"{directory}/cgroup.procs", 1 << 24).split())
    return frozenset(found)


def boot_id() -> str:
    """Names this boot of the machine: start times compare within one only."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def pid_namespace() -> int:
    """Names this PID namespace: process ids compare within one only."""
    return Path("/proc/self/ns/pid").stat().st_ino


def kill(members: Iterable[Member], number: int) -> frozenset[Member]:
    """Send signal `number` to exactly these processes; those that got it.

    One that has ended, and whose id may mean another process by now, gets nothing and is left out, and so is one that
    this user may not signal.
    """
    reached = set()
    for member in members:
        try:
            descriptor = os.pidfd_open(member.pid)
        except OSError:
            continue
        try:
            # The descriptor means one process; if that began when it should, it is the one, now and in the next line.
            if start_time(member.pid) == member.start:
                signal.pidfd_send_signal(descriptor, number)
                reached.add(member)
        except (ProcessLookupError, PermissionError):
            pass
        finally:
            os.close(descriptor)
    return frozenset(reached)


def alive(members: Collection[Member]) -> frozenset[Member]:
    """Those of `members` that still run."""
    return frozenset(
        member
        for member in members
        if (process := look(member.pid)) is not None and process.start == member.start and process.alive
    )


def _read(path: str, most: int) -> bytes:
    """A file of /proc, whole up to `most` bytes; nothing if the process has ended or hides it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        data = os.read(descriptor, 4096)
        if len(data) < 4096:
            return data
        parts = [data]
        size = len(data)
        while size < most and (more := os.read(descriptor, 65536)):
            parts.append(more)
            size += len(more)
        return b"".join(parts)
    except OSError:
        return b""
    finally:
        os.close(descriptor)
