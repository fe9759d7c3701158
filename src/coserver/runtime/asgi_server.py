"""uvicorn as a part of a process of ours. A module by itself, so that processes without a web application do without it
in their memory."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn


class AsgiServer(uvicorn.Server):
    """uvicorn without its signal handlers, that says when it has started."""

    def __init__(self, app: Any, *, wsgi: bool, started: Callable[[], None]) -> None:
        """`wsgi`: the application was made an ASGI one, which knows no lifespan."""
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                lifespan="off" if wsgi else "auto",
                interface="asgi3" if wsgi else "auto",
            )
        )
        self._tell = started

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._tell()
