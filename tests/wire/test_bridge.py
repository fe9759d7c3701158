from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coserver.wire import bridge

integers = st.integers(min_value=0, max_value=2**53)
texts = st.text(max_size=60)
states = {
    "ready": st.booleans(),
    "busy": integers,
    "free": integers,
    "worker": st.none() | integers,
}
from_process = st.one_of(
    st.builds(bridge.Hello, token=texts, pid=integers, epoch=integers, **states),
    st.builds(bridge.State, **states),
    st.builds(bridge.Pong, blocked=st.floats(min_value=0, max_value=1e9)),
    st.builds(bridge.Stacks, id=integers, text=texts),
)
from_node = st.one_of(
    st.sampled_from([bridge.Welcome(), bridge.Wake(), bridge.Pause(), bridge.Resume(), bridge.Ping()]),
    st.builds(bridge.AskStacks, id=integers),
)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[a:b] for a, b in itertools.pairwise(edges)]


@given(st.lists(from_process), st.lists(st.integers(min_value=0)))
def test_messages_of_a_process_survive_any_cutting_of_the_stream(
    messages: list[bridge.FromProcess], places: list[int]
) -> None:
    decoder = bridge.from_process()
    stream = b"".join(map(bridge.encode, messages))
    assert [m for part in cut(stream, places) for m in decoder.feed(part)] == messages


@given(st.lists(from_node), st.lists(st.integers(min_value=0)))
def test_messages_of_a_node_survive_any_cutting_of_the_stream(
    messages: list[bridge.FromNode], places: list[int]
) -> None:
    decoder = bridge.from_node()
    stream = b"".join(map(bridge.encode, messages))
    assert [m for part in cut(stream, places) for m in decoder.feed(part)] == messages


@given(st.lists(st.binary(max_size=200), max_size=10))
def test_any_bytes_give_messages_or_the_one_error(parts: list[bytes]) -> None:
    decoder = bridge.from_process()
    for part in parts:
        try:
            decoder.feed(part)
        except bridge.BridgeError:
            with pytest.raises(bridge.BridgeError):
                decoder.feed(b"")
            return


def test_a_message_of_a_newer_peer_is_skipped() -> None:
    assert bridge.from_node().feed(b'{"op":"teleport","to":1}\n{"op":"wake","hint":9}\n') == [bridge.Wake()]


@pytest.mark.parametrize(
    "line",
    [
        b"hello",
        b"[]",
        b'{"token":"x"}',
        b'{"op":7}',
        b'{"op":"hello","token":1,"pid":1,"epoch":1}',
        b"\xff\xfe",
    ],
)
def test_a_bad_line_is_an_error(line: bytes) -> None:
    with pytest.raises(bridge.BridgeError, match="cannot read"):
        bridge.from_process().feed(line + b"\n")


def test_an_empty_line_is_nothing() -> None:
    assert bridge.from_process().feed(b"\n \n") == []


def test_a_line_without_end_is_refused_at_the_limit_and_not_kept() -> None:
    decoder = bridge.from_process()
    assert decoder.feed(b"x" * (bridge.MAX_LINE - 1)) == []
    with pytest.raises(bridge.BridgeError, match="longer than"):
        decoder.feed(b"x")


def test_a_message_that_would_not_fit_is_not_sent() -> None:
    with pytest.raises(ValueError, match="cannot send Stacks"):
        bridge.encode(bridge.Stacks(id=1, text="x" * bridge.MAX_LINE))


def test_the_longest_message_that_can_be_sent_can_be_read() -> None:
    empty = len(bridge.encode(bridge.Stacks(id=1, text="")))
    message = bridge.Stacks(id=1, text="x" * (bridge.MAX_LINE - empty))
    assert bridge.from_process().feed(bridge.encode(message)) == [message]
