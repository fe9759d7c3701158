"""The keeper and output carry a codec each, since each is one self-contained file: both must be the same."""

from __future__ import annotations

import itertools
import os
import socket

from hypothesis import given, settings
from hypothesis import strategies as st

from coserver.host import keeper, output

TEXT = st.text(st.characters(codec="utf-8") | st.just("\udcff"), max_size=20)
MESSAGES = st.lists(
    st.tuples(
        st.fixed_dictionaries(
            {"op": TEXT},
            optional={"id": TEXT, "path": TEXT, "max_bytes": st.integers(0, 2**63), "on": st.booleans()},
        ),
        st.integers(0, 5),
    ),
    max_size=6,
)


@given(messages=MESSAGES)
def test_both_files_write_the_same_bytes(messages: list[tuple[dict[str, object], int]]) -> None:
    for message, fds in messages:
        assert keeper.encode_frame(message, fds) == output.encode(message, fds)


@settings(max_examples=150)
@given(messages=MESSAGES, cuts=st.lists(st.integers(0, 1000)))
def test_each_file_reads_what_the_other_writes_however_it_is_cut(
    messages: list[tuple[dict[str, object], int]], cuts: list[int]
) -> None:
    descriptors = list(range(1000, 1000 + sum(fds for _, fds in messages)))
    from_keeper = b"".join(keeper.encode_frame(message, fds) for message, fds in messages)
    from_output = b"".join(output.encode(message, fds) for message, fds in messages)
    decoder, reader = output.Decoder(), keeper.FrameReader()
    decoded: list[tuple[dict[str, object], list[int]]] = []
    read: list[tuple[dict[str, object], list[int]]] = []
    edges = [0, *sorted(cut % (len(from_keeper) + 1) for cut in cuts), len(from_keeper)]
    for number, (low, high) in enumerate(itertools.pairwise(edges)):
        new = [] if number else descriptors
        decoded += decoder.feed(from_keeper[low:high], list(new))
        reader.feed(from_output[low:high], list(new))
        while (frame := reader.take()) is not None:
            read.append(frame)
    assert decoded == read
    assert [message for message, _ in read] == [message for message, _ in messages]
    assert [fd for _, fds in read for fd in fds] == descriptors


def test_both_files_have_the_same_limits() -> None:
    assert output.FRAME_HEAD.size == keeper.HEADER.size
    assert (output.FRAME_MAX, output.FDS_MAX) == (keeper.MAX_PAYLOAD, keeper.MAX_DESCRIPTORS)


def test_descriptors_arrive_with_their_frames() -> None:
    """Through real sockets: the keeper's channel on one side, output's decoder on the other."""
    ours, theirs = socket.socketpair()
    channel = keeper.Channel(ours)
    pipes = [os.pipe() for _ in range(20)]
    with theirs:
        for number, (read, _) in enumerate(pipes):
            channel.send({"op": "attach", "number": number}, [read] * (number % 3))
        assert channel.flush()
        decoder = output.Decoder()
        got = 0
        while got < len(pipes):
            data, fds, _, _ = socket.recv_fds(theirs, 70, output.FDS_MAX)
            for message, passed in decoder.feed(data, fds):
                number = message["number"]
                assert number == got
                got += 1
                for fd in passed:
                    assert os.fstat(fd).st_ino == os.fstat(pipes[got - 1][0]).st_ino
                    os.close(fd)
                assert len(passed) == (got - 1) % 3
    channel.close()
    for pair in pipes:
        for fd in pair:
            os.close(fd)
