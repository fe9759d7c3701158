"""A configuration before it means anything: tables, lists and values, each with the place that states it.

Theory. Files, a profile's overlay, the host's own settings and environment overrides are all read into the same
tree, because *unset is not default*: as long as nothing but stated values exists, layers can be laid over one another
without a default of one hiding a statement of another. Defaults enter last, when records are made (`check`).

Two ways of putting trees together, both pure:

- `overlay`: the upper layer wins, key by key; tables merge, anything else replaces.
- `join`: equals (a file and those that it includes); the same key in both is a conflict and named with both places.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time

from coserver.config.origin import KeyPath, Origin

Scalar = str | int | float | bool | date | datetime | time


@dataclass(frozen=True, slots=True)
class Leaf:
    """One value that is neither list nor table."""

    value: Scalar
    origin: Origin


@dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    items: tuple[Node, ...]
    origin: Origin


@dataclass(frozen=True, slots=True)
class Table:
    """Named values; `origin` is where the table is first mentioned."""

    entries: Mapping[str, Node]
    origin: Origin

    def get(self, *path: str) -> Node | None:
        """Return what stands at a path below, or None."""
        node: Node = self
        for name in path:
            if not isinstance(node, Table) or name not in node.entries:
                return None
            node = node.entries[name]
        return node

    def table(self, *path: str) -> Table | None:
        """Return the table at a path below, or None if there is none or it is something else."""
        node = self.get(*path)
        return node if isinstance(node, Table) else None

    def without(self, *names: str) -> Table:
        return Table({name: node for name, node in self.entries.items() if name not in names}, self.origin)

    def only(self, *names: str) -> Table:
        return Table({name: node for name, node in self.entries.items() if name in names}, self.origin)


Node = Leaf | Items | Table


@dataclass(frozen=True, slots=True)
class Conflict:
    """A key that two equals state."""

    path: KeyPath
    first: Origin
    second: Origin


@dataclass(slots=True)
class Joined:
    """The outcome of `join`: the table, in which the first statement stands, and every conflict."""

    table: Table
    conflicts: list[Conflict] = field(default_factory=list)


def overlay(under: Table, over: Table) -> Table:
    """Lay `over` upon `under`."""
    entries = dict(under.entries)
    for name, node in over.entries.items():
        below = entries.get(name)
        entries[name] = overlay(below, node) if isinstance(below, Table) and isinstance(node, Table) else node
    return Table(entries, over.origin)


def join(first: Table, second: Table) -> Joined:
    """Put two equals together."""
    joined = Joined(first)
    joined.table = _join(first, second, (), joined.conflicts)
    return joined


def _join(first: Table, second: Table, path: KeyPath, conflicts: list[Conflict]) -> Table:
    entries = dict(first.entries)
    for name, node in second.entries.items():
        there = entries.get(name)
        if there is None:
            entries[name] = node
        elif isinstance(there, Table) and isinstance(node, Table):
            entries[name] = _join(there, node, (*path, name), conflicts)
        else:
            conflicts.append(Conflict((*path, name), there.origin, node.origin))
    return Table(entries, first.origin)


def leaves(node: Node, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Leaf]]:
    """Yield every value below with its path."""
    match node:
        case Leaf():
            yield path, node
        case Items(items):
            for place, item in enumerate(items):
                yield from leaves(item, (*path, place))
        case Table(entries):
            for name, entry in entries.items():
                yield from leaves(entry, (*path, name))


def plain(node: Node) -> object:
    """Return the value without origins, as tomllib would give it."""
    match node:
        case Leaf(value):
            return value
        case Items(items):
            return [plain(item) for item in items]
        case Table(entries):
            return {name: plain(entry) for name, entry in entries.items()}
