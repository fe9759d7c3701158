"""`xmlrpc-call` against the standard library's own server, and against answers that no server should give."""

from __future__ import annotations

import asyncio
import threading
import xmlrpc.client
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from xmlrpc.server import SimpleXMLRPCServer

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coserver.contrib.generic import xmlrpc_call as module
from coserver.contrib.generic.exchange import HttpRefused, HttpUnavailable
from coserver.contrib.generic.xmlrpc_call import XmlRpcFault, read, xmlrpc_call
from coserver.errors import InvalidArguments
from coserver.testing import Jobs
from tests.contrib.conftest import WebServer


def call(*args: Any, **kwargs: Any) -> Any:
    return asyncio.run(xmlrpc_call(*args, **kwargs))


@pytest.fixture
def rpc() -> Iterator[str]:
    """The URL of an XML-RPC server."""
    server = SimpleXMLRPCServer(("127.0.0.1", 0), logRequests=False, allow_none=True)
    server.register_function(lambda *values: list(values), "echo")
    server.register_function(lambda: datetime(2005, 3, 24, 12, 30), "when")
    server.register_function(lambda a, b: a // b, "divide")
    server.register_function(lambda: b"\0\xff", "bytes")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/RPC2"
    server.shutdown()
    server.server_close()
    thread.join()


def test_j4_a_job_calls_a_method_and_returns_its_value(rpc: str, coserver_jobs: Jobs) -> None:
    """J4."""
    values = [1, "zwei <&>", 3.5, None, True, {"a": [1, 2]}]
    jobs = [
        coserver_jobs.client.submit("xmlrpc-call", [rpc, "echo", values]),
        coserver_jobs.client.submit("xmlrpc-call", [rpc, "when"]),
        coserver_jobs.client.submit("xmlrpc-call", [rpc, "bytes"]),
    ]
    coserver_jobs.drain()
    assert [job.result() for job in jobs] == [values, "2005-03-24T12:30:00", "AP8="]


def test_a_fault_is_an_error_with_its_code(rpc: str, coserver_jobs: Jobs) -> None:
    job = coserver_jobs.client.submit("xmlrpc-call", [rpc, "divide", [1, 0]])
    coserver_jobs.drain(raise_errors=False)
    error = job.info().error
    assert error is not None
    assert error.type.endswith("XmlRpcFault")
    assert "cannot call divide: the server answers with fault 1: " in error.message
    assert "ZeroDivisionError" in error.message
    with pytest.raises(XmlRpcFault) as caught:
        call(rpc, "no.such")
    assert (caught.value.code, caught.value.method) == (1, "no.such")


def test_what_xml_rpc_cannot_say_is_refused(rpc: str) -> None:
    with pytest.raises(InvalidArguments, match="cannot say one of its arguments"):
        call(rpc, "echo", [2**40])


def test_a_method_name_cannot_smuggle_xml(rpc: str) -> None:
    with pytest.raises(XmlRpcFault, match='"</methodName><methodName>echo" is not supported'):
        call(rpc, "</methodName><methodName>echo")


BOMB = b"""<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>
<methodResponse><params><param><value><string>&b;</string></value></param></params></methodResponse>"""


@pytest.mark.parametrize(
    ("body", "part"),
    [
        (BOMB, "declares a document type"),
        (b"<!DOCTYPE x SYSTEM 'file:///etc/passwd'><x/>", "declares a document type"),
        (b"<html>", "no XML-RPC response"),
        (b"", "no XML-RPC response"),
        (b"<methodResponse/>", "no XML-RPC response"),
        (b"<methodResponse><params/></methodResponse>", "0 values instead of one"),
        (
            b"<methodResponse><fault><value><int>1</int></value></fault></methodResponse>",
            "no XML-RPC response",
        ),
    ],
)
def test_an_answer_that_is_no_response_is_refused(server: WebServer, body: bytes, part: str) -> None:
    with pytest.raises(HttpRefused, match=part):
        call(server.says("/", body=body), "echo")


@given(st.binary(max_size=200) | st.text(alphabet="<>/&;valueintsrgmpcof1", max_size=200).map(str.encode))
def test_no_answer_makes_the_reader_fail_otherwise(body: bytes) -> None:
    try:
        read("any", b"<methodResponse><params><param>" + body)
    except (HttpRefused, XmlRpcFault):
        pass


@given(st.recursive(st.text(alphabet="ab<&ü") | st.integers(-(2**31), 2**31 - 1) | st.booleans(), st.lists))
def test_every_value_is_read_as_the_standard_library_wrote_it(value: Any) -> None:
    text = xmlrpc.client.dumps((value,), methodresponse=True, encoding="utf-8")
    assert read("any", text.encode()) == value


def test_an_answer_without_end_is_refused(server: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_RESPONSE", 1000)
    with pytest.raises(HttpRefused, match="longer than 1000"):
        call(server.says("/", body=b" " * 1001), "echo")


def test_a_server_in_trouble_is_unavailable(server: WebServer) -> None:
    with pytest.raises(HttpUnavailable, match="answers 503"):
        call(server.says("/", 503), "echo")
    with pytest.raises(HttpRefused, match="answers 404"):
        call(server.url + "/nothing", "echo")
