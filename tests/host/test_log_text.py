from __future__ import annotations

import json
import unicodedata
from datetime import UTC, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coserver.host.log_text import Renderer, Style, colour_of, harmless
from coserver.host.logs import Record

NOON = 1_767_268_800_123_456  # 2026-01-01 12:00:00.123456 UTC
PARIS = timezone(timedelta(hours=1))


def line(data: bytes, process: str = "mail/1", *, begins: bool = True, ends: bool = True) -> Record:
    return Record(NOON, process, "out", data, begins, ends)


def shown(style: Style, *records: Record) -> bytes:
    renderer = Renderer(style, UTC)
    return b"".join([renderer.render(record) for record in records] + [renderer.finish()])


def test_each_line_carries_its_process() -> None:
    assert (
        shown(Style(width=7), line(b"hello"), line(b"there", "redis/1"))
        == b"mail/1  | hello\nredis/1 | there\n"
    )


def test_names_can_be_left_out() -> None:
    assert shown(Style(names=False), line(b"hello")) == b"hello\n"


def test_times_are_local_iso_with_milliseconds() -> None:
    assert (
        Renderer(Style(times=True), PARIS).render(line(b"x")) == b"2026-01-01T13:00:00.123+01:00 mail/1 | x\n"
    )
    assert shown(Style(times=True), Record(None, "mail/1", "out", b"x")) == b"- mail/1 | x\n"


def test_a_process_has_always_the_same_colour() -> None:
    expected = f"\x1b[{colour_of('mail/1')}mmail/1 |\x1b[0m hello\n".encode()
    style = Style(colour=True, terminal=True)
    assert shown(style, line(b"hello")) == expected
    assert len({colour_of(f"web/{number}") for number in range(50)}) > 5


def test_pieces_of_a_line_make_one_line() -> None:
    pieces = [
        line(b"one ", ends=False),
        line(b"two ", begins=False, ends=False),
        line(b"three", begins=False),
    ]
    assert shown(Style(), *pieces) == b"mail/1 | one two three\n"


def test_a_line_that_is_interrupted_by_another_process_goes_on_with_its_name() -> None:
    records = [line(b"name? ", ends=False), line(b"hit", "web/1"), line(b"typed", begins=False)]
    assert shown(Style(), *records) == b"mail/1 | name? \nweb/1 | hit\nmail/1 | typed\n"


def test_an_unfinished_line_is_finished_at_the_end() -> None:
    assert shown(Style(), line(b"name? ", ends=False)) == b"mail/1 | name? \n"


def test_a_file_gets_the_bytes_as_they_were_printed() -> None:
    data = b"\x1b[2J\xff\x00\r"
    assert shown(Style(names=False), line(data)) == data + b"\n"


@pytest.mark.parametrize(
    ("data", "plain", "coloured"),
    [
        (b"caf\xc3\xa9 \xe2\x82\xac\t|", "café €\t|", "café €\t|"),
        (b"\xff\xfe", r"\xff\xfe", r"\xff\xfe"),
        (b"\x1b[31mred\x1b[0m", "red", "\x1b[31mred\x1b[0m\x1b[0m"),
        (b"\x1b[38;2;1;2;3mred", "red", "\x1b[38;2;1;2;3mred\x1b[0m"),
        (b"\x1b[2Jgone", r"\x1b[2Jgone", r"\x1b[2Jgone"),
        (b"\x1b]0;title\x07", r"\x1b]0;title\x07", r"\x1b]0;title\x07"),
        (b"\xc2\x9b2J", r"\x9b2J", r"\x9b2J"),
        (b"10%\r20%\r", r"10%\x0d20%", r"10%\x0d20%"),
        ("\u202egnp.exe".encode(), r"\u202egnp.exe", r"\u202egnp.exe"),
        (b"a\x08b\x00", r"a\x08b\x00", r"a\x08b\x00"),
    ],
)
def test_only_colours_reach_a_terminal(data: bytes, plain: str, coloured: str) -> None:
    assert harmless(data) == plain
    assert harmless(data, colour=True) == coloured


@given(data=st.binary() | st.text().map(str.encode))
def test_no_bytes_whatever_give_a_terminal_a_control_character(data: bytes) -> None:
    text = harmless(data)
    assert not [each for each in text if unicodedata.category(each) == "Cc" and each != "\t"]
    text.encode()


@given(data=st.binary() | st.text().map(str.encode))
def test_json_is_one_harmless_line_for_any_bytes(data: bytes) -> None:
    text = shown(Style(as_json=True), line(data.replace(b"\n", b"")))
    entry = json.loads(text)
    assert entry == {
        "time": "2026-01-01T12:00:00.123+00:00",
        "process": "mail/1",
        "stream": "out",
        "line": data.replace(b"\n", b"").decode("utf-8", "backslashreplace"),
    }
    assert text.count(b"\n") == 1
    assert not [each for each in text.decode() if unicodedata.category(each) == "Cc" and each != "\n"]


def test_json_says_what_is_only_a_part() -> None:
    entry = json.loads(shown(Style(as_json=True), Record(None, "mail/1", "err", b"x", ends=False)))
    assert entry == {"time": None, "process": "mail/1", "stream": "err", "line": "x", "partial": True}
