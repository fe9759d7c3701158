"""An operator's word is not lost with the node that heard it, whatever the service was on its way to."""

from __future__ import annotations

import json
import os
import pwd
import signal
import socket
import sqlite3
from pathlib import Path

import pytest

from tests.site.live import LiveSite, alive, until

SLOW = """
import signal, time

def leave(*_):
    time.sleep(4)
    raise SystemExit(0)

signal.signal(signal.SIGTERM, leave)
print("ready", flush=True)
while True:
    time.sleep(0.1)
"""


@pytest.mark.parametrize(
    ("words", "state"),
    [(("restart", "stop"), "stopped"), (("stop", "start"), "running"), (("stop",), "stopped")],
)
def test_the_last_word_wins_over_the_death_of_the_node(
    site: LiveSite, words: tuple[str, ...], state: str
) -> None:
    site.write('[service.slow]\ncommand = "python3 slow.py"\n', slow=SLOW)
    site.up()
    until(lambda: b"ready" in site.log("slow/1"), "it runs")
    first = site.pids()["slow/1"]
    for word in words:
        site.run(word, "slow", "--no-wait")
    assert site.process("slow/1")["state"] == "stopping"
    node = site.node_pid()
    os.kill(node, signal.SIGKILL)
    until(lambda: site.status().get("node", {"pid": node})["pid"] != node, "a new node")
    until(lambda: not alive(first), "the first run has ended")
    until(lambda: site.process("slow/1")["state"] == state, f"it is {state}")


STUBBORN = """
import os, signal, time

signal.signal(signal.SIGTERM, signal.SIG_IGN)
time.sleep(0.5)
if os.fork() == 0:
    os.setsid()
    with open(f"child-{os.getpid()}", "w"):
        pass
    os.execve("/bin/sleep", ["sleep", "1000"], {})
time.sleep(1000)
"""


def test_children_born_after_the_stop_signal_are_found_before_their_parents_are_killed(
    site: LiveSite,
) -> None:
    site.write(
        '[service.pg]\ncommand = "python3 stubborn.py"\nprocesses = 12\nstop = { timeout = "2s" }\n',
        stubborn=STUBBORN,
    )
    site.up()
    site.run("stop", "pg")
    children = [int(path.name.removeprefix("child-")) for path in site.directory.glob("child-*")]
    assert not [pid for pid in children if alive(pid)]
    assert site.status()["unowned"] == []


def test_a_node_whose_memory_is_locked_or_lost_leaves_and_the_next_one_goes_on(site: LiveSite) -> None:
    site.write('[service.a]\ncommand = "sleep 1000"\nprocesses = 2\n')
    site.up()
    before, node = site.pids(), site.node_pid()
    with sqlite3.connect(site.state / "node.db", isolation_level=None) as blocker:
        blocker.execute("BEGIN IMMEDIATE")
        os.kill(before["a/1"], signal.SIGKILL)
        until(lambda: not alive(node), "the node gives up")
        blocker.execute("ROLLBACK")
    blocker.close()
    until(lambda: site.pids().get("a/1", before["a/1"]) != before["a/1"], "a/1 runs again")
    assert site.pids()["a/2"] == before["a/2"]


@pytest.mark.parametrize("place", ["/proc/nowhere/control.sock", "notes.txt"])
def test_a_door_that_cannot_be_is_said_at_once_and_nothing_is_deleted(site: LiveSite, place: str) -> None:
    notes = site.directory / "notes.txt"
    notes.write_text("dear to me")
    site.write(f'[control]\nsocket = "{place}"\n[service.a]\ncommand = "sleep 1000"\n')
    done = site.up(check=1)
    assert "cannot listen at" in done.stdout + done.stderr
    assert notes.read_text() == "dear to me"
    until(lambda: not site.marked(), "nothing is left")


def test_two_sites_at_one_door_are_refused(site: LiveSite, tmp_path_factory: pytest.TempPathFactory) -> None:
    door = tmp_path_factory.mktemp("door") / "control.sock"
    site.write(f'[control]\nsocket = "{door}"\n[service.a]\ncommand = "sleep 1000"\n')
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(door))
        other.listen()
        done = site.up(check=1)
    assert "somebody listens there already" in done.stdout + done.stderr


def test_a_second_down_does_not_hurry_the_first(site: LiveSite) -> None:
    site.write(
        '[service.slow]\ncommand = "python3 slow.py"\nstop = { timeout = "20s" }\n',
        slow=SLOW + 'print("never")\n',
    )
    site.up()
    until(lambda: b"ready" in site.log("slow/1"), "it runs")
    first = site.foreground("down")
    until(
        lambda: (
            json.loads(site.run("status", "--json", check=None).stdout or "{}").get("state") == "stopping"
        ),
        "stopping",
    )
    site.run("down", check=None)
    first.communicate(timeout=60)
    assert "slow/1 ended: exit status 0" in site.node_log()


def test_commands_on_two_processes_of_a_service_do_not_get_into_each_others_way(site: LiveSite) -> None:
    site.write(
        '[service.pair]\ncommand = "python3 slow.py"\nprocesses = 2\n',
        slow=SLOW.replace("sleep(4)", "sleep(1)"),
    )
    site.up()
    before = site.pids()
    done = site.run("restart", "pair/*")
    assert "came in between" not in done.stderr
    after = site.pids()
    assert set(after) == {"pair/1", "pair/2"} and not set(before.values()) & set(after.values())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may run services as somebody else")
def test_a_program_runs_as_another_user_and_its_output_is_kept(site: LiveSite) -> None:
    site.write(
        '[service.a]\ncommand = ["sh", "-c", "id -u; exec sleep 1000"]\nuser = "nobody"\ncwd = "/"\n',
    )
    site.up()
    nobody = pwd.getpwnam("nobody").pw_uid
    assert Path(f"/proc/{site.pids()['a/1']}").stat().st_uid == nobody
    until(lambda: site.log("a/1") == f"{nobody}\n".encode(), "its output is kept")
    site.run("stop", "a")
