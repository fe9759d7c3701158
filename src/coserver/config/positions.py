"""Where in a TOML text each key and each value of a list stands, which tomllib does not tell.

Theory. tomllib decides what a text *means*; this scanner only finds *places*, and so it may trust that the text is
valid: strings end, brackets close. It walks the text once, keeps the path of the current table and notes line and
column at the first mention of every path. Paths are those of tomllib's result: names, and integers for the places
in arrays, arrays of tables included. On a text that is not valid it gives up quietly at the first surprise; what it
saw until then (`breaks`, `unclosed`) lets the reader explain the commonest slips.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right
from dataclasses import dataclass, field

from coserver.config.origin import KeyPath

_BLANK = re.compile(r"[ \t]*+")
_GAP = re.compile(r"(?:[ \t\r\n]++|#[^\n]*+)*+")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]++", re.ASCII)
_STRINGS = (
    re.compile(r'"""(?:[^\\"]|\\.|"(?!""))*+"{3,5}', re.DOTALL),
    re.compile(r"'''(?:[^']|'(?!''))*+'{3,5}", re.DOTALL),
    re.compile(r'"(?:[^\\"\n]|\\.)*+"'),
    re.compile(r"'[^'\n]*+'"),
)
_OTHER_VALUE = re.compile(r"[^,\[\]{}#\r\n]++")


@dataclass(slots=True)
class Places:
    """What a scan found: (line, column) by path, the lines of `{` whose table holds a line break, and, where the scan
    gave up, the line and the character of the bracket or quotation mark that is still open."""

    found: dict[KeyPath, tuple[int, int]] = field(default_factory=dict)
    breaks: list[int] = field(default_factory=list)
    unclosed: tuple[int, str] | None = None


def scan(text: str) -> Places:
    """Find the place of every key path in a TOML text; lines and columns count from 1."""
    scanner = _Scanner(text)
    try:
        scanner.document()
    except (_Lost, RecursionError):
        scanner.give_up()  # not valid TOML: tomllib says what is wrong
    return scanner.places


class _Lost(Exception):
    """The text is not what valid TOML would have here."""


class _Scanner:
    def __init__(self, text: str) -> None:
        self.places = Places()
        self._text = text
        self._at = 0
        self._line_starts = [0, *(match.end() for match in re.finditer("\n", text))]
        self._open: list[int] = []
        self._last: dict[KeyPath, int] = {}  # arrays of tables: the index of the newest table

    def document(self) -> None:
        table: KeyPath = ()
        while True:
            self._skip(_GAP)
            if self._at >= len(self._text):
                return
            if self._text[self._at] == "[":
                table = self._header()
            else:
                self._assignment(table)

    def give_up(self) -> None:
        if self._open:
            opening = self._open[-1]
            self.places.unclosed = self._place(opening)[0], self._text[opening]

    def _header(self) -> KeyPath:
        start = self._at
        array = self._text.startswith("[[", start)
        self._at += 2 if array else 1
        path: KeyPath = ()
        parts = self._key()
        for number, (name, _) in enumerate(parts):
            path = (*path, name)
            self._note(path, start)
            if array and number == len(parts) - 1:
                self._last[path] = self._last.get(path, -1) + 1
            if path in self._last:
                path = (*path, self._last[path])
                self._note(path, start)
        self._expect("]]" if array else "]")
        return path

    def _assignment(self, table: KeyPath) -> None:
        path = table
        for name, start in self._key():
            path = (*path, name)
            self._note(path, start)
        self._expect("=")
        self._skip(_BLANK)
        self._value(path)

    def _key(self) -> list[tuple[str, int]]:
        parts = []
        while True:
            self._skip(_BLANK)
            start = self._at
            if self._peek() in ('"', "'"):
                self._string()
                name = _unquoted(self._text[start : self._at])
            else:
                self._skip(_BARE_KEY)
                name = self._text[start : self._at]
                if not name:
                    raise _Lost
            parts.append((name, start))
            self._skip(_BLANK)
            if self._peek() != ".":
                return parts
            self._at += 1

    def _value(self, path: KeyPath) -> None:
        match self._peek():
            case '"' | "'":
                self._string()
            case "[":
                self._array(path)
            case "{":
                self._inline_table(path)
            case _:
                start = self._at
                self._skip(_OTHER_VALUE)
                if self._at == start:
                    raise _Lost

    def _string(self) -> None:
        for pattern in _STRINGS:
            found = pattern.match(self._text, self._at)
            if found:
                self._at = found.end()
                return
        self._open.append(self._at)
        raise _Lost

    def _array(self, path: KeyPath) -> None:
        self._open.append(self._at)
        self._at += 1
        place = 0
        while True:
            self._skip(_GAP)
            if self._peek() == "]":
                self._at += 1
                self._open.pop()
                return
            self._note((*path, place), self._at)
            self._value((*path, place))
            place += 1
            self._skip(_GAP)
            if self._peek() == ",":
                self._at += 1

    def _inline_table(self, path: KeyPath) -> None:
        opening = self._at
        self._open.append(opening)
        self._at += 1
        while True:
            self._gap_in_table(opening)
            if self._peek() == "}":
                self._at += 1
                self._open.pop()
                return
            self._assignment(path)
            self._gap_in_table(opening)
            if self._peek() == ",":
                self._at += 1

    def _gap_in_table(self, opening: int) -> None:
        start = self._at
        self._skip(_GAP)
        if "\n" in self._text[start : self._at]:
            self.places.breaks.append(self._place(opening)[0])

    def _peek(self) -> str:
        if self._at >= len(self._text):
            raise _Lost
        return self._text[self._at]

    def _skip(self, pattern: re.Pattern[str]) -> None:
        found = pattern.match(self._text, self._at)
        if found:
            self._at = found.end()

    def _expect(self, token: str) -> None:
        self._skip(_BLANK)
        if not self._text.startswith(token, self._at):
            raise _Lost
        self._at += len(token)

    def _note(self, path: KeyPath, at: int) -> None:
        self.places.found.setdefault(path, self._place(at))

    def _place(self, at: int) -> tuple[int, int]:
        line = bisect_right(self._line_starts, at)
        return line, at - self._line_starts[line - 1] + 1


def _unquoted(token: str) -> str:
    try:
        return str(tomllib.loads(f"key = {token}")["key"])
    except tomllib.TOMLDecodeError:
        raise _Lost from None
