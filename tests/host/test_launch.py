"""One keeper per state directory, whoever dies; the command that becomes it keeps its process id."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from coserver.errors import CoserverError
from coserver.host import launch
from coserver.host.keeper_link import KeeperGone
from coserver.host.launch import SiteIsUp, lock_holder, take_lock
from tests.host.keeping import Site, heard, on_a_loop, until


@on_a_loop
async def test_a_second_keeper_is_refused_with_the_firsts_process_id(site: Site) -> None:
    await site.node()
    with pytest.raises(SiteIsUp, match=rf"it is up already \(keeper {site.pid}\)") as refused:
        take_lock(site.state, wait=10)
    assert refused.value.keeper_pid == site.pid
    assert lock_holder(site.state) == site.pid


@on_a_loop
async def test_a_node_whose_keeper_died_still_has_the_lock(make_site: Callable[..., Site]) -> None:
    site = make_site()
    link = await site.node()
    os.kill(site.pid, signal.SIGKILL)
    await heard(link, KeeperGone)
    assert site.wait() == -signal.SIGKILL
    with pytest.raises(SiteIsUp, match="still being stopped") as refused:
        take_lock(site.state)
    assert refused.value.keeper_pid is None
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        if not waits:
            os.kill(site.node_pid, signal.SIGKILL)
        waits.append(seconds)
        time.sleep(seconds)

    os.close(take_lock(site.state, wait=10, sleep=sleep))
    assert waits


def test_the_lock_is_free_again_and_the_directory_private(tmp_path: Path) -> None:
    state = tmp_path / "deep" / "state"
    for _ in range(2):
        os.close(take_lock(state))
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert stat.S_IMODE((state / "lock").stat().st_mode) == 0o600
    assert lock_holder(state) is None


def test_a_state_directory_that_cannot_be_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        CoserverError,
        match=r"cannot use the state directory .*: there is a file in its place; move that away",
    ):
        take_lock(tmp_path / "file" / "state")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"pid":1,"start":1}', b'{"pid":"x","start":1}'])
def test_a_lock_file_that_names_no_live_keeper_names_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "lock").write_bytes(content)
    assert lock_holder(tmp_path) is None


FOREGROUND = """
import json, sys
from pathlib import Path
from coserver.host import launch
state, command = Path(sys.argv[1]), json.loads(sys.argv[2])
launch.become_keeper(state, launch.take_lock(state), command, {"ping": 0.2})
"""


@on_a_loop
async def test_in_the_foreground_the_command_itself_becomes_the_keeper(site: Site) -> None:
    site.run([sys.executable, "-c", FOREGROUND, str(site.state), json.dumps(site.command)])
    link = await site.node()
    assert link.welcome.keeper_pid == site.pid == lock_holder(site.state)
    assert site.finish(link, 6) == 6


def test_a_keeper_in_the_background_has_left_terminal_and_session(site: Site) -> None:
    site.start()
    until(lambda: os.getsid(site.pid) == site.pid)
    assert (site.state / "keeper.log").stat().st_mode & 0o777 == 0o600
    assert Path(f"/proc/{site.pid}/fd/0").readlink() == Path("/dev/null")


def test_a_lost_state_directory_is_a_clear_error(tmp_path: Path) -> None:
    command = launch.keeper_command(tmp_path / "nonesuch", 0, ["true"], {})
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 70
    assert "cannot keep the table of children" in done.stderr


def test_a_wrong_command_line_is_refused(tmp_path: Path) -> None:
    command = [*launch.keeper_command(tmp_path, 0, [], {})[:4], "--nonesuch=1", "--", "true"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "usage" in done.stderr


def test_the_lock_excludes_other_processes(tmp_path: Path) -> None:
    fd = take_lock(tmp_path)
    with open(tmp_path / "lock") as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(fd)
