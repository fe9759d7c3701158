"""Unix sockets at paths of any length.

The kernel takes at most 107 bytes of path. A longer one is reached through its directory, opened meanwhile: the name
`/proc/self/fd/N/name` is short, and the socket appears where it was meant to.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

LONGEST = 107
_PASS_THROUGH: Final = getattr(os, "O_PATH", os.O_RDONLY)
"""To open a directory that one may pass through, although perhaps not list."""

_CREDENTIALS: Final = struct.Struct("iII")
"""Linux's `struct ucred`: pid, uid, gid."""


@contextlib.contextmanager
def short_name(path: Path) -> Iterator[str]:
    """Yield a name for `path` that a socket call accepts, valid inside the block."""
    text = str(path)
    if len(os.fsencode(text)) <= LONGEST:
        yield text
        return
    directory = os.open(path.parent, _PASS_THROUGH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def listen(path: Path, *, backlog: int = 1024, mode: int = 0o600) -> socket.socket:
    """Return a listening stream socket at `path`, in place of one at which nobody listens any more.

    Raises OSError: FileExistsError when something else than a socket is there, EADDRINUSE when somebody listens.
    """
    _make_room(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        before = os.umask(0o777 & ~mode)
        try:
            with short_name(path) as name:
                listener.bind(name)
        finally:
            os.umask(before)
        listener.listen(backlog)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def _make_room(path: Path) -> None:
    try:
        kind = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(kind):
        raise FileExistsError(errno.EEXIST, "something else than a socket is there")
    try:
        connect(path, timeout=1.0).close()
    except (ConnectionRefusedError, FileNotFoundError):
        path.unlink(missing_ok=True)
    else:
        raise OSError(errno.EADDRINUSE, "somebody listens there already")


def connect(path: Path, *, timeout: float | None = None) -> socket.socket:
    """Return a stream socket connected to `path`. OSError as `connect` raises it; `timeout` in seconds."""
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        client.settimeout(timeout)
        with short_name(path) as name:
            client.connect(name)
    except BaseException:
        client.close()
        raise
    return client


def peer_user(connection: socket.socket) -> int | None:
    """Return the user id at the other end of a connected socket, as it was when it connected; None when the system
    does not tell."""
    if not hasattr(socket, "SO_PEERCRED"):
        return None
    found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(found)[1])
