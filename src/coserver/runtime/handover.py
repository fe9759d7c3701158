"""The checked configuration in memory, for the node after this one.

A node that takes over must not depend on a file that somebody may be editing, nor on an environment that is gone. The
first node therefore leaves its configuration, secrets resolved, in a memory file that the keeper holds: nothing of it
touches a disk, and it is gone with the keeper. It is a pickle of our own records, written and read by the same version
of coserver and by nobody else; a node of another version reads the file anew.
"""

from __future__ import annotations

import io
import os
import pickle
from types import MappingProxyType
from typing import Any

from coserver import __version__
from coserver.config import Site

HELD_AS = "configuration"
MEMORY = "coserver-configuration"
"""What the memory file is called, as /proc shows it."""


def _mapping(items: dict[Any, Any]) -> MappingProxyType[Any, Any]:
    return MappingProxyType(items)


class _Pickler(pickle.Pickler):
    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, MappingProxyType):
            return _mapping, (dict(obj),)
        return NotImplemented


def leave(site: Site) -> int:
    """Return a descriptor of a memory file that holds the configuration; the caller closes it."""
    buffer = io.BytesIO()
    _Pickler(buffer, protocol=pickle.HIGHEST_PROTOCOL).dump(site)
    fd = os.memfd_create(MEMORY, os.MFD_CLOEXEC)
    version = __version__.encode()
    os.write(fd, len(version).to_bytes(4, "big") + version)
    view = memoryview(buffer.getvalue())
    while view:
        view = view[os.write(fd, view) :]
    return fd


def find(fd: int) -> Site | None:
    """Return what `leave` left, or None when another version wrote it, by its number or by its records. `fd` stays
    open."""
    data = os.pread(fd, os.fstat(fd).st_size, 0)
    end = 4 + int.from_bytes(data[:4], "big")
    if data[4:end].decode() != __version__:
        return None
    try:
        found = pickle.loads(data[end:])
    except Exception:  # records that changed fail in as many ways as there are
        return None
    return found if isinstance(found, Site) else None
