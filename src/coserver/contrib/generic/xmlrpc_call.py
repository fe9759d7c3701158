"""`xmlrpc-call`: call a method of an XML-RPC server; the result is what it returns.

Theory. The standard library writes and reads the values; the exchange is ours (see `exchange`), for its limits. An XML
document may define entities that grow without bound, or name files and addresses to be read. No XML-RPC message needs a
document type, so one that has it is refused at its first word, whatever the parser would make of it.
"""

from __future__ import annotations

import xmlrpc.client
from typing import Any
from xml.parsers import expat
from xml.sax.saxutils import escape

from coserver.contrib.generic import checks
from coserver.contrib.generic.exchange import HttpRefused, exchange
from coserver.errors import InvalidArguments
from coserver.model import payload
from coserver.tasks.declaration import task
from coserver.tasks.retry import Retry

MAX_RESPONSE = payload.MAX_BYTES
"""Bytes of an answer: no larger result could be kept."""


class XmlRpcFault(Exception):
    """The method answered with a fault. `code` and `text` are the server's."""

    def __init__(self, method: str, code: int, text: str) -> None:
        super().__init__(f"cannot call {method}: the server answers with fault {code}: {text}")
        self.method = method
        self.code = code
        self.text = text

    def __reduce__(self) -> tuple[type[XmlRpcFault], tuple[str, int, str]]:
        return type(self), (self.method, self.code, self.text)


@task(name="xmlrpc-call", retries=Retry(0, never=(HttpRefused, InvalidArguments)))
async def xmlrpc_call(
    url: str, method: str, args: list[Any] | None = None, timeout: str | float = "30s"
) -> Any:
    """Call an XML-RPC method with positional arguments and return its value.

    `timeout` spans the whole exchange. Raises `XmlRpcFault`; `HttpRefused`, which no retry mends; `HttpUnavailable`.
    """
    try:
        # The standard library writes the name as it stands.
        body = xmlrpc.client.dumps(tuple(args or ()), escape(method), allow_none=True)
    except (OverflowError, TypeError) as error:
        raise InvalidArguments(
            f"cannot call {method}: XML-RPC cannot say one of its arguments ({error}); send text instead"
        ) from None
    answer = await exchange(
        "POST",
        url,
        headers={"content-type": "text/xml"},
        content=body.encode(),
        timeout=checks.seconds("xmlrpc-call", timeout),
        expected=lambda status: status == 200,
        wanted="200",
        limit=MAX_RESPONSE,
    )
    return read(method, answer.body)


def read(method: str, body: bytes) -> Any:
    """Return the value of a response. Raises `XmlRpcFault`, and `HttpRefused` for what is no response."""
    target = xmlrpc.client.Unmarshaller(use_builtin_types=True)
    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = _refuse
    parser.StartElementHandler = target.start
    parser.EndElementHandler = target.end
    parser.CharacterDataHandler = target.data
    target.xml("", None)  # expat has decoded everything
    try:
        parser.Parse(body, True)
        values = target.close()
    except xmlrpc.client.Fault as fault:
        raise XmlRpcFault(method, fault.faultCode, str(fault.faultString)) from None
    except HttpRefused:
        raise
    except Exception as error:  # the unmarshaller takes what comes: IndexError, ValueError, TypeError …
        said = str(error) or type(error).__name__
        raise HttpRefused(
            f"cannot call {method}: the answer is no XML-RPC response ({said}); see that the URL is right"
        ) from None
    if len(values) != 1:
        raise HttpRefused(f"cannot call {method}: the answer holds {len(values)} values instead of one")
    return values[0]


def _refuse(*_: object) -> None:
    raise HttpRefused("cannot read the answer: it declares a document type, which no XML-RPC response has")
