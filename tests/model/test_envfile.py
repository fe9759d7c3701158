"""Environment files."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coserver.model.envfile import parse


def test_the_common_forms_are_read() -> None:
    text = """
# a comment
PLAIN=value
export EXPORTED = spaced
COMMENTED=value # not this
HASH=a#b
COLOUR=#fff
EMPTY=
NOTHING=   # this is not its value
SINGLE='as $it "is" \\n'
DOUBLE="two\\nlines \\"quoted\\" \\$5"  # comment
PLAIN=later
"""
    found, bad = parse(text)
    assert bad == []
    assert found == {
        "PLAIN": "later",
        "EXPORTED": "spaced",
        "COMMENTED": "value",
        "HASH": "a#b",
        "COLOUR": "#fff",
        "EMPTY": "",
        "NOTHING": "",
        "SINGLE": 'as $it "is" \\n',
        "DOUBLE": 'two\nlines "quoted" $5',
    }


def test_lines_that_are_none_are_told_by_number() -> None:
    assert parse("A=1\nwhat\n2B=1\nC='open\nD=\"open\nE='x' y\n") == ({"A": "1"}, [2, 3, 4, 5, 6])


@pytest.mark.parametrize("mark", ["\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029", "\r"])
def test_only_a_line_feed_ends_a_line(mark: str) -> None:
    text = f"PLAIN=a{mark}b\nSINGLE='a{mark}b'\nDOUBLE=\"a{mark}b\"\nLAST={mark}a\n"
    value = f"a{mark}b"
    assert parse(text) == ({"PLAIN": value, "SINGLE": value, "DOUBLE": value, "LAST": f"{mark}a"}, [])


def test_lines_may_end_as_windows_writes_them() -> None:
    assert parse("A=1\r\nB='2'\r\n\r\nC=\"3\" # three\r\nwhat\r\n") == ({"A": "1", "B": "2", "C": "3"}, [5])


@given(st.text(st.characters(exclude_characters="'\0\n", exclude_categories=("Cs",))))
def test_a_single_quoted_value_is_taken_as_it_is(value: str) -> None:
    assert parse(f"A='{value}'") == ({"A": value}, [])
