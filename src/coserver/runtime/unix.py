"""Unix sockets at paths of any length: an address holds 107 bytes, an opened directory leads to longer ones."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LONGEST = 107


@contextmanager
def short_name(path: Path) -> Iterator[str]:
    """Yield a name under which the socket at `path` can be bound or connected to, within the block."""
    if len(os.fsencode(path)) <= LONGEST:
        yield str(path)
        return
    opened = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{opened}/{path.name}"
    finally:
        os.close(opened)
