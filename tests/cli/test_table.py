"""Tables: what is dropped and cut for want of width, colours, spans and sizes, and nothing that a terminal obeys."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coserver.cli.table import Column, colourful, duration, inert, paint, size, table

COLUMNS = (
    Column("NAME"),
    Column("PID", right=True, spare=2),
    Column("AGE", right=True, spare=1),
    Column("NOTE"),
)
ROWS = (("web/1", "12", "3 d", "all is well"), ("mail/1", "4711", "4 s", "so far"))


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_columns_are_as_wide_as_their_widest_cell_and_numbers_lean_right() -> None:
    assert table(COLUMNS, ROWS, width=None) == [
        "NAME     PID  AGE  NOTE",
        "web/1     12  3 d  all is well",
        "mail/1  4711  4 s  so far",
    ]


def test_a_narrow_table_drops_the_most_dispensable_column_and_says_so() -> None:
    assert table(COLUMNS, ROWS, width=25) == [
        "NAME    AGE  NOTE",
        "web/1   3 d  all is well",
        "mail/1  4 s  so far",
        "(not shown for want of width: pid)",
    ]


def test_a_very_narrow_table_is_cut_with_a_mark() -> None:
    assert table(COLUMNS, ROWS, width=12) == [
        "NAME    NOTE",
        "web/1   all…",
        "mail/1  so …",
        "(not shown for want of width: pid, age)",
    ]


def test_a_table_without_rows_has_its_headings() -> None:
    assert table(COLUMNS, [], width=80) == ["NAME  PID  AGE  NOTE"]


def test_a_state_is_coloured_and_still_a_word() -> None:
    lines = table((Column("NAME"), Column("STATE")), [("a", "fatal"), ("b", "odd")], width=None, colour=True)
    assert lines == ["\x1b[1mNAME  STATE\x1b[0m", "a     \x1b[31mfatal\x1b[0m", "b     odd"]


def test_colour_is_for_terminals_unless_the_environment_says_otherwise() -> None:
    assert colourful(Screen(), {})
    assert not colourful(io.StringIO(), {})
    assert not colourful(Screen(), {"TERM": "dumb"})
    assert not colourful(Screen(), {"NO_COLOR": "1", "FORCE_COLOR": "1"})
    assert colourful(Screen(), {"NO_COLOR": ""})
    assert colourful(io.StringIO(), {"FORCE_COLOR": "1"})
    assert paint("a", "red", False) == "a"
    assert paint("a", None, True) == "a"


def test_a_terminal_gets_the_sequences_of_a_cell_shown_and_a_file_gets_them_as_they_are() -> None:
    evil = "\x1b]0;owned\x07\x1b[2Jshop:ok\nfake  row\ttab\u202e\x9b"
    _, row = table((Column("TASK"),), [(evil,)], width=200)
    assert row == r"\x1b]0;owned\x07\x1b[2Jshop:ok\x0afake  row tab\u202e\x9b"
    assert table((Column("TASK"),), [(evil,)], width=None)[1] == evil


def test_what_is_not_text_can_be_shown() -> None:
    assert inert("a\udc80\x00") == r"a\udc80\x00"


@given(st.text())
def test_nothing_inert_steers_a_terminal(text: str) -> None:
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in inert(text).replace("\t", ""))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0, "0 s"),
        (59.9, "59 s"),
        (60, "1:00 min"),
        (187, "3:07 min"),
        (3600, "1:00 h"),
        (19_234, "5:20 h"),
        (86_399, "23:59 h"),
        (86_400, "1 d"),
        (300_000, "3 d"),
    ],
)
def test_time_spans_are_said_as_people_say_them(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KB"),
        (655_360, "640 KB"),
        (1_023_990, "1000 KB"),
        (1_048_576, "1.0 MB"),
        (12_900_000, "12.3 MB"),
        (1 << 40, "1024 GB"),
    ],
)
def test_sizes_are_said_as_people_say_them(number: int, text: str) -> None:
    assert size(number) == text


def test_a_last_column_that_needs_little_is_cut_before_others_are_dropped() -> None:
    columns = [Column("ID"), Column("AGE", spare=1), Column("SAYS", least=6)]
    rows = [["1", "3 s", "a long story"]]
    assert table(columns, rows, width=15) == ["ID  AGE  SAYS", "1   3 s  a lon…"]
    assert table(columns, rows, width=14)[1] == "1   a long st…"
