from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from coserver.host import proc
from coserver.host.proc import Member
from tests.host.runs import eventually, ourselves

WAITS = "import signal; signal.pause()"


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-I", "-c", WAITS], start_new_session=True)
    yield process
    process.kill()
    process.wait()


def member(pid: int) -> Member:
    start = proc.start_time(pid)
    assert start is not None
    return Member(pid, start)


def test_a_scan_shows_parents_groups_and_sessions(child: subprocess.Popen[bytes]) -> None:
    table = proc.scan()
    us, them = table[os.getpid()], table[child.pid]
    assert (us.ppid, us.pgid, us.sid) == (os.getppid(), os.getpgrp(), os.getsid(0))
    assert (them.ppid, them.pgid, them.sid) == (os.getpid(), child.pid, child.pid)
    assert them.start >= us.start
    assert us.alive
    assert us.comm in Path(sys.executable).resolve().name or us.comm == "pytest"


def test_a_name_with_brackets_spaces_and_line_feeds_is_read(tmp_path: Path) -> None:
    name = ") S 1 (x\n)"
    (tmp_path / name).symlink_to("/bin/sleep")
    process = subprocess.Popen([tmp_path / name, "60"])
    try:
        eventually(lambda: proc.scan()[process.pid].comm == name)
        assert proc.scan()[process.pid].ppid == os.getpid()
    finally:
        process.kill()
        process.wait()


def test_an_ended_child_is_a_zombie_until_it_is_reaped(child: subprocess.Popen[bytes]) -> None:
    it = member(child.pid)
    child.kill()
    eventually(lambda: not proc.scan()[child.pid].alive)
    assert proc.alive([it]) == frozenset()
    assert proc.start_time(child.pid) == it.start
    child.wait()
    assert proc.look(child.pid) is None
    assert proc.start_time(child.pid) is None


def test_a_process_whose_first_thread_has_ended_is_alive() -> None:
    program = """
import ctypes, threading, time
threading.Thread(target=time.sleep, args=(60,)).start()
ctypes.CDLL(None).syscall(ctypes.c_long(60), 0)
"""
    process = subprocess.Popen([sys.executable, "-I", "-c", program])
    try:
        eventually(lambda: proc.scan()[process.pid].state == "Z")
        assert proc.scan()[process.pid].alive
    finally:
        process.kill()
        process.wait()


def test_the_marker_is_read_from_anywhere_in_the_environment() -> None:
    many = {f"V{number}": "x" * 500 for number in range(200)}
    for env in (
        {"COSERVER_MARK": "site:mail/1#1"},
        {**many, "COSERVER_MARK": "site:mail/1#1"},
        {"COSERVER_MARK": "site:mail/1#1", **many},
        {"NOT_COSERVER_MARK": "wrong", "COSERVER_MARK": "site:mail/1#1"},
    ):
        process = subprocess.Popen([sys.executable, "-I", "-c", WAITS], env=env)
        try:
            eventually(lambda p=process: proc.mark(p.pid) == "site:mail/1#1")  # type: ignore[misc]
            assert proc.marks(proc.scan())[process.pid] == "site:mail/1#1"
            assert proc.survey().marks[process.pid] == "site:mail/1#1"
        finally:
            process.kill()
            process.wait()


def test_without_a_marker_there_is_none(child: subprocess.Popen[bytes]) -> None:
    assert proc.mark(child.pid) is None
    child.kill()
    child.wait()
    assert proc.mark(child.pid) is None


def test_a_signal_reaches_the_process_that_was_meant(child: subprocess.Popen[bytes]) -> None:
    it = member(child.pid)
    assert proc.alive([it]) == {it}
    assert proc.kill([it], signal.SIGTERM) == {it}
    assert child.wait() == -signal.SIGTERM


def test_another_process_under_the_same_id_is_not_signalled(child: subprocess.Popen[bytes]) -> None:
    it = member(child.pid)
    earlier = Member(it.pid, it.start - 1)
    assert proc.kill([earlier], signal.SIGKILL) == frozenset()
    assert proc.alive([earlier]) == frozenset()
    assert proc.alive([it]) == {it}


def test_signals_to_processes_that_are_gone_or_foreign_reach_nobody(child: subprocess.Popen[bytes]) -> None:
    it = member(child.pid)
    child.kill()
    child.wait()
    assert proc.kill([it, Member(2**22 + 5, 1)], signal.SIGKILL) == frozenset()


def test_boot_and_namespace_have_stable_names() -> None:
    assert len(proc.boot_id()) == 36
    assert proc.boot_id() == proc.boot_id()
    assert proc.pid_namespace() == Path("/proc/self/ns/pid").stat().st_ino


def test_members_of_a_cgroup_are_those_below_it_too(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "cgroup.procs").write_text("11\n12\n")
    (tmp_path / "a" / "b" / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in range(1000, 5000)))
    assert proc.cgroup_members(tmp_path / "a") == {11, 12, *range(1000, 5000)}
    assert proc.cgroup_members(tmp_path / "absent") == frozenset()


def test_scanning_while_processes_come_and_go_raises_nothing() -> None:
    stop = threading.Event()

    def spawn() -> None:
        while not stop.is_set():
            subprocess.run(["/bin/true"], check=True)

    thread = threading.Thread(target=spawn)
    thread.start()
    try:
        for _ in range(100):
            assert proc.scan()[os.getpid()].member == ourselves()
            assert proc.survey().table[os.getpid()].member == ourselves()
    finally:
        stop.set()
        thread.join()
