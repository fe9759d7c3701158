"""Who belongs to a run, and ending all of them: "stopped" means empty.

Theory
------
A run begins with one process, its leader, which the keeper started in a session of its own and with a marker
in its environment (COSERVER_MARK). What the leader starts may fork, daemonize, overwrite its environment or
clear it, make sessions and groups of its own, and outlive its parents. A process belongs to a run if any of
these holds:

* it is in the run's cgroup, where the run has one;
* its parent belongs to the run, and so on up to the leader. A parent that dies takes this evidence with it, so
  the answer of each look is handed to the next as `known`: look before every signal;
* its session or group is the leader's. The keeper leaves an ended leader unreaped until the run is cleared, so
  that number means this run and no other. Where nobody has kept it (`held` is false), the rule holds only while
  the leader is there;
* it shows the run's marker. Redis, nginx and postgres overwrite their environment, so absence means nothing;
* the keeper adopted it as the leader exited: the weakest evidence, because two leaders may exit together. It
  gives way to another run's marker, session or group.

Never a member: what the caller names `outside` (the keeper, the node, output, the leaders of other runs). Zombies
do not count, for they only wait to be reaped.

A look at /proc is no instant: who forks during the pass may show the parent and miss the child. So a run is
ended in rounds, each made of one look that serves all runs being ended: freeze (SIGSTOP) what is new; when a look
shows nothing new, nobody is left who could fork, and all are killed at once. Killing begins after `FREEZE_ROUNDS` all
the same. When two looks in a row show nobody alive, the run is empty. A look that missed somebody, because a process
ended before it could be read, says less: that may have been one of the run's, and have left a child. Such looks
count a sixth, so that on a machine where processes come and go all the time a run is empty in the end too. (A program
that makes it its business to fork and flee within less time than a look takes can only be held by a cgroup.)

Everything here is pure but `look`; `step` says what to do, the node does it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from coserver.host import proc
from coserver.host.proc import Member, Process, ProcTable

FREEZE_ROUNDS: Final = 10
EMPTY: Final = 12  # by looks in a row that showed nobody, each counted by what it is worth
CLEAR_LOOK: Final = 6
BLURRED_LOOK: Final = 1


@dataclass(frozen=True, slots=True)
class RunIdentity:
    """By what a run's processes are recognised.

    `adopted` came to the keeper as the leader exited. `held`: the leader's process id is kept from reuse until
    the run is cleared.
    """

    key: str
    leader: Member
    mark: str
    adopted: frozenset[Member] = frozenset()
    cgroup: Path | None = None
    held: bool = True


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One look: the process table, the marks that processes show, and who is in which cgroup.

    `missed` processes ended before they could be read.
    """

    table: ProcTable
    marks: Mapping[int, str]
    cgroups: Mapping[Path, frozenset[int]] = field(default_factory=dict)
    missed: int = 0


def look(runs: Iterable[RunIdentity] = ()) -> Snapshot:
    """Take a snapshot, once for all runs. Blocks for some ten microseconds per process of the machine."""
    seen = proc.survey()
    groups = {run.cgroup for run in runs if run.cgroup is not None}
    cgroups = {path: proc.cgroup_members(path) for path in groups}
    return Snapshot(seen.table, seen.marks, cgroups, seen.missed)


# ------------------------------------------------------------------------------------------------------------- members


class Evidence:
    """One look, arranged so that a run finds its own without passing over everybody else's.

    Hundreds of runs are ended by the same look: each costs what belongs to it, not what the machine holds.
    """

    def __init__(self, table: ProcTable, marks: Mapping[int, str]) -> None:
        self.table = table
        self.marks = marks
        self.houses: dict[int, list[Process]] = {}
        """number → the processes whose session or group has that number"""
        self.marked: dict[str, list[int]] = {}
        self.children: dict[int, list[Member]] = {}
        for process in table.values():
            self.houses.setdefault(process.sid, []).append(process)
            if process.pgid != process.sid:
                self.houses.setdefault(process.pgid, []).append(process)
            self.children.setdefault(process.ppid, []).append(process.member)
        for pid, mark in marks.items():
            self.marked.setdefault(mark, []).append(pid)

    def seeds(
        self,
        run: RunIdentity,
        known: Collection[Member],
        foreign: Collection[int],
        in_cgroup: Collection[int],
    ) -> set[Member]:
        """Those that belong to the run by evidence of their own. `foreign`: process ids whose houses are not its."""
        number = run.leader.pid
        leader = self.table.get(number)
        number_is_the_leaders = run.held if leader is None else leader.start == run.leader.start
        found = {member for member in (run.leader, *known) if self._is_there(member)}
        if number_is_the_leaders:
            found.update(process.member for process in self.houses.get(number, ()))
        for pid in (*self.marked.get(run.mark, ()), *in_cgroup):
            if pid in self.table:
                found.add(self.table[pid].member)
        for member in run.adopted:
            if self._is_there(member):
                process = self.table[member.pid]
                if (
                    self.marks.get(member.pid, run.mark) == run.mark
                    and process.sid not in foreign
                    and process.pgid not in foreign
                ):
                    found.add(member)
        return found

    def _is_there(self, member: Member) -> bool:
        process = self.table.get(member.pid)
        return process is not None and process.start == member.start

    def family(self, seeds: Collection[Member], outside: Collection[Member]) -> set[Member]:
        """`seeds` and all their descendants, without those `outside` and what hangs below them. Never PID 1."""
        found: set[Member] = set()
        waiting = list(seeds)
        while waiting:
            member = waiting.pop()
            if member in found or member in outside or member.pid <= 1:
                continue
            found.add(member)
            waiting += self.children.get(member.pid, ())
        return found

    def alive(self, members: Collection[Member]) -> frozenset[Member]:
        """Those of `members`, all of the table, that still run."""
        return frozenset(member for member in members if self.table[member.pid].alive)


def members(
    table: ProcTable,
    run: RunIdentity,
    known: frozenset[Member],
    marks: Mapping[int, str],
    *,
    outside: Collection[Member] = frozenset(),
    in_cgroup: Collection[int] = frozenset(),
) -> frozenset[Member]:
    """The processes of `run` that are alive. `known` is what earlier calls for this run returned, all together."""
    evidence = Evidence(table, marks)
    seeds = evidence.seeds(run, known, {member.pid for member in outside}, in_cgroup)
    return evidence.alive(evidence.family(seeds, outside))


def unowned(
    table: ProcTable, keeper: Member, claimed: Collection[Member], outside: Collection[Member] = ()
) -> frozenset[Member]:
    """Orphans that came to the keeper and that no run claims, with their descendants; those that are alive.

    `claimed` are the members of all runs and their leaders, `outside` the node and output.
    """
    evidence = Evidence(table, {})
    return evidence.alive(
        evidence.family(evidence.children.get(keeper.pid, []), {keeper, *claimed, *outside})
    )


# -------------------------------------------------------------------------------------------------------------- ending


@dataclass(frozen=True, slots=True)
class Ending:
    """A run on its way to empty. Without `force` its members are only remembered, with it they are ended.

    The caller makes it with `run` and `force` and changes only these; the rest is what earlier rounds have learnt.
    `empty_looks`: the looks in a row that showed nobody, by what they are worth.
    """

    run: RunIdentity
    force: bool = False
    known: frozenset[Member] = frozenset()
    frozen: frozenset[Member] = frozenset()
    freezes: int = 0
    empty_looks: int = 0


@dataclass(frozen=True, slots=True)
class Round:
    """What a look led to: whom to send SIGSTOP and SIGKILL, and the endings as they stand for the next round.

    `endings` no longer holds the runs in `empty`; `left` has the living members of each of the others.
    """

    endings: Mapping[str, Ending]
    freeze: frozenset[Member]
    kill: frozenset[Member]
    left: Mapping[str, frozenset[Member]]
    empty: frozenset[str]


def step(endings: Mapping[str, Ending], snapshot: Snapshot, outside: Collection[Member]) -> Round:
    """One round for all runs being ended. `outside`: keeper, node, output, and the leaders of the runs that go on."""
    evidence = Evidence(snapshot.table, snapshot.marks)
    spared = {*outside, *(ending.run.leader for ending in endings.values())}
    foreign = {member.pid for member in spared}
    worth = BLURRED_LOOK if snapshot.missed else CLEAR_LOOK
    ongoing: dict[str, Ending] = {}
    left: dict[str, frozenset[Member]] = {}
    freeze: set[Member] = set()
    kill: set[Member] = set()
    empty = set()
    for key, ending in endings.items():
        run = ending.run
        in_cgroup = snapshot.cgroups.get(run.cgroup, frozenset()) if run.cgroup else frozenset()
        # All leaders but its own are spared; one set serves all, its own leader taken out for the moment.
        spared.discard(run.leader)
        foreign.discard(run.leader.pid)
        alive = evidence.alive(evidence.family(evidence.seeds(run, ending.known, foreign, in_cgroup), spared))
        spared.add(run.leader)
        foreign.add(run.leader.pid)
        after = replace(
            ending, known=ending.known | alive, empty_looks=0 if alive else ending.empty_looks + worth
        )
        if after.empty_looks >= EMPTY:
            empty.add(key)
            continue
        if ending.force and alive:
            new = alive - ending.frozen
            if new and ending.freezes < FREEZE_ROUNDS:
                freeze |= new
                after = replace(after, frozen=ending.frozen | new, freezes=ending.freezes + 1)
            else:
                kill |= alive
        ongoing[key] = after
        left[key] = alive
    return Round(ongoing, frozenset(freeze), frozenset(kill), left, frozenset(empty))
