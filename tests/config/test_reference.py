"""The reference page and the table of keys behind it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from coserver.config.keys import UNSET, Key, Named, Section, keys_of, later_of
from coserver.config.origin import Origin
from coserver.config.read import parse_value
from coserver.config.records import Document
from coserver.config.reference import reference_markdown

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "configuration.md"


def all_keys(record: type[Any] = Document) -> list[tuple[type[Any], Key]]:
    found = []
    for key in keys_of(record).values():
        found.append((record, key))
        if isinstance(key.shape, Section | Named) and (record, key.name) != (Document, "defaults"):
            found += all_keys(key.shape.record)
    return found


KEYS = all_keys()
PLAIN = [key for _, key in KEYS if not isinstance(key.shape, Section | Named)]


def test_the_committed_page_is_up_to_date() -> None:
    assert PAGE.read_text() == reference_markdown(), (
        "run python -m coserver.config.reference > docs/reference/configuration.md"
    )


def test_every_key_is_on_the_page() -> None:
    page = reference_markdown()
    for _, key in KEYS:
        assert f"`{key.name}`" in page or f".{key.name}]" in page or f"[{key.name}" in page


def test_no_key_is_both_supported_and_not() -> None:
    for record in {record for record, _ in KEYS}:
        assert not keys_of(record).keys() & later_of(record).keys()


def test_no_two_keys_of_a_table_claim_the_same_foreign_name() -> None:
    for record in {record for record, _ in KEYS}:
        keys = keys_of(record)
        claimed = [name for key in keys.values() for name in key.also]
        assert len(claimed) == len(set(claimed)), record
        assert not set(claimed) & keys.keys(), record


@pytest.mark.parametrize("key", PLAIN, ids=lambda key: key.name)
def test_every_example_and_every_default_reads_back(key: Key, tmp_path: Path) -> None:
    origin = Origin("file", "example", tmp_path)
    example = parse_value(key.example, origin) if key.example else None
    if example is not None and "${" not in key.example:
        key.shape.read(example)
    if key.default is not UNSET and key.default is not None and key.default != ():
        shown = parse_value(_toml(key.shown_default), origin)
        assert shown is not None
        assert key.shape.read(shown) == key.default


def _toml(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case str():
            return f"'{value}'"
        case dict():
            return "{}"
        case _:
            return str(value)


@pytest.mark.parametrize("key", PLAIN, ids=lambda key: key.name)
def test_the_example_in_each_error_message_is_accepted(key: Key, tmp_path: Path) -> None:
    """What an error tells people to write must work when they write it."""
    expected = key.shape.expected
    _, such, example = expected.partition(" such as ")
    if not such:
        return
    for text in example.replace(", or ", " or ").split(" or "):
        first = text if text.startswith(("[", "{")) else text.split(", ")[0]
        node = parse_value(first, Origin("file", "example", tmp_path))
        assert node is not None, first
        key.shape.read(node)
