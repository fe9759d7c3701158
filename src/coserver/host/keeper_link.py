"""The node's side of its conversation with the keeper.

The keeper is the parent of every process of the site and outlives the node; it has mechanism and no policy.
This module is what the node needs to talk to it: frozen records for what is said, and `KeeperLink`, which
speaks the frames of `coserver.host.keeper` on an asyncio loop.

Who is authoritative: the keeper for what is (which key has which process, how it ended), the node for what
should be. A request is therefore not confirmed by its method; what came of it arrives as an event:

* every spawn is answered by `Started`, `SpawnFailed` or `SpawnRefused`;
* every `Started` is followed by exactly one `Exited`;
* `SpawnFailed` and `Exited` stay with the keeper until `ack`. A node that dies before it acknowledged
  leaves them to its successor, who finds them in `Welcome.children` and in no event.

Pings are answered from the event loop and nowhere else, so that a loop that hangs is noticed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from coserver.errors import CoserverError
from coserver.host.keeper import PROTOCOL, Channel, FrameError

WELCOME_TIMEOUT: Final = 10.0
CLOSE_PATIENCE: Final = 1.0


class KeeperUnavailable(CoserverError):
    """The keeper could not be greeted: wrong descriptor, another protocol version, or it is gone."""


# ---------------------------------------------------------------------------------------------- what the node asks


@dataclass(frozen=True, slots=True)
class OutputSpec:
    """Where a process's output goes. `path` takes stdout, and stderr too unless `error_path` names a second
    file.

    A file is rotated when it passes `max_bytes`; `keep` older ones stay beside it.
    """

    path: str
    max_bytes: int
    keep: int
    error_path: str | None = None


@dataclass(frozen=True, slots=True)
class PassedSocket:
    """A held descriptor that a process inherits, from 3 upward in the order given.

    `held` is its name in the keeper; `name` is what LISTEN_FDNAMES says (the held name when empty; never
    with a colon).
    """

    held: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class SpawnSpec:
    """One process to start. Numbers only: names of users and groups are the node's to resolve.

    `key` names the run ("mail/2#17") and is refused while the keeper still knows it. `mark` is the value of
    COSERVER_MARK in `env`, by which descendants are recognised. None leaves an attribute as the keeper has
    it. `groups` are the supplementary groups; None with a `gid` or `uid` means none at all. `rlimits` maps
    names such as "nofile" to (soft, hard), -1 for no limit. `output` None lets the process inherit the
    keeper's own stdout and stderr. stdin is always /dev/null. LISTEN_FDS, LISTEN_PID and LISTEN_FDNAMES are
    added to `env` when `sockets` are passed.
    """

    key: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str
    mark: str
    output: OutputSpec | None
    note: str = ""
    uid: int | None = None
    gid: int | None = None
    groups: tuple[int, ...] | None = None
    umask: int | None = None
    nice: int | None = None
    rlimits: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    sockets: tuple[PassedSocket, ...] = ()


# --------------------------------------------------------------------------------------------- what the keeper says


@dataclass(frozen=True, slots=True)
class Adoptee:
    """A process that lost its parent and came to the keeper.

    `start_time` is the kernel's, in clock ticks since boot; with `pid` it names one process for ever. `key`
    is the run it is known to stem from, None when nobody can say.
    """

    pid: int
    start_time: int
    key: str | None


@dataclass(frozen=True, slots=True)
class Started:
    """The program of `key` is running (its exec succeeded)."""

    key: str
    pid: int
    start_time: int


@dataclass(frozen=True, slots=True)
class SpawnFailed:
    """`key` never ran its program. To be acknowledged.

    `stage` says which step failed: request, fork, session, record, stdio, nice, sockets, rlimits, groups,
    gid, uid, umask, chdir or exec. `errno` is the kernel's number, `message` its text.
    """

    key: str
    stage: str
    errno: int
    message: str


@dataclass(frozen=True, slots=True)
class SpawnRefused:
    """The request was not taken: the key is known already, or the keeper is ending. Nothing to
    acknowledge."""

    key: str
    reason: str


@dataclass(frozen=True, slots=True)
class Exited:
    """The leader of `key` ended, with an exit `code` or by a `signal` (never both). To be acknowledged.

    Until then its process id stays taken, so its group can still be signalled. `adopted` are the processes
    that came to the keeper as it ended. `at_monotonic_us` is CLOCK_MONOTONIC of this host.
    """

    key: str
    pid: int
    code: int | None
    signal: int | None
    core: bool
    adopted: tuple[Adoptee, ...]
    at_monotonic_us: int


@dataclass(frozen=True, slots=True)
class Terminate:
    """Somebody asked the keeper to end. `count` 1: stop everything in order; 2 or more: at once. Answer
    with `finish`."""

    signal: int
    count: int


@dataclass(frozen=True, slots=True)
class KeeperGone:
    """The keeper is dead or unintelligible. The last event of a link."""

    reason: str


Event = Started | SpawnFailed | SpawnRefused | Exited | Terminate | KeeperGone


@dataclass(frozen=True, slots=True)
class ChildRow:
    """One run the keeper knows when the node arrives. `pid` and `start_time` are 0 if it never came to a
    process.

    `ended` is what the previous node did not acknowledge; None while the process starts or runs.
    """

    key: str
    pid: int
    start_time: int
    starting: bool
    note: str
    ended: Exited | SpawnFailed | None


@dataclass(frozen=True, slots=True)
class Welcome:
    """All that a node needs to take over.

    `generation` counts the nodes of this keeper from 1. `held` maps names to descriptors that now belong to
    the caller. `terminate` is set when an ending was already asked for.
    """

    keeper_pid: int
    generation: int
    children: tuple[ChildRow, ...]
    held: Mapping[str, int]
    terminate: Terminate | None


# ----------------------------------------------------------------------------------------------------- the conversation


class KeeperLink:
    """One node's connection to its keeper. Made by `connect`, ended by `close`; used on one event loop only.

    `events` yields what the keeper says, in order, and ends with `KeeperGone`. After that every request
    does nothing.
    """

    events: asyncio.Queue[Event]
    welcome: Welcome

    def __init__(self, channel: Channel, welcome: Welcome) -> None:
        self.events = asyncio.Queue()
        self.welcome = welcome
        self._channel = channel
        self._loop = asyncio.get_running_loop()
        self._writing = False
        self._drained: asyncio.Future[None] | None = None
        self._gone = False
        self._asked = 0
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._loop.add_reader(channel.fileno(), self._readable)

    @classmethod
    async def connect(cls, fd: int, *, timeout: float = WELCOME_TIMEOUT) -> Self:
        """Greet the keeper on the inherited descriptor `fd`, which the link owns from now on.

        Raises KeeperUnavailable when there is no keeper at the other end, it speaks another protocol, or
        says nothing for `timeout` seconds.
        """
        try:
            channel = Channel(socket.socket(fileno=fd))
        except OSError as error:
            raise KeeperUnavailable(
                f"cannot reach the keeper: descriptor {fd} is no socket ({error.strerror}); "
                "the node is started by the keeper, use `coserver up`"
            ) from error
        try:
            async with asyncio.timeout(timeout):
                welcome = await _greet(channel)
        except TimeoutError:
            channel.close()
            raise KeeperUnavailable(f"cannot reach the keeper: no answer within {timeout:g} s") from None
        except (OSError, EOFError, FrameError) as error:
            channel.close()
            raise KeeperUnavailable(
                f"cannot reach the keeper: {str(error) or 'it closed the connection'}"
            ) from error
        except BaseException:
            channel.close()
            raise
        link = cls(channel, welcome)
        link._readable(fresh=False)
        return link

    async def drained(self) -> None:
        """Return when every request made so far is on its way, or the keeper is gone."""
        while self._writing and not self._gone:
            self._drained = self._drained or self._loop.create_future()
            await asyncio.shield(self._drained)

    def close(self) -> None:
        """Leave the conversation, after at most a second for what is still to be written.

        The keeper takes it as this node's death unless `finish` went before.
        """
        if self._gone:
            return
        room = select.poll()
        room.register(self._channel.fileno(), select.POLLOUT)
        with contextlib.suppress(OSError):
            while not self._channel.flush() and room.poll(CLOSE_PATIENCE * 1000):
                pass
        self._end("closed by the node")

    # -- requests

    def spawn(self, spec: SpawnSpec) -> None:
        """Ask for a process."""
        output = spec.output
        self._send(
            {
                "op": "spawn",
                "key": spec.key,
                "argv": list(spec.argv),
                "env": dict(spec.env),
                "cwd": spec.cwd,
                "mark": spec.mark,
                "note": spec.note,
                "uid": spec.uid,
                "gid": spec.gid,
                "groups": None if spec.groups is None else list(spec.groups),
                "umask": spec.umask,
                "nice": spec.nice,
                "rlimits": {name: list(pair) for name, pair in spec.rlimits.items()},
                "sockets": [[passed.held, passed.name or passed.held] for passed in spec.sockets],
                "output": None
                if output is None
                else {
                    "path": output.path,
                    "error_path": output.error_path,
                    "max_bytes": output.max_bytes,
                    "keep": output.keep,
                },
            }
        )

    async def signal(self, key: str, signum: int, *, group: bool = False) -> bool:
        """Send a signal to the leader of `key`, or to its whole group (which may outlive the leader).

        False when there is nobody left to receive it, or the keeper is gone.
        """
        answer = await self._ask({"op": "signal", "key": key, "signum": int(signum), "group": group})
        return bool(answer.get("ok", False))

    def ack(self, key: str) -> None:
        """Forget an ended run: reap its leader, drain and close its output. Call it after the durable
        write."""
        self._send({"op": "ack", "key": key})

    def note(self, key: str, note: str) -> None:
        """Leave an opaque note at a run for the next node."""
        self._send({"op": "note", "key": key, "note": note})

    def hold(self, name: str, fd: int) -> None:
        """Let the keeper hold a duplicate of `fd` under `name`, replacing what it held there. The caller
        keeps `fd`."""
        self._send({"op": "hold", "name": name}, [fd])

    def release(self, name: str) -> None:
        """Let the keeper close what it holds under `name`."""
        self._send({"op": "release", "name": name})

    async def adoptees(self) -> tuple[Adoptee, ...]:
        """The processes that came to the keeper as orphans and are alive, with the run each stems from if
        known."""
        answer = await self._ask({"op": "adoptees"})
        return _adoptees(answer.get("adoptees", ()))

    def notify(self, state: str) -> None:
        """Tell the service manager above the keeper, if there is one (sd_notify: "READY=1", "STATUS=…")."""
        self._send({"op": "notify", "state": state})

    def finish(self, code: int) -> None:
        """End the site: once this node has left, the keeper ends what remains, output last, and exits with
        `code`."""
        self._send({"op": "finish", "code": code})

    # -- the channel

    def _send(self, message: dict[str, Any], fds: list[int] | None = None) -> None:
        if self._gone:
            return
        try:
            self._channel.send(message, fds or [])
            self._flush()
        except OSError as error:
            self._end(error.strerror or str(error))

    async def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        if self._gone:
            return {}
        self._asked += 1
        number = self._asked
        answer: asyncio.Future[dict[str, Any]] = self._loop.create_future()
        self._answers[number] = answer
        try:
            self._send({**message, "ask": number})
            return await answer
        finally:
            self._answers.pop(number, None)

    def _flush(self) -> None:
        done = self._channel.flush()
        if done == self._writing:
            self._writing = not done
            if done:
                self._loop.remove_writer(self._channel.fileno())
                self._wake_drained()
            else:
                self._loop.add_writer(self._channel.fileno(), self._writable)

    def _writable(self) -> None:
        try:
            self._flush()
        except OSError as error:
            self._end(error.strerror or str(error))

    def _wake_drained(self) -> None:
        if self._drained is not None:
            if not self._drained.done():
                self._drained.set_result(None)
            self._drained = None

    def _readable(self, *, fresh: bool = True) -> None:
        """Take what is there; without `fresh`, only what came together with the welcome."""
        try:
            for message, fds in self._channel.receive() if fresh else self._channel.frames():
                _close_all(fds)
                self._heard(message)
        except EOFError:
            self._end("it closed the connection")
        except (OSError, FrameError, KeyError, TypeError, ValueError) as error:
            self._end(f"unintelligible: {error}")

    def _heard(self, message: dict[str, Any]) -> None:
        match message["op"]:
            case "ping":
                self._send({"op": "pong", "number": message["number"]})
            case "answer":
                answer = self._answers.pop(int(message["ask"]), None)
                if answer is not None and not answer.done():
                    answer.set_result(message)
            case _:
                event = _event(message)
                if event is not None:
                    self.events.put_nowait(event)

    def _end(self, reason: str) -> None:
        if self._gone:
            return
        self._gone = True
        self._loop.remove_reader(self._channel.fileno())
        if self._writing:
            self._loop.remove_writer(self._channel.fileno())
        self._channel.close()
        for answer in self._answers.values():
            if not answer.done():
                answer.set_result({})
        self._answers.clear()
        self._wake_drained()
        self.events.put_nowait(KeeperGone(reason))


async def _greet(channel: Channel) -> Welcome:
    """Say hello and gather the welcome, which comes in as many frames as its rows and descriptors need."""
    loop = asyncio.get_running_loop()
    channel.send({"op": "hello", "protocol": PROTOCOL}, [])
    if not channel.flush():
        raise OSError("cannot write the greeting")
    rows: list[ChildRow] = []
    held: dict[str, int] = {}
    try:
        while True:
            await _until_readable(loop, channel.fileno())
            for message, fds in channel.receive():
                held.update(zip(message.get("held", ()), fds, strict=True))
                match message["op"]:
                    case "welcome":
                        rows += map(_row, message["children"])
                        if message["last"]:
                            asked = message["terminate"]
                            return Welcome(
                                keeper_pid=int(message["keeper_pid"]),
                                generation=int(message["generation"]),
                                children=tuple(rows),
                                held=held,
                                terminate=None if asked is None else Terminate(*asked),
                            )
                    case "unwelcome":
                        raise KeeperUnavailable(f"cannot work with the running keeper: {message['reason']}")
                    case _:
                        raise FrameError(f"{message['op']!r} before the welcome")
    except BaseException:
        _close_all(held.values())
        raise


async def _until_readable(loop: asyncio.AbstractEventLoop, fd: int) -> None:
    ready = asyncio.Event()
    loop.add_reader(fd, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(fd)


def _event(message: dict[str, Any]) -> Event | None:
    """The event in a frame; None for one this version does not know, which a newer keeper may send."""
    match message["op"]:
        case "started":
            return Started(message["key"], int(message["pid"]), int(message["start"]))
        case "failed":
            return _failed(message)
        case "refused":
            return SpawnRefused(message["key"], message["reason"])
        case "exited":
            return _exited(message)
        case "terminate":
            return Terminate(int(message["signal"]), int(message["count"]))
        case _:
            return None


def _failed(message: dict[str, Any]) -> SpawnFailed:
    return SpawnFailed(message["key"], message["stage"], int(message["errno"]), message["message"])


def _exited(message: dict[str, Any]) -> Exited:
    return Exited(
        key=message["key"],
        pid=int(message["pid"]),
        code=message["code"],
        signal=message["signal"],
        core=bool(message["core"]),
        adopted=_adoptees(message["adopted"]),
        at_monotonic_us=int(message["at"]),
    )


def _adoptees(rows: Iterable[Any]) -> tuple[Adoptee, ...]:
    return tuple(Adoptee(int(pid), int(start), key) for pid, start, key in rows)


def _row(row: dict[str, Any]) -> ChildRow:
    ended: Exited | SpawnFailed | None = None
    match row["state"]:
        case "exited":
            ended = _exited(row)
        case "failed":
            ended = _failed(row)
        case _:
            pass
    return ChildRow(
        key=row["key"],
        pid=int(row["pid"]),
        start_time=int(row["start"]),
        starting=row["state"] == "starting",
        note=row["note"],
        ended=ended,
    )


def _close_all(fds: Iterable[int]) -> None:
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)
