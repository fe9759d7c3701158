"""Whatever goes wrong is one message and an exit code: files of others, files that are no such, defects of our own."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from coserver.cli import status as status_module
from coserver.cli.main import explained
from coserver.errors import ResultTimeout
from tests.cli.conftest import Console, FixedNode, status

COSERVER = [sys.executable, "-m", "coserver"]
OTHER = 65534

Foreign = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def foreign(site: Path) -> Iterator[Foreign]:
    """Run a command on a site whose state directory is another user's."""
    state = site / ".coserver"
    state.mkdir(mode=0o700)
    command = COSERVER
    if os.geteuid() != 0:
        state.chmod(0)
    else:  # root may enter anything, unless it gives up its capabilities
        if shutil.which("setpriv") is None:
            pytest.skip("root can only be stopped with setpriv")
        os.chown(state, OTHER, OTHER)
        command = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", *COSERVER]
    yield lambda *words: subprocess.run([*command, *words], capture_output=True, text=True, timeout=60)
    state.chmod(0o700)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["status"],
        ["logs"],
        ["logs", "web/1"],
        ["logs", "coserver"],
        ["up", "-d"],
        ["down"],
        ["stop", "web"],
    ],
)
def test_the_site_of_another_user_is_code_6_and_one_line(foreign: Foreign, words: list[str]) -> None:
    done = foreign(*words)
    assert done.returncode == 6, done.stderr
    *said_first, last = done.stderr.splitlines()
    assert last.startswith("coserver: cannot ")
    assert all(line.startswith(("down shop", "stop web")) for line in said_first)
    assert done.stdout == ""


def test_a_file_that_is_none_is_one_line_and_code_1(console: Console, site: Path) -> None:
    wrong = site / ".coserver" / "log"
    wrong.parent.mkdir()
    wrong.touch()
    said = console("logs", "web/1")
    assert said == (
        1,
        "",
        f"coserver: cannot use {wrong}/web/1.log: {wrong} is a file, not a directory; move it away\n",
    )


@pytest.mark.parametrize(
    ("words", "code", "cause"),
    [
        (["status"], 3, "is no directory; move away what is there, or set `state` in [node]"),
        (["stop", "web"], 3, "is no directory; move away what is there, or set `state` in [node]"),
        (["down"], 3, "is no directory; move away what is there, or set `state` in [node]"),
        (["logs", "web/1"], 1, "is a file, not a directory; move it away"),
        (["up", "-d"], 1, "there is a file in its place; move that away, or set `state` in [node]"),
        (["doctor"], 1, "is a file; move it away, or set `state` in [node]"),
    ],
)
def test_a_file_in_the_place_of_the_state_directory_is_named_with_the_mend(
    console: Console, site: Path, words: list[str], code: int, cause: str
) -> None:
    (site / ".coserver").touch()
    said = console(*words)
    assert said.code == code
    assert f"{site}/.coserver" in said.out + said.err
    assert cause in said.out + said.err


@pytest.mark.parametrize("option", ["--args", "--kwargs", ""])
def test_arguments_nested_too_deeply_are_a_mistake_in_usage(
    console: Console, here: Path, option: str
) -> None:
    (here / "coserver.toml").write_text('[service.a]\ncommand = "sleep 1000"\n')
    for depth in (101, 100_000):
        text = "[" * depth + "]" * depth
        text = f'{{"a":{text}}}' if option == "--kwargs" else text
        said = console("jobs", "submit", "a:b", *([option] if option else []), text)
        assert (said.code, said.out) == (2, "")
        assert said.err.startswith("coserver: cannot ")
        assert len(said.err.splitlines()) == 1
        assert "nest" in said.err


def test_a_module_that_fails_is_told_with_its_place_and_without_pointing_to_what_is_not_there(
    console: Console, here: Path
) -> None:
    (here / "coserver.toml").write_text('[app]\npath = ["."]\n[service.work]\ntasks = ["failing_jobs"]\n')
    (here / "failing_jobs.py").write_text("one = 1\ntwo = one / 0\n")
    said = console("jobs", "submit", "failing_jobs:x")
    assert said.code == 0
    assert said.err == (
        "not checked whether the site knows failing_jobs:x: cannot import failing_jobs: ZeroDivisionError: division "
        f"by zero; see {here}/failing_jobs.py:2\n"
    )
    (here / "failing_jobs.py").write_text("one = 1\ntwo = (\n")
    assert f"; correct {here}/failing_jobs.py:2\n" in console("jobs", "submit", "failing_jobs:x").err


def test_errors_of_the_system_say_what_they_are_about() -> None:
    denied = PermissionError(errno.EACCES, "Permission denied", "/a")
    assert explained(denied) == ("coserver: cannot use /a: Permission denied; ask as its owner or as root", 6)
    full = OSError(errno.ENOSPC, "No space left on device")
    assert explained(full) == ("coserver: cannot go on: No space left on device", 1)
    assert explained(OSError("odd")) == ("coserver: cannot go on: odd", 1)
    assert explained(ResultTimeout("cannot tell")) == (
        "coserver: cannot tell",
        124,
    )  # although it is an OSError


def test_a_defect_of_ours_is_one_line_that_asks_to_report_it(
    console: Console, node: FixedNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    def defect(_: object) -> None:
        raise ZeroDivisionError("by zero")

    node.says("/api/v1/status", status())
    monkeypatch.setattr(status_module, "print_status", defect)
    said = console("status")
    assert (said.code, said.out) == (1, "")
    assert said.err == (
        "coserver: cannot go on: ZeroDivisionError: by zero; that is a defect of coserver, please report it with what "
        "COSERVER_DEBUG=1 shows\n"
    )
    monkeypatch.setenv("COSERVER_DEBUG", "1")
    said = console("status")
    assert said.code == 1
    assert said.err.startswith("Traceback (most recent call last):\n")
    assert "in defect\n" in said.err


def test_without_a_verb_a_broken_configuration_is_told(console: Console, here: Path) -> None:
    (here / "coserver.toml").write_text("[servce.a]\n")
    said = console()
    assert (said.code, said.out) == (2, "")
    assert "coserver.toml:1" in said.err


@pytest.fixture
def attentive() -> Iterator[None]:
    """Have children take SIGINT, also where this process was started to ignore it, as shells do in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("attentive")
def test_ctrl_c_is_code_130_and_says_nothing(site: Path) -> None:
    log = site / ".coserver" / "log" / "web" / "1.log"
    log.parent.mkdir(parents=True)
    log.write_text("one\n")
    with subprocess.Popen(
        [*COSERVER, "logs", "-f", "web/1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as following:
        try:
            assert following.stdout is not None
            assert following.stdout.readline() == "one\n"
            following.send_signal(signal.SIGINT)
            out, err = following.communicate(timeout=60)
        finally:
            following.kill()
    assert (following.returncode, out, err.strip()) == (130, "", "")


def test_a_follower_that_is_ended_leaves_the_terminal_at_the_start_of_a_line(site: Path) -> None:
    log = site / ".coserver" / "log" / "web" / "1.log"
    log.parent.mkdir(parents=True)
    log.write_text("one\n? ")
    with subprocess.Popen(
        [*COSERVER, "logs", "-f", "web/1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as following:
        try:
            assert following.stdout is not None
            assert following.stdout.read(6) == "one\n? "
            following.terminate()
            out, err = following.communicate(timeout=60)
        finally:
            following.kill()
    assert (following.returncode, out, err) == (128 + signal.SIGTERM, "\n", "")


def test_a_reader_that_leaves_is_no_mistake(site: Path) -> None:
    with subprocess.Popen(
        [*COSERVER, "config", "schema"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as writing:
        assert writing.stdout is not None
        assert writing.stderr is not None
        writing.stdout.close()
        assert writing.wait(60) == 0
        assert writing.stderr.read() == b""
