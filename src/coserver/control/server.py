"""HTTP on the node's Unix socket: h11 does the protocol, `verbs` the work.

The socket's file permissions are the guard: it is for the user that runs the site, and for root.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
from typing import Any
from urllib.parse import unquote

import h11
import msgspec

from coserver.control.verbs import VERBS, Answer, Desk, Text, Verb
from coserver.errors import CoserverError

log = logging.getLogger("coserver.control")

MAX_BODY = 1 << 20
MAX_DISCARDED = 16 << 20
IDLE = 60.0
LINGER = 1.0


class HttpError(Exception):
    """A request that no verb can answer."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class ControlServer:
    """Answers verbs until cancelled."""

    def __init__(self, desk: Desk, verbs: tuple[Verb, ...] = VERBS) -> None:
        self._desk = desk
        self._routes = [
            (verb, re.compile(re.escape(verb.path).replace(r"\{name\}", "(?P<name>[^/]+)"))) for verb in verbs
        ]
        self._attending: set[asyncio.Task[None]] = set()

    async def serve(self, listener: socket.socket) -> None:
        """Serve on a listening Unix socket, which the server owns from now on."""
        server = await asyncio.start_unix_server(self._attend, sock=listener)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            server.close()
            for task in self._attending:
                task.cancel()
            await asyncio.gather(*self._attending, return_exceptions=True)

    async def _attend(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._attending.add(task)
        connection = h11.Connection(h11.SERVER)
        try:
            while await self._exchange(connection, reader, writer):
                connection.start_next_cycle()
            await self._discard(reader)
        except (OSError, TimeoutError, h11.ProtocolError):
            pass
        finally:
            self._attending.discard(task)
            writer.close()

    async def _exchange(
        self, connection: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Answer one request; True when the connection may carry another."""
        status = 200
        answer: Answer
        try:
            request = await self._receive(connection, reader)
            if request is None:
                return False
            method, target, body = request
            answer = await self._answer(method, target, body)
        except HttpError as error:
            status, answer = error.status, _error(error.code, str(error))
        except CoserverError as error:
            status, answer = error.http_status, _error(error.code, str(error))
        except h11.RemoteProtocolError as error:
            status, answer = error.error_status_hint, _error("bad-request", str(error))
        except (OSError, TimeoutError):
            raise
        except Exception as error:
            log.exception("a verb failed")
            status, answer = 500, _error("internal", f"cannot answer: {type(error).__name__}: {error}")
        if isinstance(answer, Text):
            kind, body = answer.type, answer.text.encode(errors="backslashreplace")
        else:
            kind, body = "application/json", msgspec.json.encode(answer)
        headers = [
            ("content-type", kind),
            ("content-length", str(len(body))),
            ("cache-control", "no-store"),
        ]
        for event in (
            h11.Response(status_code=status, headers=headers),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ):
            data = connection.send(event)
            if data:
                writer.write(data)
        await writer.drain()
        return {connection.our_state, connection.their_state} == {h11.DONE}

    @staticmethod
    async def _discard(reader: asyncio.StreamReader) -> None:
        """Read on for a moment: a socket that is closed with unread bytes takes the answer along."""
        async with asyncio.timeout(LINGER):
            for _ in range(MAX_DISCARDED >> 16):
                if not await reader.read(1 << 16):
                    break

    async def _receive(
        self, connection: h11.Connection, reader: asyncio.StreamReader
    ) -> tuple[str, str, bytes] | None:
        head: h11.Request | None = None
        body = bytearray()
        async with asyncio.timeout(IDLE):
            while True:
                event = connection.next_event()
                match event:
                    case h11.NEED_DATA:
                        connection.receive_data(await reader.read(1 << 16))
                    case h11.Request():
                        head = event
                    case h11.Data():
                        body += event.data
                        if len(body) > MAX_BODY:
                            raise HttpError(413, "too-large", f"cannot read a body of over {MAX_BODY} bytes")
                    case h11.EndOfMessage():
                        assert head is not None
                        return head.method.decode("ascii"), head.target.decode("ascii"), bytes(body)
                    case _:
                        return None

    async def _answer(self, method: str, target: str, body: bytes) -> Answer:
        path = target.partition("?")[0]
        allowed = []
        for verb, pattern in self._routes:
            match = pattern.fullmatch(path)
            if match is None:
                continue
            if verb.method != method:
                allowed.append(verb.method)
                continue
            return await verb.effect(self._desk, self._arguments(verb, match.groupdict(), body))
        if allowed:
            raise HttpError(405, "method-not-allowed", f"cannot {method} {path}; use {' or '.join(allowed)}")
        raise HttpError(404, "unknown-path", f"cannot find {path}; see the list of verbs in the reference")

    @staticmethod
    def _arguments(verb: Verb, found: dict[str, str], body: bytes) -> msgspec.Struct:
        try:
            given = msgspec.json.decode(body, type=dict[str, Any]) if body.strip() else {}
            if "name" in found:
                given = {"names": [unquote(found["name"])], **given}
            return msgspec.convert(given, verb.takes)
        except msgspec.MsgspecError as error:
            raise HttpError(422, "usage", f"cannot {verb.name}: {error}") from None


def _error(code: str, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message}}
