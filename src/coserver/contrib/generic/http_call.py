"""`http-call`: send a request to a web service; the result is its answer."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import msgspec

from coserver.contrib.generic import checks
from coserver.contrib.generic.exchange import Answer, HttpRefused, exchange
from coserver.errors import InvalidArguments
from coserver.model import payload
from coserver.tasks.declaration import task
from coserver.tasks.retry import Retry

EXPECTED = ("200..299",)

_RANGE = re.compile(r"([1-5][0-9][0-9])\.\.([1-5][0-9][0-9])")
_METHOD = re.compile(r"[A-Za-z]+")


@task(name="http-call", retries=Retry(0, never=(HttpRefused, InvalidArguments)))
async def http_call(
    url: str,
    method: str = "POST",
    json: Any = None,
    data: str | dict[str, str] | None = None,
    headers: dict[str, str] | None = None,
    timeout: str | float = "30s",
    expect: list[int | str] | None = None,
    max_response: str | int = "1M",
) -> dict[str, Any]:
    """Send an HTTP request and return `{"status", "headers"}` with `json`, `body` (text) or `base64` (other bytes).

    `json` is sent as JSON, `data` as text or, an object, as a form. `timeout` spans the whole exchange. `expect`:
    statuses and ranges that are a success, by default ["200..299"]. `max_response`: bytes of the answer's body. Raises
    `HttpRefused`, which no retry mends, `HttpUnavailable`, or `HttpBusy`, which waits as the server asked.
    """
    if not _METHOD.fullmatch(method):
        raise InvalidArguments(f'cannot use method = {method!r}: it is no HTTP method; write "POST"')
    content, kind = _content(json, data)
    stated = {name.lower(): value for name, value in (headers or {}).items()}
    if kind is not None:
        stated.setdefault("content-type", kind)
    ranges: list[int | str] = list(EXPECTED) if expect is None else expect
    answer = await exchange(
        method.upper(),
        url,
        headers=stated,
        content=content,
        timeout=checks.seconds("http-call", timeout),
        expected=_expected(ranges),
        wanted=" or ".join(map(str, ranges)),
        limit=checks.size("http-call", "max_response", max_response),
    )
    return {"status": answer.status, "headers": answer.headers} | _shown(answer)


def _content(json: Any, data: str | dict[str, str] | None) -> tuple[bytes | None, str | None]:
    """Return the body of a request and its type."""
    match data:
        case None if json is None:
            return None, None
        case None:
            return msgspec.json.encode(json), "application/json"
        case _ if json is not None:
            raise InvalidArguments("cannot send both json= and data=: a request has one body; leave one out")
        case str():
            return data.encode(), "text/plain; charset=utf-8"
        case dict():
            return urlencode(data).encode(), "application/x-www-form-urlencoded"


def _expected(stated: list[int | str]) -> Callable[[int], bool]:
    """Return whether a status is a success. Raises `InvalidArguments`."""
    ranges = []
    for one in stated:
        found = _RANGE.fullmatch(f"{one}..{one}" if isinstance(one, int) else one)
        if found is None:
            raise InvalidArguments(
                f'cannot use expect = [{one!r}]: write a status, 204, or a range, "200..299"'
            )
        ranges.append(range(int(found[1]), int(found[2]) + 1))
    return lambda status: any(status in span for span in ranges)


def _shown(answer: Answer) -> dict[str, Any]:
    """Return the body as what it is: data, text, or bytes."""
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    plain = answer.headers.get("content-encoding", "identity").lower() == "identity"
    try:
        text = answer.body.decode(answer.charset or "utf-8") if plain else None
    except (UnicodeDecodeError, LookupError):
        text = None
    # What no store can keep as text is kept as bytes.
    if text is None or payload.refuse_value(msgspec.json.encode(text).decode()) is not None:
        return {"base64": base64.b64encode(answer.body).decode()}
    if (kind == "application/json" or kind.endswith("+json")) and payload.refuse_value(text) is None:
        return {"json": msgspec.json.decode(text)}
    return {"body": text}
