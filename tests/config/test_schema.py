"""The JSON Schema, held against what the check accepts."""

from __future__ import annotations

import re
import tomllib
from textwrap import dedent
from typing import Any

import pytest

from coserver.config.keys import Named, Section, keys_of
from coserver.config.records import Document
from coserver.config.schema import schema
from tests.config.sites import Desk
from tests.config.test_load import SHOP

SCHEMA: dict[str, Any] = schema()
KINDS: dict[str, Any] = {
    "object": dict, "array": list, "string": str, "boolean": bool, "integer": int, "number": (int, float),
}  # fmt: skip


def valid(value: Any, rule: dict[str, Any]) -> bool:
    """As much of JSON Schema as the schema uses; an unknown keyword fails."""
    for word, stated in rule.items():
        match word:
            case "$schema" | "title" | "description" | "default" | "$defs":
                good = True
            case "$ref":
                good = valid(value, SCHEMA["$defs"][stated.rpartition("/")[2]])
            case "type":
                good = isinstance(value, KINDS[stated]) and (
                    stated == "boolean" or not isinstance(value, bool)
                )
            case "enum":
                good = value in stated
            case "const":
                good = value == stated and type(value) is type(stated)
            case "anyOf":
                good = any(valid(value, one) for one in stated)
            case "pattern":
                good = not isinstance(value, str) or re.search(stated, value) is not None
            case "minimum":
                good = value >= stated
            case "maximum":
                good = value <= stated
            case "minLength" | "minItems":
                good = len(value) >= stated
            case "items":
                good = all(valid(item, stated) for item in value)
            case "propertyNames":
                good = all(valid(name, stated) for name in value)
            case "properties":
                good = all(valid(entry, stated[name]) for name, entry in value.items() if name in stated)
            case "additionalProperties":
                others = [entry for name, entry in value.items() if name not in rule.get("properties", {})]
                good = not others if stated is False else all(valid(entry, stated) for entry in others)
            case _:
                raise AssertionError(f"the schema uses {word}")
        if not good:
            return False
    return True


def test_a_good_file_is_valid() -> None:
    assert valid(tomllib.loads(dedent(SHOP)), SCHEMA)


@pytest.mark.parametrize(
    "text",
    [
        "[sit]",
        "[service.a]\ncommand = 3",
        "[service.a]\nprocesses = -1",
        "[service.a]\nprocesses = true",
        "[service.a]\nrestart = { when = 'sometimes' }",
        "[service.a]\nready = {}",
        "[service.'a b']",
        "[service.a.stop]\nsignal = 3",
        "[service.a]\nenv = { A = 1 }",
        "[control]\nconsole = true",
        "[defaults.service]\ncommand = 'a'",
        "[site]\nstore = 'mysql://x'",
        "include = 'x'",
    ],
)
def test_what_the_check_refuses_an_editor_marks(desk: Desk, text: str) -> None:
    assert not valid(tomllib.loads(text), SCHEMA)
    assert desk.problems(text)


def test_a_substitution_may_stand_for_any_value() -> None:
    assert valid(tomllib.loads("[service.a]\nprocesses = '${N}'\nautostart = '${A:-true}'"), SCHEMA)


def test_every_key_of_the_table_is_described() -> None:
    def walk(record: type[Any], described: dict[str, Any]) -> int:
        count = 0
        for name, key in keys_of(record).items():
            found = described["properties"][name]
            assert found["description"] == key.doc
            count += 1
            match key.shape:
                case Section(record=below):
                    if name != "service":
                        count += walk(below, found)
                case Named(record=below):
                    count += walk(below, found["additionalProperties"])
                case _:
                    pass
        return count

    assert walk(Document, SCHEMA) > 50
