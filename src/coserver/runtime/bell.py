"""What a sleeping thread waits on: rung by other threads of the process, and by other processes of the host.

Theory. A ring is one datagram. Threads of this process ring only while the owner has *armed* the bell, which it does
before it looks whether there is anything to do: so a ring between its look and its sleep is not lost, and nobody pays
a system call for an owner that is awake. Processes that want to rouse us send to the socket's path (`store.wake`).
"""

from __future__ import annotations

import socket
from pathlib import Path

from coserver.runtime.unix import short_name

_INSIDE = b"."


class Bell:
    """Owned by one thread, which arms it, waits and closes; `ring` may be called by any thread."""

    def __init__(self, path: Path | None = None) -> None:
        """With `path`, other processes can ring by a datagram to it. OSError when it cannot be bound."""
        self._armed = False
        self._path = path
        if path is None:
            self._receiver, self._sender = socket.socketpair()
        else:
            self._receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            try:
                path.unlink(missing_ok=True)
                with short_name(path) as name:
                    self._receiver.bind(name)
                    self._sender.connect(name)
            except OSError:
                self._receiver.close()
                self._sender.close()
                raise
        self._sender.setblocking(False)

    def arm(self) -> None:
        """From now on rings are heard."""
        self._armed = True

    def disarm(self) -> None:
        """The owner is awake and will look by itself."""
        self._armed = False

    def ring(self) -> None:
        """Let the owner look. Never blocks, never fails."""
        if self._armed:
            self._armed = False
            try:
                self._sender.send(_INSIDE)
            except OSError:
                pass  # full, so it will be heard anyway; or closed, and nobody listens

    def wait(self, seconds: float | None) -> bool:
        """Sleep until rung or until `seconds` have passed (None: no limit); whether another process rang."""
        outside = False
        try:
            self._receiver.settimeout(None if seconds is None else max(seconds, 0.0))
            while True:
                outside |= self._receiver.recv(512) != _INSIDE
                self._receiver.settimeout(0.0)
        except (TimeoutError, BlockingIOError):
            pass
        self._armed = False
        return outside

    @property
    def receiver(self) -> socket.socket:
        """What becomes readable by a ring, for an owner that waits for other things too; then `wait(0)`."""
        return self._receiver

    def close(self) -> None:
        """Remove the socket."""
        self._armed = False
        self._receiver.close()
        self._sender.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)
