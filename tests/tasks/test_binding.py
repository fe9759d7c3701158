"""Which store a submit goes to."""

from __future__ import annotations

import asyncio
import os
import threading
import warnings
from collections.abc import Iterator

import pytest

from coserver.errors import NotConfigured
from coserver.tasks import binding
from tests.tasks.conftest import Kept


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> Iterator[binding._Process]:
    """What is bound for the process, empty: opening a URL gives a `Kept` that knows it."""
    fresh = binding._Process()
    monkeypatch.setattr(binding, "_process", fresh)
    monkeypatch.delenv("COSERVER_STORE", raising=False)
    opened: dict[str, Kept] = {}

    def opener(url: str) -> Kept:
        return opened.setdefault(url, Kept())

    binding.connect_with(opener, lambda: None)
    yield fresh


def opened(process: binding._Process, url: str) -> binding.Submitter:
    assert process.open is not None
    return process.open(url)


def test_without_any_store_the_error_names_all_four_ways(process: binding._Process) -> None:
    with pytest.raises(NotConfigured) as caught:
        binding.current()
    for way in ("coserver.using(client)", "coserver.configure(store=", "COSERVER_STORE", "coserver.toml"):
        assert way in str(caught.value)


def test_using_goes_first_then_configure_then_the_environment_then_the_file(
    process: binding._Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    process.find = lambda: "sqlite:of-the-file"
    assert binding.current() is opened(process, "sqlite:of-the-file")
    process.found = None
    monkeypatch.setenv("COSERVER_STORE", "sqlite:of-the-environment")
    assert binding.current() is opened(process, "sqlite:of-the-environment")
    binding.configure(store="sqlite:of-configure")
    assert binding.current() is opened(process, "sqlite:of-configure")
    own = Kept()
    with binding.using(own):
        assert binding.current() is own
        with binding.using(inner := Kept()):
            assert binding.current() is inner
        assert binding.current() is own
    binding.configure(store=None)
    assert binding.current() is opened(process, "sqlite:of-the-environment")


def test_what_was_found_is_kept(process: binding._Process, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COSERVER_STORE", "sqlite:first")
    first = binding.current()
    monkeypatch.setenv("COSERVER_STORE", "sqlite:second")
    assert binding.current() is first


def test_configure_takes_a_client_too(process: binding._Process) -> None:
    own = Kept()
    binding.configure(store=own)
    assert binding.current() is own


def test_threads_that_come_first_together_find_one_store(process: binding._Process) -> None:
    made: list[Kept] = []
    together = threading.Barrier(8)

    def opener(url: str) -> Kept:
        made.append(Kept())
        return made[-1]

    binding.connect_with(opener, lambda: "sqlite:site.db")
    found: list[binding.Submitter] = []

    def look() -> None:
        together.wait()
        found.append(binding.current())

    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert found == made * 8


def test_using_follows_coroutines_and_their_threads_and_nobody_else(process: binding._Process) -> None:
    own = Kept()

    async def look() -> list[binding.Submitter]:
        with binding.using(own):
            inside = asyncio.create_task(asyncio.to_thread(binding.current))
        with pytest.raises(NotConfigured):
            binding.current()
        return [await inside]

    assert asyncio.run(look()) == [own]


def test_a_pinned_store_takes_all_threads_and_a_refusal_closes_the_rest(process: binding._Process) -> None:
    binding.configure(store=Kept())
    with binding.refuse("cannot submit: not now"):
        with pytest.raises(NotConfigured, match="not now"):
            binding.current()
        with binding.pin(pinned := Kept()):
            seen: list[binding.Submitter] = []
            thread = threading.Thread(target=lambda: seen.append(binding.current()))
            thread.start()
            thread.join()
            assert seen == [pinned]
            with binding.using(own := Kept()):
                assert binding.current() is own
        with pytest.raises(NotConfigured, match="not now"):
            binding.current()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_child_is_not_stuck_on_a_lock_that_a_thread_of_its_parent_held(process: binding._Process) -> None:
    binding.connect_with(lambda url: Kept(), lambda: "sqlite:site.db")
    with process.lock, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking beside threads is what is tested
        pid = os.fork()
        if pid == 0:
            try:
                binding.current()
            finally:
                os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert status == 0
