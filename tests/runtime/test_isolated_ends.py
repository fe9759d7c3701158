"""What becomes of the processes beside a worker, of what they left behind, and of what is remembered of them."""

from __future__ import annotations

import errno
import json
import os
import socket
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from coserver.model.job import Claimed, Input, State
from coserver.runtime import isolated
from coserver.store.contract import Store
from tests.runtime import apart
from tests.runtime.test_isolated import alive, apart_working
from tests.runtime.workers import auntil, fresh, in_loop, results, submit


@pytest.mark.parametrize("escaped", [False, True], ids=["in its group", "in a session of its own"])
def test_a_program_that_goes_on_printing_after_its_job_died_stops_nobody(
    store: Store, tmp_path: Path, escaped: bool
) -> None:
    async def test() -> None:
        began = tmp_path / "began"
        args = json.dumps({"started": str(began), "escaped": escaped})
        (bad,) = submit(store, "apart_chatter", args, max_crashes=1)
        async with apart_working(store, 1):
            (lost,) = await results(store, [bad])
            (after,) = await results(store, submit(store, "apart_add", "[1,2]"))
        assert lost.state is State.LOST
        assert after.result == "3"
        program = int(apart.lines(began)[0])
        await auntil(lambda: not alive(program), "what it started is dead")

    in_loop(test)


def test_what_has_ended_in_a_process_is_watched_by_no_deadline(store: Store) -> None:
    async def test() -> None:
        ids = submit(store, "apart_hour", *["{}"] * 300)
        ids += submit(store, "apart_hour", '{"dies": true}', max_crashes=1)
        async with apart_working(store) as worker:
            await results(store, ids)
            assert not len(worker._deadlines)

    in_loop(test)


def test_a_lost_job_is_not_told_the_words_of_the_job_before_it(store: Store) -> None:
    async def test() -> None:
        async with apart_working(store, 1):
            await results(store, submit(store, "apart_say", '["words of the first"]'))
            (silent,) = submit(store, "apart_say", '{"words": "", "dies": true}', max_crashes=1)
            (lost,) = await results(store, [silent])
            await results(store, submit(store, "apart_say", '["words of the first"]'))
            (speaking,) = submit(store, "apart_say", '{"words": "my own", "dies": true}', max_crashes=1)
            (other,) = await results(store, [speaking])
        assert lost.error is not None
        assert lost.error.message.endswith("killed by signal 9 (SIGKILL)")
        assert other.error is not None
        assert other.error.message.endswith("it printed last:\nmy own")

    in_loop(test)


def test_a_job_that_cannot_be_given_to_a_process_fails_alone(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real, bad = isolated.attempt.args_text, set[int]()

    def args_text(claimed: Claimed, inputs: Sequence[Input] | None) -> str:
        if claimed.id in bad:
            raise ValueError("cannot be told")
        return real(claimed, inputs)

    monkeypatch.setattr(isolated.attempt, "args_text", args_text)

    async def test() -> None:
        ids = submit(store, "apart_add", *["[1,1]"] * 9)
        bad.update(ids[::4])
        async with apart_working(store, 1):
            done = await results(store, ids)
        assert {job.id for job in done if job.state is State.FAILED} == bad
        assert {job.result for job in done if job.state is State.SUCCEEDED} == {"2"}
        assert "begun anew" not in caplog.text

    in_loop(test)


def test_without_descriptors_a_process_is_started_later(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real, failed = socket.socketpair, list[int]()

    def pair(*args: int) -> tuple[socket.socket, socket.socket]:
        if threading.current_thread().name == "isolated" and len(failed) < 2:
            failed.append(errno.EMFILE)
            raise OSError(errno.EMFILE, "Too many open files")
        return real(*args)

    monkeypatch.setattr(socket, "socketpair", pair)

    async def test() -> None:
        store = fresh(sqlite_url)
        try:
            async with apart_working(store, 1):
                (done,) = await results(store, submit(store, "apart_add", "[1,2]"))
            assert (done.result, done.crashes) == ("3", 0)
        finally:
            store.close()
        assert "cannot start a process for isolated jobs: [Errno" in caplog.text
        assert "begun anew" not in caplog.text

    in_loop(test)


def test_a_system_that_tells_no_ends_by_descriptor_is_served_too(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What jobs started is killed there, too, before the number of its group can be another's."""
    monkeypatch.delattr(os, "pidfd_open", raising=False)
    began = tmp_path / "began"

    async def test() -> None:
        store = fresh(sqlite_url)
        try:
            (bad,) = submit(store, "apart_chatter", json.dumps([str(began)]), max_crashes=1)
            async with apart_working(store, 1):
                (lost,) = await results(store, [bad])
                (after,) = await results(store, submit(store, "apart_add", "[1,2]"))
                begun = time.monotonic()
            assert time.monotonic() - begun < isolated.ENDING  # an idle process ends when it is asked to
            assert (lost.state, after.result) == (State.LOST, "3")
            program = int(apart.lines(began)[0])
            await auntil(lambda: not alive(program), "what it started is dead")
        finally:
            store.close()

    in_loop(test)
