"""The node's end of the bridge: which process says what of itself.

Theory. The listening socket is held by the keeper, so a process that loses the node reconnects to the same door and
waits there for the next node. A connection is known by the token in its first message; a token belongs to one run, so
an old run can never speak for a new one. A process may have only one connection that counts: the newest. Users for
whom no process runs are turned away before they say a word.

What a process says is passed on at once and kept only as long as its connection lasts. Writing never waits: a process
that does not read what it is sent is cut off, and comes back with its full state.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from coserver.model.names import Run
from coserver.runtime import unix
from coserver.wire.bridge import BridgeError, Hello, Message, State, Wake, Welcome, encode, from_process

MAX_UNREAD = 1 << 20
"""Bytes that may wait for a process that does not read."""
HELLO_WITHIN = 10.0
"""Seconds in which a connection has to say who it is."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a process last said of itself. Fields as in `wire.bridge.Hello`."""

    ready: bool
    busy: int
    free: int
    worker: int | None


class _Connection:
    def __init__(self, run: Run, writer: asyncio.StreamWriter) -> None:
        self.run = run
        self.writer = writer
        self.told: Told | None = None

    def send(self, message: Message) -> None:
        transport = self.writer.transport
        if transport.is_closing():
            return
        if transport.get_write_buffer_size() > MAX_UNREAD:
            transport.abort()
            return
        self.writer.write(encode(message))


class Hub:
    """Accepts processes and hears what they say."""

    def __init__(
        self, identify: Callable[[str], Run | None], heard: Callable[[Run, Told | None], None]
    ) -> None:
        """`identify` finds the living run of a token; `heard` is called at each news, with None when a process left."""
        self._identify = identify
        self._heard = heard
        self._connections: dict[str, _Connection] = {}
        self._server: asyncio.Server | None = None
        self._users: frozenset[int] | None = None

    async def serve(self, listener: socket.socket, *, users: frozenset[int] | None = None) -> None:
        """Begin to accept on a listening Unix socket, which the hub owns from now on. `users`: only of these user
        ids; None, or where the system does not tell: of whoever may open the socket."""
        self._users = users
        self._server = await asyncio.start_unix_server(self._attend, sock=listener)

    async def close(self) -> None:
        """Stop accepting and end all connections."""
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections.values()):
            connection.writer.transport.abort()
        if self._server is not None:
            await self._server.wait_closed()

    def told(self, process: str) -> Told | None:
        """Return what a process last said, or None when it is not connected."""
        connection = self._connections.get(process)
        return connection.told if connection else None

    def send(self, process: str, message: Message) -> bool:
        """Send a message to a process; False when it is not connected."""
        connection = self._connections.get(process)
        if connection is None:
            return False
        connection.send(message)
        return True

    def wake_workers(self) -> None:
        """Tell every process that has a worker that there may be work."""
        for connection in self._workers():
            connection.send(Wake())

    def _workers(self) -> Iterator[_Connection]:
        return (c for c in self._connections.values() if c.told is not None and c.told.worker is not None)

    async def _attend(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = unix.peer_user(writer.get_extra_info("socket"))
        if self._users is not None and peer is not None and peer not in self._users:
            writer.transport.abort()
            return
        connection: _Connection | None = None
        decoder = from_process()
        try:
            async with asyncio.timeout(HELLO_WITHIN) as patience:
                while data := await reader.read(1 << 16):
                    for message in decoder.feed(data):
                        match message:
                            case Hello():
                                connection = self._greet(message, connection, writer)
                                if connection is None:
                                    return
                                patience.reschedule(None)
                            case State() if connection is not None:
                                self._hear(connection, message)
                            case _ if connection is None:
                                return
                            case _:
                                pass
        except (BridgeError, OSError, TimeoutError):
            pass
        finally:
            if connection is not None and self._connections.get(connection.run.process) is connection:
                del self._connections[connection.run.process]
                self._heard(connection.run, None)
            writer.transport.abort()

    def _greet(
        self, hello: Hello, known: _Connection | None, writer: asyncio.StreamWriter
    ) -> _Connection | None:
        run = self._identify(hello.token)
        if run is None:
            return None
        connection = known or _Connection(run, writer)
        before = self._connections.get(run.process)
        self._connections[run.process] = connection
        if before is not None and before is not connection:
            before.writer.transport.abort()
        connection.send(Welcome())
        self._hear(connection, hello)
        return connection

    def _hear(self, connection: _Connection, message: Hello | State) -> None:
        connection.told = Told(message.ready, message.busy, message.free, message.worker)
        if self._connections.get(connection.run.process) is connection:
            self._heard(connection.run, connection.told)
