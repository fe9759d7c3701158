"""One TOML file → a tree in which every value knows its line."""

from __future__ import annotations

import re
import tomllib
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

from coserver.config.origin import ConfigError, KeyPath, Origin, Problem
from coserver.config.positions import scan
from coserver.config.tree import Items, Leaf, Node, Table

_WHERE = re.compile(r" \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)$")

CAUSES = {
    FileNotFoundError: "no such file",
    IsADirectoryError: "it is a directory",
    PermissionError: "permission denied",
    NotADirectoryError: "a part of its path is no directory",
}


def cause(error: OSError) -> str:
    """Say in a few words why a file could not be read."""
    return CAUSES.get(type(error), (error.strerror or type(error).__name__).lower())


def read_text(path: Path, origin: Origin) -> str:
    """Return a file's text; raises `ConfigError`."""
    try:
        return path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    except OSError as error:
        raise ConfigError((Problem.of(origin, "", f"cannot read the file: {cause(error)}"),)) from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        message = "cannot read the file: it is not UTF-8; save it as UTF-8"
        raise ConfigError((Problem.of(origin.at(line, 0), "", message),)) from None


def parse(text: str, origin: Origin, below: tuple[str, ...] = ()) -> Table:
    """Return the tree of a TOML text, or of its table `below`; raises `ConfigError`."""
    try:
        found: Any = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError((_syntax(error, text, origin),)) from None
    except RecursionError:
        raise ConfigError(
            (Problem.of(origin, "", "cannot read the file: it is nested too deeply"),)
        ) from None
    for name in below:
        found = found.get(name) if isinstance(found, dict) else None
    if found is None:
        raise ConfigError((Problem.of(origin, "", f"states no site: it has no table [{'.'.join(below)}]"),))
    places = scan(text).found

    def node(value: Any, path: KeyPath) -> Node:
        here = origin.at(*places.get(path, (0, 0)))
        match value:
            case dict():
                return Table({name: node(entry, (*path, name)) for name, entry in value.items()}, here)
            case list():
                return Items(tuple(node(item, (*path, place)) for place, item in enumerate(value)), here)
            case _:
                return Leaf(value, here)

    tree = node(found, below)
    if not isinstance(tree, Table):
        message = f"expected the table [{'.'.join(below)}]"
        raise ConfigError((Problem.of(tree.origin, ".".join(below), message),))
    return tree


def parse_value(text: str, origin: Origin) -> Node | None:
    """Return what a text means as a TOML value, every part of it at `origin`; None if it is none."""
    try:
        document = tomllib.loads(f"value = {text}")
    except (tomllib.TOMLDecodeError, RecursionError):
        return None
    # More than one key means that the text held a line break and went on with keys of its own.
    return _at_one_place(document["value"], origin) if len(document) == 1 else None


def _at_one_place(value: Any, origin: Origin) -> Node:
    match value:
        case dict():
            return Table({name: _at_one_place(entry, origin) for name, entry in value.items()}, origin)
        case list():
            return Items(tuple(_at_one_place(item, origin) for item in value), origin)
        case str() | bool() | int() | float() | datetime() | date() | time():
            return Leaf(value, origin)
        case _:
            raise AssertionError(value)


def _syntax(error: tomllib.TOMLDecodeError, text: str, origin: Origin) -> Problem:
    message = str(error)
    where = _WHERE.search(message)
    line, column = text.rstrip().count("\n") + 1, 0
    if where:
        message = message[: where.start()]
    if where and where["line"]:
        line, column = int(where["line"]), int(where["column"])
        hint = _hint(text, line, column)
    else:
        hint = _hint_at_end(text)
    return Problem.of(origin.at(line, column), "", f"cannot read TOML: {_lowered(message)}{hint}")


def _hint_at_end(text: str) -> str:
    unclosed = scan(text).unclosed
    return f"; what line {unclosed[0]} opens with {unclosed[1]} is never closed" if unclosed else ""


def _hint(text: str, line: int, column: int) -> str:
    broken = next((opening for opening in scan(text).breaks if opening <= line), None)
    if broken is not None:
        return (
            f"; the table that line {broken} opens with {{ must close on the same line: "
            "write it without line breaks, or as a [table] of its own"
        )
    lines = text.split("\n")
    rest = lines[line - 1][max(column - 1, 0) :] if 0 < line <= len(lines) else ""
    word = re.match(r"[A-Za-z_/.~$-][^\s,\]}#]*", rest)
    if word and word[0].lower() in ("true", "false", "yes", "no", "on", "off"):
        truth = "true" if word[0].lower() in ("true", "yes", "on") else "false"
        return f"; write {truth}"
    if word and "=" in lines[line - 1][: column - 1]:
        return '; text stands in quotes: "…"'
    return ""


def _lowered(message: str) -> str:
    return message[:1].lower() + message[1:]
