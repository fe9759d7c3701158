"""What is seen where `up` was called, and what a command says of a node that does not answer."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from coserver.host.log_text import timestamp
from tests.site.live import LiveSite, alive, command, until

TICKS = """
import itertools, time
for n in itertools.count():
    print("tick", n, flush=True)
    time.sleep(0.05)
"""


@pytest.mark.parametrize(
    ("ended_by", "node_too"), [(signal.SIGKILL, False), (signal.SIGTERM, False), (signal.SIGKILL, True)]
)
def test_the_terminal_does_not_stay_mute_when_the_printer_is_killed(
    site: LiveSite, ended_by: signal.Signals, node_too: bool
) -> None:
    site.write('[service.a]\ncommand = "python3 ticks.py"\n', ticks=TICKS)
    shown: list[str] = []
    with site.foreground("up") as up:
        assert up.stdout is not None
        reading = threading.Thread(target=lambda: shown.extend(iter(up.stdout.readline, "")))  # type: ignore[union-attr]
        reading.start()
        try:
            until(lambda: any("tick 25" in line for line in shown), "it shows")
            printer = next(pid for pid in site.marked() if b"\0--follow\0--attached\0" in command(pid))
            if node_too:
                os.kill(site.node_pid(), ended_by)
            os.kill(printer, ended_by)
            seen = len(shown)
            until(
                lambda: any("tick" in line for line in shown[seen + 5 :]),
                "another one goes on",
            )
            assert not alive(printer)
        finally:
            site.run("down", check=None)
            reading.join(60)
    ticks = [int(line.split()[-1]) for line in shown if "tick" in line]
    assert set(range(max(ticks) + 1)) <= set(ticks)  # nothing is missing


def test_a_node_that_is_halted_is_told_while_one_waits(site: LiveSite) -> None:
    site.write('[service.a]\ncommand = "sleep 1000"\n')
    site.up()
    node, keeper = site.node_pid(), site.keeper_pid()
    os.kill(keeper, signal.SIGSTOP)  # else it would replace the node
    os.kill(node, signal.SIGSTOP)
    try:
        said = site.run("status", check=5)
    finally:
        os.kill(node, signal.SIGCONT)
        os.kill(keeper, signal.SIGCONT)
    assert said.stdout == ""
    first, last = said.stderr.splitlines()
    assert first.startswith("waiting for the answer of site ")
    assert "has not answered within 10 s; see `coserver doctor`" in last


def test_the_nodes_log_has_times_as_everywhere_else(site: LiveSite) -> None:
    site.write('[service.a]\ncommand = "sleep 1000"\n')
    site.up()
    when, level, *_ = site.node_log().splitlines()[0].split()
    assert level == "INFO"
    assert len(when) == len(timestamp(0)) and when[10] == "T" and when[-6] in "+-"
