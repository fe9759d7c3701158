"""HTTP on a Unix socket: every answer is JSON, every mistake has its status, nothing ends the server."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from coserver.control.client import ControlClient
from coserver.control.server import ControlServer
from coserver.control.verbs import Verb
from coserver.errors import Denied, NodeUnreachable, NotRunning, UnknownName
from coserver.runtime import unix


class Word(msgspec.Struct, forbid_unknown_fields=True):
    names: list[str]
    times: int = 1


async def say(_: Any, word: Word) -> dict[str, Any]:
    return {"said": word.names * word.times}


async def refuse(_: Any, word: Word) -> dict[str, Any]:
    raise UnknownName(f"cannot find {word.names[0]}")


async def fail(_: Any, word: Word) -> dict[str, Any]:
    raise ZeroDivisionError("oh")


async def hang(_: Any, word: Word) -> dict[str, Any]:
    await asyncio.sleep(60)
    return {}


VERBS = tuple(
    Verb(effect.__name__, "POST", f"/api/v1/words/{{name}}/{effect.__name__}", Word, effect, "for tests")
    for effect in (say, refuse, fail, hang)
)


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    """A server that runs in a thread."""
    path = tmp_path / "control.sock"
    listener = unix.listen(path)
    loop = asyncio.new_event_loop()
    server = ControlServer(None, VERBS)  # type: ignore[arg-type]
    task = loop.create_task(server.serve(listener))

    def serve() -> None:
        try:
            loop.run_until_complete(task)
        except asyncio.CancelledError:
            pass

    thread = threading.Thread(target=serve)
    thread.start()
    yield path
    loop.call_soon_threadsafe(task.cancel)
    thread.join()
    loop.close()


@pytest.fixture
def client(path: Path) -> ControlClient:
    return ControlClient(path, site="the site", timeout=5.0)


def raw(path: Path, request: bytes) -> tuple[int, dict[str, Any]]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(path))
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while data := connection.recv(65536):
            answer += data
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


def test_a_verb_gets_the_name_in_its_path_and_its_arguments(client: ControlClient) -> None:
    assert client.post("/api/v1/words/a%2Fb/say", {"times": 2}) == {"said": ["a/b", "a/b"]}
    assert client.post("/api/v1/words/a/say", {"names": ["x", "y"]}) == {"said": ["x", "y"]}


def test_an_error_keeps_its_class_and_words(client: ControlClient) -> None:
    with pytest.raises(UnknownName, match="cannot find a"):
        client.post("/api/v1/words/a/refuse", {})


def test_a_verb_that_breaks_answers_500_and_the_server_goes_on(path: Path, client: ControlClient) -> None:
    status, answer = raw(path, b"POST /api/v1/words/a/fail HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n")
    assert status == 500
    assert answer["error"]["message"] == "cannot answer: ZeroDivisionError: oh"
    assert client.post("/api/v1/words/a/say", {}) == {"said": ["a"]}


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /nowhere HTTP/1.1\r\nhost: x\r\n\r\n", 404),
        (b"GET /api/v1/words/a/say HTTP/1.1\r\nhost: x\r\n\r\n", 405),
        (b'POST /api/v1/words/a/say HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{"no": 1}', 422),
        (b"POST /api/v1/words/a/say HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\n{{{", 422),
        (b'POST /api/v1/words/a/say HTTP/1.1\r\nhost: x\r\ncontent-length: 14\r\n\r\n{"times": "x"}', 422),
        (b"nonsense\r\n\r\n", 400),
        (
            b"POST /api/v1/words/a/say HTTP/1.1\r\nhost: x\r\ncontent-length: 2000000\r\n\r\n"
            + b" " * 1100000,
            413,
        ),
    ],
)
def test_a_wrong_request_has_its_status(path: Path, request_bytes: bytes, status: int) -> None:
    found, answer = raw(path, request_bytes)
    assert found == status
    assert answer["error"]["message"]


def test_one_connection_carries_many_requests(path: Path) -> None:
    one = b"POST /api/v1/words/a/say HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}"
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(path))
        for _ in range(3):
            connection.sendall(one)
            answer = b""
            while not answer.endswith(b"}"):
                answer += connection.recv(65536)
            assert answer.startswith(b"HTTP/1.1 200")


def test_a_node_that_is_not_there_or_does_not_answer_is_said(path: Path, tmp_path: Path) -> None:
    with pytest.raises(NotRunning, match="the site is not up; `coserver up` starts it"):
        ControlClient(tmp_path / "none.sock", site="the site").get("/healthz")
    gone = unix.listen(tmp_path / "gone.sock")
    gone.close()
    with pytest.raises(NotRunning, match="not up any more"):
        ControlClient(tmp_path / "gone.sock", site="the site").get("/healthz")
    with pytest.raises(NodeUnreachable, match="has not answered within"):
        ControlClient(path, site="the site", timeout=0.1).post("/api/v1/words/a/hang", {})


def test_a_socket_of_another_user_is_denied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object, **__: object) -> socket.socket:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(unix, "connect", denied)
    with pytest.raises(Denied, match="belongs to another user"):
        ControlClient(tmp_path / "x.sock", site="the site").get("/healthz")


def test_a_path_of_any_length_can_be_listened_at(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    with unix.listen(deep / "control.sock") as listener, unix.connect(deep / "control.sock") as client:
        listener.setblocking(True)
        listener.accept()[0].close()
        assert client.recv(1) == b""
    assert (deep / "control.sock").stat().st_mode & 0o777 == 0o600
