from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from coserver.runtime.bridge import Bridge, Calls
from coserver.wire.bridge import AskStacks, Hello, Pause, Ping, Pong, Resume, Stacks, State, Wake
from tests.runtime.processes import FakeNode, node
from tests.runtime.workers import until


class Told:
    """What the bridge called, and the state that it says."""

    def __init__(self) -> None:
        self.state = State(ready=False, busy=0, free=3, worker=None)
        self.calls: list[str] = []

    def as_calls(self) -> Calls:
        return Calls(
            lambda: self.state,
            wake=lambda: self.calls.append("wake"),
            pause=lambda: self.calls.append("pause"),
            resume=lambda: self.calls.append("resume"),
        )


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[FakeNode]:
    with node(tmp_path / "bus") as made:
        yield made


@pytest.fixture
def bridge(peer: FakeNode, told: Told) -> Iterator[Bridge]:
    made = Bridge(peer.path, "a token", told.as_calls())
    made.start()
    yield made
    made.close()


def test_it_says_who_it_is_and_is_connected_when_welcomed(bridge: Bridge, peer: FakeNode) -> None:
    until(lambda: bridge.connected, "connected")
    assert isinstance(peer.heard[0], Hello)
    assert (peer.heard[0].token, peer.heard[0].epoch, peer.heard[0].free) == ("a token", 1, 3)


def test_a_change_is_said_at_once(bridge: Bridge, peer: FakeNode, told: Told) -> None:
    until(lambda: bridge.connected, "connected")
    told.state = State(ready=True, busy=2, free=1, worker=7)
    bridge.changed()
    until(lambda: peer.state == told.state, "the new state is heard", 0.9)


def test_what_the_node_asks_reaches_the_process_in_order(bridge: Bridge, peer: FakeNode, told: Told) -> None:
    until(lambda: bridge.connected, "connected")
    for message in (Pause(), Wake(), Resume(), Wake()):
        peer.send(message)
    until(lambda: told.calls == ["pause", "wake", "resume", "wake"], "all four in order")


def test_after_a_break_it_comes_back_with_its_full_state_and_a_higher_epoch(
    bridge: Bridge, peer: FakeNode, told: Told
) -> None:
    until(lambda: bridge.connected, "connected")
    peer.cut()
    until(lambda: sum(isinstance(m, Hello) for m in peer.heard) == 2, "a second hello")
    until(lambda: bridge.connected, "connected again")
    told.state = State(ready=True, busy=1, free=0, worker=9)
    peer.cut()
    until(lambda: sum(isinstance(m, Hello) for m in peer.heard) == 3, "a third hello")
    hellos = [message for message in peer.heard if isinstance(message, Hello)]
    assert [hello.epoch for hello in hellos] == [1, 2, 3]
    assert (hellos[2].ready, hellos[2].busy, hellos[2].worker) == (True, 1, 9)


def test_nonsense_from_the_node_costs_the_connection_only(bridge: Bridge, peer: FakeNode) -> None:
    until(lambda: bridge.connected, "connected")
    peer.send_bytes(b"no json\n")
    until(lambda: sum(isinstance(m, Hello) for m in peer.heard) == 2, "a second hello")


def test_it_answers_for_a_process_that_has_no_loop_yet(bridge: Bridge, peer: FakeNode) -> None:
    until(lambda: bridge.connected, "connected")
    peer.send(Ping())
    peer.send(AskStacks(id=4))
    until(lambda: any(isinstance(m, Stacks) for m in peer.heard), "stacks")
    assert Pong(0.0) in peer.heard
    (answer,) = [message for message in peer.heard if isinstance(message, Stacks)]
    assert answer.id == 4
    assert f"Thread {threading.main_thread().name}" in answer.text
    assert "test_it_answers_for_a_process" in answer.text


def test_a_loop_that_comes_later_is_not_taken_for_a_blocked_one(bridge: Bridge, peer: FakeNode) -> None:
    until(lambda: bridge.connected, "connected")

    def pongs() -> list[Pong]:
        return [message for message in peer.heard if isinstance(message, Pong)]

    def ping(number: int) -> None:
        peer.send(Ping())
        until(lambda: len(pongs()) == number, "an answer")

    ping(1)
    ping(2)

    async def live() -> None:
        bridge.attach(asyncio.get_running_loop())
        await asyncio.to_thread(ping, 3)
        await asyncio.to_thread(ping, 4)

    asyncio.run(live())
    assert [pong.blocked for pong in pongs()[:3]] == [0.0, 0.0, 0.0]


def test_it_waits_for_a_node_that_is_not_there_yet(tmp_path: Path, told: Told) -> None:
    bridge = Bridge(tmp_path / "bus", "a token", told.as_calls())
    bridge.start()
    try:
        assert not bridge.connected
        with node(tmp_path / "bus"):
            until(lambda: bridge.connected, "connected")
        until(lambda: not bridge.connected, "the node is gone")
    finally:
        bridge.close()


def test_a_bus_at_a_long_path_is_reached(tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("x" * 120)
    deep.mkdir()
    monkeypatch.chdir(deep)
    with node(Path("bus")):
        bridge = Bridge(deep / "bus", "a token", told.as_calls())
        bridge.start()
        until(lambda: bridge.connected, "connected")
        bridge.close()
