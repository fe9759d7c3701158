"""`http-call` against a real server: what it sends, what it returns, and which errors another attempt may mend."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import time
from collections.abc import Callable
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coserver.contrib.generic.exchange import (
    LONGEST_WAIT,
    MAX_REDIRECTS,
    HttpBusy,
    HttpRefused,
    HttpUnavailable,
    retry_after,
)
from coserver.contrib.generic.http_call import http_call
from coserver.errors import InvalidArguments
from coserver.testing import Jobs
from tests.contrib.conftest import WebServer
from tests.runtime.workers import auntil


def call(*args: Any, **kwargs: Any) -> dict[str, Any]:
    return asyncio.run(http_call(*args, **kwargs))


# What is sent and returned ------------------------------------------------------------------------------------


def test_j4_a_job_posts_json_and_its_result_is_the_answer(server: WebServer, coserver_jobs: Jobs) -> None:
    """J4."""
    url = server.says("/orders", 201, b'{"id": 7}', Content_Type="application/json", X_Made="yes")
    job = coserver_jobs.client.submit("http-call", [url], {"json": {"name": "Zoë"}})
    assert coserver_jobs.drain() == 1
    result = job.result()
    assert (result["status"], result["json"], result["headers"]["x-made"]) == (201, {"id": 7}, "yes")
    [seen] = server.seen
    assert (seen.method, seen.headers["content-type"]) == ("POST", "application/json")
    assert json.loads(seen.body) == {"name": "Zoë"}


@pytest.mark.parametrize(
    ("data", "kind", "body"),
    [
        ("größer", "text/plain; charset=utf-8", "größer".encode()),
        ({"a": "1 2", "b": "ü"}, "application/x-www-form-urlencoded", b"a=1+2&b=%C3%BC"),
        (None, None, b""),
    ],
)
def test_data_is_text_or_a_form(server: WebServer, data: Any, kind: str | None, body: bytes) -> None:
    call(server.says("/"), data=data)
    assert (server.seen[0].headers.get("content-type"), server.seen[0].body) == (kind, body)


def test_headers_are_the_callers_method_too(server: WebServer) -> None:
    call(server.says("/"), "put", json=1, headers={"Content-Type": "application/x", "X-Key": "k"})
    [seen] = server.seen
    assert (seen.method, seen.headers["content-type"], seen.headers["x-key"]) == ("PUT", "application/x", "k")
    assert seen.headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    ("kind", "body", "result"),
    [
        ("text/plain", "ä".encode(), {"body": "ä"}),
        ("text/plain; charset=latin-1", "ä".encode("latin-1"), {"body": "ä"}),
        ("application/problem+json", b"[1]", {"json": [1]}),
        ("application/json", b"{broken", {"body": "{broken"}),
        ("application/json", b"[1180591620717411303424]", {"body": "[1180591620717411303424]"}),
        ("image/png", b"\x89PNG\xff", {"base64": base64.b64encode(b"\x89PNG\xff").decode()}),
        ("text/plain", b"a\0b", {"base64": base64.b64encode(b"a\0b").decode()}),
        ("text/plain; charset=no-such", b"\xff", {"base64": "/w=="}),
    ],
)
def test_a_body_is_returned_as_what_it_is(
    server: WebServer, coserver_jobs: Jobs, kind: str, body: bytes, result: dict[str, Any]
) -> None:
    job = coserver_jobs.client.submit("http-call", [server.says("/", body=body, Content_Type=kind), "GET"])
    coserver_jobs.drain()
    found = job.result()
    assert {name: found[name] for name in found if name not in ("status", "headers")} == result


def test_a_compressed_answer_is_never_unpacked(server: WebServer) -> None:
    assert call(server.says("/", body=b"packed", Content_Encoding="gzip"))["base64"] == "cGFja2Vk"


# Which errors ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 401, 404, 422])
def test_a_refusal_keeps_the_head_of_the_answer_and_is_final(
    server: WebServer, coserver_jobs: Jobs, status: int
) -> None:
    url = server.says("/", status, b"no stock of article 7" + b"." * 10_000)
    job = coserver_jobs.client.submit("http-call", [url], retries=3)
    assert coserver_jobs.drain(raise_errors=False, advance="1h") == 1
    error = job.info().error
    assert error is not None
    assert error.type.endswith("HttpRefused")
    assert f"it answers {status} " in error.message
    assert "no stock of article 7" in error.message
    assert len(error.message) < 3000


@pytest.mark.parametrize("status", [500, 502, 503, 504, 408, 425, 429])
def test_a_bad_moment_is_tried_again(server: WebServer, coserver_jobs: Jobs, status: int) -> None:
    url = server.says("/", status, b"later")
    job = coserver_jobs.client.submit("http-call", [url], retries=2)
    assert coserver_jobs.drain(raise_errors=False, advance="1h") == 3
    error = job.info().error
    assert error is not None
    assert error.type.endswith("HttpUnavailable")


def test_a_server_that_says_when_is_asked_then(server: WebServer, coserver_jobs: Jobs) -> None:
    url = server.says("/", 429, b"slow down", Retry_After="1200")
    job = coserver_jobs.client.submit("http-call", [url], retries=2)
    assert coserver_jobs.drain(raise_errors=False) == 1
    assert coserver_jobs.drain(raise_errors=False, advance="19m") == 0
    server.says("/", body=b"now")
    assert coserver_jobs.drain(advance="2m") == 1
    assert job.result()["body"] == "now"


def test_busy_without_a_retry_left_is_a_failure_that_says_so(server: WebServer) -> None:
    with pytest.raises(HttpBusy, match="answers 503") as caught:
        call(server.says("/", 503, b"full", Retry_After="5"))
    assert caught.value.delay == 5.0


@given(st.text(max_size=40), st.floats(0, 4e9))
def test_retry_after_is_a_bounded_pause_or_none(value: str, now: float) -> None:
    wait = retry_after(value, now=now)
    assert wait is None or 0.0 <= wait <= LONGEST_WAIT


def test_retry_after_may_be_a_date() -> None:
    assert retry_after(formatdate(1_000_090, usegmt=True), now=1_000_000) == 90.0
    assert retry_after(formatdate(999_000, usegmt=True), now=1_000_000) == 0.0
    assert retry_after("999999999", now=0) == LONGEST_WAIT
    assert retry_after("soon", now=0) is None


def test_nobody_there_is_unavailable() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        with pytest.raises(HttpUnavailable, match=r"cannot POST http://127\.0\.0\.1:\d+/x: "):
            call(f"http://127.0.0.1:{probe.getsockname()[1]}/x")


def test_a_connection_that_breaks_is_unavailable(server: WebServer) -> None:
    def leave(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "100")
        request.end_headers()
        request.wfile.write(b"half")

    server.answers["/"] = leave
    with pytest.raises(HttpUnavailable):
        call(server.url + "/")


@pytest.mark.parametrize(
    "url", ["ftp://example.org/", "example.org", "http://", "http://[::", "", "file:///etc/passwd"]
)
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(HttpRefused, match="correct it"):
        call(url)


@pytest.mark.parametrize(
    "wrong",
    [
        {"method": "GET /"},
        {"json": 1, "data": "x"},
        {"expect": ["2xx"]},
        {"expect": [99]},
        {"timeout": "soon"},
        {"timeout": 0},
        {"max_response": "much"},
    ],
)
def test_arguments_without_sense_are_refused_before_anything_is_sent(
    server: WebServer, wrong: dict[str, Any]
) -> None:
    with pytest.raises(InvalidArguments):
        call(server.says("/"), **wrong)
    assert server.seen == []


@pytest.mark.parametrize("value", ["a\r\nX-Other: b", "schön", "\0"])
def test_a_header_cannot_smuggle_another(server: WebServer, value: str) -> None:
    try:
        call(server.says("/"), headers={"X-Key": value})
    except HttpRefused:
        assert server.seen == []
    else:
        assert "x-other" not in server.seen[0].headers


def test_no_message_shows_a_password_a_query_or_a_header(server: WebServer) -> None:
    url = server.says("/", 403).replace("http://", "http://ann:hush@") + "?token=hush"
    with pytest.raises(HttpRefused) as caught:
        call(url, headers={"X-Key": "hush"})
    assert "hush" not in str(caught.value)
    assert server.seen[0].headers["authorization"].startswith("Basic ")


def test_expected_statuses_can_be_named(server: WebServer) -> None:
    url = server.says("/", 404, b"gone")
    assert call(url, expect=[200, "404..410"])["status"] == 404
    with pytest.raises(HttpRefused, match=r"expected 200 or 201\.\.204"):
        call(url, expect=[200, "201..204"])


# Limits ---------------------------------------------------------------------------------------------------------


def drip(web: WebServer) -> Callable[[BaseHTTPRequestHandler], None]:
    def respond(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "1000000")
        request.end_headers()
        while not web.stopping.wait(0.02):
            request.wfile.write(b".")
            request.wfile.flush()

    return respond


def test_the_time_limit_spans_an_answer_that_drips(server: WebServer) -> None:
    server.answers["/"] = drip(server)
    began = time.monotonic()
    with pytest.raises(HttpUnavailable, match="no complete answer within 300ms"):
        call(server.url + "/", timeout="300ms")
    assert time.monotonic() - began < 10


def test_an_answer_beyond_its_limit_is_refused_and_not_read_on(server: WebServer) -> None:
    server.answers["/"] = drip(server)
    with pytest.raises(HttpRefused, match="the answer is longer than 10; allow more by max_response="):
        call(server.url + "/", max_response=10, timeout="30s")
    assert call(server.says("/ten", body=b"." * 10), max_response=10)["body"] == "." * 10


def test_a_cancelled_call_leaves_at_once(server: WebServer) -> None:
    server.answers["/"] = drip(server)

    async def body() -> None:
        running = asyncio.create_task(http_call(server.url + "/"))
        await auntil(lambda: bool(server.seen), "the request arrives")
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(asyncio.wait_for(body(), 20))


# Redirects ------------------------------------------------------------------------------------------------------


def test_a_get_follows_redirects_and_a_post_does_not(server: WebServer) -> None:
    server.says("/new", body=b"here")
    url = server.says("/old", 302, Location="/new?key=hush")
    assert call(url, "GET", headers={"X-Key": "k"})["body"] == "here"
    assert [seen.headers.get("x-key") for seen in server.seen] == ["k", "k"]
    with pytest.raises(HttpRefused, match=r"answers 302 .*it redirects to /new$"):
        call(url, "POST", json=1)
    assert call(url, "GET", expect=[302])["headers"]["location"] == "/new?key=hush"


def test_another_server_is_not_shown_the_callers_headers(server: WebServer, other_server: WebServer) -> None:
    away = other_server.says("/", body=b"there")
    url = server.says("/", 307, Location=away)
    headers = {"X-Key": "hush", "Authorization": "Bearer hush", "Cookie": "hush"}
    assert call(url.replace("//", "//ann:hush@"), "GET", headers=headers)["body"] == "there"
    assert not {"x-key", "authorization", "cookie"} & other_server.seen[0].headers.keys()


def test_redirects_end(server: WebServer) -> None:
    url = server.says("/", 301, Location="/")
    with pytest.raises(HttpRefused, match=f"redirects more than {MAX_REDIRECTS} times"):
        call(url, "GET")
    assert len(server.seen) == MAX_REDIRECTS + 1


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://example.org/", "http://[", "http:///"])
def test_a_redirect_to_what_is_no_web_server_is_an_error(server: WebServer, location: str) -> None:
    with pytest.raises((HttpRefused, HttpUnavailable)):
        call(server.says("/", 302, Location=location), "GET")


# TLS ------------------------------------------------------------------------------------------------------------


def test_a_certificate_that_nobody_vouches_for_is_refused(tls_server: WebServer) -> None:
    with pytest.raises(HttpRefused, match=r"its certificate is not trusted here .* SSL_CERT_FILE"):
        call(tls_server.says("/"), "GET")
    assert tls_server.seen == []


def test_ssl_cert_file_names_an_authority(
    tls_server: WebServer, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert call(tls_server.says("/", body=b"safe"), "GET")["body"] == "safe"


def test_tls_is_not_left_by_a_redirect(
    tls_server: WebServer, server: WebServer, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with pytest.raises(HttpRefused, match="which is not protected"):
        call(tls_server.says("/", 302, Location=server.says("/")), "GET")
    assert server.seen == []
