"""Environment files: lines of `NAME=value`.

The common ground of systemd's EnvironmentFile, Docker's --env-file and the dotenv libraries. Blank lines and lines that
begin with `#` are skipped, and `export ` in front is ignored. A value may stand in single quotes, taken as it is, or in
double quotes, where a backslash escapes `n`, `t`, `r`, `"`, `$` and itself; after an unquoted value a comment begins at
white space and `#`. Nothing is substituted. A line ends at a line feed, with or without a carriage return before it,
and nowhere else: the other marks that Unicode counts as line ends belong to values.
"""

from __future__ import annotations

import re

_SPACE = " \t"
_LINE = re.compile(r"(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)[ \t]*=(.*)", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\", "$": "$"}


def parse(text: str) -> tuple[dict[str, str], list[int]]:
    """Return the variables, later lines winning, and the numbers of lines that are none."""
    found: dict[str, str] = {}
    bad: list[int] = []
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.removesuffix("\r").strip(_SPACE)
        if not line or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        value = _value(match.group(2)) if match else None
        if match is None or value is None:
            bad.append(number)
        else:
            found[match.group(1)] = value
    return found, bad


def _value(stated: str) -> str | None:
    text = stated.lstrip(_SPACE)
    if text.startswith("'"):
        body, quote, rest = text[1:].partition("'")
        return body if quote and _only_comment(rest) else None
    if text.startswith('"'):
        match = re.match(r'"((?:[^"\\]|\\.)*)"', text, re.DOTALL)
        if match is None or not _only_comment(text[match.end() :]):
            return None
        return re.sub(r"\\(.)", lambda m: _ESCAPES.get(m.group(1), m.group(0)), match.group(1))
    # With its white space in front: `A= # nothing` is empty, while `COLOUR=#fff` is a colour.
    return re.split(r"[ \t]#", stated, maxsplit=1)[0].strip(_SPACE)


def _only_comment(rest: str) -> bool:
    rest = rest.lstrip(_SPACE)
    return not rest or rest.startswith("#")
