"""The keeper's part towards output, as far as tests need it: it starts output, gives it pipes, and starts it again."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from coserver.host import output

PROGRAM = output.__file__


def eventually(condition: Callable[[], object], within: float = 20.0, what: str = "") -> None:
    """Poll until `condition` holds; AssertionError after `within` seconds."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, what or f"did not happen within {within} s"
        time.sleep(0.005)


def pss_bytes(pid: int) -> int:
    """Proportional set size of a process."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no Pss line")


@dataclass
class Attached:
    id: str
    stream: str
    path: str
    max_bytes: int
    keep: int
    pipe: int
    file: int | None = None


@dataclass
class Keeper:
    """Holds a duplicate of every pipe and current file, as the keeper does."""

    stderr: Path
    wait_seconds: float = 20.0
    attached: dict[tuple[str, str], Attached] = field(default_factory=dict)
    closed: dict[tuple[str, str], dict[str, object]] = field(default_factory=dict)
    starts: int = 0

    def start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs, self.stderr.open("ab") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-S", PROGRAM, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stderr=stderr,
                stdin=subprocess.DEVNULL,
            )
        ours.settimeout(self.wait_seconds)
        self.socket = ours
        self.decoder = output.Decoder()
        self.starts += 1
        for each in self.attached.values():
            self._send_attach(each)

    def attach(
        self, id_: str, path: Path, pipe: int, *, stream: str = "out", max_bytes: int = 0, keep: int = 5
    ) -> None:
        """Hand over the read end `pipe`, which this object owns from now on."""
        each = Attached(id_, stream, str(path), max_bytes, keep, pipe)
        self.attached[id_, stream] = each
        self._send_attach(each)

    def _send_attach(self, each: Attached) -> None:
        fds = [each.pipe] if each.file is None else [each.pipe, each.file]
        self.send(
            {
                "op": "attach",
                "id": each.id,
                "stream": each.stream,
                "path": each.path,
                "max_bytes": each.max_bytes,
                "keep": each.keep,
            },
            fds,
        )

    def send(self, message: dict[str, object], fds: list[int] | None = None) -> None:
        socket.send_fds(self.socket, [output.encode(message, len(fds or []))], fds or [])

    def hear(self, wait: bool = True) -> bool:
        """Take in what output says. False when it has gone, or has nothing to say and `wait` is false."""
        # A socket with a time limit waits for it, whatever flags the call has.
        if not wait and not select.select([self.socket], [], [], 0)[0]:
            return False
        try:
            data, fds, _, _ = socket.recv_fds(self.socket, 65536, output.FDS_MAX)
        except ConnectionError:
            return False
        if not data:
            return False
        for message, passed in self.decoder.feed(data, fds):
            key = (str(message["id"]), str(message["stream"]))
            if message["op"] == "file":
                (fd,) = passed
                each = self.attached.get(key)
                if each is None:
                    os.close(fd)
                else:
                    if each.file is not None:
                        os.close(each.file)
                    each.file = fd
            elif message["op"] == "closed":
                self.closed[key] = message
                self._forget(key)
        return True

    def until_closed(self, *keys: tuple[str, str] | str) -> None:
        wanted = [key if isinstance(key, tuple) else (key, "out") for key in keys]
        while any(key not in self.closed for key in wanted):
            assert self.hear(), "output has gone before it had taken everything"

    def until_files(self) -> None:
        while any(each.file is None for each in self.attached.values()):
            assert self.hear(), "output has gone before it had opened every file"

    def kill(self) -> None:
        """kill -9, then take in what it had said before."""
        self.process.kill()
        self.process.wait()
        while self.hear():
            pass
        self.decoder.close()
        self.socket.close()

    def _forget(self, key: tuple[str, str]) -> None:
        each = self.attached.pop(key, None)
        if each is not None:
            os.close(each.pipe)
            if each.file is not None:
                os.close(each.file)

    def close(self) -> None:
        for key in list(self.attached):
            self._forget(key)
        self.decoder.close()
        self.socket.close()
        try:
            self.process.wait(self.wait_seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


@contextmanager
def keeper(directory: Path) -> Iterator[Keeper]:
    it = Keeper(directory / "output.stderr")
    it.start()
    try:
        yield it
    finally:
        it.close()


def log_files(path: Path) -> list[Path]:
    """The file and its older ones that exist, oldest first."""
    older = []
    number = 1
    while (each := path.with_name(f"{path.name}.{number}")).exists():
        older.append(each)
        number += 1
    return [*reversed(older), *([path] if path.exists() else [])]


def content(path: Path) -> bytes:
    return b"".join(each.read_bytes() for each in log_files(path))
