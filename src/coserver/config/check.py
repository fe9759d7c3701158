"""From a tree to values: every table checked against the keys of its record.

Theory. The table of keys decides everything: what is unknown, what is known but not supported yet, what shape a value
must have, what holds if it is unset. Nothing is raised here; each problem is added to the `Ledger`, and a value that
cannot be used is replaced by its default, so that the checks that follow find further problems of their own instead
of echoes. The ledger also notes each key's value and origin, which is what `config show` prints.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from coserver.config.keys import UNSET, Key, Named, Section, keys_of, later_of
from coserver.config.origin import KeyPath, Origin, Problems, dotted
from coserver.config.records import Document, Setting
from coserver.config.shapes import Mapped, Refused, described
from coserver.config.tree import Node, Table

DEFAULT = Origin("default", "default", Path())


@dataclass(slots=True)
class Ledger:
    """What checking found: problems, and each key's effective value with its origin."""

    problems: Problems
    settings: dict[str, Setting] = field(default_factory=dict)

    def set(self, path: KeyPath, declared: Key, value: object, origin: Origin) -> None:
        """Note the value of a key; None is unset."""
        shown = None if value is None else declared.shape.show(value)
        self.settings[dotted(path)] = Setting(shown, origin, declared.default_text)

    def set_entries(self, path: KeyPath, shape: Mapped[Any], value: Any, node: Table) -> None:
        """Note the entries of a table whose names the user chose: each may come from another place."""
        for name, entry in value.items():
            shown = shape.item.show(entry)
            self.settings[dotted((*path, name))] = Setting(shown, node.entries[name].origin, named=True)


@dataclass(slots=True)
class Values:
    """The values of one table, by key; a computed key that is not stated is missing until `fill`ed."""

    record: type[Any]
    path: KeyPath
    ledger: Ledger
    found: dict[str, Any] = field(default_factory=dict)
    stated: dict[str, Origin] = field(default_factory=dict)

    def fill(self, name: str, value: object) -> None:
        """Give a computed key its value unless it is stated."""
        if name not in self.found:
            self.found[name] = value
            self.ledger.set((*self.path, name), keys_of(self.record)[name], value, DEFAULT)

    def hide(self, *names: str) -> None:
        """Show nothing of keys that mean nothing here."""
        for name in names:
            self.ledger.settings.pop(dotted((*self.path, name)), None)

    def complain(self, name: str, message: str) -> None:
        """Add a problem about a stated key."""
        self.ledger.problems.add(self.stated[name], (*self.path, name), message)


def read_table(
    record: type[Any],
    node: Node | None,
    path: KeyPath,
    ledger: Ledger,
    *,
    expected: str = "",
    only: Callable[[Key], bool] = lambda _: True,
) -> Values:
    """Check a table against a record's keys and return its values.

    `expected` says what a node that is no table should have been. Keys for which `only` is false are refused.
    """
    values = Values(record, path, ledger)
    table = as_table(node, path, ledger, expected)
    check_names(record, table, path, ledger)
    for name, declared in keys_of(record).items():
        stated = table.get(name)
        if stated is not None and not only(declared):
            ledger.problems.add(
                stated.origin, (*path, name), "belongs to one service; state it in [service.NAME]"
            )
            stated = None
        if stated is not None:
            values.stated[name] = stated.origin
        value = read_value(declared, stated, (*path, name), ledger)
        if value is not UNSET:
            values.found[name] = value
    return values


def read_value(declared: Key, node: Node | None, path: KeyPath, ledger: Ledger) -> object:
    """Check one key and return its value: its default (or UNSET) if it is not stated or cannot be used."""
    shape = declared.shape
    if isinstance(shape, Section):
        return shape.build(**read_table(shape.record, node, path, ledger, expected=shape.expected).found)
    value, origin = declared.default, DEFAULT
    if node is not None:
        try:
            value, origin = shape.take(node), node.origin
        except Refused as refused:
            for finding in refused.findings:
                ledger.problems.add(finding.origin, (*path, *finding.path), finding.message)
    if isinstance(shape, Mapped) and isinstance(node, Table) and origin is not DEFAULT and value:
        ledger.set_entries(path, shape, value, node)
    else:
        # A computed key keeps its place in the order of settings until it is filled.
        ledger.set(path, declared, None if value is UNSET else value, origin)
    return value


def check_names(record: type[Any], table: Table, path: KeyPath, ledger: Ledger) -> None:
    """Refuse what stands in a table and is no key of the record."""
    keys, postponed = keys_of(record), later_of(record)
    for name, entry in table.entries.items():
        if name in postponed:
            ledger.problems.add(
                entry.origin, (*path, name), f"not supported yet: {postponed[name]}; remove it"
            )
        elif name not in keys:
            ledger.problems.add(entry.origin, (*path, name), f"unknown key{suggestion(record, name)}")


def as_table(node: Node | None, path: KeyPath, ledger: Ledger, expected: str) -> Table:
    """Return a node as a table; nothing, or something else, which is a problem, is an empty one."""
    if node is None:
        return Table({}, DEFAULT)
    if isinstance(node, Table):
        return node
    ledger.problems.add(
        node.origin, path, f"expected {expected or f'a table, [{dotted(path)}]'}, found {described(node)}"
    )
    return Table({}, node.origin)


def suggestion(record: type[Any], name: str) -> str:
    """Return "; did you mean …?" for an unknown key, or nothing."""
    keys = keys_of(record)
    folded = name.lower().replace("-", "_")
    for known, declared in keys.items():
        if folded == known or folded in declared.also:
            return f'; did you mean "{known}"?'
    elsewhere = next(
        (place for place, other in _sections() if name in keys_of(other) and other is not record), None
    )
    if elsewhere is not None:
        return f"; it belongs in [{elsewhere}]"
    near = get_close_matches(folded, [*keys, *later_of(record)], n=1)
    return f'; did you mean "{near[0]}"?' if near else ""


def _sections() -> Iterable[tuple[str, type[Any]]]:
    """Yield every table of the file by its header, outer ones first."""
    queue: list[tuple[str, type[Any]]] = [("", Document)]
    while queue:
        place, record = queue.pop(0)
        if place:
            yield place, record
        for name, declared in keys_of(record).items():
            header = f"{place}.{name}".lstrip(".")
            match declared.shape:
                case Section(record=below):
                    queue.append((header, below))
                case Named(record=below):
                    queue.append((f"{header}.NAME", below))
                case _:
                    pass
