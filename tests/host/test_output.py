"""Output with real pipes, real files and real processes."""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import random
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coserver.host import output
from tests.host.outputs import Keeper, content, eventually, keeper, log_files, pss_bytes


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Keeper]:
    with keeper(tmp_path) as it:
        yield it


def write_and_close(fd: int, data: bytes) -> None:
    output.write_all(fd, data)
    os.close(fd)


def marks(path: Path) -> list[tuple[int, int]]:
    data = path.with_name(path.name + ".idx").read_bytes()
    assert len(data) % 16 == 0
    return [(offset, wall) for offset, wall in output.STAMP.iter_unpack(data)]


PRINTER = """
import os, sys
number, size = int(sys.argv[1]), int(sys.argv[2])
name = sys.argv[3].encode()
block = []
for i in range(number):
    line = b"%s %07d " % (name, i)
    block.append(line + b"x" * (size - len(line) - 1) + b"\\n")
    if len(block) == 97:
        data = b"".join(block); block.clear()
        while data:
            data = data[os.write(1, data):]
data = b"".join(block)
while data:
    data = data[os.write(1, data):]
"""


def printer(lines: int, size: int, name: str, stdout: int) -> subprocess.Popen[bytes]:
    """A process that prints numbered lines of `size` bytes as fast as it can; closes our `stdout`."""
    process = subprocess.Popen(
        [sys.executable, "-I", "-c", PRINTER, str(lines), str(size), name], stdout=stdout
    )
    os.close(stdout)
    return process


def expected(lines: int, size: int, name: str) -> bytes:
    made = bytearray()
    for i in range(lines):
        line = f"{name} {i:07d} ".encode()
        made += line + b"x" * (size - len(line) - 1) + b"\n"
    return bytes(made)


# ------------------------------------------------------------------------------------------------------------- writing


def test_the_file_holds_exactly_the_bytes_that_were_printed(site: Keeper, tmp_path: Path) -> None:
    data = bytes(range(256)) * 3000 + b"\xff\xfe invalid \xc3 utf-8 \x00\n" + b"no line end"
    path = tmp_path / "log" / "mail" / "1.log"
    read, write = os.pipe()
    site.attach("mail/1#1", path, read)
    threading.Thread(target=write_and_close, args=(write, data)).start()
    site.until_closed("mail/1#1")
    assert path.read_bytes() == data
    assert site.closed["mail/1#1", "out"]["bytes"] == len(data)
    assert site.closed["mail/1#1", "out"]["discarded"] == 0


def test_directories_and_files_are_the_owners_alone(site: Keeper, tmp_path: Path) -> None:
    path = tmp_path / "log" / "mail" / "1.log"
    read, write = os.pipe()
    site.attach("mail/1#1", path, read)
    write_and_close(write, b"secret\n")
    site.until_closed("mail/1#1")
    assert [oct(each.stat().st_mode & 0o777) for each in (path.parent.parent, path.parent, path)] == [
        "0o700",
        "0o700",
        "0o600",
    ]


def test_a_file_that_is_there_is_continued_on_a_line_of_its_own(site: Keeper, tmp_path: Path) -> None:
    path = tmp_path / "1.log"
    path.write_bytes(b"killed in the middle of")
    read, write = os.pipe()
    site.attach("mail/1#2", path, read)
    write_and_close(write, b"next run\n")
    site.until_closed("mail/1#2")
    assert path.read_bytes() == b"killed in the middle of\nnext run\n"


def test_two_runs_in_one_file_do_not_share_a_line(site: Keeper, tmp_path: Path) -> None:
    """A descendant of the first run still holds its pipe while the second run prints."""
    path = tmp_path / "1.log"
    old_read, old = os.pipe()
    new_read, new = os.pipe()
    site.attach("mail/1#1", path, old_read)
    site.attach("mail/1#2", path, new_read)
    os.write(old, b"half")
    eventually(lambda: content(path) == b"half")
    os.write(new, b"whole\n")
    eventually(lambda: content(path) == b"half\nwhole\n")
    write_and_close(old, b"late\n")
    site.until_closed("mail/1#1")
    os.close(new)
    site.until_closed("mail/1#2")
    assert path.read_bytes() == b"half\nwhole\nlate\n"


def test_stderr_may_have_a_file_of_its_own(site: Keeper, tmp_path: Path) -> None:
    out_read, out = os.pipe()
    err_read, err = os.pipe()
    site.attach("mail/1#1", tmp_path / "1.log", out_read)
    site.attach("mail/1#1", tmp_path / "1.err.log", err_read, stream="err")
    write_and_close(out, b"to out\n")
    write_and_close(err, b"to err\n")
    site.until_closed(("mail/1#1", "out"), ("mail/1#1", "err"))
    assert (tmp_path / "1.log").read_bytes() == b"to out\n"
    assert (tmp_path / "1.err.log").read_bytes() == b"to err\n"


def test_lines_of_five_megabytes_stay_whole_under_rotation(site: Keeper, tmp_path: Path) -> None:
    path = tmp_path / "1.log"
    lines = [bytes([65 + i]) * 5_000_000 + b"\n" for i in range(7)]
    read, write = os.pipe()
    site.attach("mail/1#1", path, read, max_bytes=6_000_000, keep=20)
    threading.Thread(target=write_and_close, args=(write, b"".join(lines))).start()
    site.until_closed("mail/1#1")
    assert content(path) == b"".join(lines)
    files = log_files(path)
    assert len(files) >= 3
    assert all(each.read_bytes().endswith(b"\n") for each in files if each.stat().st_size)


# ------------------------------------------------------------------------------------------------------------ rotation


def test_rotation_keeps_every_byte_in_order_and_no_line_is_split(site: Keeper, tmp_path: Path) -> None:
    path = tmp_path / "1.log"
    read, write = os.pipe()
    site.attach("mail/1#1", path, read, max_bytes=300_000, keep=100)
    process = printer(60_000, 100, "mail", write)
    site.until_closed("mail/1#1")
    assert process.wait() == 0
    assert content(path) == expected(60_000, 100, "mail")
    files = log_files(path)
    assert len(files) > 10
    assert all(each.read_bytes().endswith(b"\n") for each in files[:-1])
    assert all(250_000 < each.stat().st_size < 400_000 for each in files[:-1])


def test_only_so_many_old_files_are_kept_with_their_indexes(site: Keeper, tmp_path: Path) -> None:
    path = tmp_path / "log" / "1.log"
    read, write = os.pipe()
    site.attach("mail/1#1", path, read, max_bytes=50_000, keep=2)
    process = printer(5_000, 100, "mail", write)
    site.until_closed("mail/1#1")
    process.wait()
    assert sorted(each.name for each in path.parent.iterdir()) == [
        "1.log", "1.log.1", "1.log.1.idx", "1.log.2", "1.log.2.idx", "1.log.idx",
    ]  # fmt: skip
    assert expected(5_000, 100, "mail").endswith(content(path))


def test_keep_0_leaves_only_the_current_file(site: Keeper, tmp_path: Path) -> None:
    path = tmp_path / "log" / "1.log"
    read, write = os.pipe()
    site.attach("mail/1#1", path, read, max_bytes=50_000, keep=0)
    process = printer(5_000, 100, "mail", write)
    site.until_closed("mail/1#1")
    process.wait()
    assert sorted(each.name for each in path.parent.iterdir()) == ["1.log", "1.log.idx"]
    assert expected(5_000, 100, "mail").endswith(path.read_bytes())


def test_fewer_kept_files_than_before_removes_the_rest(site: Keeper, tmp_path: Path) -> None:
    path = tmp_path / "log" / "1.log"
    path.parent.mkdir()
    for number in range(1, 6):
        path.with_name(f"1.log.{number}").write_bytes(b"old\n")
        path.with_name(f"1.log.{number}.idx").write_bytes(b"")
    read, write = os.pipe()
    site.attach("mail/1#1", path, read, max_bytes=50_000, keep=2)
    write_and_close(write, b"x\n")
    site.until_closed("mail/1#1")
    assert [each.name for each in log_files(path)] == ["1.log.2", "1.log.1", "1.log"]
    assert not path.with_name("1.log.3.idx").exists()


def test_the_keeper_gets_the_current_file_after_opening_and_after_rotation(
    site: Keeper, tmp_path: Path
) -> None:
    path = tmp_path / "1.log"
    read, write = os.pipe()
    site.attach("mail/1#1", path, read, max_bytes=10_000, keep=1)
    site.until_files()
    first = site.attached["mail/1#1", "out"].file
    assert first is not None
    assert os.fstat(first).st_ino == path.stat().st_ino
    output.write_all(write, b"x" * 99 + b"\n")
    before = path.stat().st_ino
    output.write_all(write, (b"y" * 99 + b"\n") * 200)

    def told() -> bool:
        site.hear(wait=False)
        held = site.attached["mail/1#1", "out"].file
        assert held is not None
        return os.fstat(held).st_ino == path.stat().st_ino != before

    eventually(told)
    os.close(write)
    site.until_closed("mail/1#1")


class Died(BaseException):
    """The process ends between two system calls; nothing of it runs any more."""


def live(pipe: int, path: Path, keep: int) -> None:
    """One life of the output process over a pipe that outlives it, in small chunks, until the pipe is empty."""
    log = output.Log(str(path), 2_000, keep, set())
    stream = output.Stream(None, "mail/1#1", "out", pipe, log, True, 0.0)  # type: ignore[arg-type]
    try:
        while log.accept(stream, 700, 0.0):
            pass
    finally:
        log.close_file()


@pytest.mark.parametrize("keep", [0, 1, 2, 40])
def test_a_rotation_interrupted_between_any_two_calls_is_finished_by_the_next_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: int
) -> None:
    lines = b"".join(b"%04d " % i + b"." * (i * 37 % 150) + b"\n" for i in range(400))
    calls = fatal = 0

    def mortal(name: str) -> None:
        original = getattr(os, name)

        def call(*args: object, **kwargs: object) -> object:
            nonlocal calls
            calls += 1
            if calls == fatal:
                raise Died
            return original(*args, **kwargs)

        monkeypatch.setattr(os, name, call)

    for name in ("rename", "replace", "truncate", "ftruncate", "unlink", "write", "open", "splice"):
        mortal(name)
    deaths = 0
    for number in range(1, 140):
        path = tmp_path / str(number) / "1.log"
        read, write = os.pipe()
        os.set_blocking(read, False)
        output.write_all(write, lines)
        calls, fatal = 0, number * 2 + keep % 2
        try:
            live(read, path, keep)
        except Died:
            deaths += 1
        fatal = 0
        live(read, path, keep)
        os.close(read)
        os.close(write)
        kept = content(path)
        assert kept == lines if keep == 40 else lines.endswith(kept)
        assert len(kept) >= min(len(lines), 2_000 * keep)
        names = {each.name for each in path.parent.iterdir()}
        files = {each.name for each in log_files(path)}
        assert names <= files | {name + ".idx" for name in files}
        assert all(each.read_bytes().endswith(b"\n") for each in log_files(path) if each.stat().st_size)
    assert deaths > 90


# ---------------------------------------------------------------------------------------------------- kill -9, restart


def test_kill_9_of_output_at_load_loses_no_byte_and_doubles_none(site: Keeper, tmp_path: Path) -> None:
    """N8, output's part: fifteen deaths while three processes print, over rotating files."""
    lines = 400_000
    processes = []
    for name in ("a", "b", "c"):
        read, write = os.pipe()
        site.attach(name, tmp_path / f"{name}.log", read, max_bytes=1_500_000, keep=1000)
        processes.append(printer(lines, 101, name, write))
    chance = random.Random(7)
    while site.starts < 16:
        deadline = time.monotonic() + chance.uniform(0.01, 0.12)
        while time.monotonic() < deadline:
            site.hear(wait=False)
        if not site.attached:
            break
        site.kill()
        site.start()
    site.until_closed(*list(site.attached))
    assert site.starts > 5, "the printers were too quick to prove anything"
    for name, process in zip("abc", processes, strict=True):
        assert process.wait() == 0
        assert content(tmp_path / f"{name}.log") == expected(lines, 101, name)


def test_after_a_restart_a_line_goes_on_where_it_was(site: Keeper, tmp_path: Path) -> None:
    path = tmp_path / "1.log"
    read, write = os.pipe()
    site.attach("mail/1#1", path, read)
    os.write(write, b"first half, ")
    eventually(lambda: content(path) == b"first half, ")
    site.until_files()
    site.kill()
    os.write(write, b"second half\n")
    site.start()
    os.close(write)
    site.until_closed("mail/1#1")
    assert path.read_bytes() == b"first half, second half\n"


def test_signals_to_the_whole_group_do_not_end_output(site: Keeper, tmp_path: Path) -> None:
    read, write = os.pipe()
    site.attach("mail/1#1", tmp_path / "1.log", read)
    site.until_files()
    for number in (1, 2, 3, 15):
        os.kill(site.process.pid, number)
    write_and_close(write, b"after the signals\n")
    site.until_closed("mail/1#1")
    assert (tmp_path / "1.log").read_bytes() == b"after the signals\n"


# -------------------------------------------------------------------------------------------------------------- ending


def test_detach_takes_what_is_in_the_pipe_and_closes_it(site: Keeper, tmp_path: Path) -> None:
    read, write = os.pipe()
    site.attach("mail/1#1", tmp_path / "1.log", read)
    os.write(write, b"x" * 60_000)
    site.send({"op": "detach", "id": "mail/1#1"})
    site.until_closed("mail/1#1")
    assert (tmp_path / "1.log").stat().st_size == 60_000
    with pytest.raises(BrokenPipeError):
        os.write(write, b"nobody reads this any more")
    os.close(write)


def test_detach_ends_although_somebody_goes_on_printing(site: Keeper, tmp_path: Path) -> None:
    read, write = os.pipe()
    noisy = subprocess.Popen([sys.executable, "-c", "while True: print('x' * 1000)"], stdout=write, stderr=-3)
    os.close(write)
    try:
        site.attach("mail/1#1", tmp_path / "1.log", read, max_bytes=1_000_000, keep=1)
        eventually(lambda: content(tmp_path / "1.log"))
        site.send({"op": "detach", "id": "mail/1#1"})
        site.until_closed("mail/1#1")
    finally:
        noisy.kill()
        noisy.wait()


def test_last_words_are_taken_after_the_keeper_has_gone(tmp_path: Path) -> None:
    with keeper(tmp_path) as site:
        read, write = os.pipe()
        site.attach("mail/1#1", tmp_path / "1.log", read)
        site.until_files()
        site.socket.shutdown(2)
        site.attached.pop(("mail/1#1", "out"))
        os.close(read)
        os.write(write, b"stopping\n")
        eventually(lambda: content(tmp_path / "1.log") == b"stopping\n")
        assert site.process.poll() is None
        write_and_close(write, b"stopped\n")
        assert site.process.wait(20) == 0
    assert (tmp_path / "1.log").read_bytes() == b"stopping\nstopped\n"


def test_without_pipes_it_leaves_with_the_keeper(site: Keeper) -> None:
    site.socket.shutdown(2)
    assert site.process.wait(20) == 0


def test_a_keeper_of_another_version_is_left_with_a_word(site: Keeper) -> None:
    site.socket.sendall(b"GET / HTTP/1.1\r\n\r\n")
    assert site.process.wait(20) == 0
    assert "different versions" in site.stderr.read_text()


# -------------------------------------------------------------------------------------------------------- what may fail


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one mebibyte."""
    where = tmp_path / "disk"
    where.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(where)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip(
            "needs the right to mount a file system; a limit on file size stands for it in the next test"
        )
    yield where
    subprocess.run(["umount", "-l", str(where)], check=True)


def test_a_full_disk_stalls_no_child_and_the_gap_is_written_down(
    site: Keeper, tmp_path: Path, small_disk: Path
) -> None:
    path = small_disk / "1.log"
    read, write = os.pipe()
    site.attach("mail/1#1", path, read)
    process = printer(30_000, 100, "mail", write)
    assert process.wait(20) == 0  # three megabytes into one
    site.until_closed("mail/1#1")
    assert int(str(site.closed["mail/1#1", "out"]["discarded"])) > 1_500_000
    said = site.stderr.read_text()
    assert said.count("cannot write") == 1
    assert "No space left on device; free some space" in said

    read, write = os.pipe()
    site.attach("mail/1#2", path, read)
    os.write(write, b"lost\n")
    eventually(lambda: site.stderr.read_text().count("cannot write") == 2)
    (small_disk / "1.log.idx").unlink()
    os.truncate(path, 1000)
    eventually(
        lambda: (
            b"*** coserver: 5 bytes of output are missing here: No space left on device ***\n"
            in content(path)
        )
    )
    write_and_close(write, b"found\n")
    site.until_closed("mail/1#2")
    assert path.read_bytes().endswith(b"***\nfound\n")


def test_a_file_that_may_not_grow_stalls_no_child(site: Keeper, tmp_path: Path) -> None:
    path = tmp_path / "1.log"
    read, write = os.pipe()
    site.attach("mail/1#1", path, read)
    site.until_files()
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.prlimit(site.process.pid, resource.RLIMIT_FSIZE, (500_000, hard))
    process = printer(20_000, 100, "mail", write)
    assert process.wait(20) == 0  # two megabytes into half a one
    site.until_closed("mail/1#1")
    assert site.closed["mail/1#1", "out"]["discarded"] == 1_500_000
    assert site.stderr.read_text().count("cannot write") == 1
    assert content(path) == expected(20_000, 100, "mail")[:500_000]


def test_where_no_new_file_can_be_made_the_old_one_goes_on(site: Keeper, tmp_path: Path) -> None:
    path = tmp_path / "1.log"
    (tmp_path / "1.log.new").mkdir()
    read, write = os.pipe()
    site.attach("mail/1#1", path, read, max_bytes=50_000)
    process = printer(40_000, 100, "mail", write)
    assert process.wait(20) == 0
    site.until_closed("mail/1#1")
    assert path.read_bytes() == expected(40_000, 100, "mail")
    assert site.stderr.read_text().count("cannot rotate") == 1


def test_where_no_directory_can_be_made_output_is_discarded_until_it_can(
    site: Keeper, tmp_path: Path
) -> None:
    (tmp_path / "log").write_text("a file where a directory should be")
    path = tmp_path / "log" / "1.log"
    read, write = os.pipe()
    site.attach("mail/1#1", path, read)
    output.write_all(write, b"x" * 200_000)  # more than a pipe holds
    eventually(lambda: "make it writable" in site.stderr.read_text())
    (tmp_path / "log").unlink()
    eventually(lambda: b"200000 bytes of output are missing here" in content(path))
    write_and_close(write, b"here again\n")
    site.until_closed("mail/1#1")
    assert path.read_bytes().endswith(b"***\nhere again\n")


def test_a_file_that_somebody_moved_is_made_anew(site: Keeper, tmp_path: Path) -> None:
    path = tmp_path / "1.log"
    read, write = os.pipe()
    site.attach("mail/1#1", path, read)
    os.write(write, b"one\n")
    eventually(lambda: content(path) == b"one\n")
    path.rename(tmp_path / "moved")

    def anew() -> bool:
        os.write(write, b"two\n")
        return path.exists()

    eventually(anew)
    os.close(write)
    site.until_closed("mail/1#1")
    lines = (tmp_path / "moved").read_bytes() + path.read_bytes()
    assert lines.startswith(b"one\ntwo\n")
    assert set(lines.split()) == {b"one", b"two"}


def test_a_file_that_somebody_emptied_is_continued_at_its_start(site: Keeper, tmp_path: Path) -> None:
    path = tmp_path / "1.log"
    read, write = os.pipe()
    site.attach("mail/1#1", path, read)
    os.write(write, b"x" * 1000 + b"\n")
    eventually(lambda: len(content(path)) == 1001)
    os.truncate(path, 0)
    os.write(write, b"from the start\n")
    os.close(write)
    site.until_closed("mail/1#1")
    assert path.read_bytes() == b"from the start\n"
    assert [offset for offset, _ in marks(path)] == [0]


def test_a_file_system_without_splice_is_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*args: object, **kwargs: object) -> int:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "splice", refuses)
    data = b"".join(b"%05d\n" % i for i in range(5_000))
    read, write = os.pipe()
    os.set_blocking(read, False)
    write_and_close(write, data)
    live(read, tmp_path / "1.log", 40)
    os.close(read)
    assert content(tmp_path / "1.log") == data


# -------------------------------------------------------------------------------------------------------------- index


def test_the_index_tells_when_bytes_came(site: Keeper, tmp_path: Path) -> None:
    path = tmp_path / "1.log"
    read, write = os.pipe()
    before = time.time_ns() // 1000
    site.attach("mail/1#1", path, read)
    offsets = []
    for number in range(3):
        offsets.append(number * 6)
        os.write(write, b"line%d\n" % number)
        eventually(lambda n=number: len(content(path)) == 6 * (n + 1))  # type: ignore[misc]
        time.sleep(0.002)  # two records are at least a millisecond apart
    os.close(write)
    site.until_closed("mail/1#1")
    after = time.time_ns() // 1000
    assert [offset for offset, _ in marks(path) if offset < path.stat().st_size] == offsets
    times = [wall for _, wall in marks(path)]
    assert [before, *times, after] == sorted([before, *times, after])


def test_the_index_stays_small_under_load(site: Keeper, tmp_path: Path) -> None:
    path = tmp_path / "1.log"
    read, write = os.pipe()
    site.attach("mail/1#1", path, read)
    started = time.monotonic()
    process = printer(200_000, 100, "mail", write)
    site.until_closed("mail/1#1")
    elapsed = time.monotonic() - started
    process.wait()
    assert len(marks(path)) <= elapsed * 1000 + 1


# ----------------------------------------------------------------------------------------------------------- many pipes


def test_quiet_children_are_heard_beside_noisy_ones(site: Keeper, tmp_path: Path) -> None:
    noisy = []
    for number in range(4):
        read, write = os.pipe()
        site.attach(f"noisy/{number}#1", tmp_path / f"noisy{number}.log", read, max_bytes=1_000_000, keep=1)
        noisy.append(
            subprocess.Popen(
                [sys.executable, "-c", "import os\nwhile True: os.write(1, b'x' * 99 + b'\\n')"], stdout=write
            )
        )
        os.close(write)
    try:
        path = tmp_path / "quiet.log"
        read, write = os.pipe()
        site.attach("quiet/1#1", path, read)
        for number in range(20):
            os.write(write, b"line\n")
            eventually(lambda n=number: len(content(path)) == 5 * (n + 1), within=2.0)  # type: ignore[misc]
        for each in range(4):
            # The newest file may just have been begun.
            files = (tmp_path / f"noisy{each}.log", tmp_path / f"noisy{each}.log.1")
            assert any(file.exists() and file.stat().st_size for file in files)
        os.close(write)
    finally:
        for each_process in noisy:
            each_process.kill()
            each_process.wait()


def test_five_hundred_pipes_fit_into_twelve_megabytes(site: Keeper, tmp_path: Path) -> None:
    writes = []
    for number in range(500):
        read, write = os.pipe()
        site.attach(f"mail/{number}#1", tmp_path / "log" / f"{number}.log", read, max_bytes=20_000_000)
        writes.append(write)
    for number, write in enumerate(writes):
        os.write(write, b"hello from %d\n" % number)
    site.until_files()
    eventually(lambda: all((tmp_path / "log" / f"{n}.log").stat().st_size for n in range(500)))
    assert pss_bytes(site.process.pid) < 12 * 1024 * 1024
    for write in writes:
        os.close(write)
    site.until_closed(*[f"mail/{number}#1" for number in range(500)])
    for number in range(0, 500, 50):
        assert (tmp_path / "log" / f"{number}.log").read_bytes() == b"hello from %d\n" % number


def test_idle_output_does_nothing(site: Keeper, tmp_path: Path) -> None:
    """After a burst and the quiet second that follows it, not one system call."""
    read, write = os.pipe()
    site.attach("mail/1#1", tmp_path / "1.log", read)
    output.write_all(write, b"x" * 99 + b"\n")
    site.until_files()
    eventually(lambda: len(content(tmp_path / "1.log")) == 100)

    def switches() -> int:
        text = Path(f"/proc/{site.process.pid}/status").read_text()
        return sum(int(line.split()[1]) for line in text.splitlines() if "ctxt_switches" in line)

    time.sleep(0.1)
    before = switches()
    time.sleep(1.5)
    assert switches() - before <= 1
    os.close(write)
    site.until_closed("mail/1#1")


def test_a_busy_pipe_grows_and_shrinks_again(site: Keeper, tmp_path: Path) -> None:
    read, write = os.pipe()
    site.attach("mail/1#1", tmp_path / "1.log", read, max_bytes=10_000_000, keep=1)
    assert fcntl.fcntl(write, fcntl.F_GETPIPE_SZ) == 65536
    block = b"x" * 65536

    def grown() -> bool:
        for _ in range(32):
            output.write_all(write, block)
        return fcntl.fcntl(write, fcntl.F_GETPIPE_SZ) == 1024 * 1024

    eventually(grown)
    eventually(lambda: fcntl.fcntl(write, fcntl.F_GETPIPE_SZ) == 65536)
    os.close(write)
    site.until_closed("mail/1#1")


# -------------------------------------------------------------------------------------------------------------- frames

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8") | st.just("\udcff")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
MESSAGES = st.lists(st.tuples(st.dictionaries(st.text(), JSON, max_size=4), st.integers(0, 4)), max_size=6)


@settings(max_examples=150)
@given(messages=MESSAGES, cuts=st.lists(st.integers(0, 2000)))
def test_frames_come_out_as_they_went_in_however_they_are_cut(
    messages: list[tuple[dict[str, object], int]], cuts: list[int]
) -> None:
    stream = b"".join(output.encode(message, fds) for message, fds in messages)
    descriptors = list(range(1000, 1000 + sum(fds for _, fds in messages)))
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    decoder = output.Decoder()
    got = []
    given = list(descriptors)
    for low, high in itertools.pairwise(edges):
        got += decoder.feed(stream[low:high], given)
        given = []
    assert [message for message, _ in got] == [message for message, _ in messages]
    assert [len(fds) for _, fds in got] == [fds for _, fds in messages]
    assert [fd for _, fds in got for fd in fds] == descriptors


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"\xff\xff\xff\xff\0{}", "the limit is"),
        (b"\0\0\0\2\1{}", "names 1 descriptors and 0 came"),
        (b"\0\0\0\2\0[]", "not a JSON object"),
        (b"\0\0\0\1\0{", "cannot read a frame"),
        (b"\0\0\0\1\0\xff", "cannot read a frame"),
    ],
)
def test_what_is_no_frame_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(output.FrameError, match=says):
        output.Decoder().feed(data, [])
