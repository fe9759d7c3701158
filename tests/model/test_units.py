"""Quantities as people write them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coserver.model import units


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("100ms", 0.1),
        ("2m", 120.0),
        ("1d", 86_400.0),
        ("1h30m", 5_400.0),
        ("1h 30m", 5_400.0),
        ("1.5s", 1.5),
        ("250us", 0.000_25),
        ("250µs", 0.000_25),
        ("1w", 604_800.0),
        ("0s", 0.0),
        (" 5s ", 5.0),
        (3, 3.0),
        (0.25, 0.25),
        (0.1, 0.1),
        (timedelta(minutes=2), 120.0),
    ],
)
def test_a_duration_is_read_as_seconds(written: units.Duration, meant: float) -> None:
    assert units.seconds(written) == meant


@pytest.mark.parametrize(
    ("written", "cause"),
    [
        ("10", 'it has no unit; write "10s"'),
        ("", "write a number and a unit"),
        ("s", "write a number and a unit"),
        ("-5s", "write a number and a unit"),
        ("5 minutes", 'unknown unit "minutes"'),
        ("1m1h", "units must fall"),
        ("1m1m", "units must fall"),
        ("5s x", "write a number and a unit"),
        (-1, "negative"),
        (timedelta(seconds=-1), "negative"),
        (float("nan"), "not a finite number"),
        (float("inf"), "not a finite number"),
        (1e300, "longer than a hundred years"),
        ("101w 36500d", "longer than a hundred years"),
        (True, "cannot read True"),
    ],
)
def test_a_bad_duration_is_refused_with_its_cause(written: units.Duration, cause: str) -> None:
    with pytest.raises(ValueError, match="cannot") as refused:
        units.seconds(written)
    assert cause in str(refused.value)


@given(st.integers(0, units.LONGEST * 1_000_000))
def test_a_written_duration_reads_back_to_the_microsecond(microseconds: int) -> None:
    assert units.microseconds(units.format_seconds(microseconds / 1_000_000)) == microseconds


@given(st.floats(0, 1e9))
def test_a_number_of_seconds_keeps_its_microseconds(value: float) -> None:
    assert abs(units.seconds(value) - value) <= 1e-6


def test_durations_are_written_with_the_largest_units_first() -> None:
    assert [units.format_seconds(value) for value in (0, 0.1, 90, 5_400, 86_400, 93_784.005)] == [
        "0s", "100ms", "1m30s", "1h30m", "1d", "1d2h3m4s5ms",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("250M", 250 << 20),
        ("20K", 20 << 10),
        ("1G", 1 << 30),
        ("2T", 2 << 40),
        ("10 MiB", 10 << 20),
        ("1.5k", 1536),
        ("100", 100),
        ("100B", 100),
        (100, 100),
        (0, 0),
    ],
)
def test_m_is_mib_and_a_plain_number_counts_bytes(written: str | int, meant: int) -> None:
    assert units.size(written) == meant


@pytest.mark.parametrize(
    ("written", "cause"),
    [
        ("10MB", 'write "10M"'),
        ("10X", 'unknown unit "X"'),
        ("", "write a number"),
        ("M", "write a number"),
        ("0.3", "no whole number of bytes"),
        (-1, "negative"),
        (True, "write a number"),
        ("9999999999T", "beyond 64 bits"),
    ],
)
def test_a_bad_size_is_refused_with_its_cause(written: str | int, cause: str) -> None:
    with pytest.raises(ValueError, match="cannot") as refused:
        units.size(written)
    assert cause in str(refused.value)


@given(st.integers(0, (1 << 63) - 1))
def test_a_written_size_reads_back(value: int) -> None:
    assert units.size(units.format_size(value)) == value


def test_ranges_and_rates_read_and_write() -> None:
    assert units.seconds_range("100ms..60s") == (0.1, 60.0)
    assert units.seconds_range("0s..0s") == (0.0, 0.0)
    assert units.format_range((0.1, 60.0)) == "100ms..1m"
    assert units.rate("5 in 1m") == (5, 60.0)
    assert units.format_rate((5, 60.0)) == "5 in 1m"


@pytest.mark.parametrize("written", ["60s..100ms", "1s", "1s..", "..1s", "1..2", "1s..2s..3s", ""])
def test_a_bad_range_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match="cannot"):
        units.seconds_range(written)


def test_a_falling_range_is_mended_in_the_message() -> None:
    with pytest.raises(ValueError, match=r'write "100ms\.\.1m"'):
        units.seconds_range("60s..100ms")


@pytest.mark.parametrize(
    "written", ["5", "5 per 1m", "in 1m", "0 in 1m", "5 in 0s", "x in 1m", "5 in 1", "-1 in 1m"]
)
def test_a_bad_rate_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match="cannot"):
        units.rate(written)


@given(st.text(max_size=12))
def test_any_text_is_read_or_refused_with_value_error(text: str) -> None:
    for read in (units.seconds, units.size, units.seconds_range, units.rate):
        try:
            read(text)  # type: ignore[operator]
        except ValueError as error:
            assert str(error).startswith("cannot ")
