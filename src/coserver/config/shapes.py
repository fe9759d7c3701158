"""The shapes of values: what a key accepts, what it becomes, and how it is written back, shown and described.

Theory. A shape is the single description of one kind of value. From it come the reading of the value (`read`), its
plain form in `config show` (`show`), its JSON Schema for editors (`schema`) and the words of an error (`expected`,
which always carries an example). A shape knows neither the key that has it nor the default.

`read` gets the stated node with its place and either returns the typed value or raises `Refused` with *all* findings
below it, so that a list with three bad items tells of three.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from coserver.config.origin import KeyPath, Origin
from coserver.config.read import parse_value
from coserver.config.tree import Items, Leaf, Node, Table

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
S = TypeVar("S", bound=str)

Json = str | int | float | bool | None | list[Any] | dict[str, Any]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong at `path` below the node that was read."""

    path: KeyPath
    origin: Origin
    message: str


class Refused(Exception):
    """A node does not have the shape."""

    def __init__(self, findings: list[Finding]) -> None:
        super().__init__("; ".join(finding.message for finding in findings))
        self.findings = findings


class Shape(Generic[T_co]):
    """One kind of value.

    `expected` completes "expected …"; `unit` names the unit where there is one; `text` says that any string is
    plain text here, which then never stands for a number or a list.
    """

    expected: str
    unit: str = ""
    text: bool = False

    def read(self, node: Node) -> T_co:
        """Return the value; raises `Refused`."""
        raise NotImplementedError

    def take(self, node: Node) -> T_co:
        """Like `read`, but text that came from outside TOML may stand for any kind of value.

        `processes = "${COUNT}"` and `COSERVER_CFG__SERVICE__WEB__PROCESSES=3` state a number, because a number is
        what the key accepts; where plain text is asked for, a "3" stays text.
        """
        readings = meanings(node, text=self.text)
        for place, reading in enumerate(readings):
            try:
                return self.read(reading)
            except Refused:
                if place == len(readings) - 1:
                    break
        return self.read(readings[0])

    def show(self, value: Any) -> Json:
        """Return the value as JSON and TOML know it."""
        raise NotImplementedError

    def schema(self) -> dict[str, Json]:
        """Return the JSON Schema of the stated value."""
        raise NotImplementedError

    def refused(self, node: Node, message: str | None = None) -> Refused:
        """Return the exception that refuses the whole node."""
        return Refused(
            [Finding((), node.origin, message or f"expected {self.expected}, found {described(node)}")]
        )


def meanings(node: Node, *, text: bool) -> list[Node]:
    """Return what a node may mean, the likeliest first: itself, or its text read as a TOML value."""
    if not isinstance(node, Leaf) or not isinstance(node.value, str):
        return [node]
    outside = node.origin.kind == "environment" or node.origin.via or node.origin.secret is not None
    if not outside or (text and node.origin.kind != "environment"):
        return [node]
    value = parse_value(node.value, node.origin)
    if value is None or (text and not (isinstance(value, Leaf) and isinstance(value.value, str))):
        return [node]
    return [value, node]


def described(node: Node) -> str:
    """Say what was found: `the number 3`, `a list`, `text`."""
    match node:
        case Items():
            return "a list"
        case Table():
            return "a table"
        case Leaf(value=value) if isinstance(value, str):
            return f'"{value}"' if len(value) <= 40 and value.isprintable() else "text"
        case Leaf(value=value) if isinstance(value, bool):
            return str(value).lower()
        case Leaf(value=value) if isinstance(value, int | float):
            return f"the number {value}"
        case Leaf():
            return "a date or time"


class Parsed(Shape[T]):
    """Text (and, where `numbers` says so, numbers) with a notation of its own.

    `parse` raises `ValueError` with a message that is shown as it is.
    """

    def __init__(
        self,
        parse: Callable[[Any], T],
        show: Callable[[T], Json],
        *,
        expected: str,
        numbers: bool = False,
        unit: str = "",
        pattern: str | None = None,
    ) -> None:
        self.expected = expected
        self.unit = unit
        self.text = not numbers
        self._parse = parse
        self._show = show
        self._numbers = numbers
        self._pattern = pattern

    def read(self, node: Node) -> T:
        match node:
            case Leaf(bool()):
                raise self.refused(node)
            case Leaf(str() as value):
                pass
            case Leaf(int() | float() as value) if self._numbers:
                pass
            case _:
                raise self.refused(node)
        try:
            return self._parse(value)
        except ValueError as error:
            raise self.refused(node, str(error)) from None

    def show(self, value: Any) -> Json:
        return self._show(value)

    def schema(self) -> dict[str, Json]:
        text: dict[str, Json] = {"type": "string"}
        if self._pattern is not None:
            text["pattern"] = self._pattern
        return {"anyOf": [text, {"type": "number", "minimum": 0}]} if self._numbers else text


class Flag(Shape[bool]):
    """true or false."""

    expected = "true or false"

    def read(self, node: Node) -> bool:
        if isinstance(node, Leaf) and isinstance(node.value, bool):
            return node.value
        raise self.refused(node)

    def show(self, value: Any) -> Json:
        return bool(value)

    def schema(self) -> dict[str, Json]:
        return {"type": "boolean"}


class Integer(Shape[int]):
    """A whole number within bounds."""

    def __init__(self, minimum: int, maximum: int | None = None, *, example: int, unit: str = "") -> None:
        self.expected = f"a whole number such as {example}"
        self.unit = unit
        self._minimum = minimum
        self._maximum = maximum

    def read(self, node: Node) -> int:
        if not isinstance(node, Leaf) or isinstance(node.value, bool) or not isinstance(node.value, int):
            raise self.refused(node)
        if node.value < self._minimum:
            raise self.refused(node, f"{node.value} is too small; the least is {self._minimum}")
        if self._maximum is not None and node.value > self._maximum:
            raise self.refused(node, f"{node.value} is too large; the most is {self._maximum}")
        return node.value

    def show(self, value: Any) -> Json:
        return int(value)

    def schema(self) -> dict[str, Json]:
        found: dict[str, Json] = {"type": "integer", "minimum": self._minimum}
        if self._maximum is not None:
            found["maximum"] = self._maximum
        return found


class Choice(Shape[S]):
    """One of a few words."""

    text = True

    def __init__(self, *words: S) -> None:
        self.expected = " or ".join(f'"{word}"' for word in words)
        self._words = words

    def read(self, node: Node) -> S:
        for word in self._words:
            if isinstance(node, Leaf) and node.value == word:
                return word
        raise self.refused(node)

    def show(self, value: Any) -> Json:
        return str(value)

    def schema(self) -> dict[str, Json]:
        return {"enum": list(self._words)}


class FilePath(Shape[Path]):
    """A path; a relative one resolves against the file that states it."""

    text = True

    def __init__(self, *, example: str) -> None:
        self.expected = f'a path such as "{example}"'

    def read(self, node: Node) -> Path:
        if not isinstance(node, Leaf) or not isinstance(node.value, str):
            raise self.refused(node)
        if not node.value or "\0" in node.value:
            raise self.refused(node, f"expected {self.expected}, found no path")
        try:
            return absolute(node.value, node.origin)
        except ValueError as error:
            raise self.refused(node, str(error)) from None

    def show(self, value: Any) -> Json:
        return str(value)

    def schema(self) -> dict[str, Json]:
        return {"type": "string", "minLength": 1}


class Listing(Shape[tuple[T, ...]]):
    """A list of values of one shape."""

    def __init__(self, item: Shape[T], *, example: str) -> None:
        self.expected = f"a list such as {example}"
        self.unit = item.unit
        self._item = item

    def read(self, node: Node) -> tuple[T, ...]:
        if not isinstance(node, Items):
            raise self.refused(node)
        found, findings = [], []
        for place, item in enumerate(node.items):
            try:
                found.append(self._item.take(item))
            except Refused as refused:
                findings += _below(place, refused)
        if findings:
            raise Refused(findings)
        return tuple(found)

    def show(self, value: Any) -> Json:
        return [self._item.show(item) for item in value]

    def schema(self) -> dict[str, Json]:
        return {"type": "array", "items": self._item.schema()}


class Mapped(Shape[Mapping[str, T]]):
    """A table whose names the user chooses.

    `check_name` raises `ValueError` for a name that cannot be. `verbatim` says that capitals matter, so that an
    override from the environment spells the name as it is.
    """

    def __init__(
        self, item: Shape[T], check_name: Callable[[str], object], *, example: str, verbatim: bool = False
    ) -> None:
        self.verbatim = verbatim
        self.expected = f"a table such as {example}"
        self.unit = item.unit
        self.item = item
        self._check_name = check_name

    def read(self, node: Node) -> Mapping[str, T]:
        if not isinstance(node, Table):
            raise self.refused(node)
        found, findings = {}, []
        for name, entry in node.entries.items():
            try:
                self._check_name(name)
            except ValueError as error:
                findings.append(Finding((name,), entry.origin, str(error)))
            try:
                found[name] = self.item.take(entry)
            except Refused as refused:
                findings += _below(name, refused)
        if findings:
            raise Refused(findings)
        return MappingProxyType(found)

    def show(self, value: Any) -> Json:
        return {name: self.item.show(entry) for name, entry in value.items()}

    def schema(self) -> dict[str, Json]:
        return {"type": "object", "additionalProperties": self.item.schema()}


class Command(Shape[tuple[str, ...]]):
    """A program and its arguments: text that is split as a shell would split it, or a list that is taken as it is."""

    expected = 'a command such as "redis-server --port 6400" or ["redis-server", "--port", "6400"]'

    def read(self, node: Node) -> tuple[str, ...]:
        match node:
            case Leaf(str() as line):
                try:
                    words = tuple(shlex.split(line))
                except ValueError as error:
                    raise self.refused(
                        node, f"cannot split the command: {str(error).lower()}; close the quotation"
                    ) from None
            case Items(items):
                texts = [
                    item.value for item in items if isinstance(item, Leaf) and isinstance(item.value, str)
                ]
                wrong = [
                    Finding((place,), item.origin, f"expected text in quotes, found {described(item)}")
                    for place, item in enumerate(items)
                    if not isinstance(item, Leaf) or not isinstance(item.value, str)
                ]
                if wrong:
                    raise Refused(wrong)
                words = tuple(texts)
            case _:
                raise self.refused(node)
        if not words or not words[0].strip():
            raise self.refused(node, f"the command is empty; expected {self.expected}")
        if any("\0" in word for word in words):
            raise self.refused(
                node, "an argument holds a NUL character, which no program can be given; remove it"
            )
        return words

    def show(self, value: Any) -> Json:
        return list(value)

    def schema(self) -> dict[str, Json]:
        return {
            "anyOf": [
                {"type": "string", "minLength": 1},
                {"type": "array", "items": {"type": "string"}, "minItems": 1},
            ]
        }


class Off(Shape[bool]):
    """Only `false`: a feature that can be left out already, but not be had yet."""

    expected = "false"

    def read(self, node: Node) -> bool:
        if isinstance(node, Leaf) and node.value is False:
            return False
        raise self.refused(node, "not supported yet; remove the key or write false")

    def show(self, value: Any) -> Json:
        return bool(value)

    def schema(self) -> dict[str, Json]:
        return {"const": False}


def absolute(text: str, origin: Origin) -> Path:
    """Return a stated path as an absolute one, without asking the file system about links; raises `ValueError`."""
    if text.startswith("~"):
        raise ValueError(f'cannot use the path "{text}": "~" is a shell\'s notation; write "${{HOME}}/…"')
    return origin.base / text


def _below(step: str | int, refused: Refused) -> list[Finding]:
    return [Finding((step, *finding.path), finding.origin, finding.message) for finding in refused.findings]
