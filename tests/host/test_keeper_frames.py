"""Frames: whatever a stream does to bytes and descriptors, what arrives is what was sent."""

from __future__ import annotations

import itertools
import json
import os
import socket
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coserver.host.keeper import (
    HEADER,
    MAX_DESCRIPTORS,
    MAX_PAYLOAD,
    Channel,
    FrameError,
    FrameReader,
    close_all,
    encode_frame,
    to_bytes,
)

BYTES_AS_TEXT = st.binary(max_size=40).map(lambda data: data.decode("utf-8", "surrogateescape"))
VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | BYTES_AS_TEXT
    | st.lists(BYTES_AS_TEXT, max_size=3)
)
MESSAGES = st.fixed_dictionaries({"op": st.text(min_size=1, max_size=8)}, optional={"a": VALUES, "b": VALUES})
FRAMES = st.lists(st.tuples(MESSAGES, st.integers(0, 4)), max_size=12)


@given(frames=FRAMES, cuts=st.lists(st.integers(0, 10_000), max_size=20))
def test_frames_survive_any_cutting(frames: list[tuple[dict[str, Any], int]], cuts: list[int]) -> None:
    numbers = itertools.count(100)
    sent = [(message, [next(numbers) for _ in range(count)]) for message, count in frames]
    data = b"".join(encode_frame(message, len(fds)) for message, fds in sent)
    starts = list(itertools.accumulate((len(encode_frame(m, len(f))) for m, f in sent), initial=0))
    reader, got = FrameReader(), []
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    for low, high in itertools.pairwise(edges):
        with_first_bytes = [
            fd for at, (_, fds) in zip(starts, sent, strict=False) if low <= at < high for fd in fds
        ]
        reader.feed(data[low:high], with_first_bytes)
        while (frame := reader.take()) is not None:
            got.append(frame)
    assert got == sent


@given(data=st.binary(max_size=200))
def test_bytes_that_are_no_frames_are_refused_or_waited_for_but_never_crash(data: bytes) -> None:
    reader = FrameReader()
    reader.feed(data)
    try:
        while (frame := reader.take()) is not None:
            assert isinstance(frame[0]["op"], str)
    except FrameError:
        pass


@given(text=st.binary(max_size=50).filter(lambda data: b"\0" not in data))
def test_bytes_that_are_no_text_travel_through_a_frame(text: bytes) -> None:
    reader = FrameReader()
    reader.feed(encode_frame({"op": "x", "path": text.decode("utf-8", "surrogateescape")}))
    frame = reader.take()
    assert frame is not None
    assert to_bytes(frame[0]["path"]) == text


@pytest.mark.parametrize(
    ("payload", "descriptors", "says"),
    [
        (b"[1]", 0, "operation"),
        (b'{"no":1}', 0, "operation"),
        (b'{"op":1}', 0, "operation"),
        (b"{", 0, "no JSON"),
        (b"\xff\xff", 0, "no JSON"),
        (b"[" * 100_000, 0, "no JSON"),
        (b'{"op":"x"}', 1, "lacks 1"),
    ],
)
def test_what_is_no_frame_says_why(payload: bytes, descriptors: int, says: str) -> None:
    reader = FrameReader()
    reader.feed(HEADER.pack(len(payload), descriptors) + payload)
    with pytest.raises(FrameError, match=says):
        reader.take()


def test_frames_have_limits_on_both_sides() -> None:
    with pytest.raises(FrameError, match="too large"):
        encode_frame({"op": "x", "text": "x" * MAX_PAYLOAD})
    with pytest.raises(FrameError, match="too large"):
        encode_frame({"op": "x"}, MAX_DESCRIPTORS + 1)
    for header in (HEADER.pack(MAX_PAYLOAD + 1, 0), HEADER.pack(1, MAX_DESCRIPTORS + 1)):
        reader = FrameReader()
        reader.feed(header)
        with pytest.raises(FrameError, match="claims"):
            reader.take()


def pair(buffer: int) -> tuple[Channel, Channel]:
    """Two channels over a socket pair with room for little."""
    left, right = socket.socketpair()
    left.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
    return Channel(left), Channel(right)


@settings(max_examples=60, deadline=None)
@given(
    frames=st.lists(st.tuples(st.integers(0, 30_000), st.integers(0, 3)), min_size=1, max_size=12),
    buffer=st.sampled_from([1, 10_000, 200_000]),
)
def test_channels_carry_frames_and_descriptors_in_order_through_a_narrow_socket(
    frames: list[tuple[int, int]], buffer: int
) -> None:
    left, right = pair(buffer)
    read, write = os.pipe()
    sent: list[tuple[dict[str, Any], list[int]]] = []
    for number, (size, count) in enumerate(frames):
        # each descriptor can be told from every other by its offset in a file of its own
        fds = [
            os.open("/dev/zero", os.O_RDONLY | os.O_CLOEXEC) if i % 2 else os.dup(read) for i in range(count)
        ]
        left.send({"op": "x", "number": number, "text": "x" * size}, fds)
        sent.append(({"op": "x", "number": number, "text": "x" * size}, [os.fstat(fd).st_ino for fd in fds]))
        close_all(fds)  # a sender may close its own at once
    got: list[tuple[dict[str, Any], list[int]]] = []
    flushed = False
    while len(got) < len(sent) or not flushed:
        flushed = left.flush()
        for message, fds in right.receive():
            assert not any(os.get_inheritable(fd) for fd in fds)
            got.append((message, [os.fstat(fd).st_ino for fd in fds]))
            close_all(fds)
    assert got == sent
    left.close()
    with pytest.raises(EOFError):
        list(right.receive())
    right.close()
    os.close(read)
    os.close(write)


def test_a_frame_of_the_most_descriptors_arrives_whole() -> None:
    left, right = pair(100_000)
    read, write = os.pipe()
    left.send({"op": "x"}, [read] * MAX_DESCRIPTORS)
    left.send({"op": "y"}, [write])
    got = [frame for _ in range(4) for frame in right.receive()]
    assert [(message["op"], len(fds)) for message, fds in got] == [("x", MAX_DESCRIPTORS), ("y", 1)]
    for _, fds in got:
        close_all(fds)
    close_all([read, write])
    left.close()
    right.close()


def test_closing_a_channel_closes_descriptors_on_their_way() -> None:
    before = len(os.listdir("/proc/self/fd"))
    left, right = pair(1)
    read, write = os.pipe()
    while left.flush():
        left.send({"op": "x", "text": "x" * 5000})
    left.send({"op": "y"}, [read])
    close_all([read])
    assert not left.flush()
    left.close()
    right.close()
    with pytest.raises(BrokenPipeError):
        os.write(write, b"x")  # nobody has the read end any more
    os.close(write)
    assert len(os.listdir("/proc/self/fd")) == before


def test_sending_to_nobody_is_an_error_not_a_signal() -> None:
    left, right = pair(1)
    right.close()
    with pytest.raises(OSError, match="Broken pipe"):
        left.send({"op": "x"})
    left.close()


def test_payloads_are_plain_ascii_json() -> None:
    data = encode_frame({"op": "ö\udcff"})
    assert json.loads(data[HEADER.size :].decode("ascii")) == {"op": "ö\udcff"}
