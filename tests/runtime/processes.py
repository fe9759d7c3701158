"""Service processes, started as a node would start them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from coserver.runtime.spec import ENVIRONMENT, ServiceSpec, encode
from coserver.wire.bridge import FromNode, FromProcess, Hello, State, Welcome, from_process
from coserver.wire.bridge import encode as to_line
from tests.runtime.workers import until

TASKS = """
import asyncio, os, time
from pathlib import Path
from coserver import task

@task(name="touch")
async def touch(path: str) -> None:
    with open(path, "a") as file:
        file.write("x")

@task(name="wait_for")
async def wait_for(path: str, started: str) -> str:
    with open(started, "a") as file:
        file.write("x")
    while not Path(path).exists():
        await asyncio.sleep(0.005)
    return "waited"

@task(name="wait_plain")
def wait_plain(path: str, started: str) -> str:
    with open(started, "a") as file:
        file.write("x")
    while not Path(path).exists():
        time.sleep(0.005)
    return "waited"

@task(name="nap")
async def nap() -> None:
    await asyncio.sleep(0.3)

@task(name="die")
async def die() -> None:
    os.kill(os.getpid(), 9)

@task(name="exit_below")
async def exit_below() -> None:
    async def below() -> None:
        raise SystemExit(3)
    await asyncio.create_task(below())
"""


class Child:
    """A service process; its stderr is collected."""

    def __init__(self, spec: ServiceSpec, cwd: Path) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("COSERVER_")}
        self.spec = spec
        self.process = subprocess.Popen(
            [sys.executable, "-m", "coserver.runtime.process"],
            env={**environment, ENVIRONMENT: encode(spec)},
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._said: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._said.append(line)

    @property
    def said(self) -> str:
        return "".join(self._said)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, seconds: float = 30.0) -> int:
        status = self.process.wait(seconds)
        self._reader.join(seconds)
        return status

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.wait()
        assert self.process.stderr is not None
        self.process.stderr.close()


@contextmanager
def child(cwd: Path, **given: Any) -> Iterator[Child]:
    """A service process for the block."""
    made = Child(replace(ServiceSpec(site="test", service="jobs", process="jobs/1"), **given), cwd)
    try:
        yield made
    finally:
        made.close()


class FakeNode:
    """The node's side of the bridge, as far as one process needs it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.heard: list[FromProcess] = []
        self._connection: socket.socket | None = None
        self._listener = self._listen()
        self._over = False
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def _listen(self) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(self.path))
        listener.listen()
        return listener

    def _accept(self) -> None:
        while not self._over:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                self._connection = connection
                self._talk(connection)

    def _talk(self, connection: socket.socket) -> None:
        decoder = from_process()
        try:
            while data := connection.recv(1 << 16):
                for message in decoder.feed(data):
                    self.heard.append(message)
                    if isinstance(message, Hello):
                        connection.sendall(to_line(Welcome()))
        except OSError:
            pass

    @property
    def state(self) -> Hello | State | None:
        """What the process said last of itself."""
        return next((m for m in reversed(self.heard) if isinstance(m, Hello | State)), None)

    def until_ready(self) -> None:
        until(lambda: self.state is not None and self.state.ready, "the process is ready")

    def send(self, message: FromNode) -> None:
        assert self._connection is not None
        self._connection.sendall(to_line(message))

    def send_bytes(self, data: bytes) -> None:
        assert self._connection is not None
        self._connection.sendall(data)

    def cut(self) -> None:
        """Break the connection, as a dying node does."""
        assert self._connection is not None
        self._connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._over = True
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        if self._connection is not None:
            try:
                self._connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self._thread.join(10)


@contextmanager
def node(path: Path) -> Iterator[FakeNode]:
    """A stand-in for the node for the block."""
    made = FakeNode(path)
    try:
        yield made
    finally:
        made.close()
