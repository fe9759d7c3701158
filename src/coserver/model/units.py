"""How people write quantities: durations, sizes, ranges and rates; reading and writing them back.

Theory. One convention holds everywhere outside the store: a duration is a `float` of seconds, a size an `int` of
bytes. Text is only a notation for them, and each notation has a canonical form that reads back to the same value:

    duration  "100ms"  "2m"  "1h30m"  "1d"     one or more numbers with units, largest unit first
    size      "20K"  "250M"  "1G"              K, M, G and T count by 1024: M is MiB
    range     "100ms..60s"  "0s..0s"           two durations, the smaller first
    rate      "5 in 1m"                        a count within a duration

A number without a unit means seconds where a duration is asked for and bytes where a size is, but only as a number:
the *text* "10" names no unit and is refused, because its author may have thought of minutes. Durations are whole
microseconds, which is what the store keeps and what a double holds exactly over centuries.

Every function raises `ValueError` whose message names the text, the cause and a form that works.
"""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal, InvalidOperation

Duration = str | int | float | timedelta
"""What callers may give where a duration is asked for."""

LONGEST = 100 * 365 * 86_400
"""Seconds; a duration beyond a hundred years is a slip of the keyboard."""

_LONGEST_TEXT = 80
"""Characters; no duration needs more."""
_SECOND = 1_000_000
_UNITS = {
    "w": 7 * 86_400 * _SECOND,
    "d": 86_400 * _SECOND,
    "h": 3_600 * _SECOND,
    "m": 60 * _SECOND,
    "s": _SECOND,
    "ms": 1_000,
    "us": 1,
}
_WRITTEN = ("d", "h", "m", "s", "ms", "us")
_PART = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-zµμ]+)", re.ASCII)
_SIZES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SIZE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*", re.ASCII)


def seconds(value: Duration) -> float:
    """Return a duration in seconds, exact to the microsecond; it is never negative."""
    return microseconds(value) / _SECOND


def microseconds(value: Duration) -> int:
    """Return a duration in whole microseconds, rounded to the nearest."""
    if isinstance(value, timedelta):
        found = value // timedelta(microseconds=1)
    elif isinstance(value, str):
        found = _parse_duration(value)
    elif isinstance(value, bool):
        raise ValueError(
            f'cannot read {value!r} as a duration; write a number of seconds or text such as "30s"'
        )
    else:
        try:
            found = int((Decimal(value) * _SECOND).to_integral_value())
        except (InvalidOperation, OverflowError, ValueError):
            raise ValueError(f"cannot read {value!r} as a duration: it is not a finite number") from None
    if found < 0:
        raise ValueError(f"cannot use {_quoted(value)} as a duration: it is negative")
    if found > LONGEST * _SECOND:
        raise ValueError(f"cannot use {_quoted(value)} as a duration: it is longer than a hundred years")
    return found


def format_seconds(value: float) -> str:
    """Write seconds canonically: `90.0` is "1m30s", `0.1` is "100ms", `0` is "0s"."""
    left = microseconds(value)
    parts = []
    for unit in _WRITTEN:
        count, left = divmod(left, _UNITS[unit])
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def size(value: str | int) -> int:
    """Return a size in bytes; it is never negative."""
    if isinstance(value, int) and not isinstance(value, bool):
        if value < 0:
            raise ValueError(f"cannot use {value} as a size: it is negative")
        return value
    found = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f'cannot read {_quoted(value)} as a size; write a number and K, M, G or T: "250M"')
    number, unit = found.groups()
    letter = unit.upper().removesuffix("IB") if len(unit) == 3 else unit.upper()
    if letter == "B":
        letter = ""
    if letter not in _SIZES:
        mend = f'"{number}{letter[0]}"' if letter[0] in _SIZES else '"250M"'
        raise ValueError(
            f'cannot read "{value}" as a size: unknown unit "{unit}"; write {mend} (M is MiB: 1024 × 1024 bytes)'
        )
    amount = Decimal(number) * _SIZES[letter]
    if amount != amount.to_integral_value():
        raise ValueError(f'cannot read "{value}" as a size: it is no whole number of bytes')
    if amount >= 1 << 63:
        raise ValueError(f'cannot use "{value}" as a size: it is beyond 64 bits')
    return int(amount)


def format_size(value: int) -> str:
    """Write bytes with the largest unit that divides them: `20 << 20` is "20M", `1000` is "1000"."""
    for unit in ("T", "G", "M", "K"):
        if value and value % _SIZES[unit] == 0:
            return f"{value // _SIZES[unit]}{unit}"
    return str(value)


def seconds_range(value: str) -> tuple[float, float]:
    """Return the two ends of a range of durations in seconds, the smaller first."""
    first, dots, last = value.partition("..")
    if not dots:
        raise ValueError(f'cannot read "{value}" as a range; write two durations: "100ms..60s"')
    low, high = seconds(first.strip()), seconds(last.strip())
    if low > high:
        raise ValueError(
            f'cannot use "{value}" as a range: it falls; write "{format_seconds(high)}..{format_seconds(low)}"'
        )
    return low, high


def format_range(value: tuple[float, float]) -> str:
    """Write a range of durations: `(0.1, 60.0)` is "100ms..1m"."""
    return f"{format_seconds(value[0])}..{format_seconds(value[1])}"


def rate(value: str) -> tuple[int, float]:
    """Return a rate as (count, seconds); both are above zero."""
    found = re.fullmatch(r"\s*([0-9]+)\s+in\s+(\S.*)", value, re.ASCII)
    if found is None:
        raise ValueError(f'cannot read "{value}" as a rate; write a count and a duration: "5 in 1m"')
    count, window = int(found[1]), seconds(found[2].strip())
    if not count or not window:
        raise ValueError(f'cannot use "{value}" as a rate: both numbers must be above zero')
    return count, window


def format_rate(value: tuple[int, float]) -> str:
    """Write a rate: `(5, 60.0)` is "5 in 1m"."""
    return f"{value[0]} in {format_seconds(value[1])}"


def _parse_duration(text: str) -> int:
    if len(text) > _LONGEST_TEXT:
        raise ValueError(_unreadable(f"{text[:_LONGEST_TEXT]}…"))
    total, at, smallest = Decimal(0), 0, None
    stripped = text.rstrip()
    while at < len(stripped):
        part = _PART.match(stripped, at)
        if part is None:
            raise ValueError(_unreadable(text))
        unit = part[2].replace("µ", "u").replace("μ", "u")
        if unit not in _UNITS:
            known = "w, d, h, m, s, ms or us"
            raise ValueError(f'cannot read "{text}" as a duration: unknown unit "{part[2]}"; use {known}')
        if smallest is not None and _UNITS[unit] >= smallest:
            raise ValueError(f'cannot read "{text}" as a duration: units must fall, as in "1h30m"')
        smallest = _UNITS[unit]
        total += Decimal(part[1]) * smallest
        at = part.end()
    if smallest is None:
        raise ValueError(_unreadable(text))
    return int(total.to_integral_value())


def _unreadable(text: str) -> str:
    if re.fullmatch(r"\s*[0-9]+(\.[0-9]+)?\s*", text, re.ASCII):
        return f'cannot read "{text}" as a duration: it has no unit; write "{text.strip()}s" for seconds'
    return (
        f'cannot read "{text}" as a duration; write a number and a unit: "100ms", "30s", "2m", "1h30m", "1d"'
    )


def _quoted(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)
