"""A real keeper for tests, whose node is the test itself.

The keeper starts, as its node, a small program that hands its end of the conversation to the test and then only exists:
the test speaks through a real `KeeperLink`, and `kill -9` of the node is `kill -9` of that program.
"""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from coserver.host import keeper, launch, recorded
from coserver.host.keeper_link import Event, KeeperGone, KeeperLink, OutputSpec, SpawnSpec

PATIENCE = 20.0

PUPPET = """
import os, signal, socket, sys
speak = socket.socket(socket.AF_UNIX)
speak.connect(sys.argv[1])
socket.send_fds(speak, [b"x"], [int(os.environ["COSERVER_KEEPER_FD"])])
os.close(int(os.environ["COSERVER_KEEPER_FD"]))
while True:
    signal.pause()
"""

E = TypeVar("E", bound=Event)


class Site:
    """A keeper in a state directory of its own. Its times are short; `settings` overrides them."""

    def __init__(self, directory: Path, **settings: float) -> None:
        self.state = directory / "state"
        self.log = directory / "state" / "keeper.log"
        self.settings = {"ping": 0.2, "silence": 60.0, "grace": 3.0, "stop_silence": 3.0, **settings}
        self.environment = {"PATH": os.environ["PATH"]}
        self.keeper: subprocess.Popen[bytes] | None = None
        self.node_pid = 0
        self.links: list[KeeperLink] = []
        puppet = directory / "puppet.py"
        puppet.write_text(PUPPET)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(f"{directory}/door")
        self._listener.listen()
        self._listener.setblocking(False)
        self.command = [sys.executable, "-I", "-S", str(puppet), f"{directory}/door"]

    def start(self, command: list[str] | None = None) -> subprocess.Popen[bytes]:
        """Start the keeper, with the puppet or another command as its node."""
        lock = launch.take_lock(self.state)
        try:
            self.keeper = launch.start_keeper(self.state, lock, command or self.command, self.settings)
        finally:
            os.close(lock)
        return self.keeper

    def run(self, command: list[str]) -> None:
        """Start a keeper by this very command instead."""
        self.state.mkdir(exist_ok=True)
        with open(self.log, "wb") as log:
            self.keeper = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    async def node(self) -> KeeperLink:
        """The conversation of the next node that the keeper starts."""
        if self.keeper is None:
            self.start()
        async with asyncio.timeout(PATIENCE):
            speaks, _ = await asyncio.get_running_loop().sock_accept(self._listener)
        with speaks:
            speaks.setblocking(True)
            _, fds, _, _ = socket.recv_fds(speaks, 1, 1)
            peer = speaks.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
            self.node_pid = struct.unpack("3i", peer)[0]
        link = await KeeperLink.connect(fds[0])
        self.links.append(link)
        return link

    def kill_node(self, number: int = signal.SIGKILL) -> None:
        """Kill the node's process, and let go of the conversation as its death would."""
        os.kill(self.node_pid, number)
        self.links.pop().close()

    def finish(self, link: KeeperLink, code: int = 0) -> int:
        """Say finish and leave, as a node does; the keeper's exit status."""
        link.finish(code)
        link.close()
        os.kill(self.node_pid, signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        """The keeper's exit status."""
        assert self.keeper is not None
        return self.keeper.wait(PATIENCE)

    @property
    def pid(self) -> int:
        assert self.keeper is not None
        return self.keeper.pid

    def output_pid(self) -> int | None:
        """The process id of the output process, if there is one just now."""
        for pid in keeper.children_of(self.pid):
            if b"output.py" in keeper.read_proc(f"/proc/{pid}/cmdline"):
                return pid
        return None

    def spec(self, key: str, *argv: str, output: OutputSpec | None = None, **other: Any) -> SpawnSpec:
        """A request to run `argv`; its output goes to the keeper's log unless said otherwise."""
        environment = {**self.environment, "COSERVER_MARK": f"test{self.pid}:{key}", **other.pop("env", {})}
        return SpawnSpec(
            key=key, argv=argv, env=environment, cwd="/", mark=f"test{self.pid}:{key}", output=output, **other
        )

    def output(self, name: str, **other: Any) -> OutputSpec:
        """Where output of that name goes."""
        return OutputSpec(str(self.state / f"{name}.log"), **{"max_bytes": 100_000_000, "keep": 3, **other})

    def printed(self, name: str) -> str:
        """What the process with that output printed so far."""
        path = self.state / f"{name}.log"
        return path.read_text() if path.exists() else ""

    def clear(self) -> None:
        """Leave nothing behind, whatever the test did."""
        for link in self.links:
            link.close()
        self._listener.close()
        if self.keeper is not None:
            deadline = time.monotonic() + PATIENCE
            while self.keeper.poll() is None:  # three signals, and it ends everything itself
                if time.monotonic() > deadline:
                    self.keeper.kill()
                self.keeper.terminate()
                time.sleep(0.01)
        recorded.clear(self.state / "children")


async def heard(link: KeeperLink, kind: type[E], key: str = "") -> E:
    """The next event, which must be of that kind and about that key."""
    async with asyncio.timeout(PATIENCE):
        event = await link.events.get()
    assert isinstance(event, kind), event
    assert not key or getattr(event, "key", None) == key, event
    return event


async def heard_among(link: KeeperLink, kind: type[E], key: str = "") -> E:
    """The next event of that kind about that key, skipping others."""
    async with asyncio.timeout(PATIENCE):
        while True:
            event = await link.events.get()
            if isinstance(event, kind) and (not key or getattr(event, "key", None) == key):
                return event
            assert not isinstance(event, KeeperGone), event


def until(condition: Callable[[], Any], patience: float = PATIENCE) -> Any:
    """Ask until the answer is true; it is returned."""
    deadline = time.monotonic() + patience
    while not (answer := condition()):
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.005)
    return answer


async def eventually(condition: Callable[[], Any], patience: float = PATIENCE) -> Any:
    """The same inside a loop, which goes on meanwhile."""
    deadline = time.monotonic() + patience
    while not (answer := condition()):
        assert time.monotonic() < deadline, "it did not come true in time"
        await asyncio.sleep(0.005)
    return answer


def alive(pid: int) -> bool:
    """Whether there is a process of that id that is no zombie."""
    stat = keeper.stat_of(pid)
    return stat is not None and stat.state != "Z"


def on_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a coroutine test on a loop of its own, in debug mode."""

    @functools.wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        asyncio.run(test(*arguments, **named), debug=True)

    return run
