"""How jobs say when they began and ended: the same for everybody, so that nobody's own statistics are believed.

Theory. A file holds one record per job, found by the job's number; whoever runs the job writes into it through shared
memory, which costs a fifth of a microsecond, works across processes, and survives whatever kills them. The file lies in
memory alone: a page of a file on a disk must not be written while the disk writes it, and whoever syncs a database
beside it makes the disk write all the time. Its name travels in the environment variable `BENCH_MARKS`.

    four 64-bit numbers: when the job began first, in which process, when it last began again, when it ended

Times are nanoseconds of the machine's monotonic clock, 0 for never. The standard library is enough here: this module
also runs in the virtual environments of the peers.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

ENVIRONMENT = "BENCH_MARKS"
_RECORD = 32
_pack_first = struct.Struct("<qq").pack_into
_pack_one = struct.Struct("<q").pack_into
_NEVER = bytes(8)


def _remember() -> None:
    global _process
    _process = os.getpid()  # a system call, which would be half of what a mark costs


_remember()
os.register_at_fork(after_in_child=_remember)


@cache
def _shared() -> mmap.mmap:
    with open(os.environ[ENVIRONMENT], "r+b") as file:
        return mmap.mmap(file.fileno(), 0)


def mark(number: int) -> None:
    """Write down that a job began which runs once and at once."""
    _pack_first(_shared(), number * _RECORD, time.monotonic_ns(), _process)


def begin(number: int) -> None:
    """Write down that a job began, for the first time or again."""
    shared, at = _shared(), number * _RECORD
    if shared[at : at + 8] == _NEVER:
        mark(number)
    else:
        _pack_one(shared, at + 16, time.monotonic_ns())


def end(number: int) -> None:
    """Write down that a job ended."""
    _pack_one(_shared(), number * _RECORD + 24, time.monotonic_ns())


@dataclass(frozen=True, slots=True)
class Mark:
    """What one job wrote: times in ns, 0 for never."""

    number: int
    began: int
    process: int
    again: int
    ended: int


class Marks:
    """The file, as the one who measures sees it; a context manager that ends it."""

    def __init__(self, count: int) -> None:
        """`count`: numbers that jobs may have, from 0."""
        self._file = os.memfd_create("coserver-marks")
        os.truncate(self._file, max(count, 1) * _RECORD)
        self._map = mmap.mmap(self._file, 0, prot=mmap.PROT_READ)
        self.path = Path(f"/proc/{os.getpid()}/fd/{self._file}")
        self._seen = 0

    @property
    def environment(self) -> dict[str, str]:
        """What the processes that run the jobs need in theirs."""
        return {ENVIRONMENT: str(self.path)}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._map.close()
        os.close(self._file)

    def begun(self, count: int) -> bool:
        """Whether the jobs 0 … count - 1 have all begun. Cheap when asked again and again."""
        while self._seen < count and self._map[self._seen * _RECORD : self._seen * _RECORD + 8] != _NEVER:
            self._seen += 1
        return self._seen >= count

    def await_begun(self, count: int, limit: float) -> None:
        """Wait until the jobs 0 … count - 1 have begun. Raises `TimeoutError` after `limit` seconds."""
        deadline = time.monotonic() + limit
        while not self.begun(count):
            if time.monotonic() > deadline:
                raise TimeoutError(f"of {count} jobs only {len(self.all())} began within {limit:.0f} s")
            time.sleep(0.01)

    def all(self) -> list[Mark]:
        """Return the marks of all jobs that have begun, by number."""
        records = enumerate(struct.iter_unpack("<qqqq", self._map))
        return [Mark(number, *record) for number, record in records if record[0]]


def rate(marks: list[Mark]) -> float:
    """Return jobs per second between the first beginning and the last one."""
    times = [one.began for one in marks]
    return (len(times) - 1) / ((max(times) - min(times)) / 1e9)
