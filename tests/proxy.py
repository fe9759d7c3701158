"""A network between coserver and PostgreSQL that can break: a small TCP proxy of the tests."""

from __future__ import annotations

import select
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_LOOK = 0.02
_NOTIFICATION = ord("A")


class Proxy:
    """Passes everything on to `port` of this host, until it is told otherwise. `url` leads through it."""

    def __init__(self, url: str) -> None:
        """`url` of a database behind `127.0.0.1:PORT`."""
        before, _, after = url.rpartition("@127.0.0.1:")
        port, _, name = after.partition("/")
        self._target = ("127.0.0.1", int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(_LOOK)
        self.url = (
            f"{before}@127.0.0.1:{self._listener.getsockname()[1]}/{name}?sslmode=disable&gssencmode=disable"
        )
        self.connections = 0
        """so many have been made"""
        self._stalled = self._cut = self._over = False
        self._old: int | None = None
        self._mute = False
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()

    def stall(self, *, only_present: bool = False) -> None:
        """From now on nothing arrives, and nobody is told so; with `only_present`, new connections work."""
        self._old = self.connections if only_present else None
        self._stalled = True

    def cut(self) -> None:
        """Break all connections and refuse new ones."""
        self._cut = True

    def mute(self) -> None:
        """From now on swallow notifications, as a pooler does that hands out connections by the transaction."""
        self._mute = True

    def restore(self) -> None:
        """Everything works again; what was held back arrives."""
        self._stalled = self._cut = self._mute = False

    def close(self) -> None:
        self._over = True
        self._accepting.join()
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while not self._over:
            try:
                inside, _ = self._listener.accept()
            except TimeoutError:
                continue
            if self._cut:
                inside.close()
                continue
            self.connections += 1
            thread = threading.Thread(target=self._carry, args=(inside, self.connections))
            self._threads.append(thread)
            thread.start()

    def _carry(self, inside: socket.socket, number: int) -> None:
        with inside:
            try:
                outside = socket.create_connection(self._target)
            except OSError:
                return
            with outside:
                try:
                    self._pass_on(inside, outside, number)
                except OSError:
                    pass

    def _pass_on(self, inside: socket.socket, outside: socket.socket, number: int) -> None:
        frames = _Frames()
        while not (self._over or self._cut):
            if self._stalled and (self._old is None or number <= self._old):
                threading.Event().wait(_LOOK)
                continue
            ready, _, _ = select.select([inside, outside], [], [], _LOOK)
            for one in ready:
                data = one.recv(1 << 16)
                if not data:
                    return
                if one is inside:
                    outside.sendall(data)
                else:
                    inside.sendall(frames.without_notifications(data, self._mute))


class _Frames:
    """The server's messages, each a letter and a length."""

    def __init__(self) -> None:
        self._rest = b""

    def without_notifications(self, data: bytes, mute: bool) -> bytes:
        self._rest += data
        found = b""
        while len(self._rest) >= 5:
            kind, length = struct.unpack_from("!BI", self._rest)
            if len(self._rest) < length + 1:
                break
            frame, self._rest = self._rest[: length + 1], self._rest[length + 1 :]
            if not (mute and kind == _NOTIFICATION):
                found += frame
        return found


@contextmanager
def proxy(url: str) -> Iterator[Proxy]:
    """A way to the database at `url` for the block."""
    made = Proxy(url)
    try:
        yield made
    finally:
        made.close()
