from __future__ import annotations

from math import inf

from hypothesis import given
from hypothesis import strategies as st

from coserver.model.job import Progress
from coserver.runtime.progress import EVERY, Board


class Clock:
    def __init__(self) -> None:
        self.now = 100.0
        self.roused = 0
        self.board = Board(self.rouse, now=lambda: self.now)

    def rouse(self) -> None:
        self.roused += 1


def test_the_first_word_is_due_at_once_and_rouses() -> None:
    clock = Clock()
    assert not clock.board
    assert clock.board.due() == inf
    clock.board.tell(1, 1, 0.5, "half")
    assert clock.board
    assert clock.roused == 1
    assert clock.board.due() <= clock.now
    assert clock.board.take(clock.now) == [Progress(1, 1, 0.5, "half")]
    assert clock.board.take(clock.now) == []


def test_the_next_word_waits_and_only_the_last_one_counts() -> None:
    clock = Clock()
    clock.board.tell(1, 1, 0.1, "")
    clock.board.take(clock.now)
    for step in range(10):
        clock.board.tell(1, 1, step / 16, "")
    assert clock.roused == 2
    assert clock.board.due() == clock.now + EVERY
    assert clock.board.take(clock.now) == []
    assert clock.board.take(clock.now + EVERY) == [Progress(1, 1, 9 / 16, "")]


def test_the_last_word_goes_with_the_end_whenever_it_was_said() -> None:
    clock = Clock()
    clock.board.tell(1, 1, 0.1, "")
    clock.board.take(clock.now)
    clock.board.tell(1, 1, 1.0, "all")
    assert clock.board.take(clock.now, ended=[(1, 1), (2, 1)]) == [Progress(1, 1, 1.0, "all")]
    assert not clock.board


def test_a_forgotten_job_leaves_nothing() -> None:
    clock = Clock()
    clock.board.tell(1, 1, 0.1, "")
    clock.board.take(clock.now)
    clock.board.tell(1, 1, 0.2, "")
    clock.board.forget((1, 1))
    clock.board.forget((2, 1))
    assert not clock.board
    assert clock.board.due() == inf


def test_what_did_not_arrive_is_kept_unless_a_newer_word_is_there() -> None:
    clock = Clock()
    clock.board.tell(1, 1, 0.1, "")
    clock.board.tell(2, 1, 0.2, "")
    words = clock.board.take(clock.now, ended=[(2, 1)])
    clock.board.tell(1, 1, 0.3, "")
    clock.board.again(words)
    assert clock.board.take(clock.now + EVERY) == [Progress(1, 1, 0.3, ""), Progress(2, 1, 0.2, "")]


@given(
    st.lists(st.tuples(st.integers(1, 3), st.integers(0, 100), st.floats(0, 0.4), st.booleans()), max_size=80)
)
def test_however_jobs_speak_none_is_written_more_often_than_it_may(
    steps: list[tuple[int, int, float, bool]],
) -> None:
    clock = Clock()
    last: dict[int, float] = {}
    said: dict[int, float] = {}
    for job, percent, pause, look in steps:
        clock.now += pause
        clock.board.tell(job, 1, percent / 100, "")
        said[job] = percent / 100
        if look:
            for word in clock.board.take(clock.now):
                assert clock.now - last.get(word.id, -inf) >= EVERY
                last[word.id] = clock.now
                assert word.fraction == said.pop(word.id)
    words = clock.board.take(clock.now, ended=[(job, 1) for job in (1, 2, 3)])
    assert {word.id: word.fraction for word in words} == said
