"""A web server of this process whose answers each test writes."""

from __future__ import annotations

import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from shutil import which
from typing import Any, NamedTuple

import pytest

import coserver.contrib.generic.everything  # declares the tasks
from coserver.contrib.generic import exchange

assert coserver.contrib.generic.everything


class Seen(NamedTuple):
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


Respond = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class WebServer:
    """`url` of a server; it answers as `answers` say by path, 404 elsewhere, and notes what it has `seen`."""

    url: str
    answers: dict[str, Respond] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)

    def says(self, path: str, status: int = 200, body: bytes = b"", **headers: str) -> str:
        """Answer so at the path; return its URL. In names of headers, `_` stands for `-`."""

        def respond(request: BaseHTTPRequestHandler) -> None:
            request.send_response(status)
            for name, value in headers.items():
                request.send_header(name.replace("_", "-"), value)
            request.send_header("Content-Length", str(len(body)))
            request.end_headers()
            request.wfile.write(body)

        self.answers[path] = respond
        return self.url + path


def serve(tls: ssl.SSLContext | None = None) -> Iterator[WebServer]:
    web = WebServer("")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def respond(self) -> None:
            length = int(self.headers.get("Content-Length", "0"))
            headers = {name.lower(): value for name, value in self.headers.items()}
            web.seen.append(Seen(self.command, self.path, headers, self.rfile.read(length)))
            self.close_connection = True
            answer = web.answers.get(self.path.partition("?")[0])
            if answer is None:
                self.send_error(404)
                return
            try:
                answer(self)
            except OSError:
                pass  # the client has left

        def log_message(self, *_: Any) -> None:
            pass

    for method in ("GET", "HEAD", "POST", "PUT"):
        setattr(Handler, f"do_{method}", Handler.respond)

    class Server(ThreadingHTTPServer):
        daemon_threads = False

        def handle_error(self, *_: Any) -> None:
            pass  # a broken handshake, say

    server = Server(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    web.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield web
    finally:
        web.stopping.set()
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def server() -> Iterator[WebServer]:
    yield from serve()


@pytest.fixture
def other_server() -> Iterator[WebServer]:
    yield from serve()


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """The file of a certificate for 127.0.0.1, with its key, that no authority knows."""
    openssl = which("openssl")
    if openssl is None:
        pytest.skip("making a certificate takes the program openssl")
    file, key = tmp_path / "server.crt", tmp_path / "server.key"
    subprocess.run(
        [
            *[openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"],
            *["-keyout", str(key), "-out", str(file), "-days", "2", "-subj", "/CN=127.0.0.1"],
            *["-addext", "subjectAltName=IP:127.0.0.1"],
        ],
        check=True,
        capture_output=True,
    )
    return file


@pytest.fixture
def tls_server(certificate: Path) -> Iterator[WebServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    yield from serve(context)


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever proxy is set around the tests, their servers are here."""
    monkeypatch.setenv("NO_PROXY", "*")
    exchange._trust.cache_clear()
    yield
    exchange._trust.cache_clear()
