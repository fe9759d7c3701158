"""Environment files: lines of `NAME=value`.

The common ground of systemd's EnvironmentFile, Docker's --env-file and the dotenv libraries. Blank lines and lines that
begin with `#` are skipped, and `export ` in front is ignored. A value may stand in single quotes, taken as it is, or in
double quotes, where a backslash escapes `n`, `t`, `r`, `"`, `$` and itself; after an unquoted value a comment begins at
white space and `#`. Nothing is substituted.
"""

from __future__ import annotations

import re

_LINE = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\", "$": "$"}


def parse(text: str) -> tuple[dict[str, str], list[int]]:
    """Return the variables, later lines winning, and the numbers of lines that are none."""
    found: dict[str, str] = {}
    bad: list[int] = []
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        value = _value(match.group(2)) if match else None
        if match is None or value is None:
            bad.append(number)
        else:
            found[match.group(1)] = value
    return found, bad


def _value(text: str) -> str | None:
    if text.startswith("'"):
        body, quote, rest = text[1:].partition("'")
        return body if quote and _only_comment(rest) else None
    if text.startswith('"'):
        match = re.match(r'"((?:[^"\\]|\\.)*)"', text)
        if match is None or not _only_comment(text[match.end() :]):
            return None
        return re.sub(r"\\(.)", lambda m: _ESCAPES.get(m.group(1), m.group(0)), match.group(1))
    return re.split(r"\s#", text, maxsplit=1)[0].rstrip()


def _only_comment(rest: str) -> bool:
    return not rest.strip() or rest.lstrip().startswith("#")
