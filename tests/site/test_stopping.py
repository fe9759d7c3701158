"""Stopped means empty, and stays stopped."""

from __future__ import annotations

import os
import signal
import subprocess

from tests.site.live import COSERVER, LiveSite, alive, command, until

DAEMON = """
import os, sys, time

if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        open("daemon.pid", "w").write(str(os.getpid()))
        for fd in range(3):
            os.close(fd)
        time.sleep(1000)
    os._exit(0)
time.sleep(1000)
"""


def test_a_service_whose_child_double_forks_a_daemon_is_stopped_whole(site: LiveSite) -> None:
    site.write('[service.forker]\ncommand = "python3 forker.py"\n', forker=DAEMON)
    site.up()
    pidfile = site.directory / "daemon.pid"
    until(lambda: pidfile.exists() and pidfile.read_text(), "the daemon runs")
    daemon, leader = int(pidfile.read_text()), site.pids()["forker/1"]
    assert alive(daemon)
    site.run("stop", "forker")
    assert not alive(daemon)
    assert not alive(leader)
    assert site.process("forker/1")["state"] == "stopped"


def test_a_program_that_ignores_the_stop_signal_is_killed_when_its_time_is_over(site: LiveSite) -> None:
    """C2: signal, wait, kill."""
    site.write(
        '[service.deaf]\ncommand = ["sh", "-c", "trap \'\' TERM; sleep 1000 & wait; wait; sleep 1000"]\n'
        'stop = { timeout = "300ms" }\n'
    )
    site.up()
    before = site.pids()
    site.run("stop", "deaf")
    assert not alive(before["deaf/1"])
    assert all(b"coserver" in command(pid) for pid in site.marked())


def test_an_operators_stop_outlives_the_site_and_up_says_who_and_resets(site: LiveSite) -> None:
    site.write('[service.a]\ncommand = "sleep 1000"\n[service.b]\ncommand = "sleep 1000"\nprocesses = 2\n')
    site.up()
    site.run("stop", "a", "b/2")
    site.down()
    told = site.up().stderr
    assert "a stays stopped, as " in told and "b/2 stays stopped, as " in told
    assert set(site.pids()) == {"b/1"}
    assert site.status()["healthy"]
    os.kill(site.node_pid(), signal.SIGKILL)
    until(lambda: site.run("status", "-q", check=None).returncode == 0, "a new node")
    assert set(site.pids()) == {"b/1"}
    site.run("start", "b/2")
    assert set(site.pids()) == {"b/1", "b/2"}
    site.down()
    site.up("--reset")
    assert set(site.pids()) == {"a/1", "b/1", "b/2"}


def test_ctrl_c_stops_everything_in_order_and_leaves_nothing(site: LiveSite) -> None:
    site.write(
        "[service.polite]\n"
        """command = ["sh", "-c", "trap 'echo bye; exit 0' TERM; echo hello; while true; do sleep 0.1; done"]\n"""
    )
    shown = site.foreground("up")
    until(lambda: b"hello" in site.log("polite/1"), "it runs")
    until(lambda: site.run("status", "-q", check=None).returncode == 0, "it is up")
    os.killpg(shown.pid, signal.SIGINT)
    text, _ = shown.communicate(timeout=45)
    assert shown.returncode == 0, text
    assert "polite/1 | hello" in text
    assert "polite/1 | bye" in text
    assert "everything has stopped" in text
    assert not site.marked()


def test_term_to_the_keeper_is_an_orderly_stop(site: LiveSite) -> None:
    site.write('[service.a]\ncommand = "sleep 1000"\n')
    shown = site.foreground("up")
    until(lambda: site.run("status", "-q", check=None).returncode == 0, "it is up")
    os.kill(shown.pid, signal.SIGTERM)
    text, _ = shown.communicate(timeout=45)
    assert shown.returncode == 0, text
    assert not site.marked()


def test_restart_gives_every_process_a_new_run(site: LiveSite) -> None:
    site.write('[service.a]\ncommand = "sleep 1000"\nprocesses = 2\n')
    site.up()
    before = site.pids()
    site.run("restart", "a/*")
    after = site.pids()
    assert set(before) == set(after) and not set(before.values()) & set(after.values())
    assert not any(alive(pid) for pid in before.values())


def test_a_second_up_is_refused_while_the_first_is_up(site: LiveSite) -> None:
    site.write('[service.a]\ncommand = "sleep 1000"\n')
    site.up()
    before = site.pids()
    again = site.up(check=1)
    assert "cannot start the site: it is up already" in again.stderr
    assert site.pids() == before


def test_a_shell_that_goes_away_does_not_take_a_detached_site_along(site: LiveSite) -> None:
    site.write('[service.a]\ncommand = "sleep 1000"\n')
    subprocess.run(
        ["sh", "-c", f"{' '.join(COSERVER)} -c '{site.file}' up -d"],
        env=site.environment(),
        check=True,
        capture_output=True,
        start_new_session=True,
        timeout=60,
    )
    assert site.process("a/1")["state"] == "running"
