"""The notation in which records declare configuration keys.

Theory. A key is declared once, as a field of the frozen record that carries its value:

    @record
    class StopPolicy:
        timeout: float = key(DURATION, "How long …", default=10.0)

The field gives the key's name and type, `key` its shape, meaning and default. Everything else that knows keys is
derived from these fields: reading and checking, `config show`, the JSON Schema, the reference page, environment
overrides and "did you mean". A key that is designed but not built yet is declared by `later`, so that it is refused
as such and never taken for a typing error or, worse, silently ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any, Literal, TypeVar, cast, dataclass_transform

from coserver.config.shapes import Json, Shape

T = TypeVar("T")

Restart = Literal["site", "processes", "nothing"]
"""What has to start again before a changed value holds."""


class Unset:
    """The type of `UNSET`."""

    def __repr__(self) -> str:
        return "UNSET"


UNSET = Unset()
"""No default: the value is computed from others, or the key must be stated."""


@dataclass(frozen=True, slots=True)
class Key:
    """One key of one table."""

    name: str
    shape: Shape[Any]
    doc: str
    default: object
    default_text: str
    example: str
    restart: Restart
    kind: Literal["any", "python"]
    inherited: bool
    also: tuple[str, ...]

    @property
    def shown_default(self) -> Json:
        """The default as JSON and TOML know it; None where there is none."""
        if self.default is UNSET or self.default is None:
            return None
        return self.shape.show(self.default)


class Section(Shape[T]):
    """A table whose keys are the fields of a record; `check` reads it and `schema` describes it, key by key.

    `build` makes the value from the fields; it is the record itself where that is the value.
    """

    def __init__(self, record: type[Any], build: Callable[..., T], *, example: str) -> None:
        self.record = record
        self.build = build
        self.expected = f"a table such as {example}"


class Named(Shape[Mapping[str, T]]):
    """A table of tables, named by the user: `[service.NAME]`; `what` is what one of them is called, `pattern` what its
    names match (None: as those of services)."""

    def __init__(self, record: type[T], *, what: str, example: str, pattern: str | None = None) -> None:
        self.record = record
        self.pattern = pattern
        self.what = what
        self.expected = f"a table for each {what}, such as {example}"


_KEY = "coserver.key"
_KEYS: dict[type[Any], Mapping[str, Key]] = {}


def key(
    shape: Shape[T],
    doc: str,
    *,
    default: T,
    default_text: str = "",
    example: str = "",
    restart: Restart = "processes",
    kind: Literal["any", "python"] = "any",
    inherited: bool = True,
    also: tuple[str, ...] = (),
) -> T:
    """Declare a key.

    `default_text` says in words what holds if the key is unset, where the value alone would not tell. `example` is a
    value as TOML text. `kind` python restricts a service's key to Python services; `inherited` false keeps it out of
    `[defaults.service]`. `also` are names that other programs use for it, for "did you mean".
    """
    declared = Key("", shape, doc, default, default_text, example, restart, kind, inherited, also)
    if isinstance(default, MappingProxyType):
        return field(default_factory=lambda: default, metadata={_KEY: declared})
    return field(default=default, metadata={_KEY: declared})


def computed(
    shape: Shape[T],
    doc: str,
    *,
    default_text: str,
    example: str = "",
    restart: Restart = "processes",
    kind: Literal["any", "python"] = "any",
    inherited: bool = True,
    also: tuple[str, ...] = (),
) -> T:
    """Declare a key whose default, described by `default_text`, follows from other values."""
    declared = Key("", shape, doc, UNSET, default_text, example, restart, kind, inherited, also)
    return cast(T, field(metadata={_KEY: declared}))


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(key, computed))
def record(cls: type[T]) -> type[T]:
    """Make a frozen, keyword-only dataclass whose fields may be declared by `key` and `computed`."""
    made = dataclass(frozen=True, kw_only=True)(cls)
    entries = fields(made)  # type: ignore[arg-type]
    declared = {entry.name: entry.metadata[_KEY] for entry in entries if _KEY in entry.metadata}
    keys = {name: replace(declaration, name=name) for name, declaration in declared.items()}
    _KEYS[made] = MappingProxyType(keys)
    return made


def later(**keys: str) -> Mapping[str, str]:
    """Declare keys that are designed but not supported yet: each name with what it will be about.

    Stands as `LATER: ClassVar = later(…)` in the record.
    """
    return MappingProxyType(keys)


def keys_of(cls: type[Any]) -> Mapping[str, Key]:
    """Return the keys that a record declares, by name, in the order of declaration."""
    return _KEYS[cls]


def later_of(cls: type[Any]) -> Mapping[str, str]:
    """Return the keys of a record that are not supported yet."""
    return cast(Mapping[str, str], getattr(cls, "LATER", MappingProxyType({})))
