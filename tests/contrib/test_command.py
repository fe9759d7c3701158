"""`command` with real programs: what it returns, how it ends them, and that nothing of them stays."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coserver.contrib.generic import program
from coserver.contrib.generic.command import (
    ALLOW,
    CommandFailed,
    CommandRefused,
    CommandTimeout,
    command,
    said,
)
from coserver.contrib.generic.program import Kept
from coserver.errors import InvalidArguments
from coserver.testing import Jobs
from tests.runtime.workers import auntil, until

PYTHON = sys.executable


def call(*args: Any, **kwargs: Any) -> dict[str, Any]:
    return asyncio.run(command(*args, **kwargs))


def python(source: str, *words: str, **kwargs: Any) -> dict[str, Any]:
    return call([PYTHON, "-c", source, *words], **kwargs)


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def number_in(file: Path) -> Callable[[], bool]:
    return lambda: file.exists() and file.read_text().strip().isdecimal()


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


# Results --------------------------------------------------------------------------------------------------------


def test_j4_a_job_runs_a_program_and_returns_its_output(coserver_jobs: Jobs) -> None:
    """J4."""
    job = coserver_jobs.client.submit("command", [["sh", "-c", "cat; echo oops >&2"]], {"stdin": "größer\n"})
    coserver_jobs.drain()
    result = job.result()
    assert (result["status"], result["stdout"], result["stderr"]) == (0, "größer\n", "oops\n")
    assert 0 <= result["seconds"] < 30


def test_words_are_not_read_by_a_shell() -> None:
    assert call(["echo", "$HOME; *", "a  b"])["stdout"] == "$HOME; * a  b\n"


def test_the_environment_is_the_workers_and_the_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP", "inherited")
    monkeypatch.setenv("COSERVER_TOKEN", "secret")
    monkeypatch.setenv("COSERVER_MARK", "site:mail/1#1")
    names = ("SHOP", "NEW", "COSERVER_TOKEN", "COSERVER_MARK")
    shown = f"import os; print(os.getcwd(), *(os.environ.get(name) for name in {names}))"
    result = python(shown, cwd=str(tmp_path), env={"NEW": "1", "COSERVER_MARK": "hidden"})
    assert result["stdout"].split() == [str(tmp_path), "inherited", "1", "None", "site:mail/1#1"]


def test_without_stdin_there_is_nothing_to_read() -> None:
    assert call(["cat"])["stdout"] == ""


def test_a_program_that_does_not_read_its_input_is_no_trouble() -> None:
    assert call(["true"], stdin="x" * 5_000_000)["status"] == 0


def test_output_is_text_whatever_it_was() -> None:
    source = r"import os; os.write(1, b'a\xff\x00\xc3\xa4'); os.write(2, b'\x80')"
    result = python(source)
    assert (result["stdout"], result["stderr"]) == ("a\\xff\\x00ä", "\\x80")


def test_of_much_output_both_ends_are_kept() -> None:
    result = python("print('first'); print('ü' * 3_000_000); print('last')", max_output="1K")
    assert result["stdout"].startswith("first\nüü")
    assert result["stdout"].endswith("üü\nlast\n")
    [left] = re.findall(r"\n… (\d+) bytes left out …\n", result["stdout"])
    kept = len(re.sub(r"\n… \d+ bytes left out …\n", "", result["stdout"]).encode())
    assert kept <= 1024
    assert kept + int(left) == len(b"first\n\nlast\n") + 6_000_000


@given(st.lists(st.text(alphabet="aü€😀", max_size=20)), st.integers(0, 60))
def test_kept_text_is_a_beginning_and_an_end(parts: list[str], limit: int) -> None:
    kept = Kept(limit)
    for part in parts:
        kept.add(part.encode())
    whole = "".join(parts)
    if len(whole.encode()) <= limit:
        assert kept.text() == whole
        return
    head, left, tail = re.fullmatch(r"(.*)\n… (\d+) bytes left out …\n(.*)", kept.text(), re.S).groups()  # type: ignore[union-attr]
    assert whole.startswith(head)
    assert whole.endswith(tail)
    assert len((head + tail).encode()) == len(whole.encode()) - int(left) <= limit


# Errors ---------------------------------------------------------------------------------------------------------


def test_an_unexpected_status_is_an_error_with_the_last_lines(coserver_jobs: Jobs) -> None:
    source = (
        "import sys; print('not this'); [print('line', n, file=sys.stderr) for n in range(50)]; sys.exit(3)"
    )
    job = coserver_jobs.client.submit("command", [[PYTHON, "-c", source]], retries=1)
    assert coserver_jobs.drain(raise_errors=False, advance="1h") == 2
    error = job.info().error
    assert error is not None
    assert error.type.endswith("CommandFailed")
    assert re.search(
        r"it exited with status 3 after [\d.]+ s, expected 0; the end of its stderr:\nline 40\n",
        error.message,
    )
    assert error.message.endswith("line 49")


def test_expected_statuses_can_be_named() -> None:
    assert call(["sh", "-c", "exit 3"], expect=[0, 3])["status"] == 3
    with pytest.raises(CommandFailed, match=r"expected 1 or 2; the end of its stdout:\nfine$"):
        call(["echo", "fine"], expect=[1, 2])


def test_a_signal_is_named() -> None:
    with pytest.raises(
        CommandFailed, match=r"cannot run sh: it was ended by SIGKILL after .* it printed nothing"
    ):
        call(["sh", "-c", "kill -KILL $$"])
    assert call(["sh", "-c", "kill -USR1 $$"], expect=[-signal.SIGUSR1])["status"] == -signal.SIGUSR1
    assert said(-(signal.SIGRTMIN + 1)) == f"it was ended by signal {signal.SIGRTMIN + 1}"


@pytest.mark.parametrize(
    ("args", "part"),
    [
        ((["no-such-program"],), "it is not on the worker's PATH"),
        ((["./no-such-program"],), "there is no such file that can be run"),
        ((["/etc/passwd"],), "there is no such file that can be run"),
        ((["true"], "/no/such/directory"), "No such file or directory: '/no/such/directory'"),
        ((["true"], None, {"A=B": "x"}), "illegal environment variable name"),
    ],
)
def test_what_cannot_be_run_is_refused_for_good(
    coserver_jobs: Jobs, args: tuple[Any, ...], part: str
) -> None:
    job = coserver_jobs.client.submit("command", args, retries=5)
    assert coserver_jobs.drain(raise_errors=False, advance="1d") == 1
    error = job.info().error
    assert error is not None
    assert error.type.endswith("CommandRefused")
    assert part in error.message


@pytest.mark.parametrize("wrong", [{"argv": []}, {"argv": [""]}, {"timeout": "0s"}, {"max_output": "big"}])
def test_arguments_without_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidArguments):
        call(**({"argv": ["true"]} | wrong))


# The allow-list -------------------------------------------------------------------------------------------------


def test_the_service_may_name_what_may_be_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "tool"
    tool.write_text("#!/bin/sh\necho ran\n")
    tool.chmod(0o755)
    monkeypatch.setenv(ALLOW, f"echo:{tool}")
    assert call(["echo", "yes"])["stdout"] == "yes\n"
    assert call([str(tool)])["stdout"] == "ran\n"
    assert call(["./tool"], cwd=str(tmp_path))["stdout"] == "ran\n"
    for other in ("cat", "tool", "/nowhere/echo"):
        with pytest.raises(CommandRefused, match=f"this worker may run echo, {tool} only; add it to {ALLOW}"):
            call([other])


def test_a_job_cannot_make_another_program_of_an_allowed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    impostor = tmp_path / "echo"
    impostor.write_text("#!/bin/sh\ntouch owned\n")
    impostor.chmod(0o755)
    assert call(["./echo"], cwd=str(tmp_path))["status"] == 0
    (tmp_path / "owned").unlink()
    monkeypatch.setenv(ALLOW, "echo")
    with pytest.raises(CommandRefused, match="a job may not bring env"):
        call(["echo"], env={"PATH": str(tmp_path)})
    with pytest.raises(CommandRefused):
        call(["./echo"], cwd=str(tmp_path))
    assert call(["echo", "x"], cwd=str(tmp_path))["stdout"] == "x\n"
    assert not (tmp_path / "owned").exists()


def test_an_empty_list_allows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ALLOW, "")
    with pytest.raises(CommandRefused, match="may run nothing only"):
        call(["true"])


def test_a_path_in_the_jobs_environment_does_not_choose_the_program(tmp_path: Path) -> None:
    (tmp_path / "echo").write_text("#!/bin/sh\nexit 9\n")
    (tmp_path / "echo").chmod(0o755)
    assert call(["echo", "real"], env={"PATH": str(tmp_path)})["stdout"] == "real\n"


# Ending ---------------------------------------------------------------------------------------------------------


def test_a_program_out_of_time_is_asked_to_end_and_says_last_words() -> None:
    source = "import signal; print(signal.sigwait([signal.SIGTERM]))"
    source = "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM]); " + source
    with pytest.raises(CommandTimeout, match=r"had not ended after 3s, so it was ended; .* stdout:\n15$"):
        python(source, timeout="3s")


def test_one_that_will_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "PATIENCE", 0.1)
    with pytest.raises(CommandTimeout):
        call(["sh", "-c", "trap '' TERM; while :; do sleep 0.01; done"], timeout="200ms")


def test_a_stopped_program_is_ended_too(monkeypatch: pytest.MonkeyPatch) -> None:
    began = time.monotonic()
    with pytest.raises(CommandTimeout):
        call(["sh", "-c", "kill -STOP $$"], timeout="200ms")
    assert time.monotonic() - began < program.PATIENCE  # TERM reached it


def test_a_program_that_cannot_be_killed_does_not_hold_its_job(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("as for a program that became another user's")

    for name in ("PATIENCE", "BEYOND", "LAST_WORDS"):
        monkeypatch.setattr(program, name, 0.05)
    monkeypatch.setattr(program, "_sweep", lambda mark: None)
    with monkeypatch.context() as patch:
        patch.setattr("os.killpg", refuse)
        with pytest.raises(CommandTimeout):
            call(["sleep", "60"], timeout="100ms")
    [left] = program._beyond
    assert f"program {left.pid} has not ended after KILL" in caplog.text
    left.kill()
    until(lambda: not lives(left.pid), "it has ended")
    call(["true"])
    assert program._beyond == []


# A child that the program leaves behind writes its number; then the program ends, or does not.
LEAVE = """
import os, sys, time
file, how, then = sys.argv[1:]
if os.fork() == 0:
    if how == "daemon":
        os.setsid()
        if os.fork():
            os._exit(0)
    if how == "closed":
        os.closerange(0, 3)
    with open(file + ".new", "w") as out:
        out.write(str(os.getpid()))
    os.rename(file + ".new", file)
    time.sleep(1000)
while not os.path.exists(file):
    time.sleep(0.005)
print("left")
if then == "stay":
    time.sleep(1000)
"""


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    """Where a child writes its number; it does not outlive the test."""
    path = tmp_path / "child"
    yield path
    if path.exists() and lives(int(path.read_text())):
        os.kill(int(path.read_text()), signal.SIGKILL)


@pytest.mark.parametrize("how", ["child", "daemon", "closed"])
def test_nothing_is_left_behind_by_a_program_that_ends(file: Path, how: str) -> None:
    result = python(LEAVE, str(file), how, "end")
    assert result["stdout"] == "left\n"
    until(lambda: not lives(int(file.read_text())), "the child is gone")
    assert result["seconds"] < 30


def test_nothing_of_the_group_is_left_where_there_are_no_pidfds(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.pidfd_open", lambda pid: os.close(-1))
    assert python(LEAVE, str(file), "child", "end")["stdout"] == "left\n"
    until(lambda: not lives(int(file.read_text())), "the child is gone")


@pytest.mark.parametrize("how", ["child", "daemon"])
def test_nothing_is_left_behind_by_a_program_out_of_time(file: Path, how: str) -> None:
    async def body() -> None:
        with pytest.raises(CommandTimeout):
            await command([PYTHON, "-c", LEAVE, str(file), how, "stay"], timeout=2.0)

    asyncio.run(body())
    assert file.exists()
    until(lambda: not lives(int(file.read_text())), "the child is gone")


@pytest.mark.parametrize("times", [1, 2])
def test_n7_a_cancelled_job_ends_its_program(file: Path, times: int) -> None:
    """N7."""

    async def body() -> None:
        running = asyncio.create_task(command([PYTHON, "-c", LEAVE, str(file), "child", "stay"]))
        await auntil(number_in(file), "the program runs")
        for _ in range(times):
            running.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(asyncio.wait_for(body(), 40))
    until(lambda: not lives(int(file.read_text())), "the child is gone")


def test_a_program_that_floods_both_outputs_never_waits() -> None:
    source = "import os\nfor n in range(300): os.write(1, b'o' * 10000); os.write(2, b'e' * 10000)"
    result = python(source, timeout="60s")
    assert "2934464 bytes left out" in result["stdout"]
    assert "2934464 bytes left out" in result["stderr"]


def children() -> set[str]:
    """The processes that are this one's children, zombies among them."""
    return {
        pid for tasks in Path("/proc/self/task").iterdir() for pid in (tasks / "children").read_text().split()
    }


def test_no_descriptor_and_no_zombie_stays() -> None:
    async def body() -> None:
        await command(["true"])
        before = open_files()
        await asyncio.gather(*(command(["sh", "-c", "sleep 0.01 & echo x"]) for _ in range(20)))
        with pytest.raises(CommandRefused):
            await command(["true"], cwd="/no/such")
        assert open_files() == before

    there = children()
    asyncio.run(body())
    assert children() <= there
