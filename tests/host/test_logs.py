"""Reading logs: files made by hand where their shape matters, files that output writes at the moment elsewhere."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coserver.host import logs, output
from coserver.host.logs import LogReader, Record, Source
from tests.host.outputs import Keeper, content, eventually, keeper

SECOND = 1_000_000


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Keeper]:
    with keeper(tmp_path) as it:
        yield it


def write_log(path: Path, lines: Sequence[tuple[int, bytes]], end: bytes = b"\n") -> None:
    """A log of lines that came at these times, with its index."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = b""
    index = b""
    for when, line in lines:
        index += output.STAMP.pack(len(data), when)
        data += line + end
    path.write_bytes(data)
    path.with_name(path.name + ".idx").write_bytes(index)


def three_files(path: Path) -> list[tuple[int, bytes]]:
    """Thirty lines, one a second from 100 s on, in three files; what is in them."""
    lines = [((100 + i) * SECOND, b"line %d" % i) for i in range(30)]
    write_log(path.with_name(path.name + ".2"), lines[:10])
    write_log(path.with_name(path.name + ".1"), lines[10:20])
    write_log(path, lines[20:])
    return lines


def texts(records: Iterator[Record]) -> list[bytes]:
    return [record.data for record in records]


def source(path: Path, process: str = "mail/1") -> Source:
    return Source(process, path)


# -------------------------------------------------------------------------------------------------------------- places


def test_without_a_place_only_new_lines_come(tmp_path: Path) -> None:
    path = tmp_path / "1.log"
    three_files(path)
    with LogReader(source(path)) as reader:
        assert texts(reader.read()) == []
        with path.open("ab") as file:
            file.write(b"new\n")
        assert texts(reader.read()) == [b"new"]


def test_from_the_start_all_files_come_in_order_with_their_times(tmp_path: Path) -> None:
    path = tmp_path / "1.log"
    lines = three_files(path)
    with LogReader(source(path)) as reader:
        reader.from_start()
        got = list(reader.read())
    assert [(record.time, record.data) for record in got] == lines
    assert all(record.begins and record.ends and record.process == "mail/1" for record in got)


@pytest.mark.parametrize("number", [0, 1, 9, 10, 11, 15, 20, 21, 29, 30, 31, 1000])
def test_the_last_lines_are_found_over_rotated_files(tmp_path: Path, number: int) -> None:
    path = tmp_path / "1.log"
    lines = three_files(path)
    with LogReader(source(path)) as reader:
        reader.from_last(number)
        assert [(r.time, r.data) for r in reader.read()] == lines[max(0, 30 - number) :]


@settings(max_examples=60, deadline=None)
@given(
    lines=st.lists(st.integers(0, 200_000), max_size=8),
    unfinished=st.integers(0, 70_000),
    cuts=st.lists(st.integers(0, 8), max_size=3),
    number=st.integers(0, 10),
)
def test_the_last_lines_are_those_of_the_whole(
    tmp_path_factory: pytest.TempPathFactory, lines: list[int], unfinished: int, cuts: list[int], number: int
) -> None:
    path = tmp_path_factory.mktemp("log") / "1.log"
    whole = [b"%d " % i + b"x" * length for i, length in enumerate(lines)]
    edges = [0, *sorted(min(cut, len(lines)) for cut in cuts), len(lines)]
    files = [whole[low:high] for low, high in itertools.pairwise(edges)]
    for age, part in enumerate(reversed(files)):
        name = path if not age else path.with_name(f"1.log.{age}")
        name.write_bytes(b"".join(line + b"\n" for line in part))
    if unfinished:
        with path.open("ab") as file:
            file.write(b"u" * unfinished)
        whole.append(b"u" * unfinished)
    with LogReader(source(path)) as reader:
        reader.from_last(number)
        got = texts(reader.read())
        last = reader.unfinished()
    if last is not None:
        assert not last.ends
        got.append(last.data)
    assert got == (whole[-number:] if number else [])


def test_an_unfinished_line_counts_as_one_and_says_that_it_is(tmp_path: Path) -> None:
    path = tmp_path / "1.log"
    path.write_bytes(b"one\ntwo\nthr")
    with LogReader(source(path)) as reader:
        reader.from_last(2)
        assert texts(reader.read()) == [b"two"]
        assert reader.unfinished() == Record(None, "mail/1", "out", b"thr", ends=False)
        with path.open("ab") as file:
            file.write(b"ee\nfour\n")
        assert list(reader.read()) == [
            Record(None, "mail/1", "out", b"ee", begins=False),
            Record(None, "mail/1", "out", b"four"),
        ]


@pytest.mark.parametrize(
    ("since", "first"), [(0, 0), (100, 0), (100.5, 1), (109, 9), (109.5, 10), (110, 10), (125, 25), (130, 30)]
)
def test_lines_since_a_time_are_found_over_rotated_files(tmp_path: Path, since: float, first: int) -> None:
    path = tmp_path / "1.log"
    lines = three_files(path)
    with LogReader(source(path)) as reader:
        reader.from_time(int(since * SECOND))
        assert [(r.time, r.data) for r in reader.read()] == lines[first:]


def test_a_line_that_began_before_the_time_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "1.log"
    path.write_bytes(b"a long line, the end of it\nnext\n")
    path.with_name("1.log.idx").write_bytes(output.STAMP.pack(0, 100) + output.STAMP.pack(10, 200))
    with LogReader(source(path)) as reader:
        reader.from_time(150)
        assert [(r.time, r.data) for r in reader.read()] == [(200, b"next")]


def test_an_index_may_lack_records_or_promise_too_much(tmp_path: Path) -> None:
    path = tmp_path / "1.log"
    path.write_bytes(b"one\ntwo\n")
    path.with_name("1.log.idx").write_bytes(
        output.STAMP.pack(4, 200) + output.STAMP.pack(8, 300) + output.STAMP.pack(8, 400) + b"half"
    )
    with LogReader(source(path)) as reader:
        reader.from_start()
        assert [r.time for r in reader.read()] == [None, 200]
        with path.open("ab") as file:
            file.write(b"three\n")
        assert [r.time for r in reader.read()] == [400]


def test_without_an_index_lines_have_no_time_and_count_by_the_files_age(tmp_path: Path) -> None:
    path = tmp_path / "1.log"
    old, new = path.with_name("1.log.1"), path
    old.write_bytes(b"old\n")
    new.write_bytes(b"new\n")
    os.utime(old, (1000, 1000))
    os.utime(new, (2000, 2000))
    for since, expected in ((500, [b"old", b"new"]), (1500, [b"new"]), (2500, [])):
        with LogReader(source(path)) as reader:
            reader.from_time(since * SECOND)
            assert texts(reader.read()) == expected


def test_a_long_index_is_read_in_parts(tmp_path: Path) -> None:
    path = tmp_path / "1.log"
    lines = [(i, b"%d" % i) for i in range(20_000)]
    write_log(path, lines)
    with LogReader(source(path)) as reader:
        reader.from_start()
        assert [(r.time, r.data) for r in reader.read()] == lines
        reader.from_time(15_000)
        assert [(r.time, r.data) for r in reader.read()] == lines[15_000:]


def test_logs_are_found_by_service_and_number(tmp_path: Path) -> None:
    for name in (
        "mail/2.log",
        "mail/10.log",
        "mail/2.err.log",
        "web/1.log",
        "web/1.log.1",
        "web/1.log.idx",
        "web/x.log",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = logs.sources(tmp_path)
    assert [(each.process, each.stream) for each in found] == [
        ("mail/2", "out"), ("mail/2", "err"), ("mail/10", "out"), ("web/1", "out"),
    ]  # fmt: skip
    assert all(each.path == logs.log_path(tmp_path, each.process, each.stream) for each in found)
    assert logs.sources(tmp_path / "absent") == []


# ----------------------------------------------------------------------------------------------------------- long lines


def test_a_long_line_comes_in_pieces_that_cut_no_character(tmp_path: Path) -> None:
    path = tmp_path / "1.log"
    line = "x" + "€" * 400_000
    path.write_bytes(line.encode() + b"\nshort\n")
    with LogReader(source(path)) as reader:
        reader.from_start()
        got = list(reader.read())
    assert b"".join(record.data for record in got[:-1]).decode() == line
    assert "".join(record.data.decode() for record in got[:-1]) == line
    assert [record.begins for record in got[:-1]] == [True] + [False] * (len(got) - 2)
    assert [record.ends for record in got[:-1]] == [False] * (len(got) - 2) + [True]
    assert got[-1].data == b"short"
    assert got[-1].begins


def test_bytes_that_are_no_text_are_cut_anywhere_but_kept(tmp_path: Path) -> None:
    path = tmp_path / "1.log"
    path.write_bytes(b"\x80" * 700_000 + b"\n")
    with LogReader(source(path)) as reader:
        reader.from_start()
        assert b"".join(texts(reader.read())) == b"\x80" * 700_000


def test_memory_stays_bounded_with_lines_of_many_megabytes(tmp_path: Path) -> None:
    path = tmp_path / "1.log"
    with path.open("wb") as file:
        for _ in range(4):
            for _ in range(10):
                file.write(b"x" * 1_000_000)
            file.write(b"\n")
    tracemalloc.start()
    try:
        with LogReader(source(path)) as reader:
            reader.from_start()
            assert sum(len(record.data) for record in reader.read()) == 40_000_000
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()


# ------------------------------------------------------------------------------------------------------------- merging


def test_several_logs_come_in_the_order_of_time(tmp_path: Path) -> None:
    chance = random.Random(3)
    times = sorted(chance.sample(range(1_000, 9_000), 300))
    parts: dict[str, list[tuple[int, bytes]]] = {"mail/1": [], "mail/2": [], "web/1": []}
    for when in times:
        parts[chance.choice(list(parts))].append((when, b"at %d" % when))
    for process, lines in parts.items():
        write_log(logs.log_path(tmp_path, process), lines)
    readers = [LogReader(each) for each in logs.sources(tmp_path)]
    for reader in readers:
        reader.from_start()
    got = list(logs.merged(readers))
    for reader in readers:
        reader.close()
    assert [record.time for record in got] == times
    assert {record.process for record in got} == set(parts)


def test_lines_without_a_time_stay_behind_the_line_before_them(tmp_path: Path) -> None:
    write_log(tmp_path / "a.log", [(5, b"a5"), (9, b"a9")])
    (tmp_path / "b.log").write_bytes(b"b?\n")
    write_log(tmp_path / "c.log", [(7, b"c7")])
    readers = [LogReader(Source(name, tmp_path / f"{name}.log")) for name in "abc"]
    for reader in readers:
        reader.from_start()
    assert texts(logs.merged(readers)) == [b"b?", b"a5", b"c7", b"a9"]
    for reader in readers:
        reader.close()


# ----------------------------------------------------------------------------------------------------------- following


class Follower:
    """`follow` in a thread; what it gave out so far."""

    def __init__(self, readers: Sequence[LogReader], interval: float = 0.01) -> None:
        self.records: list[Record] = []
        self._stop = threading.Event()
        self._readers = readers
        self._interval = interval
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        for record in logs.follow(
            self._readers, self._stop.is_set, interval=self._interval, pause=self._stop.wait
        ):
            self.records.append(record)

    def __enter__(self) -> Follower:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> list[Record]:
        self._stop.set()
        self._thread.join()
        for reader in self._readers:
            reader.close()
        return self.records


PRINTER = """
import os, sys, time
name = sys.argv[1].encode()
for i in range(int(sys.argv[2])):
    os.write(1, b"%s %07d " % (name, i) + b"x" * (i % 180) + b"\\n")
    if i % 500 == 499: time.sleep(0.001)
"""


def test_following_misses_and_doubles_no_line_while_files_rotate(site: Keeper, tmp_path: Path) -> None:
    """Two processes print into files of 30 kB that are rotated all the time; output is killed on the way. More files
    are kept than they fill, since a reader that is late by all that is kept does miss lines."""
    lines = 30_000
    processes = []
    readers = []
    for name in ("a", "b"):
        path = tmp_path / f"{name}.log"
        read, write = os.pipe()
        site.attach(name, path, read, max_bytes=30_000, keep=200)
        readers.append(LogReader(Source(name, path)))
        processes.append(
            subprocess.Popen([sys.executable, "-I", "-c", PRINTER, name, str(lines)], stdout=write)
        )
        os.close(write)
    with Follower(readers) as follower:
        for part in range(1, 5):

            def enough(wanted: int = part * 5_000) -> bool:
                site.hear(wait=False)
                return len(follower.records) > wanted

            eventually(enough)
            site.kill()
            site.start()
        site.until_closed(*list(site.attached))
        for process in processes:
            assert process.wait() == 0
        eventually(lambda: len(follower.records) >= 2 * lines, what="lines are missing")
    for name in ("a", "b"):
        got = [int(record.data.split()[1]) for record in follower.records if record.process == name]
        assert got == list(range(lines))
    assert all(record.begins and record.ends for record in follower.records)
    assert len(list(tmp_path.glob("a.log.*"))) > 20


@pytest.mark.parametrize("deleted", [False, True])
def test_the_start_of_a_line_that_rotation_moves_after_it_was_read_does_not_come_twice(
    tmp_path: Path, deleted: bool
) -> None:
    path = tmp_path / "1.log"
    path.write_bytes(b"")
    with LogReader(source(path)) as reader:
        path.write_bytes(b"one\ntwo\nthr")
        assert texts(reader.read()) == [b"one", b"two"]
        os.truncate(path, 8)
        assert texts(reader.read()) == []
        path.rename(tmp_path / "1.log.1")
        assert texts(reader.read()) == []
        if deleted:
            (tmp_path / "1.log.1").unlink()
        path.write_bytes(b"three\nfour\n")
        assert list(reader.read()) == [
            Record(None, "mail/1", "out", b"three"),
            Record(None, "mail/1", "out", b"four"),
        ]


def test_several_rotations_between_two_looks_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "1.log"
    path.write_bytes(b"one\n")
    with LogReader(source(path)) as reader:
        reader.from_start()
        assert texts(reader.read()) == [b"one"]
        path.rename(tmp_path / "1.log.3")
        (tmp_path / "1.log.2").write_bytes(b"two\n")
        (tmp_path / "1.log.1").write_bytes(b"three\n")
        path.write_bytes(b"four\n")
        assert texts(reader.read()) == [b"two", b"three", b"four"]


def test_times_come_with_followed_lines_and_rise(site: Keeper, tmp_path: Path) -> None:
    path = tmp_path / "1.log"
    read, write = os.pipe()
    site.attach("mail/1#1", path, read, max_bytes=5_000, keep=50)
    before = time.time_ns() // 1000
    with Follower([LogReader(source(path))]) as follower:
        for number in range(300):
            os.write(write, b"line %d of these\n" % number)
        os.close(write)
        site.until_closed("mail/1#1")
        eventually(lambda: len(follower.records) == 300)
    times = [record.time for record in follower.records if record.time is not None]
    assert len(times) == 300
    assert before <= times[0]
    assert times == sorted(times)
    assert times[-1] <= time.time_ns() // 1000


def test_following_waits_for_files_that_do_not_exist_yet(tmp_path: Path) -> None:
    path = tmp_path / "log" / "1.log"
    with Follower([LogReader(source(path))]) as follower:
        path.parent.mkdir()
        path.write_bytes(b"first\n")
        eventually(lambda: texts(iter(follower.records)) == [b"first"])


def test_a_prompt_is_shown_after_a_second_and_its_rest_as_a_piece(tmp_path: Path) -> None:
    path = tmp_path / "1.log"
    path.write_bytes(b"")
    with Follower([LogReader(source(path))]) as follower, path.open("ab", buffering=0) as file:
        file.write(b"password: ")
        eventually(lambda: follower.records)
        file.write(b"typed\n")
        eventually(lambda: len(follower.records) == 2)
    assert [(r.data, r.begins, r.ends) for r in follower.records] == [
        (b"password: ", True, False),
        (b"typed", False, True),
    ]


def test_what_is_unfinished_comes_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "1.log"
    path.write_bytes(b"")
    follower = Follower([LogReader(source(path))])
    path.write_bytes(b"whole\nunfin")
    eventually(lambda: len(follower.records) == 1)
    assert [(r.data, r.ends) for r in follower.stop()] == [(b"whole", True), (b"unfin", False)]


def test_a_file_that_somebody_emptied_is_followed_from_its_start(tmp_path: Path) -> None:
    path = tmp_path / "1.log"
    path.write_bytes(b"x" * 100 + b"\n")
    with Follower([LogReader(source(path))]) as follower:
        with path.open("ab", buffering=0) as file:
            file.write(b"before\n")
        eventually(lambda: len(follower.records) == 1)
        path.write_bytes(b"after\n")
        eventually(lambda: len(follower.records) == 2)
    assert texts(iter(follower.records)) == [b"before", b"after"]


def test_a_file_that_was_removed_and_made_anew_is_followed_without_older_lines(tmp_path: Path) -> None:
    path = tmp_path / "1.log"
    path.with_name("1.log.1").write_bytes(b"very old\n")
    os.utime(path.with_name("1.log.1"), (1000, 1000))
    path.write_bytes(b"old\n")
    with Follower([LogReader(source(path))]) as follower:
        path.unlink()
        path.write_bytes(b"new\n")
        eventually(lambda: texts(iter(follower.records)) == [b"new"])


def test_a_noisy_process_does_not_keep_others_from_being_read(tmp_path: Path) -> None:
    """A round ends where the files ended when it began, though one of them grows for ever."""
    noisy, quiet = tmp_path / "noisy.log", tmp_path / "quiet.log"
    noisy.write_bytes(b"")
    quiet.write_bytes(b"")
    readers = [LogReader(Source("noisy", noisy)), LogReader(Source("quiet", quiet))]
    with noisy.open("ab", buffering=0) as file:
        file.write(b"x\n" * 10)
        got = []
        for record in logs.merged(readers):
            file.write(b"x\n")
            got.append(record)
            assert len(got) <= 10
    for reader in readers:
        reader.close()
    assert len(got) == 10


def test_files_that_may_not_be_read_are_an_error_that_names_them(tmp_path: Path) -> None:
    path = tmp_path / "1.log"
    path.mkdir()  # even root cannot read a directory as a file
    with pytest.raises(IsADirectoryError), LogReader(source(path)) as reader:
        reader.from_start()
        list(reader.read())


def test_what_output_wrote_is_read_back_exactly(site: Keeper, tmp_path: Path) -> None:
    path = tmp_path / "1.log"
    chance = random.Random(11)
    lines = [chance.randbytes(chance.choice([0, 3, 80, 5_000])).replace(b"\n", b"") for _ in range(2_000)]
    read, write = os.pipe()
    site.attach("mail/1#1", path, read, max_bytes=200_000, keep=100)
    with os.fdopen(write, "wb") as file:
        for line in lines:
            file.write(line + b"\n")
    site.until_closed("mail/1#1")
    assert len(content(path)) == sum(len(line) + 1 for line in lines)
    with LogReader(source(path)) as reader:
        reader.from_start()
        assert texts(reader.read()) == lines


def test_a_file_that_was_rotated_before_its_index_was_found_has_its_times_all_the_same(
    tmp_path: Path,
) -> None:
    path = tmp_path / "1.log"
    path.touch()
    with LogReader(source(path)) as reader:
        reader.from_start()
        assert texts(reader.read()) == []  # the file is open, and there is no index yet
        with path.open("ab") as log:
            log.write(b"one\n")
        path.rename(tmp_path / "1.log.1")
        (tmp_path / "1.log.1.idx").write_bytes(output.STAMP.pack(0, 5 * SECOND))
        write_log(path, [(6 * SECOND, b"two")])
        assert [(record.data, record.time) for record in reader.read()] == [
            (b"one", 5 * SECOND),
            (b"two", 6 * SECOND),
        ]
