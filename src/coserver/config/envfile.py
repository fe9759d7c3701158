"""Files of `NAME=value` lines, as `env_files` names them: read at each start of a process.

The format is what shells, systemd and Docker agree on: one `NAME=value` per line, an optional `export` before it,
`#` comments; a value may stand in single quotes (taken as it is) or double quotes (with `\\n`, `\\t`, `\\"`, `\\\\`,
`\\$`), and quoted values may span lines. Nothing is substituted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from coserver.config.origin import ConfigError, Origin, Problem
from coserver.config.read import cause, read_text

_ENTRY = re.compile(
    r"""
    [ \t]* (?:export[ \t]+)? (?P<name>[A-Za-z_][A-Za-z0-9_.-]*) [ \t]*=[ \t]*
    (?: '(?P<single>[^']*)' | "(?P<double>(?:[^"\\]|\\.)*)" | (?P<bare>[^\n'"]?[^\n]*?) )
    [ \t]* (?:(?<![^ \t'"=])\#[^\n]*)? (?:\n|\Z)
    """,
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_NOTHING = re.compile(r"[ \t]*(?:#[^\n]*)?(?:\n|\Z)")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


def parse_env(text: str) -> dict[str, str]:
    """Return the variables of one file's text; raises `ValueError` that begins with the line's number."""
    found: dict[str, str] = {}
    at = 0
    while at < len(text):
        nothing = _NOTHING.match(text, at)
        if nothing:
            at = nothing.end()
            continue
        entry = _ENTRY.match(text, at)
        if entry is None:
            line = text.count("\n", 0, at) + 1
            raise ValueError(f"{line}: cannot read the line; write NAME=value")
        found[entry["name"]] = _value(entry)
        at = entry.end()
    return found


def read_env_files(paths: Iterable[Path]) -> dict[str, str]:
    """Return the variables of several files, a later one over an earlier; a missing file is passed over.

    Raises `ConfigError` with every problem at once.
    """
    found: dict[str, str] = {}
    problems: list[Problem] = []
    for path in paths:
        origin = Origin("file", str(path), path.parent)
        try:
            if path.exists():
                found |= parse_env(read_text(path, origin))
        except OSError as error:
            problems.append(Problem.of(origin, "", f"cannot read the file: {cause(error)}"))
        except ConfigError as error:
            problems += error.problems
        except ValueError as error:
            line, _, message = str(error).partition(": ")
            problems.append(Problem.of(origin.at(int(line), 0), "", message))
    if problems:
        raise ConfigError(tuple(problems))
    return found


def _value(entry: re.Match[str]) -> str:
    if entry["single"] is not None:
        return entry["single"]
    if entry["double"] is not None:
        return re.sub(
            r"\\(.)", lambda found: _ESCAPES.get(found[1], found[1]), entry["double"], flags=re.DOTALL
        )
    return entry["bare"] or ""
