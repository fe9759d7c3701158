"""What the command line's tests share: the command in this process, a terminal, a node with fixed answers."""

from __future__ import annotations

import json
import socketserver
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from coserver.cli.main import main


class Said(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


Console = Callable[..., Said]
Terminal = Callable[[int], None]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, and an environment without anything that changes what is printed."""
    monkeypatch.chdir(tmp_path)
    for name in ("COSERVER_CONFIG", "COSERVER_PROFILE", "COSERVER_DEBUG", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def console(here: Path, capsys: pytest.CaptureFixture[str]) -> Console:
    """Run the command with words, and return what it said."""

    def run(*words: str | Path | int) -> Said:
        with pytest.raises(SystemExit) as left:
            main([str(word) for word in words])
        said = capsys.readouterr()
        return Said(int(left.value.code or 0), said.out, said.err)

    return run


@pytest.fixture
def terminal(here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Make stdout and stderr terminals of so many columns."""

    def be(columns: int) -> None:
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)

    return be


class FixedNode:
    """Answers on a site's control socket with what it was given, and keeps what it was asked."""

    def __init__(self, path: Path) -> None:
        self.answers: dict[str, list[dict[str, Any] | None]] = {}
        self.asked: list[tuple[str, dict[str, Any]]] = []
        node = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer({})

            def do_POST(self) -> None:
                self._answer(json.loads(self.rfile.read(int(self.headers["content-length"]))))

            def _answer(self, arguments: dict[str, Any]) -> None:
                node.asked.append((self.path, arguments))
                answers = node.answers[self.path]
                answer = answers.pop(0) if len(answers) > 1 else answers[0]
                if answer is None:
                    return  # and hang up
                body = json.dumps(answer).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        path.parent.mkdir(mode=0o700, exist_ok=True)
        self._server = socketserver.UnixStreamServer(str(path), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def says(self, path: str, *answers: dict[str, Any] | None) -> None:
        """Answer requests for `path` one after the other, with the last one for ever; None hangs up."""
        self.answers[path] = list(answers)

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def site(here: Path) -> Path:
    """The configuration of a small site in the working directory."""
    (here / "coserver.toml").write_text(
        '[site]\nname = "shop"\n[service.web]\ncommand = "sleep 1000"\nprocesses = 2\n'
        '[service.mail]\ncommand = "sleep 1000"\n'
    )
    return here


@pytest.fixture
def node(site: Path) -> Iterator[FixedNode]:
    """A node of that site."""
    fixed = FixedNode(site / ".coserver" / "control.sock")
    try:
        yield fixed
    finally:
        fixed.close()


def process(name: str, state: str = "running", **more: Any) -> dict[str, Any]:
    """One process of an answer of `status`."""
    runs = state == "running"
    return {
        "name": name,
        "pid": 4711 if runs else None,
        "state": state,
        "ready": runs,
        "uptime_s": 187.2 if runs else None,
        "restarts": 0,
        "cpu_percent": 12.4,
        "rss_bytes": 41_500_000,
        "run": 3,
        "busy": None,
        "why": None,
        "healthy": runs,
    } | more


def status(**more: Any) -> dict[str, Any]:
    """An answer of `status`."""
    return {
        "site": "shop",
        "node": {"name": "web1", "pid": 11, "keeper_pid": 10, "version": "0.1"},
        "state": "running",
        "healthy": True,
        "services": [
            {
                "name": "web",
                "kind": "python",
                "state": "running",
                "ready": True,
                "url": "http://127.0.0.1:8000",
                "held_stopped": [],
                "processes": [process("web/1"), process("web/2", restarts=2)],
            },
            {
                "name": "mail",
                "kind": "python",
                "state": "backoff",
                "ready": False,
                "url": None,
                "held_stopped": [],
                "processes": [process("mail/1", "backoff", why="exit status 1; starts again in 0.4 s")],
            },
        ],
        "unowned": [],
        "jobs": {"queued": 3, "running": 0, "succeeded": 12},
        "unserved": [],
        "store": {"state": "ok", "trouble": None},
    } | more
