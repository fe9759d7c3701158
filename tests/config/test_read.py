"""TOML text to trees, and what is said of text that is no TOML."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings

from coserver.config.origin import ConfigError, Origin
from coserver.config.read import parse, parse_value
from coserver.config.tree import Leaf, leaves, plain
from tests.config.sites import Desk
from tests.config.test_positions import document

HERE = Origin("file", "coserver.toml", Path("/site"))


@settings(max_examples=50)
@given(document())
def test_a_tree_means_what_tomllib_reads_and_every_value_knows_its_line(text: str) -> None:
    tree = parse(text, HERE)
    assert plain(tree) == tomllib.loads(text)
    assert all(leaf.origin.line > 0 for _, leaf in leaves(tree))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[site\n", "coserver.toml:1: cannot read TOML: "),
        ("a = 1\na = 2\n", "coserver.toml:2: cannot read TOML: cannot overwrite a value"),
        ("[a]\n[b]\n[a]\n", "coserver.toml:3: cannot read TOML: cannot declare"),
        ("\n\nname = shop\n", 'coserver.toml:3: cannot read TOML: invalid value; text stands in quotes: "…"'),
        ("on = True\n", "coserver.toml:1: cannot read TOML: invalid value; write true"),
        ("on = no\n", "coserver.toml:1: cannot read TOML: invalid value; write false"),
        (
            "cmd = 'x\n",
            "coserver.toml:1: cannot read TOML: expected \"'\"; what line 1 opens with ' is never closed",
        ),
        (
            "a = 1\nb = [1,\n2\n",
            "coserver.toml:3: cannot read TOML: unclosed array; what line 2 opens with [",
        ),
    ],
)
def test_a_syntax_error_has_its_line_and_a_hint(text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse(text, HERE)
    assert str(refused.value).startswith(problem)


def test_a_line_break_within_braces_is_explained() -> None:
    with pytest.raises(ConfigError) as refused:
        parse('[service.redis]\nrestart = {\n  when = "always",\n}\n', HERE)
    assert "the table that line 2 opens with { must close on the same line" in str(refused.value)
    assert "a [table] of its own" in str(refused.value)


def test_a_syntax_error_after_a_sound_table_blames_nothing_else() -> None:
    with pytest.raises(ConfigError) as refused:
        parse("a = { b = 1 }\nc = ]\n", HERE)
    assert "opens with {" not in str(refused.value)


def test_deep_nesting_is_refused_and_not_a_crash() -> None:
    with pytest.raises(ConfigError, match="nested too deeply"):
        parse("a = " + "[" * 100_000, HERE)


def test_a_byte_order_mark_and_windows_line_ends_are_no_matter(desk: Desk) -> None:
    path = desk.directory / "coserver.toml"
    path.write_bytes(b'\xef\xbb\xbf[site]\r\nname = "shop"\r\n')
    site = desk.load(path=path)
    assert site.name == "shop"
    assert site.settings["site.name"].origin.line == 2


def test_a_file_that_is_not_utf_8_is_named_with_the_line(desk: Desk) -> None:
    path = desk.directory / "coserver.toml"
    path.write_bytes(b'[site]\nname = "caf\xe9"\n')
    assert desk.problems(path=path) == [
        "coserver.toml:2: cannot read the file: it is not UTF-8; save it as UTF-8"
    ]


def test_text_is_read_as_one_toml_value_or_none() -> None:
    assert parse_value("3", HERE) == Leaf(3, HERE)
    assert parse_value("[1, 'a']", HERE) is not None
    assert parse_value("plain text", HERE) is None
    assert parse_value("1\nother = 2", HERE) is None
    assert parse_value("[" * 100_000, HERE) is None
