"""Environment files."""

from __future__ import annotations

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
EMPTY=
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
        "EMPTY": "",
        "SINGLE": 'as $it "is" \\n',
        "DOUBLE": 'two\nlines "quoted" $5',
    }


def test_lines_that_are_none_are_told_by_number() -> None:
    assert parse("A=1\nwhat\n2B=1\nC='open\nD=\"open\nE='x' y\n") == ({"A": "1"}, [2, 3, 4, 5, 6])


@given(st.text(st.characters(exclude_characters="'\0", exclude_categories=("Cs", "Cc", "Zl", "Zp"))))
def test_a_single_quoted_value_is_taken_as_it_is(value: str) -> None:
    assert parse(f"A='{value}'") == ({"A": value}, [])
