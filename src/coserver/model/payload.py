"""What a job's arguments may be: one rule for every producer, every router and both databases.

Arguments are JSON text: an array of positional arguments, an object of keyword arguments, or, for both, an object whose
key `*` holds the positional ones as an array. Of JSON (RFC 8259) everything is allowed that each database, each
language and each console can carry unchanged, so these are refused though some parsers take them:

- NaN and infinities, written out or as a number too large for a double;
- integers beyond 64 bits with sign, which others read as rounded floats;
- lone surrogates, which are no characters, and NUL, which PostgreSQL's text cannot hold;
- more than 100 levels of nesting, and texts over a cap in bytes of UTF-8.

Almost all arguments are short and plain. So the text is decoded once in C, and only what a quick scan makes suspicious
(an escaped NUL, a run of 19 digits, more than 100 brackets) is walked value by value. What our own encoder wrote is
JSON for certain, and not even decoded unless it is suspicious.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import msgspec

MAX_BYTES = 8 * 1024 * 1024
MAX_DEPTH = 100
_INT64 = range(-(2**63), 2**63)
_LONG_NUMBER = re.compile(r"[0-9]{19}")

_decode = msgspec.json.Decoder().decode


def refuse_args(text: str, *, cap: int = MAX_BYTES) -> str | None:
    """Return why `text` cannot be a job's arguments, or None when it can. `cap` is in bytes."""
    reason, value = _examine(text, cap)
    if reason is not None:
        return reason
    match value:
        case list():
            return None
        case dict() if isinstance(value.get("*", []), list):
            return None
        case dict():
            return "the key `*` must hold an array of positional arguments"
        case _:
            return "an array of positional or an object of keyword arguments is needed"


def refuse_written(text: str, *, cap: int = MAX_BYTES) -> str | None:
    """The same for an array or object that msgspec has just written, without NaN and with its `*` in order."""
    # A character takes four bytes at most.
    return None if len(text) * 4 <= cap and _harmless(text) else refuse_args(text, cap=cap)


def refuse_value(text: str, *, cap: int = MAX_BYTES) -> str | None:
    """Return why `text` cannot be a value in the store (a result, say), or None when it can."""
    return _examine(text, cap)[0]


def _examine(text: str, cap: int) -> tuple[str | None, Any]:
    if len(text) > cap or (not text.isascii() and _utf8_length(text) > cap):
        return f"they take more than {_human(cap)}", None
    try:
        value = _decode(text)
    except UnicodeEncodeError:
        return "they hold a lone surrogate, which is no character", None
    except RecursionError:
        return f"they nest deeper than {MAX_DEPTH} levels", None
    except msgspec.MsgspecError as error:
        return _explain(text, error), None
    return None if _harmless(text) else _walk(value), value


def _harmless(text: str) -> bool:
    """The quick scan: whether JSON text can hold nothing but what every database carries."""
    size = len(text)
    return (
        "\\u0000" not in text
        and (size < 19 or _LONG_NUMBER.search(text) is None)
        and (size <= MAX_DEPTH or text.count("[") + text.count("{") <= MAX_DEPTH)
    )


def _utf8_length(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _walk(value: Any) -> str | None:
    """Look at every value for what the quick scan cannot exclude. Iterative, so that depth costs no stack."""
    pending: list[Iterator[Any]] = [iter((value,))]
    while pending:
        for item in pending[-1]:
            match item:
                case str():
                    if "\0" in item:
                        return "they hold a NUL character"
                case bool() | float() | None:
                    pass
                case int():
                    if item not in _INT64:
                        return f"they hold {_shorten(item)}, an integer beyond 64 bits; send it as text"
                case dict() | list():
                    if len(pending) > MAX_DEPTH:
                        return f"they nest deeper than {MAX_DEPTH} levels"
                    pending.append(_children(item))
                    break
        else:
            pending.pop()
    return None


def _children(item: dict[str, Any] | list[Any]) -> Iterator[Any]:
    if isinstance(item, list):
        return iter(item)
    return iter([*item.keys(), *item.values()])


def _shorten(number: int) -> str:
    bits = number.bit_length()
    return str(number) if bits <= 128 else f"a number of {bits} bits"


def _human(size: int) -> str:
    return f"{size / 1024 / 1024:g} MiB" if size >= 1024 * 1024 else f"{size} bytes"


def _explain(text: str, error: Exception) -> str:
    """Say what is wrong in the user's words; only texts that were refused come here, so time does not matter."""
    try:
        value = json.loads(text)
    except RecursionError:
        return f"they nest deeper than {MAX_DEPTH} levels"
    except ValueError as cause:
        return f"they are not JSON: {cause}"
    shown = json.dumps(value, ensure_ascii=False)
    if re.search("[\ud800-\udfff]", shown):
        return "they hold a lone surrogate, which is no character"
    if re.search(r"(?<![\w\"])-?(NaN|Infinity)", shown):
        return "they hold NaN or an infinite number, which JSON does not know"
    return f"they are not JSON: {error}"
