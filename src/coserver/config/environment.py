"""Overrides from the environment: `COSERVER_CFG__SECTION__KEY=value` as the uppermost layer.

Theory. A variable's name spells a key path in capitals, parts joined by two underscores and `-` written `_`. Which key
is meant is looked up in the table of keys and, for names that the user chose, among the names that the files state; so
`COSERVER_CFG__SERVICE__MAIL_QUEUE__PROCESSES` finds `service.mail-queue.processes`. Two names that spell alike cannot
be told apart and are an error. Names of environment variables (`env`) stand for themselves.

The value is text; the shape of the key decides what it means (`shapes.Shape.take`). Relative paths resolve against
the main file's directory, as every command of a site must find the same ones wherever it is called.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from coserver.config.keys import Named, Section, keys_of, later_of
from coserver.config.origin import Origin, Problems, dotted
from coserver.config.read import parse_value
from coserver.config.records import Document
from coserver.config.shapes import Mapped
from coserver.config.tree import Leaf, Node, Table, overlay

PREFIX = "COSERVER_CFG__"


def override(table: Table, environ: Mapping[str, str], base: Path, problems: Problems) -> Table:
    """Lay the overrides in `environ` over a tree."""
    for variable in sorted(environ):
        if not variable.startswith(PREFIX):
            continue
        origin = Origin("environment", variable, base)
        leaf = Leaf(environ[variable], origin)
        try:
            path, node = _meant(variable.removeprefix(PREFIX).split("__"), leaf, table)
        except ValueError as error:
            problems.add(origin, (), str(error))
            continue
        table = Table(overlay(table, _nested(path, node, origin)).entries, table.origin)
    return table


def spelled(name: str) -> str:
    """Return a name as it is spelled within a variable: `mail-queue` is `MAIL_QUEUE`."""
    return name.upper().replace("-", "_")


def _meant(parts: list[str], leaf: Leaf, table: Table) -> tuple[list[str], Node]:
    """Return the key path that a variable's parts spell, and what its text means there; raises `ValueError`."""
    record: type[Any] = Document
    path: list[str] = []
    while parts:
        keys = keys_of(record)
        name = _match(parts[0], [*keys, *later_of(record)])
        if name == "include" and not path:
            raise ValueError("cannot override include: the environment cannot name further files")
        path.append(name)
        parts = parts[1:]
        shape = keys[name].shape if name in keys else None
        match shape:
            case Section():
                record = shape.record
            case Named() if parts:
                path.append(_existing(parts[0], table.table(*path), shape.what))
                parts = parts[1:]
                record = shape.record
            case Mapped() if parts:
                return [*path, _entry("__".join(parts), table.table(*path), shape)], leaf
            case Named():
                break
            case _:
                # Deeper parts of a plain value can only be wrong; as keys of it they are refused with its shape.
                return [*path, *(part.lower() for part in parts)], leaf
    return path, _as_table(leaf, path)


def _as_table(leaf: Leaf, path: list[str]) -> Table:
    value = parse_value(str(leaf.value), leaf.origin)
    if not isinstance(value, Table):
        raise ValueError(
            f'{dotted(tuple(path)) or "this"} is a table; name a key in it, or write a TOML table: "{{ key = 1 }}"'
        )
    return value


def _match(part: str, names: list[str]) -> str:
    for name in names:
        if spelled(name) == part.upper():
            return name
    return part.lower()  # unknown: refused where unknown keys are


def _existing(part: str, table: Table | None, what: str) -> str:
    names = list(table.entries) if table is not None else []
    found = [name for name in names if spelled(name) == part.upper()]
    if len(found) > 1:
        raise ValueError(f"cannot tell which {what} is meant: {' and '.join(found)} spell alike; rename one")
    if not found:
        near = get_close_matches(part.upper(), [spelled(name) for name in names], n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f'no {what} "{part.lower()}" to override{hint}')
    return found[0]


def _entry(part: str, table: Table | None, shape: Mapped[object]) -> str:
    if shape.verbatim:
        return part
    names = list(table.entries) if table is not None else []
    found = [name for name in names if spelled(name) == part.upper()]
    if len(found) > 1:
        raise ValueError(f"cannot tell which name is meant: {' and '.join(found)} spell alike; rename one")
    return found[0] if found else part.lower()


def _nested(path: list[str], node: Node, origin: Origin) -> Table:
    for name in reversed(path[1:]):
        node = Table({name: node}, origin)
    return Table({path[0]: node}, origin)
