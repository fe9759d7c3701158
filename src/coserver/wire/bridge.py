"""The bridge's messages: what a Python service process and its node say to each other.

Theory. One JSON object per line, over the node's bus socket, in both directions. The process opens with `Hello`, which
proves by its token which process it is and carries its whole state; the node answers `Welcome`. Either side may then
speak at any time. Nothing is acknowledged and nothing is queued over a broken connection: a process that reconnects
says `Hello` again, with its state of that moment and a higher `epoch`, so that late news from an older connection can
be told apart.

A line longer than `MAX_LINE` bytes, or one that is not a message, is an error of the peer (`BridgeError`), after which
the connection has to be closed; a message whose `op` is unknown comes from a newer peer and is skipped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

MAX_LINE = 1 << 18
"""Longest line in bytes, its end included."""


class BridgeError(ValueError):
    """The peer sent what no version of coserver sends; close the connection."""


class Message(msgspec.Struct, frozen=True, tag_field="op"):
    """Base of all messages."""


class Hello(Message, frozen=True, tag="hello"):
    """First message of a process on every connection: who it is and its full state.

    `ready`: it serves and works. `busy` jobs run, `free` more could start. `worker` is its incarnation in the store,
    None when it has none (yet).
    """

    token: str
    pid: int
    epoch: int
    ready: bool = False
    busy: int = 0
    free: int = 0
    worker: int | None = None


class State(Message, frozen=True, tag="state"):
    """The state changed; fields as in `Hello`."""

    ready: bool = False
    busy: int = 0
    free: int = 0
    worker: int | None = None


class Pong(Message, frozen=True, tag="pong"):
    """The answer to `Ping`. `blocked` is the number of seconds for which the event loop has not run by now."""

    blocked: float = 0.0


class Stacks(Message, frozen=True, tag="stacks"):
    """The answer to `AskStacks` of the same `id`: every thread's and asyncio task's stack as text."""

    id: int
    text: str


class Welcome(Message, frozen=True, tag="welcome"):
    """The node knows the process; from now on it renews the worker's lease."""


class Wake(Message, frozen=True, tag="wake"):
    """There may be work."""


class Pause(Message, frozen=True, tag="pause"):
    """Begin no job, hand back what has not begun; what runs may finish."""


class Resume(Message, frozen=True, tag="resume"):
    """End of `Pause`."""


class Ping(Message, frozen=True, tag="ping"):
    """Are you there?"""


class AskStacks(Message, frozen=True, tag="stacks"):
    """Asks for `Stacks`."""

    id: int


FromProcess = Hello | State | Pong | Stacks
FromNode = Welcome | Wake | Pause | Resume | Ping | AskStacks

M = TypeVar("M", bound=Message)

_encoder = msgspec.json.Encoder()


def encode(message: Message) -> bytes:
    """Return the message as one line. ValueError when it would be longer than `MAX_LINE`."""
    line = _encoder.encode(message) + b"\n"
    if len(line) > MAX_LINE:
        raise ValueError(
            f"cannot send {type(message).__name__}: {len(line)} bytes; at most {MAX_LINE} fit a line"
        )
    return line


class _Envelope(msgspec.Struct):
    op: str


class Decoder(Generic[M]):
    """Turns the bytes of one connection into messages; made by `from_process` or `from_node`."""

    def __init__(self, parse: Callable[[bytes], M], known: frozenset[str]) -> None:
        self._parse = parse
        self._known = known
        self._rest = bytearray()
        self._broken = False

    def feed(self, data: bytes) -> list[M]:
        """Return the messages that `data` completes, in order. BridgeError, from then on always, on a bad line."""
        if self._broken:
            raise BridgeError("cannot read on: an earlier line was bad; close the connection")
        *lines, rest = data.split(b"\n")
        if lines:
            lines[0] = bytes(self._rest) + lines[0]
            self._rest.clear()
        self._rest += rest
        try:
            if len(self._rest) >= MAX_LINE or any(len(line) >= MAX_LINE for line in lines):
                raise BridgeError(f"cannot read: a line is longer than {MAX_LINE} bytes")
            return [
                message for line in lines if line.strip() and (message := self._message(line)) is not None
            ]
        except BridgeError:
            self._broken = True
            self._rest.clear()
            raise

    def _message(self, line: bytes) -> M | None:
        try:
            return self._parse(line)
        except msgspec.MsgspecError as error:
            try:
                op = msgspec.json.decode(line, type=_Envelope).op
            except msgspec.MsgspecError:
                op = None
            if op is not None and op not in self._known:
                return None
            raise BridgeError(f"cannot read {line[:80]!r}: {error}") from error


def from_process() -> Decoder[FromProcess]:
    """A decoder for the node's side of a connection."""
    return Decoder(msgspec.json.Decoder(FromProcess).decode, frozenset({"hello", "state", "pong", "stacks"}))


def from_node() -> Decoder[FromNode]:
    """A decoder for the process's side of a connection."""
    return Decoder(
        msgspec.json.Decoder(FromNode).decode,
        frozenset({"welcome", "wake", "pause", "resume", "ping", "stacks"}),
    )
