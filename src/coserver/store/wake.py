"""Rousing parked workers on one host: one byte to the Unix datagram socket that each of them listens on.

A wake-up is a hint, never the only way: who cannot be reached (gone, or its queue is full and so awake anyway) is left
alone. A socket's address holds 107 bytes; longer paths are reached through an opened directory.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable

_LIMIT = 107
WORK = b"!"
CANCEL = b"c"
"""What is said: there may be work, or somebody asked to cancel what runs."""


def rouse(paths: Iterable[str], word: bytes = WORK) -> None:
    """Send one byte to each socket; never blocks and never fails."""
    paths = list(paths)
    if not paths or not hasattr(socket, "AF_UNIX"):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        for path in paths:
            try:
                _send(sender, path, word)
            except OSError:
                continue


def _send(sender: socket.socket, path: str, word: bytes) -> None:
    if len(os.fsencode(path)) <= _LIMIT:
        sender.sendto(word, path)
        return
    folder, name = os.path.split(path)
    opened = os.open(folder or ".", getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY)
    try:
        sender.sendto(word, f"/proc/self/fd/{opened}/{name}")
    finally:
        os.close(opened)
