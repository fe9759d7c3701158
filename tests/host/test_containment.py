"""Who belongs to a run: cases, histories made up by hypothesis, and real processes that try to get away."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coserver.host import containment, proc
from coserver.host.containment import Ending, RunIdentity, Snapshot, members, step, unowned
from coserver.host.proc import Member, Process
from tests import programs
from tests.host.runs import Run, Runs, eventually, runs

NOBODY: frozenset[Member] = frozenset()
KEEPER = Member(10, 1)


@pytest.fixture
def site() -> Iterator[Runs]:
    with runs() as it:
        yield it


# --------------------------------------------------------------------------------------------------------------- cases


def row(
    pid: int,
    ppid: int,
    *,
    pgid: int | None = None,
    sid: int | None = None,
    start: int | None = None,
    state: str = "S",
    threads: int = 1,
) -> Process:
    sid = pid if sid is None else sid
    return Process(
        pid,
        ppid,
        sid if pgid is None else pgid,
        sid,
        pid * 10 if start is None else start,
        state,
        "x",
        threads,
    )


def table(*rows: Process) -> dict[int, Process]:
    return {each.pid: each for each in rows}


RUN = RunIdentity("mail/1#1", Member(100, 1000), "site:mail/1#1")


def pids(found: frozenset[Member]) -> set[int]:
    return {member.pid for member in found}


def test_a_run_is_its_leader_and_all_descendants() -> None:
    processes = table(row(10, 1), row(100, 10), row(101, 100), row(102, 101), row(200, 10), row(201, 200))
    assert pids(members(processes, RUN, NOBODY, {})) == {100, 101, 102}


def test_session_and_group_of_the_leader_tell() -> None:
    processes = table(
        row(100, 10, state="Z"), row(101, 10, sid=100), row(102, 10, sid=7, pgid=100), row(103, 10, sid=7)
    )
    assert pids(members(processes, RUN, NOBODY, {})) == {101, 102}


def test_the_marker_tells_and_its_absence_means_nothing() -> None:
    processes = table(row(100, 10), row(101, 1), row(102, 1), row(103, 100))
    marks = {101: "site:mail/1#1", 102: "site:mail/1#2"}
    assert pids(members(processes, RUN, NOBODY, marks)) == {100, 101, 103}


def test_the_cgroup_tells() -> None:
    assert pids(members(table(row(101, 1), row(102, 101)), RUN, NOBODY, {}, in_cgroup={101})) == {101, 102}


def test_what_was_known_stays_known_and_its_children_follow() -> None:
    processes = table(row(101, 1), row(102, 101), row(103, 1))
    assert pids(members(processes, RUN, frozenset({Member(101, 1010), Member(103, 1)}), {})) == {101, 102}


def test_adoptees_belong_unless_they_show_another_run() -> None:
    run = replace(RUN, adopted=frozenset(Member(pid, pid * 10) for pid in (101, 102, 103, 104)))
    processes = table(
        row(101, 10), row(102, 10), row(103, 10, sid=200, pgid=103), row(104, 10, start=5), row(200, 10)
    )
    found = members(processes, run, NOBODY, {102: "site:web/1#1"}, outside=[Member(200, 2000)])
    assert pids(found) == {101}


def test_zombies_do_not_count_unless_threads_go_on() -> None:
    processes = table(row(100, 10, state="Z"), row(101, 100, state="Z", threads=3), row(102, 101, state="X"))
    assert pids(members(processes, RUN, NOBODY, {})) == {101}


def test_another_process_under_the_leaders_id_claims_nothing() -> None:
    processes = table(row(100, 1, start=9999), row(101, 100, sid=100))
    assert members(processes, RUN, NOBODY, {}) == NOBODY


def test_where_the_leaders_id_is_not_kept_its_session_means_nothing_once_it_is_gone() -> None:
    processes = table(row(101, 1, sid=100))
    assert pids(members(processes, RUN, NOBODY, {})) == {101}
    assert members(processes, replace(RUN, held=False), NOBODY, {}) == NOBODY


def test_keeper_node_output_and_other_runs_are_never_members() -> None:
    """Not even if a process of the run is their parent, or they carry the run's marker."""
    processes = table(
        row(1, 0), row(10, 1), row(100, 10), row(11, 100), row(12, 11), row(200, 100), row(201, 200)
    )
    outside = [Member(10, 100), Member(11, 110), Member(200, 2000)]
    assert pids(members(processes, RUN, NOBODY, {11: RUN.mark, 10: RUN.mark}, outside=outside)) == {100}


def test_pid_1_is_never_a_member() -> None:
    assert members(table(row(1, 0), row(5, 1)), RUN, frozenset({Member(1, 10)}), {1: RUN.mark}) == NOBODY


def test_orphans_that_no_run_claims_are_unowned_with_their_children() -> None:
    processes = table(
        row(10, 1, start=1),
        row(11, 10),
        row(100, 10),
        row(101, 100),
        row(300, 10),
        row(301, 300),
        row(400, 1),
    )
    claimed = {Member(100, 1000), Member(101, 1010)}
    assert pids(unowned(processes, KEEPER, claimed, [Member(11, 110)])) == {300, 301}


# ------------------------------------------------------------------------------------------------------------- rounds


def snapshot(*rows: Process) -> Snapshot:
    return Snapshot(table(*rows), {})


def test_a_run_is_frozen_then_killed_then_empty() -> None:
    endings = {RUN.key: Ending(RUN, force=True)}
    first = step(endings, snapshot(row(100, 10), row(101, 100)), [KEEPER])
    assert (pids(first.freeze), pids(first.kill), first.empty) == ({100, 101}, set(), set())
    late = step(first.endings, snapshot(row(100, 10, state="T"), row(101, 100), row(102, 101)), [KEEPER])
    assert (pids(late.freeze), pids(late.kill)) == ({102}, set())
    third = step(late.endings, snapshot(row(100, 10), row(101, 100), row(102, 101)), [KEEPER])
    assert (pids(third.freeze), pids(third.kill)) == (set(), {100, 101, 102})
    orphan = step(third.endings, snapshot(row(100, 10, state="Z"), row(102, 1)), [KEEPER])
    assert pids(orphan.left[RUN.key]) == {102}
    once = step(orphan.endings, snapshot(row(100, 10, state="Z")), [KEEPER])
    assert once.empty == set()
    assert once.left == {RUN.key: frozenset()}
    twice = step(once.endings, snapshot(row(100, 10, state="Z")), [KEEPER])
    assert twice.empty == {RUN.key}
    assert twice.endings == {}


def test_looks_that_missed_somebody_prove_less() -> None:
    endings = {RUN.key: Ending(RUN)}
    looks = 0
    while endings:
        endings = dict(step(endings, Snapshot({}, {}, missed=1), [KEEPER]).endings)
        looks += 1
    assert looks == 12


def test_nobody_outside_is_frozen_or_killed_whatever_they_show() -> None:
    """The site was started from within the run's own environment, so the node and another leader carry its marker."""
    look = Snapshot(table(row(11, 10), row(100, 10), row(200, 100)), {11: RUN.mark, 200: RUN.mark})
    done = step({RUN.key: Ending(RUN, force=True)}, look, [KEEPER, Member(11, 110), Member(200, 2000)])
    assert pids(done.freeze) == {100}
    done = step(done.endings, look, [KEEPER, Member(11, 110), Member(200, 2000)])
    assert pids(done.kill) == {100}


def test_without_force_members_are_remembered_and_left_alone() -> None:
    first = step({RUN.key: Ending(RUN)}, snapshot(row(100, 10), row(101, 100)), [KEEPER])
    assert first.freeze == first.kill == frozenset()
    orphaned = snapshot(row(100, 10, state="Z"), row(101, 1, sid=7))
    second = step(first.endings, orphaned, [KEEPER])
    assert pids(second.left[RUN.key]) == {101}


def test_a_run_that_forks_without_end_is_killed_all_the_same() -> None:
    endings = {RUN.key: Ending(RUN, force=True)}
    killed = False
    for number in range(containment.FREEZE_ROUNDS + 1):
        done = step(endings, snapshot(row(100, 10), row(1000 + number, 100)), [KEEPER])
        endings, killed = dict(done.endings), bool(done.kill)
    assert killed


def test_one_look_serves_all_runs_and_leaves_the_others_alone() -> None:
    other = RunIdentity("web/1#1", Member(200, 2000), "site:web/1#1")
    endings = {RUN.key: Ending(RUN, force=True), other.key: Ending(other, force=True)}
    look = snapshot(row(100, 10), row(101, 100), row(200, 10, state="Z"), row(300, 10), row(301, 300))
    done = step(endings, look, [KEEPER, Member(300, 3000)])
    assert pids(done.freeze) == {100, 101}
    done = step(done.endings, look, [KEEPER, Member(300, 3000)])
    assert done.empty == {other.key}
    assert pids(done.kill) == {100, 101}


# ---------------------------------------------------------------------------------------------------------- histories


@dataclass
class World:
    """A kernel of our own: who is whose child, in which session, with which marker; and the truth that /proc hides."""

    processes: dict[int, Process] = field(default_factory=dict)
    marks: dict[int, str] = field(default_factory=dict)
    truth: dict[int, str] = field(default_factory=dict)  # pid → key of the run that it stems from
    identities: dict[str, RunIdentity] = field(default_factory=dict)
    now: int = 100

    def __post_init__(self) -> None:
        self.processes[1] = row(1, 0, start=0)
        self.processes[KEEPER.pid] = row(KEEPER.pid, 1, start=KEEPER.start)

    def free_pid(self, wanted: int) -> int:
        """A process id is not given out while it names a process, a group or a session."""
        used = {number for p in self.processes.values() for number in (p.pid, p.pgid, p.sid)}
        return next(pid for pid in (*range(wanted, 60), *range(20, 1000)) if pid not in used)

    def spawn(self, wanted: int) -> None:
        pid = self.free_pid(wanted)
        self.now += 1
        key = f"mail/1#{self.now}"
        self.processes[pid] = row(pid, KEEPER.pid, start=self.now)
        self.identities[key] = RunIdentity(key, Member(pid, self.now), f"site:{key}")
        self.marks[pid], self.truth[pid] = f"site:{key}", key

    def fork(self, parent: int, wanted: int) -> None:
        pid = self.free_pid(wanted)
        self.now += 1
        self.processes[pid] = self.processes[parent]._replace(pid=pid, ppid=parent, start=self.now)
        self.truth[pid] = self.truth[parent]
        if parent in self.marks:
            self.marks[pid] = self.marks[parent]

    def setsid(self, pid: int) -> None:
        if self.processes[pid].pgid != pid:
            self.processes[pid] = self.processes[pid]._replace(sid=pid, pgid=pid)

    def setpgid(self, pid: int) -> None:
        if self.processes[pid].sid != pid:
            self.processes[pid] = self.processes[pid]._replace(pgid=pid)

    def clear(self, pid: int) -> None:
        self.marks.pop(pid, None)

    def end(self, pid: int) -> None:
        """Its children come to the keeper; a leader stays as a zombie and the keeper notes whom it adopted."""
        key = self.truth[pid]
        adopted = set()
        for each in list(self.processes.values()):
            if each.ppid == pid:
                self.processes[each.pid] = each._replace(ppid=KEEPER.pid)
                adopted.add(each.member)
        self.marks.pop(pid, None)
        if self.identities[key].leader.pid == pid:
            self.processes[pid] = self.processes[pid]._replace(state="Z")
            self.identities[key] = replace(self.identities[key], adopted=frozenset(adopted))
        else:
            del self.processes[pid]
            del self.truth[pid]

    def living(self) -> list[int]:
        return [pid for pid in self.truth if self.processes[pid].alive]

    def of(self, key: str) -> frozenset[Member]:
        return frozenset(self.processes[pid].member for pid in self.living() if self.truth[pid] == key)

    def outside(self, key: str) -> list[Member]:
        return [KEEPER, *(each.leader for each in self.identities.values() if each.key != key)]


DEEDS = st.lists(
    st.tuples(
        st.sampled_from(["spawn", "fork", "fork", "setsid", "setpgid", "clear", "end"]),
        st.integers(0, 50),
        st.integers(20, 40),
    ),
    max_size=40,
)


def happen(world: World, deed: str, which: int, wanted: int) -> None:
    living = world.living()
    if deed == "spawn":
        world.spawn(wanted)
    elif living:
        pid = living[which % len(living)]
        if deed == "fork":
            world.fork(pid, wanted)
        else:
            getattr(world, deed)(pid)


@settings(max_examples=300)
@given(deeds=DEEDS)
def test_whoever_looks_after_every_deed_knows_exactly_who_belongs(deeds: list[tuple[str, int, int]]) -> None:
    world = World()
    known: dict[str, frozenset[Member]] = {}
    for deed in deeds:
        happen(world, *deed)
        for key, run in world.identities.items():
            found = members(
                world.processes, run, known.get(key, NOBODY), world.marks, outside=world.outside(key)
            )
            known[key] = known.get(key, NOBODY) | found
            assert found == world.of(key)


@settings(max_examples=300)
@given(deeds=DEEDS, looks=st.sets(st.integers(0, 40)))
def test_whoever_looks_seldom_never_takes_a_process_of_another_run(
    deeds: list[tuple[str, int, int]], looks: set[int]
) -> None:
    world = World()
    known: dict[str, frozenset[Member]] = {}
    for number, deed in enumerate(deeds):
        happen(world, *deed)
        if number in looks or number == len(deeds) - 1:
            for key, run in world.identities.items():
                found = members(
                    world.processes, run, known.get(key, NOBODY), world.marks, outside=world.outside(key)
                )
                known[key] = known.get(key, NOBODY) | found
                assert found <= world.of(key)


@settings(max_examples=150)
@given(deeds=DEEDS)
def test_ending_comes_to_empty_and_kills_nobody_else(deeds: list[tuple[str, int, int]]) -> None:
    """Half of the runs are ended after a history at which somebody looked after each deed; the others go on."""
    world = World()
    endings: dict[str, Ending] = {}
    for deed in deeds:
        happen(world, *deed)
        for key, run in world.identities.items():
            endings[key] = replace(endings.get(key, Ending(run)), run=run, empty_looks=0)
        endings |= step(endings, Snapshot(world.processes, world.marks), [KEEPER]).endings
    ended = {
        key: replace(each, force=True) for number, (key, each) in enumerate(endings.items()) if number % 2
    }
    others = [run.leader for key, run in world.identities.items() if key not in ended]
    spared = {key: world.of(key) for key in world.identities if key not in ended}
    for _ in range(20):
        done = step(ended, Snapshot(world.processes, world.marks), [KEEPER, *others])
        ended = dict(done.endings)
        for member in done.kill:
            world.end(member.pid)
        for key in done.empty:
            assert not world.of(key)
    assert not ended
    assert spared == {key: world.of(key) for key in spared}


# ------------------------------------------------------------------------------------------------------ real processes

DOUBLE_FORK = """
import os, signal, sys
clear, stay = sys.argv[1] == "clear", sys.argv[2] == "stay"
if os.fork() == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
    os.closerange(0, 1024)
    os.chdir("/")
    program = "import os, signal; os.closerange(0, 3); signal.signal(15, signal.SIG_IGN)\\nwhile True: signal.pause()"
    os.execve(sys.executable, [sys.executable, "-I", "-c", program], {} if clear else dict(os.environ))
os.wait()
if stay:
    signal.pause()
"""

GROUPS = """
import os, signal
for _ in range(3):
    if os.fork() == 0:
        os.setpgid(0, 0)
        for _ in range(2):
            if os.fork() == 0:
                os.setpgid(0, 0)
                signal.pause()
        signal.pause()
signal.pause()
"""

# Three chains of short-lived processes, each link in a session of its own; none lives on for ever by itself.
RESTLESS = """
import os, signal, time
until = time.monotonic() + 20
for _ in range(3):
    if os.fork() == 0:
        while time.monotonic() < until:
            time.sleep(0.02)
            if os.fork():
                time.sleep(0.02)
                os._exit(0)
            os.setsid()
        os._exit(0)
signal.pause()
"""


def gone(found: frozenset[Member]) -> bool:
    return proc.alive(found) == NOBODY


def test_a_daemon_that_closed_everything_is_found_by_its_marker(site: Runs) -> None:
    run = site.python("mail/1#1", DOUBLE_FORK, "keep", "leave")
    run.leader_ends()
    run.identity = replace(run.identity, adopted=frozenset())  # without the keeper's help
    eventually(lambda: len(run.members()) == 1)
    found = run.members()
    assert all(process.sid != run.pid for process in proc.scan().values() if process.member in found)
    site.end(run)
    assert gone(found)


def test_a_daemon_that_also_cleared_its_environment_is_found_as_an_adoptee(site: Runs) -> None:
    run = site.python("mail/1#1", DOUBLE_FORK, "clear", "leave")
    run.leader_ends()
    found = run.members()
    assert len(found) == 1
    (daemon,) = found
    eventually(lambda: proc.mark(daemon.pid) is None and proc.look(daemon.pid).state == "S")  # type: ignore[union-attr]
    assert run.members() == found
    site.end(run)
    assert gone(found)


def test_a_daemon_that_was_seen_before_its_parent_died_stays_known(site: Runs) -> None:
    """No marker, no session, no adoption: only what earlier looks have seen."""
    run = site.python("mail/1#1", DOUBLE_FORK.replace("os._exit(0)", "signal.pause()"), "clear", "stay")
    eventually(lambda: len(run.members()) == 3)
    eventually(lambda: any(proc.mark(member.pid) is None for member in run.members()))
    known = run.members()
    (middle,) = (p for p in proc.scan().values() if p.ppid == run.pid)
    os.kill(middle.pid, signal.SIGKILL)
    os.kill(run.pid, signal.SIGKILL)
    eventually(lambda: gone(known & {run.identity.leader, middle.member}))
    assert run.members() == NOBODY
    assert len(run.members(known)) == 1
    site.end(run, known=known)
    assert gone(known)


def test_grandchildren_in_groups_of_their_own_are_ended(site: Runs) -> None:
    run = site.python("mail/1#1", GROUPS)
    eventually(lambda: len(run.members()) == 10)
    found = run.members()
    site.end(run)
    assert gone(found)


def test_a_run_that_forks_and_flees_all_the_time_is_ended(site: Runs) -> None:
    run = site.python("mail/1#1", RESTLESS)

    def fleeing() -> bool:
        snapshot = containment.look()
        found = members(snapshot.table, run.identity, NOBODY, snapshot.marks)
        return len({snapshot.table[member.pid].sid for member in found}) > 1

    eventually(fleeing)
    site.end(run)
    for _ in range(10):
        assert run.members() == NOBODY
        time.sleep(0.005)


def test_many_runs_are_ended_by_the_same_looks_and_others_live_on(site: Runs) -> None:
    ended = [site.python(f"mail/{number}#1", DOUBLE_FORK, "clear", "leave") for number in range(1, 4)]
    for run in ended:
        run.leader_ends()
    ended += [site.python(f"mail/{number}#1", GROUPS) for number in range(4, 6)]
    innocent = site.python("web/1#1", DOUBLE_FORK, "keep", "stay")
    eventually(lambda: all(len(run.members()) == 10 for run in ended[3:]))
    # Not the process in between, which is about to end.
    children = Path(f"/proc/{innocent.pid}/task/{innocent.pid}/children")
    eventually(lambda: not children.read_text() and len(innocent.members()) == 2)
    spared = innocent.members()
    looks = site.end(*ended)
    assert looks < 100
    assert all(run.members() == NOBODY for run in ended)
    assert proc.alive(spared) == spared == innocent.members()


BOTH = pytest.mark.parametrize("stand_in", [False, True], ids=["real", "stand-in"])


@BOTH
def test_redis_that_overwrote_its_environment_is_ended(site: Runs, tmp_path: Path, stand_in: bool) -> None:
    program = programs.standin("redis") if stand_in else programs.redis()
    run = site.start(
        "redis/1#1",
        program.command("--port", str(programs.free_port()), "--dir", str(tmp_path), "--save", ""),
        env=program.env,
    )
    eventually(lambda: proc.mark(run.pid) is None)
    found = run.members()
    assert run.identity.leader in found
    site.end(run)
    assert gone(found)


NGINX = """
daemon on;
worker_processes 2;
pid nginx.pid;
error_log stderr;
{user}
events {{ }}
http {{
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    server {{ listen 127.0.0.1:{port}; }}
}}
"""


@BOTH
def test_nginx_that_went_into_the_background_is_ended(site: Runs, tmp_path: Path, stand_in: bool) -> None:
    program = programs.standin("nginx") if stand_in else programs.nginx()
    user = "user root;" if os.getuid() == 0 else ""
    (tmp_path / "nginx.conf").write_text(NGINX.format(port=programs.free_port(), user=user))
    run = site.start(
        "nginx/1#1",
        program.command("-p", f"{tmp_path}/", "-c", "nginx.conf", "-e", "stderr"),
        env=program.env,
        cwd=tmp_path,
    )
    run.leader_ends()
    pid_file = tmp_path / "nginx.pid"
    eventually(lambda: pid_file.exists() and pid_file.read_text().strip())
    master = int(pid_file.read_text())
    eventually(lambda: proc.mark(master) is None)
    eventually(lambda: len(run.members()) > 1)
    found = run.members()
    assert master in pids(found)
    assert all(process.sid != run.pid for process in proc.scan().values() if process.member in found)
    site.end(run)
    assert gone(found)


@pytest.fixture
def database_directory() -> Iterator[Path]:
    """A directory that the server's account can reach; pytest's own are for our eyes only."""
    directory = Path(tempfile.mkdtemp(prefix="coserver-postgres-"))
    programs.unprivileged().own(directory)
    yield directory
    shutil.rmtree(directory)


@BOTH
def test_postgres_whose_postmaster_was_killed_is_ended(
    site: Runs, database_directory: Path, stand_in: bool
) -> None:
    """Each of its processes has its own session, and a title over its environment; a busy one does not notice."""
    binaries = None if stand_in else programs.postgres()
    client = None
    if binaries is None:
        run = site.start("postgres/1#1", programs.standin("postgres").command())
    else:
        run, client = start_postgres(site, binaries, database_directory)
    eventually(lambda: any(title(member.pid).endswith(("[local] DO", "busy")) for member in run.members()))
    known = run.members()
    assert len(known) >= 4
    os.kill(run.pid, signal.SIGKILL)
    run.leader_ends()
    left = run.members()
    assert left
    assert all(proc.mark(member.pid) is None for member in left)
    assert all(process.sid != run.pid for process in proc.scan().values() if process.member in left)
    site.end(run)
    assert gone(known)
    if client is not None:
        client.wait()


def title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().strip(b"\0 ").decode(errors="replace")
    except OSError:
        return ""


def start_postgres(site: Runs, binaries: Path, directory: Path) -> tuple[Run, subprocess.Popen[bytes]]:
    """A server with one backend that counts and counts, and the client that asked for it."""
    account = programs.unprivileged()
    data = directory / "data"
    initdb = [binaries / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-N", "--locale=C"]
    subprocess.run(
        initdb,
        check=True,
        cwd="/",
        user=account.uid,
        group=account.gid,
        extra_groups=[] if account.gid is not None else None,
        stdout=subprocess.DEVNULL,
    )
    port = programs.free_port()
    run = site.start(
        "postgres/1#1",
        [str(binaries / "postgres"), "-D", str(data), "-p", str(port), "-k", str(directory), "-h", "", "-F"],
        uid=account.uid,
        gid=account.gid,
        cwd="/",
    )
    psql = [binaries / "psql", "-h", directory, "-p", str(port), "-U", "postgres", "-c"]

    def ask(query: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([*psql, query], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    eventually(lambda: ask("select 1").wait() == 0)
    return run, ask("do $$ declare i bigint := 0; begin loop i := i + 1; end loop; end $$")
