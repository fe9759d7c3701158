from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from coserver.runtime.started import StartedFile, read_started


def test_what_began_and_has_not_ended_is_read(tmp_path: Path) -> None:
    file = StartedFile(tmp_path / "s")
    assert read_started(file.path) == []
    for job in (7, 2**62, 9):
        file.began(job, 1)
    file.ended(7, 1)
    file.ended(1234, 1)
    assert read_started(file.path) == [9, 2**62]
    file.close()
    assert read_started(file.path) == [9, 2**62]


def test_slots_are_used_again(tmp_path: Path) -> None:
    file = StartedFile(tmp_path / "s", slots=2)
    for job in range(1, 100):
        file.began(job, 1)
        assert read_started(file.path) == [job]
        file.ended(job, 1)
    file.close(remove=True)
    assert not file.path.exists()


def test_more_jobs_than_slots_means_unknown_for_good(tmp_path: Path) -> None:
    file = StartedFile(tmp_path / "s", slots=2)
    for job in (1, 2, 3):
        file.began(job, 1)
    assert read_started(file.path) is None
    for job in (1, 2, 3):
        file.ended(job, 1)
    assert read_started(file.path) is None
    file.close()


@pytest.mark.parametrize(
    "content", [b"", b"COSTART1", b"x" * 16, b"COSTART1" + b"\1\0\0\0" + b"\0" * 4, b"COSTART2" + b"\0" * 8]
)
def test_a_file_that_is_not_whole_means_unknown(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "s"
    path.write_bytes(content)
    assert read_started(path) is None
    assert read_started(tmp_path / "absent") is None


def _begin_and_die(path: Path) -> None:
    file = StartedFile(path)
    file.began(41, 1)
    file.began(42, 1)
    file.ended(41, 1)
    os.kill(os.getpid(), signal.SIGKILL)


def test_the_file_outlives_a_kill(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=_begin_and_die, args=(tmp_path / "s",))
    process.start()
    process.join(30)
    assert process.exitcode == -signal.SIGKILL
    process.close()
    assert read_started(tmp_path / "s") == [42]


def test_a_new_worker_begins_with_an_empty_file(tmp_path: Path) -> None:
    first = StartedFile(tmp_path / "s")
    first.began(1, 1)
    second = StartedFile(tmp_path / "s")
    first.ended(1, 1)
    assert read_started(tmp_path / "s") == []
    first.close()
    second.close()


def test_another_users_link_or_pipe_is_not_read_and_not_waited_for(tmp_path: Path) -> None:
    real = StartedFile(tmp_path / "s")
    real.close()
    (tmp_path / "link").symlink_to("s")
    os.mkfifo(tmp_path / "pipe")
    assert read_started(tmp_path / "s") == []
    assert read_started(tmp_path / "link") is None
    assert read_started(tmp_path / "pipe") is None
    assert read_started(tmp_path) is None
