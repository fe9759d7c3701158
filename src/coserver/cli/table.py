"""Tables and colours for a terminal.

Colour is decoration: every state is a word, too. It is used on a terminal only, never when NO_COLOR is set, always when
FORCE_COLOR is. A table that is wider than the terminal first drops its least important columns, and says which, then
cuts its last column; a last column that says how little will do is cut before anything is dropped.

What jobs and processes have to say is not trusted with the reader's terminal: control sequences in it are shown, not
obeyed (`inert`). A file or pipe gets it as it is.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TextIO

Colour = Literal["red", "green", "yellow", "blue", "grey", "bold"]
_CODES: dict[Colour, str] = {
    "red": "31",
    "green": "32",
    "yellow": "33",
    "blue": "34",
    "grey": "90",
    "bold": "1",
}
STATE_COLOURS: dict[str, Colour] = {
    "running": "green",
    "starting": "yellow",
    "stopping": "yellow",
    "backoff": "red",
    "fatal": "red",
    "exited": "grey",
    "stopped": "grey",
    "succeeded": "green",
    "failed": "red",
    "lost": "red",
    "cancelled": "grey",
    "expired": "yellow",
    "queued": "blue",
    "scheduled": "blue",
    "limited": "blue",
    "waiting": "blue",
    "held": "yellow",
    "paused": "yellow",
}


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its heading, the side its cells lean to, and how soon it is dropped (0: never). `least`: characters
    that will do, for a last column (None: all)."""

    heading: str
    right: bool = False
    spare: int = 0
    least: int | None = None


def colourful(stream: TextIO, environ: Mapping[str, str] | None = None) -> bool:
    """Say whether to use colour on a stream."""
    environ = os.environ if environ is None else environ
    if environ.get("NO_COLOR"):
        return False
    return bool(environ.get("FORCE_COLOR")) or (stream.isatty() and environ.get("TERM") != "dumb")


def paint(text: str, colour: Colour | None, on: bool) -> str:
    """Return the text in a colour, or as it is."""
    return f"\x1b[{_CODES[colour]}m{text}\x1b[0m" if on and colour else text


def terminal_width(stream: TextIO | None = None) -> int | None:
    """Return how many characters fit a line of the terminal; None when the stream is none."""
    stream = sys.stdout if stream is None else stream
    return shutil.get_terminal_size().columns if stream.isatty() else None


def inert(text: str) -> str:
    """Return one line of text without anything that a terminal would obey; line ends are shown as escapes, too."""
    if text.isprintable():
        return text
    from coserver.host.log_text import harmless

    return harmless(text.encode("utf-8", "backslashreplace"), ends=False)


def table(
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    *,
    width: int | None,
    colour: bool = False,
) -> list[str]:
    """Return the lines of a table; cells that are states by name are coloured.

    `width` is that of the terminal, None when there is none; on a terminal every cell is made inert.
    """
    if width is not None:
        rows = [[inert(cell).replace("\t", " ") for cell in row] for row in rows]
    shown = list(range(len(columns)))
    widths = [max(len(column.heading), *(len(row[i]) for row in rows), 0) for i, column in enumerate(columns)]
    needed = list(widths)
    if columns[-1].least is not None:
        needed[-1] = min(needed[-1], columns[-1].least)
    dropped: list[str] = []
    while width is not None and sum(needed[i] for i in shown) + 2 * (len(shown) - 1) > width:
        spare = [i for i in shown if columns[i].spare]
        if not spare:
            break
        first = max(spare, key=lambda i: columns[i].spare)
        shown.remove(first)
        dropped.append(columns[first].heading.lower())
    lines = [paint(_line([c.heading for c in columns], columns, widths, shown, width), "bold", colour)]
    for row in rows:
        line = _line(row, columns, widths, shown, width)
        if colour:
            for i in shown:
                if row[i] in STATE_COLOURS:
                    line = line.replace(row[i], paint(row[i], STATE_COLOURS[row[i]], True), 1)
                    break
        lines.append(line)
    if dropped:
        lines.append(paint(f"(not shown for want of width: {', '.join(dropped)})", "grey", colour))
    return lines


def _line(
    cells: Sequence[str],
    columns: Sequence[Column],
    widths: Sequence[int],
    shown: Sequence[int],
    width: int | None,
) -> str:
    parts = [cells[i].rjust(widths[i]) if columns[i].right else cells[i].ljust(widths[i]) for i in shown]
    line = "  ".join(parts).rstrip()
    return line if width is None or len(line) <= width else line[: max(0, width - 1)] + "…"


def shortened(text: str, most: int) -> str:
    """Return a cell of at most so many characters, the last one `…` when something was left out."""
    return text if len(text) <= most else text[: most - 1] + "…"


def duration(seconds: float | None) -> str:
    """Return a time span as people say it: 42 s, 3:07 min, 5:20 h, 3 d."""
    if seconds is None:
        return "-"
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02} min"
    if whole < 86400:
        return f"{whole // 3600}:{whole % 3600 // 60:02} h"
    return f"{whole // 86400} d"


def size(number: int) -> str:
    """Return bytes as people say them: 0 B, 640 KB, 12.3 MB; a K is 1024."""
    if number < 1024:
        return f"{number} B"
    value = float(number)
    for unit in ("KB", "MB", "GB"):
        value /= 1024
        if value < 1000 or unit == "GB":
            return f"{value:.0f} {unit}" if value >= 100 else f"{value:.1f} {unit}"
    raise AssertionError
