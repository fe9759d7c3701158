"""The keeper's part as far as containment needs it: leaders in sessions of their own, and orphans that come here."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from coserver.host import containment, proc
from coserver.host.containment import Ending, RunIdentity
from coserver.host.proc import Member

PR_SET_CHILD_SUBREAPER = 36
SITE = "b59ac8"


@dataclass
class Run:
    """A run and its leader, which stays unreaped until the test is over."""

    key: str
    process: subprocess.Popen[bytes]
    identity: RunIdentity
    before: frozenset[int]

    @property
    def pid(self) -> int:
        return self.process.pid

    def leader_ends(self) -> None:
        """Wait for the end of the leader, and note who was adopted by it."""
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        adopted = frozenset(
            process.member
            for process in proc.scan().values()
            if process.ppid == os.getpid() and process.pid not in self.before and process.pid != self.pid
        )
        self.identity = replace(self.identity, adopted=adopted)

    def members(self, known: frozenset[Member] = frozenset()) -> frozenset[Member]:
        """Who belongs to it now."""
        snapshot = containment.look([self.identity])
        return containment.members(
            snapshot.table, self.identity, known, snapshot.marks, outside=[ourselves()]
        )


def ourselves() -> Member:
    start = proc.start_time(os.getpid())
    assert start is not None
    return Member(os.getpid(), start)


@dataclass
class Runs:
    """Starts runs, and ends what is left of them."""

    all: list[Run] = field(default_factory=list)

    def start(
        self,
        key: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        uid: int | None = None,
        gid: int | None = None,
        cwd: object = None,
    ) -> Run:
        mark = f"{SITE}:{key}"
        before = frozenset(p.pid for p in proc.scan().values() if p.ppid == os.getpid())
        process = subprocess.Popen(
            list(argv),
            start_new_session=True,
            env={"PATH": os.environ["PATH"], **(env or {}), "COSERVER_MARK": mark},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            user=uid,
            group=gid,
            extra_groups=[] if gid is not None else None,
            cwd=None if cwd is None else str(cwd),
        )
        start = proc.start_time(process.pid)
        assert start is not None
        run = Run(key, process, RunIdentity(key, Member(process.pid, start), mark), before)
        self.all.append(run)
        return run

    def python(self, key: str, program: str, *arguments: str) -> Run:
        return self.start(key, [sys.executable, "-I", "-c", program, *arguments])

    def end(self, *runs: Run, known: frozenset[Member] = frozenset(), within: float = 20.0) -> int:
        """Do what the node does until all are empty; the number of looks it took."""
        endings: Mapping[str, Ending] = {
            run.key: Ending(run.identity, force=True, known=known) for run in runs
        }
        outside = {ourselves(), *(run.identity.leader for run in self.all if run not in runs)}
        looks = 0
        deadline = time.monotonic() + within
        while endings:
            looks += 1
            done = containment.step(endings, containment.look([run.identity for run in runs]), outside)
            proc.kill(done.freeze, 19)
            proc.kill(done.kill, 9)
            endings = done.endings
            assert time.monotonic() < deadline, f"still there: {done.left}"
            reap(self)
        return looks


def reap(runs: Runs) -> None:
    """Reap orphans that came here, but not the leaders."""
    leaders = {run.pid for run in runs.all}
    for process in proc.scan().values():
        if process.ppid == os.getpid() and process.pid not in leaders and not process.alive:
            try:
                os.waitpid(process.pid, os.WNOHANG)
            except ChildProcessError:
                pass


@contextmanager
def runs() -> Iterator[Runs]:
    """As long as this lasts, orphans of our descendants become our children."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    it = Runs()
    try:
        yield it
    finally:
        try:
            it.end(*it.all, within=10.0)
        finally:
            for run in it.all:
                run.process.kill()
                run.process.wait()
        libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
        reap(it)


def eventually(condition: Callable[[], object], within: float = 20.0) -> None:
    """Poll until `condition` holds; AssertionError after `within` seconds."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"did not happen within {within} s"
        time.sleep(0.005)
