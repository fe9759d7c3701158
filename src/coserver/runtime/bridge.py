"""A process's end of the bridge to its node: a small thread of its own.

Theory. The thread speaks for the process while its event loop is blocked: it answers the node, passes `pause` on to
the worker's desk and says how busy the worker is. It holds no state of its own. Whenever the connection is lost it
connects again, with growing pauses, and says everything anew under a higher epoch; a node that was replaced meanwhile
so knows all that the former one knew. Messages and their meaning are in `wire.bridge`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import select
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

from coserver.runtime.bell import Bell
from coserver.runtime.stacks import stacks
from coserver.runtime.unix import short_name
from coserver.wire.bridge import (
    MAX_LINE,
    AskStacks,
    BridgeError,
    FromNode,
    Hello,
    Message,
    Pause,
    Ping,
    Pong,
    Resume,
    Stacks,
    State,
    Wake,
    Welcome,
    encode,
    from_node,
)

log = logging.getLogger("coserver.bridge")

PAUSES = (0.05, 2.0)
"""First and longest wait in seconds between attempts to connect."""
LOOK = 1.0
"""Seconds between looks at the state, when nobody said that it changed."""
SILENCE = 10.0
"""Seconds that a send may take before the connection counts as broken."""


@dataclass(frozen=True, slots=True)
class Calls:
    """What the bridge calls, from its own thread: `state` returns the process's state of the moment."""

    state: Callable[[], State]
    wake: Callable[[], None]
    pause: Callable[[], None]
    resume: Callable[[], None]


class Bridge:
    """Owns the thread. Any thread may call its methods, `close` once and last."""

    def __init__(self, path: Path, token: str, calls: Calls) -> None:
        self._path = path
        self._token = token
        self._calls = calls
        self._bell = Bell()
        self._epoch = 0
        self._connected = False
        self._over = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._asked_loop_at: float | None = None
        self._thread = threading.Thread(target=self._run, name="bridge", daemon=True)

    @property
    def connected(self) -> bool:
        """Whether the node knows us just now, and so renews our lease and rouses us."""
        return self._connected

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Name the process's event loop, of which the bridge tells whether it is blocked and what its tasks do."""
        self._loop = loop

    def changed(self) -> None:
        """The state changed and should be said at once. Any thread may call it."""
        self._bell.ring()

    def close(self) -> None:
        """Say the last state and end the thread."""
        self._over = True
        self._bell.ring()
        self._thread.join(SILENCE)
        self._bell.close()

    # The thread -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        pause, longest = PAUSES
        while not self._over:
            try:
                with self._connect() as link:
                    pause = PAUSES[0]
                    self._converse(link)
            except (OSError, BridgeError) as error:
                log.debug("the bridge to the node broke: %s", error)
            self._connected = False
            if not self._over:
                self._bell.arm()
                self._bell.wait(pause)
                pause = min(longest, pause * 2)

    def _connect(self) -> socket.socket:
        link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            link.settimeout(SILENCE)
            with short_name(self._path) as name:
                link.connect(name)
        except OSError:
            link.close()
            raise
        return link

    def _converse(self, link: socket.socket) -> None:
        self._epoch += 1
        said = self._calls.state()
        link.sendall(encode(self._hello(said)))
        decoder = from_node()
        while True:
            self._bell.arm()
            now = self._calls.state()
            if now != said:
                said = now
                link.sendall(encode(now))
            if self._over:
                return
            readable, _, _ = select.select([link, self._bell.receiver], [], [], LOOK)
            if self._bell.receiver in readable:
                self._bell.wait(0.0)
            if link in readable:
                data = link.recv(1 << 16)
                if not data:
                    return
                for message in decoder.feed(data):
                    answer = self._hear(message)
                    if answer is not None:
                        link.sendall(encode(answer))

    def _hello(self, state: State) -> Hello:
        return Hello(
            token=self._token,
            pid=os.getpid(),
            epoch=self._epoch,
            ready=state.ready,
            busy=state.busy,
            free=state.free,
            worker=state.worker,
        )

    def _hear(self, message: FromNode) -> Message | None:
        match message:
            case Welcome():
                self._connected = True
            case Wake():
                self._calls.wake()
            case Pause():
                self._calls.pause()
            case Resume():
                self._calls.resume()
            case Ping():
                return Pong(self._blocked())
            case AskStacks(id=id):
                return Stacks(id, stacks(self._loop)[: MAX_LINE // 6 - 100])
            case _:
                assert_never(message)
        return None

    def _blocked(self) -> float:
        """Ask the loop for a sign of life, unless an earlier one is still awaited; since when it is. 0.0 before there
        is a loop."""
        if self._loop is None:
            return 0.0
        now = time.monotonic()
        asked = self._asked_loop_at
        if asked is not None:
            return now - asked
        self._asked_loop_at = now
        try:
            self._loop.call_soon_threadsafe(self._alive)
        except RuntimeError:
            pass  # the loop is closed: the process is ending
        return 0.0

    def _alive(self) -> None:
        self._asked_loop_at = None
