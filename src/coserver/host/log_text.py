"""Log records as text: for a terminal, for a file or pipe, or as JSON lines.

What a process prints is not trusted with the reader's terminal: of all control sequences only colours and
weights (SGR) pass; everything else is shown as an escape such as `\\x1b`, and so are bytes that are no
UTF-8 and marks that turn the direction of writing. A file or pipe gets the bytes as they were printed.
"""

from __future__ import annotations

import json
import re
import zlib
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Final

from coserver.host.logs import Record

COLOURS: Final = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)
SGR: Final = re.compile(r"\x1b\[[0-9;:]*m")
UNSAFE: Final = re.compile(
    r"\x1b\[[0-9;:]*m|[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]"
)
UNSAFE_IN_JSON: Final = re.compile(r"[\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
RESET: Final = "\x1b[0m"


@dataclass(frozen=True, slots=True)
class Style:
    """How records are shown.

    `names`: the process's name before each line, padded to `width` columns. `times`: local date and time before
    each line, `-` where it is not known. `terminal`: control sequences are made harmless. `colour`: names in
    colours, and SGR sequences of the process itself pass (only with `terminal`). `as_json`: one object per
    record, all else aside.
    """

    names: bool = True
    width: int = 0
    times: bool = False
    terminal: bool = False
    colour: bool = False
    as_json: bool = False


class Renderer:
    """Records in, bytes to be written out; remembers whether the last line on the screen is unfinished."""

    def __init__(self, style: Style, zone: tzinfo | None = None) -> None:
        """`zone` is that of the times; None is the local one."""
        self._style = style
        self._zone = zone
        self._open: tuple[str, str] | None = None  # process and stream of an unfinished line
        self._prefixes: dict[str, bytes] = {}

    def render(self, record: Record) -> bytes:
        """The bytes that show this record after those before it."""
        if self._style.as_json:
            return as_json(record, self._zone)
        owner = (record.process, record.stream)
        goes_on = not record.begins and self._open == owner
        parts = []
        if self._open is not None and not goes_on:
            parts.append(b"\n")
        if not goes_on:
            parts.append(self._prefix(record))
        if self._style.terminal:
            parts.append(harmless(record.data, colour=self._style.colour, ends=record.ends).encode())
        else:
            parts.append(record.data)
        if record.ends:
            parts.append(b"\n")
        self._open = None if record.ends else owner
        return b"".join(parts)

    def finish(self) -> bytes:
        """What is needed to leave the screen at the start of a line."""
        unfinished, self._open = self._open, None
        return b"" if unfinished is None else b"\n"

    def _prefix(self, record: Record) -> bytes:
        name = self._prefixes.get(record.process)
        if name is None:
            name = self._prefixes[record.process] = self._name(record.process).encode()
        if not self._style.times:
            return name
        return (f"{timestamp(record.time, self._zone)} " if record.time is not None else "- ").encode() + name

    def _name(self, process: str) -> str:
        if not self._style.names:
            return ""
        text = f"{process:<{self._style.width}} |"
        if self._style.colour:
            text = f"\x1b[{colour_of(process)}m{text}{RESET}"
        return text + " "


def colour_of(process: str) -> int:
    """The SGR colour of a process's name; always the same one."""
    return COLOURS[zlib.crc32(process.encode()) % len(COLOURS)]


def timestamp(time: int, zone: tzinfo | None = None) -> str:
    """Microseconds since 1970 in ISO 8601 to the millisecond, with the offset of `zone` (None: local)."""
    return datetime.fromtimestamp(time / 1_000_000, zone).astimezone(zone).isoformat(timespec="milliseconds")


def harmless(data: bytes, *, colour: bool = False, ends: bool = True) -> str:
    """What a terminal can be given: valid text without any control sequence but SGR, and that only with `colour`.

    The colour is reset at the end. A carriage return that ends the line is left out.
    """
    if ends and data.endswith(b"\r"):
        data = data[:-1]
    text = data.decode("utf-8", "backslashreplace")
    if text.isprintable():
        return text
    coloured = False

    def replace(match: re.Match[str]) -> str:
        nonlocal coloured
        found = match[0]
        if len(found) > 1:
            coloured = True
            return found if colour else ""
        return f"\\x{ord(found):02x}" if ord(found) < 0x100 else f"\\u{ord(found):04x}"

    text = UNSAFE.sub(replace, text)
    return text + RESET if coloured and colour else text


def as_json(record: Record, zone: tzinfo | None = None) -> bytes:
    """One line: {"time", "process", "stream", "line"}, with "partial": true for a piece of a longer line.

    `time` is ISO 8601 or null; bytes of `line` that are no UTF-8 are written as `\\xNN`.
    """
    entry: dict[str, object] = {
        "time": None if record.time is None else timestamp(record.time, zone),
        "process": record.process,
        "stream": record.stream,
        "line": record.data.decode("utf-8", "backslashreplace"),
    }
    if not (record.begins and record.ends):
        entry["partial"] = True
    text = json.dumps(entry, ensure_ascii=False, separators=(", ", ": "))
    return UNSAFE_IN_JSON.sub(lambda match: f"\\u{ord(match[0]):04x}", text).encode() + b"\n"
