from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from coserver.model.job import Cancelled, Failed, Outcome, Retry, Succeeded, TakeOver
from coserver.wire.children import (
    Began,
    Halt,
    Item,
    Outcomes,
    Ready,
    Recall,
    Returned,
    Told,
    Work,
    encode,
    from_child,
    pack,
    to_child,
    unpack,
)

ids = st.integers(1, 2**63 - 1)
times = st.integers(0, 2**62)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=50)
outcomes: st.SearchStrategy[Outcome] = st.one_of(
    st.builds(Succeeded, ids, ids, st.none() | texts, times, times),
    st.builds(Failed, ids, ids, texts, times, times),
    st.builds(Retry, ids, ids, texts, times),
    st.builds(Cancelled, ids, ids, st.none() | texts, times, times),
    st.builds(TakeOver, ids, ids, ids, times),
)
items = st.builds(
    Item, ids, ids, texts, texts, texts, times, times, st.integers(0, 2), times, st.none() | texts,
    st.none() | st.integers(0, 4095), st.booleans(),
)  # fmt: skip
to = st.one_of(st.builds(Work, st.lists(items, max_size=5)), st.just(Recall()), st.builds(Halt, ids))
back = st.one_of(
    st.just(Ready()),
    st.builds(Began, ids),
    st.builds(pack, st.lists(outcomes, max_size=5)),
    st.builds(Told, st.lists(st.tuples(ids, ids, st.none() | st.floats(0, 1), texts), max_size=5)),
    st.builds(Returned, st.lists(ids, max_size=5)),
)


def pieces(data: bytes, sizes: list[int]) -> list[bytes]:
    found = []
    for size in sizes:
        found.append(data[:size])
        data = data[size:]
    return [*found, data]


@given(st.lists(to, max_size=6), st.lists(st.integers(0, 40), max_size=20))
def test_what_a_worker_says_arrives_however_it_is_cut(messages: list[Any], sizes: list[int]) -> None:
    decoder = to_child()
    data = b"".join(map(encode, messages))
    assert [message for piece in pieces(data, sizes) for message in decoder.feed(piece)] == messages


@given(st.lists(back, max_size=6), st.lists(st.integers(0, 40), max_size=20))
def test_what_a_process_says_arrives_however_it_is_cut(messages: list[Any], sizes: list[int]) -> None:
    decoder = from_child()
    data = b"".join(map(encode, messages))
    assert [message for piece in pieces(data, sizes) for message in decoder.feed(piece)] == messages


@given(st.lists(outcomes, max_size=10))
def test_outcomes_are_the_same_after_the_journey(told: list[Outcome]) -> None:
    (message,) = from_child().feed(encode(pack(told)))
    assert isinstance(message, Outcomes)
    assert list(unpack(message)) == told
