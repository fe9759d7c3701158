"""What arguments may be."""

from __future__ import annotations

import json
import math
import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coserver.model.payload import MAX_DEPTH, refuse_args, refuse_value, refuse_written

scalars = st.none() | st.booleans() | st.floats() | st.integers() | st.text(st.characters())
values = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()), inner)
)


def fine(value: object) -> bool:
    """The rule once more, as slowly and plainly as can be."""
    match value:
        case bool() | None:
            return True
        case float():
            return math.isfinite(value)
        case int():
            return -(2**63) <= value < 2**63
        case str():
            return "\0" not in value and not any("\ud800" <= c <= "\udfff" for c in value)
        case list():
            return all(map(fine, value))
        case dict():
            return all(map(fine, value)) and all(map(fine, value.values()))
        case _:
            return False


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{}",
        '["daily"]',
        '{"size":200}',
        '{"*":["a.png"],"size":9}',
        " [ 1 , 2.5e3 , -0 , null , true ] \n",
        f"[{2**63 - 1},{-(2**63)}]",
        '["12345678901234567890123"]',
        '["\\\\u0000 is written here, not NUL"]',
        '["\\ud83d\\ude00"]',
        '["😀 é ß"]',
        '["\x7f"]',
        "[1e308,1e-400]",
        "[" * MAX_DEPTH + "]" * MAX_DEPTH,
        '["' + "[{" * 500 + '"]',
    ],
)
def test_ordinary_json_is_accepted(text: str) -> None:
    assert refuse_args(text) is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[NaN]", "NaN"),
        ("[-Infinity]", "infinite"),
        ("[1e400]", "infinite"),
        ('["\\ud800"]', "surrogate"),
        ('["\\udc00 x"]', "surrogate"),
        ('{"\\ud800":1}', "surrogate"),
        ('["\ud800"]', "surrogate"),
        ('["a\\u0000b"]', "NUL"),
        ('{"a\\u0000b":[]}', "NUL"),
        ('["a\x00b"]', "not JSON"),
        (f"[{2**63}]", "beyond 64 bits"),
        (f"[{-(2**63) - 1}]", "beyond 64 bits"),
        (f"[{2**70}]", "1180591620717411303424"),
        ("[" + "9" * 4000 + "]", "a number of 13288 bits"),
        ("[" + "9" * 5000 + "]", "not JSON"),
        ("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "deeper than 100"),
        ('{"a":' * (MAX_DEPTH + 1) + "1" + "}" * (MAX_DEPTH + 1), "deeper than 100"),
        ("[" * 100_000, "deeper than 100"),
        ("", "not JSON"),
        ("daily", "not JSON"),
        ("[1,]", "not JSON"),
        ("['a']", "not JSON"),
        ("[1] [2]", "not JSON"),
        ("\ufeff[]", "not JSON"),
        ('"daily"', "array of positional"),
        ("null", "array of positional"),
        ("17", "array of positional"),
        ('{"*":1}', "key `\\*`"),
        ('{"*":{}}', "key `\\*`"),
    ],
)
def test_what_some_could_not_read_is_refused_with_its_reason(text: str, why: str) -> None:
    reason = refuse_args(text)
    assert reason is not None
    assert why.replace("\\", "") in reason


def test_the_cap_counts_bytes_of_utf8() -> None:
    assert refuse_args('["' + "é" * 48 + '"]', cap=100) is None
    assert refuse_args('["' + "é" * 49 + '"]', cap=100) == "they take more than 100 bytes"
    assert refuse_args('["' + "a" * 97 + '"]', cap=100) == "they take more than 100 bytes"
    assert refuse_args('["' + "a" * (8 * 1024 * 1024) + '"]') == "they take more than 8 MiB"


def test_a_result_may_be_any_value() -> None:
    assert refuse_value("17") is None
    assert refuse_value('"text"') is None
    assert refuse_value("[NaN]") is not None


@given(values)
def test_exactly_the_values_that_everybody_can_carry_are_accepted(value: object) -> None:
    """N16: one rule for both databases, compared with the same rule written plainly."""
    for ascii_only in (True, False):
        text = json.dumps([value], ensure_ascii=ascii_only)
        assert (refuse_args(text) is None) == fine(value), text


@given(values)
def test_what_our_encoder_wrote_is_judged_alike_without_being_read(value: object) -> None:
    try:
        text = msgspec.json.encode([value]).decode()
    except UnicodeEncodeError:
        return  # a lone surrogate, which is never written
    assert refuse_written(text) == refuse_args(text)
    assert refuse_written(text, cap=len(text) - 1) == refuse_args(text, cap=len(text) - 1)


@pytest.mark.parametrize("value", [2**63, "a\0b", "x" * (8 * 1024 * 1024)])
def test_what_our_encoder_wrote_is_refused_for_the_same_reasons(value: object) -> None:
    text = msgspec.json.encode([value]).decode()
    assert refuse_written(text) == refuse_args(text) is not None


@given(st.text())
def test_no_text_makes_it_fail(text: str) -> None:
    refuse_args(text)
    refuse_value(f"[{text}]")


def test_short_arguments_cost_a_few_microseconds() -> None:
    began = time.process_time()
    for _ in range(10_000):
        refuse_args('{"path":"/usr/lib/python3/heapq.py","size":200}')
    assert time.process_time() - began < 1.0
