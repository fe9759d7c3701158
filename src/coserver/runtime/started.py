"""Which jobs has a worker begun? A small shared file that still says so when the worker was killed.

Theory. A worker holds a batch of jobs, of which some have begun. When it dies, those that had begun are suspects and
are charged with a crash; the others must return as if nothing had happened. Asking the database at each start of a
job would cost a commit, so the worker notes the ids in memory that it shares with a file: the kernel keeps it however
the process ends, and writing costs a fraction of a microsecond. The worker's node reads the file after the death.

A slot is written before the job's first instruction and cleared after its finish was committed; between the two the
job counts as begun. The file:

    bytes 0–7    the magic word and format version, b"COSTART1"
    bytes 8–11   number of slots, little-endian
    bytes 12–15  1 when there were more jobs than slots at some time: the file no longer tells
    bytes 16–…   the slots, one little-endian 64-bit job id each, 0 when free

Each slot is written by one aligned store of eight bytes, so a reader never sees half an id.
"""

from __future__ import annotations

import mmap
import os
import stat
import struct
import sys
import tempfile
from pathlib import Path

MAGIC = b"COSTART1"
SLOTS = 4096
MAX_BYTES = 1 << 20
"""A longer file is not one of ours."""
_HEADER = struct.Struct("<8sII")
_SLOT = 8


class StartedFile:
    """The writer's side; any thread may call it. `fd` is a descriptor of the file, for processes beside the writer."""

    def __init__(self, path: Path, slots: int = SLOTS) -> None:
        """Make the file anew, empty. OSError when it cannot be written."""
        if sys.byteorder != "little":
            raise OSError(
                "cannot keep a file of started jobs: this machine is not little-endian; leave it out"
            )
        size = _HEADER.size + slots * _SLOT
        path.unlink(missing_ok=True)
        with path.open("xb+") as file:
            path.chmod(0o600)
            file.write(_HEADER.pack(MAGIC, slots, 0).ljust(size, b"\0"))
            file.flush()
            self._map = mmap.mmap(file.fileno(), size)
            self.fd = os.dup(file.fileno())
        self._bytes = memoryview(self._map)
        self._slots = self._bytes[_HEADER.size :].cast("q")
        self._free = list(range(slots))[::-1]
        self._place: dict[tuple[int, int], int] = {}
        self.path = path

    def began(self, id: int, claim: int) -> None:
        """Note that the job, under this claim number, begins now."""
        try:
            place = self._free.pop()
        except IndexError:
            self._map[12] = 1
            return
        self._place[id, claim] = place
        self._slots[place] = id

    def reserve(self, id: int, claim: int) -> int | None:
        """Return the number of a slot in which another process will note the job when it begins it; None when there is
        none left, and the job counts as begun from now on."""
        try:
            place = self._free.pop()
        except IndexError:
            self._map[12] = 1
            return None
        self._place[id, claim] = place
        return place

    def noted(self, id: int, claim: int) -> bool:
        """Whether the job has begun, as far as is known."""
        place = self._place.get((id, claim))
        return place is None or self._slots[place] == id

    def ended(self, id: int, claim: int) -> None:
        """The job's finish is committed, or the job is no longer ours; what is not noted is ignored."""
        place = self._place.pop((id, claim), None)
        if place is not None:
            self._slots[place] = 0
            self._free.append(place)

    def close(self, *, remove: bool = False) -> None:
        """Give the memory back; the file stays unless `remove`."""
        self._slots.release()
        self._bytes.release()
        self._map.close()
        os.close(self.fd)
        if remove:
            self.path.unlink(missing_ok=True)


def unnamed() -> StartedFile:
    """Return a file that nobody but this process and those beside it can find. OSError when there is no room."""
    with tempfile.TemporaryDirectory(prefix="coserver-") as place:
        return StartedFile(Path(place) / "started")


class StartedSlots:
    """The side of a process beside the worker: the same file, of which it writes the slots that it is told."""

    def __init__(self, fd: int) -> None:
        """Open the worker's file by its descriptor, which stays open."""
        self._map = mmap.mmap(fd, 0)
        self._slots = memoryview(self._map)[_HEADER.size :].cast("q")

    def began(self, place: int, id: int) -> None:
        """Note that the job begins now."""
        self._slots[place] = id


def read_started(path: Path) -> list[int] | None:
    """Return the ids that had begun, in ascending order, or None when the file does not tell (all may have begun)."""
    try:
        data = _read_plain(path)
    except OSError:
        return None
    if len(data) < _HEADER.size:
        return None
    magic, slots, overflowed = _HEADER.unpack_from(data)
    if magic != MAGIC or overflowed or len(data) != _HEADER.size + slots * _SLOT:
        return None
    return sorted(job for (job,) in struct.iter_unpack("<q", data[_HEADER.size :]) if job)


def _read_plain(path: Path) -> bytes:
    """Read a plain file of a user who is perhaps not ours: no link of theirs is followed, no pipe waited for."""
    flags = (
        os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    )
    with open(os.open(path, flags), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError("no plain file")
        return file.read(MAX_BYTES)
