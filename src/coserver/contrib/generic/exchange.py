"""One HTTP exchange within limits: of time, of size, of redirects.

Theory. Somebody else's server may be down, slow, endless or hostile, and a job must end all the same. The time limit
spans everything, from looking up the name to the last byte, so a server that drips its answer gains nothing. The answer
is read up to a size and never decompressed, so a small answer cannot become a big one. Certificates are verified, by
the machine's own list (`SSL_CERT_FILE` names another one).

*Redirects* are followed for GET and HEAD, which may be repeated; of any other method a redirect is an answer like
others. The caller's headers go to the server that the caller named and to no other, and never from TLS to plain text.

*Errors* say whether another attempt can help: `HttpUnavailable` (nobody answers, or a status that speaks of a bad
moment), `HttpBusy` (the same, and the server said when to come again), `HttpRefused` (the answer would be the same).
What is said of an unexpected answer includes its beginning. No message holds a header that was sent, a password or a
query.
"""

from __future__ import annotations

import asyncio
import functools
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

import httpx2

from coserver.model import units
from coserver.tasks.retry import RetryLater

MAX_REDIRECTS = 5
HEAD_KEPT = 2000
"""Bytes of an unexpected answer's body that its error shows."""
LONGEST_WAIT = 3600.0
"""Seconds; a server that asks for a longer pause is asked again after this one."""

_REPEATABLE = frozenset({"GET", "HEAD"})
_MOMENTARY = frozenset({408, 425, 429})


class HttpRefused(Exception):
    """The request or its answer is not acceptable, and would not be the next time either."""


class HttpUnavailable(Exception):
    """The server could not be reached, did not answer in time, or said that it cannot just now."""


class HttpBusy(RetryLater, HttpUnavailable):
    """As `HttpUnavailable`; the server said in how many seconds to come again (`delay`)."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered. `headers` by lower-case name; several of one name are joined by a comma."""

    status: int
    headers: dict[str, str]
    body: bytes
    charset: str | None


async def exchange(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str],
    content: bytes | None,
    timeout: float,
    expected: Callable[[int], bool],
    wanted: str,
    limit: int,
) -> Answer:
    """Send a request and return the whole answer.

    `timeout`: seconds for everything. `expected` says which statuses are answers, `wanted` says so in words. `limit`:
    bytes of the body. Raises `HttpRefused`, `HttpUnavailable` or `HttpBusy`.
    """
    try:
        shown = httpx2.URL(url).copy_with(userinfo=b"", query=None, fragment=None)
    except (httpx2.InvalidURL, ValueError, TypeError) as error:
        raise HttpRefused(f"cannot {method}: the URL is not usable ({error}); correct it") from None
    doing = f"cannot {method} {shown}"
    if shown.scheme not in ("http", "https") or not shown.host:
        raise HttpRefused(f"{doing}: the URL does not begin with http:// or https:// and a host; correct it")
    try:
        async with asyncio.timeout(timeout):
            # A client for one exchange: nothing is shared between jobs, neither cookies nor connections.
            async with httpx2.AsyncClient(verify=_trust(), timeout=None) as client:
                try:
                    request = client.build_request(method, url, headers=_sent(headers), content=content)
                except (ValueError, TypeError) as error:
                    raise HttpRefused(f"{doing}: a header cannot be sent ({error}); correct it") from None
                return await _converse(client, request, doing, expected, wanted, limit)
    except TimeoutError:
        raise HttpUnavailable(
            f"{doing}: no complete answer within {units.format_seconds(timeout)}; allow more by timeout="
        ) from None
    except (httpx2.UnsupportedProtocol, httpx2.LocalProtocolError, httpx2.InvalidURL) as error:
        raise HttpRefused(f"{doing}: {_said(error)}; correct the request") from None
    except httpx2.TransportError as error:
        if _distrusts(error):
            raise HttpRefused(
                f"{doing}: its certificate is not trusted here ({_said(error)}); mend it, or name its authority "
                "by SSL_CERT_FILE"
            ) from None
        raise HttpUnavailable(
            f"{doing}: {_said(error)}; see that the server runs and can be reached"
        ) from None


async def _converse(
    client: httpx2.AsyncClient,
    request: httpx2.Request,
    doing: str,
    expected: Callable[[int], bool],
    wanted: str,
    limit: int,
) -> Answer:
    for _ in range(MAX_REDIRECTS + 1):
        response = await client.send(request, stream=True)
        try:
            if expected(response.status_code):
                return await _read(response, doing, limit)
            if response.next_request is None or request.method not in _REPEATABLE:
                raise await _unexpected(response, doing, wanted)
            request = _next(client, request, response.next_request, doing)
        finally:
            await response.aclose()
    raise HttpRefused(
        f"{doing}: it redirects more than {MAX_REDIRECTS} times, at last to {_bare(request.url)}; name the last one"
    )


def _next(
    client: httpx2.AsyncClient, request: httpx2.Request, following: httpx2.Request, doing: str
) -> httpx2.Request:
    before, after = request.url, following.url
    if (before.scheme, before.host, before.port) == (after.scheme, after.host, after.port):
        return following
    if after.scheme not in ("http", "https") or (before.scheme, after.scheme) == ("https", "http"):
        raise HttpRefused(f"{doing}: it redirects to {_bare(after)}, which is not protected; name that URL")
    return client.build_request(request.method, after, headers=_sent({}))


async def _read(response: httpx2.Response, doing: str, limit: int) -> Answer:
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > limit:
            raise HttpRefused(
                f"{doing}: the answer is longer than {units.format_size(limit)}; allow more by max_response="
            )
    return Answer(response.status_code, dict(response.headers), bytes(body), response.charset_encoding)


async def _unexpected(response: httpx2.Response, doing: str, wanted: str) -> Exception:
    head = bytearray()
    async for chunk in response.aiter_raw():
        head += chunk
        if len(head) > HEAD_KEPT:
            break
    status = response.status_code
    said = f"{doing}: it answers {status} {response.reason_phrase}".rstrip() + f", expected {wanted}"
    try:
        if location := response.headers.get("location"):
            said += f"; it redirects to {_bare(httpx2.URL(location))}"
    except httpx2.InvalidURL:
        pass  # whatever it is, the status says enough
    text = bytes(head[:HEAD_KEPT]).decode(errors="replace").strip()
    if text:
        said += f"; its answer begins:\n{text}"
    if status < 500 and status not in _MOMENTARY:
        return HttpRefused(said)
    wait = retry_after(response.headers.get("retry-after"), now=time.time())
    return HttpUnavailable(said) if wait is None else HttpBusy(wait, said)


def retry_after(value: str | None, *, now: float) -> float | None:
    """Return the seconds that a `Retry-After` header asks for, at most `LONGEST_WAIT`; None when it asks for none.

    It holds seconds or a date; `now` is in seconds since 1970.
    """
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        asked = float(text)
    else:
        try:
            asked = parsedate_to_datetime(text).timestamp() - now
        except (ValueError, OverflowError):
            return None
    return min(max(asked, 0.0), LONGEST_WAIT)


def _sent(headers: Mapping[str, str]) -> dict[str, str]:
    own = {"accept-encoding": "identity", "user-agent": "coserver"}
    return own | {name.lower(): value for name, value in headers.items()}


def _bare(url: httpx2.URL) -> httpx2.URL:
    return url.copy_with(userinfo=b"", query=None, fragment=None)


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__


def _distrusts(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False


@functools.cache
def _trust() -> ssl.SSLContext:
    """The machine's authorities, read once: it takes longer than a request."""
    return httpx2.create_ssl_context()
