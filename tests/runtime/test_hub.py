"""The node's end of the bridge, over real sockets."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from coserver.model.names import Run
from coserver.runtime import unix
from coserver.runtime.hub import Hub, Told
from coserver.wire.bridge import Hello, Message, Pong, State, Wake, Welcome, encode, from_node

ONE, TWO = Run("work", 1, 3), Run("work", 2, 5)
TOKENS = {"one": ONE, "two": TWO}


class Process:
    """A process at the other end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.decoder = from_node()
        self.heard: list[Message] = []

    def say(self, *messages: Message) -> None:
        for message in messages:
            self.writer.write(encode(message))

    async def hear(self) -> Message:
        while not self.heard:
            data = await self.reader.read(65536)
            assert data, "the node hung up"
            self.heard += self.decoder.feed(data)
        return self.heard.pop(0)

    async def hung_up(self) -> bool:
        try:
            return await self.reader.read(65536) == b""
        except ConnectionError:
            return True


class Stage:
    def __init__(self, hub: Hub, path: Path) -> None:
        self.hub, self.path = hub, path
        self.news: asyncio.Queue[tuple[Run, Told | None]] = asyncio.Queue()
        self.processes: list[Process] = []

    async def connect(self) -> Process:
        process = Process(*await asyncio.open_unix_connection(str(self.path)))
        self.processes.append(process)
        return process


@asynccontextmanager
async def stage(path: Path) -> AsyncIterator[Stage]:
    news: asyncio.Queue[tuple[Run, Told | None]] = asyncio.Queue()
    hub = Hub(TOKENS.get, lambda run, told: news.put_nowait((run, told)))
    await hub.serve(unix.listen(path))
    found = Stage(hub, path)
    found.news = news
    try:
        yield found
    finally:
        await hub.close()
        for process in found.processes:
            process.writer.close()


def play(tmp_path: Path, scene: Callable[[Stage], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with asyncio.timeout(20), stage(tmp_path / "bus.sock") as found:
            await scene(found)

    asyncio.run(whole())


def test_a_process_is_known_by_its_token_and_its_state_passed_on(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        process = await stage.connect()
        process.say(Hello("one", 10, 1), State(ready=True, busy=2, free=3, worker=4))
        assert await process.hear() == Welcome()
        assert await stage.news.get() == (ONE, Told(False, 0, 0, None))
        assert await stage.news.get() == (ONE, Told(True, 2, 3, 4))
        assert stage.hub.told("work/1") == Told(True, 2, 3, 4)
        process.writer.close()
        assert await stage.news.get() == (ONE, None)
        assert stage.hub.told("work/1") is None

    play(tmp_path, scene)


def test_a_stranger_is_hung_up_on(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        for first in (Hello("nobody's", 10, 1), State(ready=True), Pong()):
            process = await stage.connect()
            process.say(first)
            assert await process.hung_up()
        nonsense = await stage.connect()
        nonsense.writer.write(b"GET / HTTP/1.1\r\n\r\n")
        assert await nonsense.hung_up()
        assert stage.news.empty()

    play(tmp_path, scene)


def test_users_without_a_process_here_are_hung_up_on_whatever_they_say(tmp_path: Path) -> None:
    async def scene() -> None:
        hub = Hub(TOKENS.get, lambda *_: None)
        path = tmp_path / "bus.sock"
        await hub.serve(unix.listen(path), users=frozenset({os.geteuid() + 1}))
        process = Process(*await asyncio.open_unix_connection(str(path)))
        try:
            process.say(Hello("one", 10, 1))
            assert await process.hung_up()
        finally:
            await hub.close()
            process.writer.close()

    asyncio.run(scene())


def test_the_newest_connection_of_a_process_is_the_one_that_counts(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        old = await stage.connect()
        old.say(Hello("one", 10, 1, ready=False))
        await old.hear()
        new = await stage.connect()
        new.say(Hello("one", 10, 2, ready=True))
        await new.hear()
        assert await old.hung_up()
        assert [await stage.news.get() for _ in range(2)] == [
            (ONE, Told(False, 0, 0, None)),
            (ONE, Told(True, 0, 0, None)),
        ]
        assert stage.hub.told("work/1") == Told(True, 0, 0, None)

    play(tmp_path, scene)


def test_only_workers_are_woken(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        worker, other = await stage.connect(), await stage.connect()
        worker.say(Hello("one", 10, 1, worker=7))
        other.say(Hello("two", 11, 1))
        await worker.hear()
        await other.hear()
        stage.hub.wake_workers()
        assert await worker.hear() == Wake()
        assert stage.hub.send("work/2", Wake())
        assert await other.hear() == Wake()
        assert other.heard == []
        assert not stage.hub.send("work/9", Wake())

    play(tmp_path, scene)


def test_a_process_that_does_not_read_is_cut_off_and_the_node_goes_on(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        deaf = socket.socket(socket.AF_UNIX)
        deaf.connect(str(stage.path))
        deaf.sendall(encode(Hello("one", 10, 1, worker=7)))
        await stage.news.get()
        while stage.hub.told("work/1") is not None:
            for _ in range(1000):
                stage.hub.wake_workers()
            await asyncio.sleep(0)
        assert await stage.news.get() == (ONE, None)
        deaf.close()

    play(tmp_path, scene)
