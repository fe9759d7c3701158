"""What a site that died with its keeper and its node left running, and how it is ended.

Theory. Each process of a site writes itself into the table file before its exec (see
`coserver.host.keeper`), so after any crash the file names every leader there can be. A line names one
process for ever: process ids come again, start times do not, and both are worth nothing after a reboot or
in another PID namespace, which the file's header tells.

A process is left over if it is a recorded leader, or in the session or group of one, or carries the site's
marker in its environment, or descends from such a process. The number of a dead leader says something about
groups and sessions as long as no process has that number now: the kernel gives a number to nobody while a
group or session still has it. The keeper strikes rows of which nothing is left, for their numbers come again, and
a stranger that had one may have ended before its group.

Who calls `clear` must hold the site's lock, so that keeper and node are known to be dead and nobody starts
more. `end_all` is for a node that outlives its keeper: it asks before it kills, run by run. A child that the
keeper had forked but that had not recorded itself yet does so late, so the table is read anew at each look, and
the site is empty when several looks over `SETTLED` seconds showed nobody.
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
from coserver.host import proc
from coserver.host.containment import Evidence
from coserver.host.proc import Member, ProcTable
from coserver.model.names import parse_key

OUTPUT_KEY: Final = "@output"
OUTPUT_PATIENCE: Final = 2.0
PASS_EVERY: Final = 0.02
LOOK_EVERY: Final = 0.1
SETTLED: Final = 0.3
GRACE: Final = 10.0
STAYING: Final = ("@node", OUTPUT_KEY, "coserver/printer#")
"""Keys, or how they begin, of what a node needs to its own end."""


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


def read_recorded(path: Path) -> tuple[Recorded, ...]:
    """The rows of a table file that can mean processes of this boot and PID namespace; none if it is not
    there.

    Rows that another line strikes are left out. A torn line is no row: its process never came to its exec.
    """
    try:
        header, *lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return ()
    try:
        told = json.loads(header)
        here = told["boot"] == proc.boot_id() and told["pidns"] == proc.pid_namespace()
    except (ValueError, KeyError, TypeError):
        return ()
    if not here:
        return ()
    rows = []
    struck = set()
    for line in lines:
        try:
            row = json.loads(line)
            if "gone" in row:
                struck.add((row["gone"], row["start"]))
            else:
                rows.append(Recorded(row["key"], row["pid"], row["start"], row["mark"]))
        except (ValueError, KeyError, TypeError):
            continue
    return tuple(row for row in rows if (row.pid, row.start) not in struck)


def left_over(rows: Iterable[Recorded], table: ProcTable, marks: Mapping[int, str]) -> set[int]:
    """The process ids that belong to the recorded rows. `marks` are the COSERVER_MARKs that processes show."""
    left: set[int] = set()
    houses: set[int] = set()  # numbers of sessions and groups
    sites: set[str] = set()
    for row in rows:
        found = table.get(row.pid)
        if found is None or found.start == row.start:
            houses.add(row.pid)
            left |= {row.pid} & table.keys()
        if row.mark:
            sites.add(row.mark.partition(":")[0])
    for process in table.values():
        site, colon, _ = marks.get(process.pid, "").partition(":")
        if process.pgid in houses or process.sid in houses or (colon and site in sites):
            left.add(process.pid)
    children: dict[int, list[int]] = {}
    for process in table.values():
        children.setdefault(process.ppid, []).append(process.pid)
    fresh = list(left)
    while fresh:
        new = [child for child in children.get(fresh.pop(), ()) if child not in left]
        left.update(new)
        fresh += new
    return {pid for pid in left if table[pid].alive}


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
    outputs = tuple(row for row in rows if row.key == OUTPUT_KEY)
    table = proc.scan() if rows else {}
    alive = tuple(row for row in services if _is(table.get(row.pid), row))
    _end(services, now() + patience, now, sleep)
    quiet = now() + OUTPUT_PATIENCE
    while now() < quiet and any(_is(proc.look(row.pid), row) for row in outputs):
        sleep(PASS_EVERY)
    _end(outputs, now() + patience, now, sleep)
    path.unlink(missing_ok=True)
    return alive


def end_all(
    path: Path,
    *,
    spare: frozenset[int],
    signals: Mapping[str, int],
    grace: Mapping[str, float],
    patience: float = 10.0,
    now: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """End everything that a dead keeper's table tells of but the node, output and the printer, whose rows and
    the table itself stay. Blocks until nothing is left.

    `signals` and `grace` (seconds) are by service name; TERM and ten seconds for any other. A run's leader alone is
    sent its service's signal, once; what is left of a run without leader, and orphans, TERM. After the grace, counted
    from when the run was first seen, all of it is killed until it is empty. `spare` are process ids that are left
    alone in any case; so are this process and all above it.
    Raises LeftoversRemain if something survives KILL for `patience` seconds.
    """
    asked: set[Member] = set()
    due: dict[str, float] = {}
    quiet: float | None = None
    while True:
        rows = read_recorded(path)
        table, marks, _ = proc.survey()
        staying = {row.pid for row in rows if row.key.startswith(STAYING) and _is(table.get(row.pid), row)}
        outside = spare | staying | _ancestry(table)
        runs = _by_run([row for row in rows if not row.key.startswith(STAYING)], table, marks, outside)
        at = now()
        if not runs:
            quiet = at if quiet is None else quiet
            if at - quiet >= SETTLED:
                return
            sleep(LOOK_EVERY)
            continue
        quiet = None
        killing = False
        for key, (leader, members) in runs.items():
            run = parse_key(key)
            service = run.service if run is not None else ""
            end = due.setdefault(key, at + grace.get(service, GRACE))
            if at >= end:
                killing = True
                proc.kill(members, signal.SIGKILL)
                continue
            number = signal.SIGTERM if leader is None else signals.get(service, signal.SIGTERM)
            new = (members if leader is None else {leader}) - asked
            asked |= new
            proc.kill(proc.kill(new, number), signal.SIGCONT)  # one that is stopped could not obey
        if all(at >= due[key] + patience for key in runs):
            raise LeftoversRemain(
                _survivors("the site", table, [m.pid for _, left in runs.values() for m in left])
            )
        sleep(PASS_EVERY if killing else LOOK_EVERY)


def _by_run(
    rows: Iterable[Recorded], table: ProcTable, marks: Mapping[int, str], outside: frozenset[int]
) -> dict[str, tuple[Member | None, set[Member]]]:
    """The living leader of each run, if there is one, and all its living members; runs without any are left out.

    Who shows signs of several runs is the first one's. Who bears the site's mark and is of no run comes under "".
    """
    evidence = Evidence(table, marks)
    rows = tuple(rows)
    known = {row.pid for row in rows if _is(table.get(row.pid), row)} - outside
    leaders: dict[str, Member | None] = {}
    seeds: dict[str, set[Member]] = {}
    for row in rows:
        if row.key not in leaders:  # the first row of a key is the leader's, others are orphans of its run
            leads = not row.key.startswith("@") and row.pid in known
            leaders[row.key] = Member(row.pid, row.start) if leads else None
        own = seeds.setdefault(row.key, set())
        found = table.get(row.pid)
        if found is None or found.start == row.start:
            own.update(process.member for process in evidence.houses.get(row.pid, ()))
            if found is not None:
                own.add(found.member)
        if row.mark:
            own.update(table[pid].member for pid in evidence.marked.get(row.mark, ()) if pid in table)
    recorded = {Member(row.pid, row.start): row.key for row in rows if row.pid in known}
    claimed = {table[pid].member for pid in outside if pid in table}
    claimed.update(recorded)  # who has a row of his own is that run's, whatever he descends from
    runs = {}
    for key, own in seeds.items():
        mine = {member for member in own if recorded.get(member) == key}
        claimed -= mine
        members = evidence.family(own, claimed)
        claimed |= members | mine
        if alive := evidence.alive(members):
            runs[key] = (leaders[key], set(alive))
    sites = {row.mark.partition(":")[0] for row in rows if row.mark}
    strays = set()
    for pid, mark in marks.items():
        site, colon, key = mark.partition(":")
        if colon and site in sites and not key.startswith(STAYING) and pid in table:
            strays.add(table[pid].member)
    if rest := evidence.alive(evidence.family(strays, claimed)):
        runs[""] = (None, set(rest))
    return runs


def _is(process: proc.Process | None, row: Recorded) -> bool:
    """Whether this is the process of the row, and runs."""
    return process is not None and process.start == row.start and process.alive


def _end(
    rows: tuple[Recorded, ...], deadline: float, now: Callable[[], float], sleep: Callable[[float], None]
) -> None:
    while rows:
        table = proc.scan()
        left = left_over(rows, table, proc.marks(table)) - _ancestry(table)
        if not left:
            return
        if now() > deadline:
            raise LeftoversRemain(_survivors("what an earlier run of this site left", table, left))
        proc.kill((table[pid].member for pid in left), signal.SIGKILL)
        sleep(PASS_EVERY)


def _survivors(what: str, table: ProcTable, left: Iterable[int]) -> str:
    named = ", ".join(f"{pid} ({table[pid].comm})" for pid in sorted(left))
    return f"cannot end {what}: processes {named} survive KILL; end them by hand, as their user or as root"


def _ancestry(table: ProcTable) -> set[int]:
    """This process and all above it, which must never be ended here."""
    line: set[int] = set()
    pid = os.getpid()
    while pid and pid not in line:
        line.add(pid)
        pid = table[pid].ppid if pid in table else 0
    return line
