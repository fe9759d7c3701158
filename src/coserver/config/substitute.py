"""`${VAR}`, `${VAR:-default}` and `$$` in values, and secrets read from files by `file:PATH`.

Theory. There is one syntax and no shell behind it. A dollar sign always means something: `${NAME}` is the variable,
which must be set; `${NAME:-text}` is `text` where the variable is unset or empty, and the text may hold further
substitutions; `$$` is one dollar sign; anything else is refused, so that a shell's `$HOME` never silently stays as it
is. What a variable holds is text for good: it is not substituted again and cannot turn into `file:`.

A value (not an item of a list) whose *stated* text begins with `file:` is the content of that file without its last
line break. Such a value is a secret in every view.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from coserver.config.origin import KeyPath, Origin, Problems
from coserver.config.read import cause
from coserver.config.shapes import absolute
from coserver.config.tree import Items, Leaf, Node, Table

LARGEST_SECRET = 1 << 20
"""Bytes; a larger file, such as a device without an end, is not a secret but a slip."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


def read_secret(path: Path) -> bytes:
    """Return a file's content, at most one byte more than is allowed; raises `OSError`."""
    with path.open("rb") as file:
        return file.read(LARGEST_SECRET + 1)


@dataclass(slots=True)
class Expanded:
    """Text after substitution, and the variables it was taken from."""

    text: str
    via: tuple[str, ...]


def expand(text: str, environ: Mapping[str, str]) -> Expanded:
    """Substitute in one text; raises `ValueError`."""
    if "$" not in text:
        return Expanded(text, ())
    expansion = _Expansion(text, environ)
    written = expansion.run(nested=False)
    return Expanded(written, tuple(dict.fromkeys(expansion.via)))


def substitute(
    table: Table, environ: Mapping[str, str], read: Callable[[Path], bytes], problems: Problems
) -> Table:
    """Substitute in every text of a tree; what cannot be is added to `problems` and stays as it is."""

    def walk(node: Node, path: KeyPath) -> Node:
        match node:
            case Table(entries, origin):
                return Table({name: walk(entry, (*path, name)) for name, entry in entries.items()}, origin)
            case Items(items, origin):
                return Items(tuple(walk(item, (*path, place)) for place, item in enumerate(items)), origin)
            case Leaf(str() as text, origin):
                try:
                    return _leaf(text, origin, environ, read, secret=not isinstance(path[-1], int))
                except ValueError as error:
                    problems.add(origin, path, str(error))
                    problems.spoil(origin)
        return node

    return Table({name: walk(entry, (name,)) for name, entry in table.entries.items()}, table.origin)


def _leaf(
    text: str, origin: Origin, environ: Mapping[str, str], read: Callable[[Path], bytes], *, secret: bool
) -> Leaf:
    # What the environment states is final: a password with a dollar sign must pass unharmed.
    expanded = Expanded(text, ()) if origin.kind == "environment" else expand(text, environ)
    origin = replace(origin, via=expanded.via) if expanded.via else origin
    if not secret or not text.startswith("file:"):
        return Leaf(expanded.text, origin)
    path = absolute(expanded.text.removeprefix("file:"), origin)
    return Leaf(_secret(path, read), replace(origin, secret=path))


def _secret(path: Path, read: Callable[[Path], bytes]) -> str:
    try:
        content = read(path)
    except OSError as error:
        raise ValueError(f"cannot read the secret {path}: {cause(error)}") from None
    if len(content) > LARGEST_SECRET:
        raise ValueError(f"cannot use the secret {path}: it is larger than 1 MiB")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise ValueError(f"cannot use the secret {path}: it is not UTF-8 text") from None
    return text.removesuffix("\n").removesuffix("\r")


@dataclass(slots=True)
class _Expansion:
    text: str
    environ: Mapping[str, str]
    via: list[str] = field(default_factory=list)
    at: int = 0

    def run(self, *, nested: bool, skip: bool = False) -> str:
        """Read up to the end, or, in a default, up to the brace that closes it.

        `skip` only looks for that brace: variables of a default that is not taken need not be set.
        """
        written: list[str] = []
        while self.at < len(self.text):
            char = self.text[self.at]
            if nested and char == "}":
                return "".join(written)
            if char != "$":
                written.append(char)
                self.at += 1
            elif self.text.startswith("$$", self.at):
                written.append("$")
                self.at += 2
            elif self.text.startswith("${", self.at):
                self.at += 2
                written.append(self._variable(skip=skip))
            else:
                raise ValueError(self._stray())
        if nested:
            raise ValueError('"${" is never closed; write "${NAME}" or "${NAME:-default}"')
        return "".join(written)

    def _variable(self, *, skip: bool) -> str:
        if self.text.startswith("socket:", self.at):
            raise ValueError('"${socket:…}" is not supported yet: shared listening sockets')
        found = _NAME.match(self.text, self.at)
        name = found[0] if found else ""
        self.at += len(name)
        value, default = self.environ.get(name), None
        if name and self.text.startswith(":-", self.at):
            self.at += 2
            default = self.run(nested=True, skip=skip or bool(value))
        if not name or self.text[self.at : self.at + 1] != "}":
            raise ValueError(
                'cannot read "${…}"; write "${NAME}", "${NAME:-default}", or "$$" for a dollar sign'
            )
        self.at += 1
        if skip:
            return ""
        if value or (value is not None and default is None):
            self.via.append(name)
            return value
        if default is None:
            raise ValueError(
                f'the environment variable {name} is not set; set it, or give a default: "${{{name}:-value}}"'
            )
        return default

    def _stray(self) -> str:
        name = _NAME.match(self.text, self.at + 1)
        if name:
            return f'"${name[0]}" means nothing here; write "${{{name[0]}}}" for the variable, "$$" for a dollar sign'
        return 'a lone "$" means nothing here; write "$$" for a dollar sign'
