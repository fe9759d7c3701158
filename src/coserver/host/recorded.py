"""What a site that died with its keeper and its node left running, and how it is ended.

Theory. Each process of a site writes itself into the table file before its exec (see
`coserver.host.keeper`), so after any crash the file names every leader there can be. A line names one
process for ever: process ids come again, start times do not, and both are worth nothing after a reboot or
in another PID namespace, which the file's header tells.

A process is left over if it is a recorded leader, or in the session or group of one, or carries the site's
marker in its environment, or descends from such a process. The number of a dead leader says something about
groups and sessions as long as no process has that number now: the kernel gives a number to nobody while a
group or session still has it.

Who calls `clear` must hold the site's lock, so that keeper and node are known to be dead and nobody starts
more.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from coserver.errors import CoserverError
from coserver.host.keeper import mark_of, read_proc, stat_of

OUTPUT_KEY: Final = "@output"
OUTPUT_PATIENCE: Final = 2.0
PASS_EVERY: Final = 0.02


class LeftoversRemain(CoserverError):
    """Processes of a dead site could not be ended."""

    code = "leftovers"


@dataclass(frozen=True, slots=True)
class Recorded:
    """One line of the table: `start` is the kernel's start time in clock ticks since boot."""

    key: str
    pid: int
    start: int
    mark: str


@dataclass(frozen=True, slots=True)
class Process:
    """One process as /proc shows it. `mark` is its COSERVER_MARK, empty if it has none or hides it."""

    pid: int
    parent: int
    group: int
    session: int
    start: int
    mark: str


def read_recorded(path: Path) -> tuple[Recorded, ...]:
    """The rows of a table file that can mean processes of this boot and PID namespace; none if it is not
    there.

    A last line that is torn is no row: its process never came to its exec.
    """
    try:
        header, *lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return ()
    try:
        told = json.loads(header)
        here = told["boot"] == boot_id() and told["pidns"] == Path("/proc/self/ns/pid").stat().st_ino
    except (ValueError, KeyError, TypeError):
        return ()
    if not here:
        return ()
    rows = []
    for line in lines:
        try:
            row = json.loads(line)
            rows.append(Recorded(row["key"], row["pid"], row["start"], row["mark"]))
        except (ValueError, KeyError, TypeError):
            continue
    return tuple(rows)


def boot_id() -> str:
    """The kernel's name for this boot."""
    return read_proc("/proc/sys/kernel/random/boot_id").decode("ascii").strip()


def left_over(rows: Iterable[Recorded], processes: Mapping[int, Process]) -> set[int]:
    """The process ids that belong to the recorded rows."""
    leaders: set[int] = set()
    houses: set[int] = set()  # numbers of sessions and groups
    sites: set[str] = set()
    for row in rows:
        found = processes.get(row.pid)
        if found is not None and found.start == row.start:
            leaders.add(row.pid)
        if found is None or found.start == row.start:
            houses.add(row.pid)
        if row.mark:
            sites.add(row.mark.partition(":")[0])
    left = set(leaders)
    for process in processes.values():
        site, colon, _ = process.mark.partition(":")
        if process.group in houses or process.session in houses or (colon and site in sites):
            left.add(process.pid)
    children: dict[int, list[int]] = {}
    for process in processes.values():
        children.setdefault(process.parent, []).append(process.pid)
    fresh = list(left)
    while fresh:
        new = [child for child in children.get(fresh.pop(), ()) if child not in left]
        left.update(new)
        fresh += new
    return left


def clear(
    path: Path,
    *,
    patience: float = 10.0,
    now: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[Recorded, ...]:
    """End whatever a dead site left, by KILL until nothing is left, and remove the table. Returns the leaders
    that were still alive.

    The output process is no danger and may hold last words: it is given two seconds to leave by itself.
    Raises LeftoversRemain after `patience` seconds.
    """
    rows = read_recorded(path)
    services = tuple(row for row in rows if row.key != OUTPUT_KEY)
    processes = look() if rows else {}
    alive = tuple(row for row in services if row.pid in processes and processes[row.pid].start == row.start)
    _end(services, now() + patience, now, sleep)
    quiet = now() + OUTPUT_PATIENCE
    outputs = tuple(row for row in rows if row.key == OUTPUT_KEY)
    while outputs and now() < quiet and left_over(outputs, look()):
        sleep(PASS_EVERY)
    _end(outputs, now() + patience, now, sleep)
    path.unlink(missing_ok=True)
    return alive


def _end(
    rows: tuple[Recorded, ...], deadline: float, now: Callable[[], float], sleep: Callable[[float], None]
) -> None:
    while rows:
        processes = look()
        spared = _ancestry(processes)
        left = left_over(rows, processes) - spared
        if not left:
            return
        if now() > deadline:
            named = ", ".join(map(str, sorted(left)))
            raise LeftoversRemain(
                f"cannot end what an earlier run of this site left: processes {named} survive KILL; "
                "end them by hand, as their user or as root"
            )
        for pid in left:
            _kill(processes[pid])
        sleep(PASS_EVERY)


def _ancestry(processes: Mapping[int, Process]) -> set[int]:
    """This process and all above it, which must never be ended here."""
    line = set()
    pid = os.getpid()
    while pid and pid not in line:
        line.add(pid)
        pid = processes[pid].parent if pid in processes else 0
    return line


def _kill(process: Process) -> None:
    """KILL exactly this process, not one that got its number meanwhile."""
    try:
        pidfd = os.pidfd_open(process.pid)
    except OSError:
        return
    try:
        stat = stat_of(process.pid)
        if stat is not None and stat.start == process.start:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except OSError:
        pass  # gone, or not ours: the next pass will see
    finally:
        os.close(pidfd)


def look() -> dict[int, Process]:
    """Every process of this machine that is not a zombie, by process id."""
    found = {}
    for name in os.listdir("/proc"):  # noqa: PTH208  (strings, and many of them)
        stat = stat_of(name) if name.isdecimal() else None
        if stat is not None and stat.state not in "ZX":
            pid = int(name)
            found[pid] = Process(pid, stat.parent, stat.group, stat.session, stat.start, mark_of(pid))
    return found
