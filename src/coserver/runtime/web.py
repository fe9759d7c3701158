"""The web application of a process: an ASGI server in the process's own event loop.

Theory. uvicorn serves; everything that it would do as the master of a process is ours: signals, logging, and the
listening socket, which is bound before the application starts, so that an address in use is one clear line and not a
traceback after a minute of start-up. The application is ready when its lifespan start-up is done and the socket
accepts. To stop is to accept no more, let open requests end within the time given, and run the lifespan's shutdown.

A WSGI application runs in threads, through a2wsgi.
"""

from __future__ import annotations

import asyncio
import errno
import math
import os
import socket
from pathlib import Path
from typing import Any

from coserver.errors import CoserverError
from coserver.model.address import Address, TcpAddress, UnixAddress
from coserver.runtime.unix import short_name

BACKLOG = 2048


class CannotServe(CoserverError):
    """The web application cannot be served: its address is taken, or its start-up failed."""

    code = "cannot-serve"


def listen(address: Address) -> socket.socket:
    """Return a socket bound to the address and accepting. Raises `CannotServe`."""
    try:
        match address:
            case TcpAddress(host, port):
                return _listen_tcp(host, port)
            case UnixAddress(path):
                return _listen_unix(path)
    except OSError as error:
        cause, mend = _explain(error, address)
        raise CannotServe(f"cannot listen on {address}: {cause}; {mend}") from error


def _listen_tcp(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, where = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _listen_unix(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with short_name(path) as name:
            _clear_leftover(path, name)
            listener.bind(name)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _clear_leftover(path: Path, name: str) -> None:
    """Remove a socket that a process left behind when it was killed; OSError if somebody still serves it."""
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(name)
        except ConnectionRefusedError:
            path.unlink()
            return
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def _explain(error: OSError, address: Address) -> tuple[str, str]:
    if isinstance(error, socket.gaierror):
        return f"its host is not known ({error.strerror})", "name an address of this machine"
    match error.errno:
        case errno.EADDRINUSE:
            return "address in use", "stop what listens there, or choose another in bind = …"
        case errno.EADDRNOTAVAIL:
            return "it is not an address of this machine", 'use one of its own, or "0.0.0.0" for all'
        case errno.EACCES if isinstance(address, TcpAddress):
            return "this user may not use that port", "choose one from 1024 up"
        case errno.EACCES:
            return "this user may not write its directory", "allow it, or choose another path"
        case errno.ENOENT:
            return "its directory does not exist", "create it"
        case _:
            return error.strerror or str(error), "choose another address in bind = …"


class Web:
    """Serves one application on one socket. All methods belong to the event loop."""

    def __init__(
        self, app: Any, listener: socket.socket, address: Address, *, wsgi: bool, threads: int
    ) -> None:
        """`listener`, bound to `address`, is the server's from now on. `threads`: requests at once of a WSGI
        application.

        Raises `CannotServe` when a WSGI application cannot be served because a2wsgi is not installed.
        """
        from coserver.runtime.asgi_server import AsgiServer

        self._listener = listener
        self._path = address.path if isinstance(address, UnixAddress) else None
        self._ready = asyncio.Event()
        served = _from_wsgi(app, threads) if wsgi else app
        self._server = AsgiServer(served, wsgi=wsgi, started=self._ready.set)
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Serve; return when requests are accepted. Raises `CannotServe` when the application's start-up failed."""
        self._serving = asyncio.create_task(self._serve(), name="web server")
        ready = asyncio.create_task(self._ready.wait())
        await asyncio.wait([self._serving, ready], return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if self._serving.done():
            await self._serving

    async def _serve(self) -> None:
        try:
            await self._server.serve([self._listener])
        except (
            SystemExit
        ) as error:  # uvicorn's way to say that the lifespan's start-up failed, and was logged
            raise CannotServe(
                "cannot start the web application: its start-up failed; see the lines above"
            ) from error
        finally:
            self._listener.close()

    async def ended(self) -> None:
        """Return when the server has ended; raises what it ended with."""
        assert self._serving is not None
        await asyncio.shield(self._serving)

    async def stop(self, timeout: float, *, hurry: asyncio.Event | None = None) -> None:
        """Accept no more, let open requests end within `timeout` seconds or until `hurry`, and end."""
        if self._serving is None:
            self._listener.close()
            return
        self._server.config.timeout_graceful_shutdown = max(1, math.floor(timeout))
        self._server.should_exit = True
        waits: list[asyncio.Task[Any]] = [self._serving]
        if hurry is not None:
            waits.append(asyncio.create_task(hurry.wait()))
        await asyncio.wait(waits, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if not self._serving.done():
            self._server.force_exit = True
            await asyncio.wait([self._serving], timeout=1.0)
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
        if self._path is not None:
            await asyncio.to_thread(self._path.unlink, missing_ok=True)


def _from_wsgi(app: Any, threads: int) -> Any:
    try:
        from a2wsgi import WSGIMiddleware
    except ImportError as error:
        raise CannotServe(
            "cannot serve a WSGI application: a2wsgi is not installed; pip install a2wsgi"
        ) from error
    return WSGIMiddleware(app, workers=threads)
