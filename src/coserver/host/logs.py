"""Reading what processes have printed: the last lines, lines since a time, lines as they come.

Output (`output.py`) writes `PATH`, renames it `PATH.1` and so on when it is full, and notes in `PATH.idx`
when which bytes came. This module only reads, without a word to anybody, while that goes on.

Theory
------
*Which file is next.* A reader holds files open, so a rename takes nothing away from it. Whether there is a
newer file is decided by inode: the reader's file is looked for among `PATH`, `PATH.1`, … and all before it
are newer. A file that was deleted in between is the only thing that a reader can miss.

*The moved tail.* Rotation cuts the old file after its last line end, and what was behind the cut begins the
new file. A reader may have read that tail already: then its position lies beyond the old file's end, and by
as much into the new one. No line is missed and none comes twice.

*Lines* end with a line feed; the last one may be unfinished. A line longer than `PIECE` comes in several
records (`begins`, `ends`), so that memory stays bounded whatever a process prints.

*Times* come from the index: the time of a line is that of the newest record at or before its first byte,
None if the index has nothing to say.
"""

from __future__ import annotations

import heapq
import os
import re
import struct
import time as clock
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

Stream = Literal["out", "err"]

BLOCK: Final = 64 * 1024  # bytes read at once
PIECE: Final = 256 * 1024  # the longest stretch of one line in one record
STAMP: Final = struct.Struct("<QQ")  # offset, microseconds since 1970; as output.py writes it
IDLE: Final = 1.0  # seconds after which an unfinished line is shown while following
ATTEMPTS: Final = 10  # looks at the names of files that are just being renamed


@dataclass(frozen=True, slots=True)
class Source:
    """Where one stream of one process (`mail/2`) is written: the current file; older ones lie beside it."""

    process: str
    path: Path
    stream: Stream = "out"


@dataclass(frozen=True, slots=True)
class Record:
    """A line, or a piece of one: `data` is without the line feed, `time` in microseconds since 1970 or None.

    `begins` is false in later pieces of a line, `ends` in all but its last piece and in a line that is not finished.
    """

    time: int | None
    process: str
    stream: Stream
    data: bytes
    begins: bool = True
    ends: bool = True


def log_path(root: Path, process: str, stream: Stream = "out") -> Path:
    """The current log file of a process (`mail/2`) below the directory `root`."""
    service, _, index = process.rpartition("/")
    return root / service / (f"{index}.log" if stream == "out" else f"{index}.err.log")


def sources(root: Path) -> list[Source]:
    """Every log below `root`, by service and number; stdout before stderr. Empty if there is no such directory."""
    found = []
    for path in root.glob("*/*.log"):
        match = re.fullmatch(r"(\d+)(\.err)?\.log", path.name)
        if match:
            found.append(
                Source(f"{path.parent.name}/{match[1]}", path, "err" if match[2] else "out"),
            )
    return sorted(found, key=lambda source: (*_natural(source.process), source.stream != "out"))


def _natural(process: str) -> tuple[str, int]:
    service, _, index = process.rpartition("/")
    return service, int(index)


# --------------------------------------------------------------------------------------------------------------- files


class _Stamps:
    """An index: the time of an offset, for offsets that only grow between two calls of `seek`."""

    __slots__ = ("_at", "_buffer", "_fd", "_first", "_time")

    def __init__(self, fd: int | None) -> None:
        self._fd = fd
        self._first = 0  # number of the first record in the buffer
        self._buffer: list[tuple[int, int]] = []
        self._at = 0  # records of the buffer that are at or before the last offset asked for
        self._time: int | None = None

    @property
    def missing(self) -> bool:
        return self._fd is None

    def _record(self, number: int) -> tuple[int, int]:
        assert self._fd is not None
        data = os.pread(self._fd, STAMP.size, number * STAMP.size)
        return STAMP.unpack(data) if len(data) == STAMP.size else (2**64, 2**64)

    def _count(self) -> int:
        return 0 if self._fd is None else os.fstat(self._fd).st_size // STAMP.size

    def first(self) -> int | None:
        """The oldest time."""
        return self._record(0)[1] if self._count() else None

    def offset_since(self, since: int) -> int | None:
        """The offset of the first bytes that came at `since` or later; None if there are none."""
        low, high = 0, self._count()
        count = high
        while low < high:
            middle = (low + high) // 2
            if self._record(middle)[1] < since:
                low = middle + 1
            else:
                high = middle
        return self._record(low)[0] if low < count else None

    def seek(self, offset: int) -> None:
        """Be ready for offsets from `offset` on."""
        low, high = 0, self._count()
        while low < high:
            middle = (low + high) // 2
            if self._record(middle)[0] <= offset:
                low = middle + 1
            else:
                high = middle
        self._first, self._buffer, self._at = max(0, low - 1), [], 0
        self._time = None
        self.refresh()

    def refresh(self) -> None:
        """Take in what was written since, once the buffer is used up. To be called after the log itself was read."""
        if self._fd is None or self._at < len(self._buffer):
            return
        number = self._first + len(self._buffer)
        data = os.pread(self._fd, BLOCK, number * STAMP.size)
        if not data and self._count() < number:  # emptied together with its log
            number, data = 0, os.pread(self._fd, BLOCK, 0)
        whole = len(data) // STAMP.size * STAMP.size
        if whole:
            self._first, self._buffer, self._at = number, list(STAMP.iter_unpack(data[:whole])), 0

    def at(self, offset: int) -> int | None:
        """The time of the byte at `offset`."""
        while True:
            while self._at < len(self._buffer) and self._buffer[self._at][0] <= offset:
                self._time = self._buffer[self._at][1]
                self._at += 1
            if self._at < len(self._buffer) or not self._buffer:
                return self._time
            before = self._first
            self.refresh()
            if self._first == before:
                return self._time

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)


class _File:
    """An open log file with its index."""

    __slots__ = ("fd", "inode", "path", "stamps")

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.inode = os.fstat(self.fd).st_ino
        self.stamps = _Stamps(None)
        self.open_index()

    def open_index(self) -> None:
        """Open the index if there is one and if it is certain to be this file's."""
        if not self.stamps.missing:
            return
        # It may have been rotated since it was opened, once or, in a flood, twice.
        for path in (self.path, *(self.path.with_name(f"{self.path.name}.{number}") for number in (1, 2))):
            try:
                fd = os.open(f"{path}.idx", os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                continue
            if _inode(path) == self.inode:  # an index is renamed before its log
                self.stamps = _Stamps(fd)
                return
            os.close(fd)

    @property
    def size(self) -> int:
        return os.fstat(self.fd).st_size

    @property
    def written(self) -> int:
        return os.fstat(self.fd).st_mtime_ns

    def close(self) -> None:
        self.stamps.close()
        os.close(self.fd)


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None


def _newest_first(path: Path) -> Iterator[_File]:
    """Open `PATH`, `PATH.1`, … as they are asked for. A file renamed meanwhile comes once."""
    seen: set[int] = set()
    missing = number = 0
    while missing < 2:  # one may be missing in the middle of a rotation
        name = path if not number else path.with_name(f"{path.name}.{number}")
        number += 1
        try:
            file = _File(name)
        except FileNotFoundError:
            missing += 1
            continue
        missing = 0
        if file.inode in seen:
            file.close()
            continue
        seen.add(file.inode)
        yield file


# -------------------------------------------------------------------------------------------------------------- reader


class LogReader:
    """A place in one process's log that moves forward, over rotated files. Begins at the present end.

    Choose another place with one of `from_start`, `from_last` or `from_time` before reading. The files need not
    exist yet. OSError if they cannot be read (PermissionError above all). Close it, or use it with `with`.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.taken = 0  # bytes read so far
        self._files: deque[_File] = deque()  # oldest first; the first is the one being read
        self._position = 0
        self._pending = bytearray()  # of the unfinished line, what was not given out yet
        self._begun = False  # a piece of the unfinished line was given out
        self._time: int | None = None  # of the unfinished line
        self._beyond_since: float | None = None
        self._open()
        self._drop_but(1)
        if self._files:
            end = self._files[0].size
            self._go(end)
            self._begun = not self._at_line_start(self._files[0], end)

    def __enter__(self) -> LogReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files."""
        self._drop_but(0)

    # -- places

    def from_start(self) -> None:
        """Go to the oldest line that is kept."""
        self._open()
        self._go(0)

    def from_last(self, lines: int) -> None:
        """Go to the start of the last `lines` lines; an unfinished one counts."""
        self._open()
        place = 0
        for number, file in enumerate(reversed(self._files), 1):
            lines, place = self._back(file, lines)
            if lines <= 0:
                self._drop_but(number)
                break
        self._go(place)

    def from_time(self, since: int) -> None:
        """Go to the first line that began at `since` (microseconds since 1970) or later.

        Lines without a time count by when their file was last written.
        """
        self._open()
        while self._files:
            file = self._files[0]
            place: int | None = 0
            if file.stamps.first() is not None:
                place = file.stamps.offset_since(since)
            elif file.written // 1000 < since:
                place = None
            if place is not None:
                self._go(self._next_line_start(file, place))
                return
            if len(self._files) == 1:
                self._go(file.size)
                return
            self._drop_but(len(self._files) - 1)

    def _open(self) -> None:
        """Open all files; again, if a rotation came between."""
        for _ in range(ATTEMPTS):
            self._drop_but(0)
            self._files.extendleft(_newest_first(self.source.path))
            if not self._files or self._files[-1].inode == _inode(self.source.path):
                break

    def _drop_but(self, newest: int) -> None:
        while len(self._files) > newest:
            self._files.popleft().close()

    def _go(self, position: int) -> None:
        self._position = position
        self._pending.clear()
        self._begun = False
        if self._files:
            self._files[0].stamps.seek(position)

    @staticmethod
    def _at_line_start(file: _File, offset: int) -> bool:
        return offset == 0 or os.pread(file.fd, 1, offset - 1) == b"\n"

    @staticmethod
    def _next_line_start(file: _File, offset: int) -> int:
        """The first place at or after `offset` where a line begins; the end of the file if there is none."""
        if LogReader._at_line_start(file, offset):
            return offset
        while block := os.pread(file.fd, BLOCK, offset):
            found = block.find(b"\n")
            if found >= 0:
                return offset + found + 1
            offset += len(block)
        return offset

    @staticmethod
    def _back(file: _File, lines: int) -> tuple[int, int]:
        """How many of `lines` are still wanted from older files, and where the lines of this one begin."""
        high = end = file.size
        if lines <= 0:
            return 0, end
        while high > 0:
            low = max(0, high - BLOCK)
            block = os.pread(file.fd, high - low, low)
            at = len(block)
            while (at := block.rfind(b"\n", 0, at)) >= 0:
                if low + at + 1 == end:  # ends the last line, begins none
                    continue
                lines -= 1
                if lines == 0:
                    return 0, low + at + 1
            high = low
        return lines - (end > 0), 0

    # -- reading

    def read(self) -> Iterator[Record]:
        """What is there now and was not given out: whole lines, and pieces of long ones. Ends; call again for more."""
        self._find_newer()
        left = sum(file.size for file in self._files) - self._position if self._files else 0
        while self._files and left > 0:
            file = self._files[0]
            block = os.pread(file.fd, min(BLOCK, left), self._position)
            if block:
                file.open_index()
                file.stamps.refresh()
                left -= len(block)
                yield from self._split(file, block)
            elif len(self._files) > 1:
                self._step()
            else:
                break

    def unfinished(self) -> Record | None:
        """Give out what is there of a line that has no end yet; what follows will come as a later piece."""
        if not self._pending:
            return None
        record = self._record(bytes(self._pending), ends=False)
        self._pending.clear()
        self._begun = True
        return record

    def _split(self, file: _File, block: bytes) -> Iterator[Record]:
        start = 0
        while True:
            if not self._pending and not self._begun:
                self._time = file.stamps.at(self._position + start)
            end = block.find(b"\n", start)
            if end < 0:
                break
            data = block[start:end]
            if self._pending:
                data = bytes(self._pending) + data
                self._pending.clear()
            record = self._record(data, ends=True)
            self._begun = False
            start = end + 1
            yield record
        self._pending += block[start:]
        self._position += len(block)
        self.taken += len(block)
        while len(self._pending) > PIECE:
            cut = _character_start(self._pending, PIECE)
            record = self._record(bytes(self._pending[:cut]), ends=False)
            self._begun = True
            del self._pending[:cut]
            yield record

    def _record(self, data: bytes, *, ends: bool) -> Record:
        return Record(self._time, self.source.process, self.source.stream, data, not self._begun, ends)

    def _step(self) -> None:
        """On to the next newer file; see "the moved tail"."""
        old = self._files.popleft()
        self._position = max(0, self._position - old.size)
        old.close()
        self._files[0].stamps.seek(self._position)

    def _find_newer(self) -> None:
        """Open the files that are newer than the newest held."""
        if not self._files:
            self._open()
            self._go(0)
            return
        held = self._files[-1]
        if _inode(self.source.path) in (held.inode, None):
            self._notice_emptied(held)
            return
        for _ in range(ATTEMPTS):
            newer: list[_File] = []
            for file in _newest_first(self.source.path):
                # Held may be deleted; what was last written before it is older.
                if file.inode == held.inode or file.written < held.written:
                    file.close()
                    break
                newer.append(file)
            if newer and newer[0].inode == _inode(self.source.path):
                self._files.extend(reversed(newer))
                self._beyond_since = None
                return
            for file in newer:
                file.close()

    def _notice_emptied(self, held: _File) -> None:
        """A position beyond the end that does not lead to a rotation means that somebody emptied the file."""
        if len(self._files) > 1 or self._position <= held.size:
            self._beyond_since = None
        elif self._beyond_since is None:
            self._beyond_since = clock.monotonic()
        elif clock.monotonic() - self._beyond_since > IDLE:
            self._pending.clear()
            self._go(0)
            self._beyond_since = None


def _character_start(data: bytearray, at: int) -> int:
    """The last place at or shortly before `at` that does not cut a UTF-8 character in two."""
    for back in range(4):
        if data[at - back] & 0xC0 != 0x80:
            return at - back
    return at  # no UTF-8


# ------------------------------------------------------------------------------------------------------------- several


def merged(readers: Sequence[LogReader]) -> Iterator[Record]:
    """What all readers have now, in the order of time. Ends; memory does not grow with the length of the logs."""

    def timed(number: int, reader: LogReader) -> Iterator[tuple[int, int, Record]]:
        latest = 0
        for record in reader.read():
            latest = max(latest, record.time or 0)
            yield latest, number, record

    streams = [timed(number, reader) for number, reader in enumerate(readers)]
    for _, _, record in heapq.merge(*streams, key=lambda entry: entry[:2]):
        yield record


def finished(readers: Sequence[LogReader]) -> Iterator[Record]:
    """What all readers have now, unfinished last lines included."""
    yield from merged(readers)
    for reader in readers:
        if (record := reader.unfinished()) is not None:
            yield record


def follow(
    readers: Sequence[LogReader],
    stop: Callable[[], bool],
    *,
    interval: float = 0.05,
    pause: Callable[[float], object] = clock.sleep,
) -> Iterator[Record]:
    """What all readers have and get, in the order of time, until `stop()` is true; then what is left, and the end.

    Looks every `interval` seconds, between which it calls `pause` with that number. A line that stays
    unfinished for a second is given out as it is (prompts), its rest as another piece.
    """
    quiet_since = [clock.monotonic()] * len(readers)
    while not stop():
        before = [reader.taken for reader in readers]
        yield from merged(readers)
        now = clock.monotonic()
        quiet = True
        for number, reader in enumerate(readers):
            if reader.taken != before[number]:
                quiet_since[number] = now
                quiet = False
            elif now - quiet_since[number] >= IDLE and (record := reader.unfinished()) is not None:
                yield record
        if quiet:
            pause(interval)
    yield from finished(readers)
