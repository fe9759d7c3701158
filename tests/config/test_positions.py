"""Places of keys, against tomllib."""

from __future__ import annotations

import re
import tomllib
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from coserver.config.origin import KeyPath
from coserver.config.positions import scan

NAMES = ["a", "b-c", "d_1", "1", "é", "x.y", "=", "#", "[z]", 'quo"te', "tab\t", "", "end"]
_BARE = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


@st.composite
def name(draw: st.DrawFn) -> str:
    """A key's name in one of the ways to write it."""
    plain = draw(st.sampled_from(NAMES))
    escaped = plain.replace("\\", "\\\\").replace('"', '\\"').replace("\t", "\\t")
    ways = [f'"{escaped}"', '"' + "".join(f"\\u{ord(char):04X}" for char in plain) + '"']
    if "'" not in plain and "\t" not in plain:
        ways.append(f"'{plain}'")
    if _BARE.fullmatch(plain):
        ways += [plain] * 3
    return draw(st.sampled_from(ways))


def key() -> st.SearchStrategy[str]:
    return st.lists(name(), min_size=1, max_size=3).flatmap(
        lambda parts: st.sampled_from([".", " . ", "\t."]).map(lambda dot: dot.join(parts))
    )


MARK = "@"
"""Stands where a value's own number goes, so that every value of a document is unlike all others."""

SCALARS = [
    MARK,
    f"'{MARK} # [no] = 1'",
    f'"{MARK} \\" }} ] = \\\\"',
    f'"""{MARK}\n[fake]\nkey = 1 # no\n""x"" \\""" \n"""',
    f"'''{MARK}\n[[fake]]\n'k' = ''\n'''",
    f'"""{MARK}"""""',
    f"'''{MARK}'''''",
    f"{MARK}.5",
]


@st.composite
def value(draw: st.DrawFn, depth: int = 2) -> str:
    kind = draw(st.sampled_from(["scalar", "scalar", "array", "table"] if depth else ["scalar"]))
    if kind == "scalar":
        return draw(st.sampled_from(SCALARS))
    gap = st.sampled_from(["", " ", "\n", "\n  # it's [a] \"comment\n", "\t"])
    if kind == "array":
        items = draw(st.lists(value(depth=depth - 1), max_size=3))
        text = "["
        for place, item in enumerate(items):
            text += (
                draw(gap) + item + draw(gap) + ("," if place < len(items) - 1 or draw(st.booleans()) else "")
            )
        return text + draw(gap) + "]"
    # Strings over several lines may stand in an inline table; line breaks between its entries may not.
    entries = draw(st.lists(st.tuples(key(), value(depth=depth - 1)), max_size=3))
    return "{" + ", ".join(f"{entry} = {stated}" for entry, stated in entries) + "}"


@st.composite
def document(draw: st.DrawFn) -> str:
    """A valid document: statements are added as long as tomllib accepts them."""
    text = ""
    count = 1000
    for _ in range(draw(st.integers(1, 8))):
        kind = draw(st.sampled_from(["assign", "assign", "table", "array", "comment"]))
        match kind:
            case "assign":
                statement = f"{draw(st.sampled_from(['', '  ']))}{draw(key())} = {draw(value())}"
            case "table":
                statement = f"[ {draw(key())} ] # head"
            case "array":
                statement = f"[[{draw(key())}]]"
            case _:
                statement = draw(st.sampled_from(["", "# key = 1", '# """']))
        while MARK in statement:
            statement = statement.replace(MARK, str(count), 1)
            count += 1
        longer = text + statement + "\n"
        try:
            tomllib.loads(longer)
        except tomllib.TOMLDecodeError:
            continue
        text = longer
    return text


def paths(value: Any, path: KeyPath = ()) -> list[tuple[KeyPath, Any]]:
    found = [(path, value)] if path else []
    if isinstance(value, dict):
        for name, entry in value.items():
            found += paths(entry, (*path, name))
    elif isinstance(value, list):
        for place, item in enumerate(value):
            found += paths(item, (*path, place))
    return found


@settings(max_examples=200)
@given(document())
def test_every_path_of_tomllib_is_found_at_the_line_of_its_value(text: str) -> None:
    places = scan(text).found
    expected = paths(tomllib.loads(text))
    assert set(places) == {path for path, _ in expected}
    lines = text.split("\n")
    for path, meant in expected:
        line, column = places[path]
        if isinstance(meant, dict | list):
            assert all(line <= places[below][0] for below in places if below[: len(path)] == path)
            continue
        number = re.search(r"\d{4}", str(meant))
        assert number is not None
        # A key stands on the line where its value begins, and before it.
        assert number[0] in lines[line - 1]
        assert column - 1 <= lines[line - 1].index(number[0])


def test_lines_and_columns_count_from_one() -> None:
    text = "a = 1\n[b]\n  c.d = [1,\n  2]\n[[e]]\nf = 1\n[[e]]\ng = { h = 1 }\n"
    assert scan(text).found == {
        ("a",): (1, 1),
        ("b",): (2, 1),
        ("b", "c"): (3, 3),
        ("b", "c", "d"): (3, 5),
        ("b", "c", "d", 0): (3, 10),
        ("b", "c", "d", 1): (4, 3),
        ("e",): (5, 1),
        ("e", 0): (5, 1),
        ("e", 0, "f"): (6, 1),
        ("e", 1): (7, 1),
        ("e", 1, "g"): (8, 1),
        ("e", 1, "g", "h"): (8, 7),
    }


@given(st.text(alphabet="ab.=[]{}\"'#\n ,1\\", max_size=40))
def test_a_scan_ends_on_any_text(text: str) -> None:
    scan(text)


def test_a_line_break_within_braces_is_noticed() -> None:
    assert scan("a = 1\nb = { c = 1,\n d = 2 }\n").breaks == [2]
    assert scan("b = { c = [1,\n2], d = '''\n''' }\n").breaks == []
