"""What `coserver up` and `coserver down` say, as far as that needs no site; sites that run are in tests/site."""

from __future__ import annotations

import fcntl
import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from coserver.cli.context import Surroundings
from coserver.cli.up import _fail_to_start, _tell_intents
from coserver.host import keeper
from coserver.store.local import Intent, LocalState
from tests.cli.conftest import Console, FixedNode, Terminal, status

Keeper = Callable[[], "subprocess.Popen[bytes]"]


@pytest.fixture
def standin(site: Path) -> Iterator[Keeper]:
    """Start a process that holds the site's lock as a keeper, and ends at the first SIGTERM."""
    started: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        process = subprocess.Popen(["sleep", "1000"])
        started.append(process)
        stat = keeper.stat_of(process.pid)
        assert stat is not None
        (site / ".coserver").mkdir(exist_ok=True)
        (site / ".coserver" / "lock").write_text(json.dumps({"pid": process.pid, "start": stat.start}))
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_the_last_words_of_a_keeper_that_left_are_shown_without_control_sequences(
    here: Path, terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    words = here / "keeper.log"
    words.write_bytes(b"1\n2\n3\n4\nbad \xff \x1b[2J\n5\n6\n")
    terminal(80)
    with pytest.raises(SystemExit) as left:
        _fail_to_start(words, 70)
    assert left.value.code == 70
    assert capsys.readouterr().err == (
        "3\n4\nbad \ufffd \\x1b[2J\n5\n6\ncoserver: cannot start the site: its keeper left with status 70\n"
    )


def test_a_keeper_that_was_killed_is_code_1(here: Path) -> None:
    with pytest.raises(SystemExit) as left:
        _fail_to_start(here / "keeper.log", -9)
    assert left.value.code == 1


def test_what_operators_stopped_is_told_until_it_is_reset(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    surroundings = Surroundings(site / "coserver.toml", None)
    surroundings.places.make()
    state = LocalState(surroundings.places.node_db)
    state.intend("mail", Intent("stopped", "ada", 1_700_000_000_000_000))
    state.close()
    _tell_intents(surroundings, reset=False)
    said = capsys.readouterr().err
    assert said.startswith("mail stays stopped, as ada said on 2023-11-1")
    assert said.endswith("; `coserver start mail` ends that\n")
    _tell_intents(surroundings, reset=True)
    assert capsys.readouterr().err == ""


def test_a_second_up_names_the_keeper_and_leaves_it_alone(
    console: Console, site: Path, standin: Keeper
) -> None:
    process = standin()
    with open(site / ".coserver" / "lock", "rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        said = console("up", "-d")
    assert said.code == 1
    assert said.err == (
        f"coserver: cannot start the site: it is up already (keeper {process.pid}); use `coserver status`, "
        "or `coserver down` first\n"
    )
    assert process.poll() is None


def test_down_of_a_site_that_is_not_up_is_code_3(console: Console, site: Path) -> None:
    said = console("down")
    assert said.code == 3
    assert "is not up" in said.err


def test_down_asks_the_node_and_waits_for_the_keeper(
    console: Console, node: FixedNode, standin: Keeper
) -> None:
    process = standin()
    node.says("/healthz", {"ok": True, "state": "running"})
    node.says("/api/v1/down", {"keeper_pid": process.pid})
    process.terminate()
    said = console("down")
    assert said.code == 0
    assert said.err.endswith("shop is down\n")
    assert node.asked[-1] == ("/api/v1/down", {"now": False})


def test_down_of_a_site_that_goes_down_does_not_hurry_it(
    console: Console, node: FixedNode, standin: Keeper
) -> None:
    standin()
    node.says("/healthz", {"ok": True, "state": "stopping"})
    node.says("/api/v1/status", status())
    said = console("down", "--timeout", "50ms")
    assert said.code == 124
    assert "it is going down already\n" in said.err
    assert said.err.endswith(
        "cannot say that the site is down: not within 0.05 s (web/1, web/2 not ended yet); "
        "it goes on, and `coserver down --now` hurries it\n"
    )
    assert all(path != "/api/v1/down" for path, _ in node.asked)


def test_down_now_hurries_a_site_that_goes_down(console: Console, node: FixedNode, standin: Keeper) -> None:
    process = standin()
    node.says("/healthz", {"ok": True, "state": "stopping"})
    node.says("/api/v1/down", {"keeper_pid": process.pid})
    node.says("/api/v1/status", status(services=[]))
    said = console("down", "--now", "--timeout", "50ms")
    assert said.code == 124
    assert said.err.endswith("not within 0.05 s; see `coserver logs coserver`\n")
    assert ("/api/v1/down", {"now": True}) in node.asked


def test_a_request_for_the_end_that_its_node_passed_on_is_not_repeated(
    console: Console, node: FixedNode, standin: Keeper
) -> None:
    process = standin()
    node.says("/healthz", {"ok": True, "state": "running"}, {"ok": True, "state": "stopping"})
    node.says("/api/v1/down", None)
    node.says("/api/v1/status", None)
    assert console("down", "--timeout", "50ms").code == 124
    assert process.poll() is None


def test_without_a_node_the_keeper_is_asked_and_that_is_said(console: Console, standin: Keeper) -> None:
    process = standin()
    said = console("down")
    assert said.code == 0
    assert (
        f"its node does not answer; the keeper, process {process.pid}, was asked to end everything\n"
        in said.err
    )
    assert process.wait() == -signal.SIGTERM
