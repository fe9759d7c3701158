"""The node may die, hang or talk nonsense: what the keeper keeps goes on, and the next node learns everything."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable

import pytest

from coserver.host import keeper_link
from coserver.host.keeper import Helper
from coserver.host.keeper_link import Exited, KeeperLink, KeeperUnavailable, Started
from tests.host.keeping import Site, alive, eventually, heard, heard_among, on_a_loop, until


@on_a_loop
async def test_n8_a_node_killed_ten_times_under_load_changes_nothing_and_loses_no_exit(site: Site) -> None:
    """N8."""
    link = await site.node()
    steady = {}
    for number in range(5):
        key = f"steady/{number}#1"
        link.spawn(
            site.spec(key, "sh", "-c", "while :; do echo line; sleep 0.001; done", output=site.output("s"))
        )
        steady[key] = (await heard(link, Started, key)).pid
    for round_ in range(10):
        key = f"short#{round_}"
        link.spawn(site.spec(key, "sh", "-c", f"sleep 0.02; exit {round_ + 1}"))
        for number in range(200):
            link.note("steady/0#1", f"{round_}.{number}")
        site.kill_node()
        link = await site.node()
        assert link.welcome.generation == round_ + 2
        rows = {row.key: row for row in link.welcome.children}
        assert {key: rows[key].pid for key in steady} == steady
        assert rows["steady/0#1"].note == f"{round_}.199"
        ended = rows[key].ended or await heard_among(link, Exited, key)
        assert isinstance(ended, Exited)
        assert ended.code == round_ + 1
        link.ack(key)
    assert all(alive(pid) for pid in steady.values())


@on_a_loop
async def test_what_a_node_asked_before_it_died_is_carried_out(site: Site) -> None:
    link = await site.node()
    for number in range(50):
        link.spawn(site.spec(f"a/{number}#1", "sleep", "100"))
    await link.drained()
    site.kill_node()
    link = await site.node()
    assert [row.key for row in link.welcome.children] == [f"a/{number}#1" for number in range(50)]


@on_a_loop
async def test_an_end_is_told_to_every_node_until_one_acknowledges_it(site: Site) -> None:
    link = await site.node()
    link.spawn(site.spec("a#1", "sh", "-c", "exit 9", note="ready"))
    await heard(link, Started)
    exited = await heard(link, Exited)
    for _ in range(2):
        site.kill_node()
        link = await site.node()
        (row,) = link.welcome.children
        assert row.ended == exited
        assert (row.pid, row.note, row.starting) == (exited.pid, "ready", False)
    link.ack("a#1")
    site.kill_node()
    assert (await site.node()).welcome.children == ()


@on_a_loop
async def test_an_acknowledgement_of_what_runs_is_ignored(site: Site) -> None:
    link = await site.node()
    link.spawn(site.spec("a#1", "sleep", "100"))
    started = await heard(link, Started)
    link.ack("a#1")
    link.ack("b#1")
    assert await link.signal("a#1", 0)
    assert alive(started.pid)
    words = site.log.read_text()
    assert "ignored the acknowledgement of a#1: it has not ended" in words
    assert "b#1" not in words  # what never reached the keeper is no fault of the node's


@on_a_loop
async def test_a_loop_that_answers_pings_is_left_alone_and_one_that_hangs_is_replaced(
    make_site: Callable[..., Site],
) -> None:
    site = make_site(ping=0.05, silence=0.8, abort=0.2)
    link = await site.node()
    first = site.node_pid
    link.spawn(site.spec("a#1", "sleep", "100"))
    started = await heard(link, Started)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(2.0):  # more than two silences
            await link.events.get()
    assert alive(first)
    until(lambda: not alive(first))  # blocks this loop
    link.close()
    link = await site.node()
    assert [row.pid for row in link.welcome.children] == [started.pid]
    assert "killed by SIGABRT" in site.log.read_text()


@on_a_loop
async def test_a_node_that_cannot_even_abort_is_killed(make_site: Callable[..., Site]) -> None:
    site = make_site(ping=0.05, silence=0.2, abort=0.1)
    link = await site.node()
    first = site.node_pid
    os.kill(first, signal.SIGSTOP)
    until(lambda: not alive(first))
    link.close()
    await site.node()
    assert "killed by SIGKILL" in site.log.read_text()


@on_a_loop
async def test_a_node_that_never_greets_is_replaced(make_site: Callable[..., Site]) -> None:
    site = make_site(startup=0.2, abort=0.2)
    site.start([*site.command[:3], "-c", "import time; time.sleep(100)"])
    status = await asyncio.to_thread(site.wait)
    assert status == 128 + signal.SIGABRT
    assert site.log.read_text().count("does not answer") == 3


@pytest.mark.parametrize(
    "nonsense",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\0\0\0\2\0{}",
        b'\0\0\0\x0f\0{"op":"hello"  }',
        b'\0\0\0\x0e\0{"op":"spawn" }',
        b'\0\0\0\x0d\1{"op":"hold" }',
    ],
)
def test_a_node_that_talks_nonsense_is_replaced(site: Site, nonsense: bytes) -> None:
    @on_a_loop
    async def go() -> None:
        link = await site.node()
        link.spawn(site.spec("a#1", "sleep", "100"))
        started = await heard(link, Started)
        link._channel._socket.send(nonsense)
        await eventually(lambda: not alive(site.node_pid))
        link.close()
        link = await site.node()
        assert [row.pid for row in link.welcome.children] == [started.pid]
        assert "does not speak the protocol" in site.log.read_text()

    go()


@on_a_loop
async def test_a_node_that_hangs_up_is_replaced(site: Site) -> None:
    link = await site.node()
    first = site.node_pid
    link.close()
    await site.node()
    assert site.node_pid != first
    assert not alive(first)


def test_a_first_node_that_leaves_by_itself_ends_the_keeper_with_its_status(site: Site) -> None:
    site.start([sys.executable, "-I", "-S", "-c", "import sys; sys.exit('cannot read it') "])
    assert site.wait() == 1
    assert "cannot read it" in site.log.read_text()
    site.start([sys.executable, "-I", "-S", "-c", "import os; os._exit(9)"])
    assert site.wait() == 9


def test_a_node_that_cannot_be_executed_ends_the_keeper(site: Site) -> None:
    site.start(["/nonesuch/node"])
    assert site.wait() == 127
    assert "cannot start the node /nonesuch/node: No such file or directory" in site.log.read_text()


def test_first_nodes_that_are_killed_are_tried_three_times(site: Site) -> None:
    site.start([sys.executable, "-I", "-S", "-c", "import os; os.kill(os.getpid(), 9)"])
    assert site.wait() == 128 + 9
    assert site.log.read_text().count("the node ended") == 3


@on_a_loop
async def test_a_node_of_another_protocol_is_told_so(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper_link, "PROTOCOL", 99)
    with pytest.raises(KeeperUnavailable, match="speaks protocol 1, this node 99"):
        await site.node()


@on_a_loop
async def test_connecting_to_what_is_no_keeper_fails_clearly(tmp_path: object) -> None:
    ours, theirs = socket.socketpair()
    with theirs, pytest.raises(KeeperUnavailable, match="no answer within"):
        await KeeperLink.connect(ours.detach(), timeout=0.05)
    ours, theirs = socket.socketpair()
    theirs.close()
    with pytest.raises(KeeperUnavailable):
        await KeeperLink.connect(ours.detach())
    null = os.open("/dev/null", os.O_RDONLY)
    with pytest.raises(KeeperUnavailable, match="no socket"):
        await KeeperLink.connect(null)
    os.close(null)


@on_a_loop
async def test_a_slow_node_gets_everything_in_the_end(site: Site) -> None:
    link = await site.node()
    for number in range(300):
        link.spawn(site.spec(f"a/{number}#1", "true"))
    for number in range(300):
        link.note(f"a/{number}#1", "n" * 10_000)
    for _ in range(600):
        await heard(link, Started | Exited)  # type: ignore[arg-type]
    await link.drained()
    site.kill_node()
    link = await site.node()  # a welcome of 3 MB, far more than a socket takes at once
    assert all(row.note == "n" * 10_000 and row.ended for row in link.welcome.children)
    assert len(link.welcome.children) == 300


def test_pauses_between_starts_grow_from_nothing_to_five_seconds() -> None:
    helper = Helper("node", [], [])
    pauses = []
    for helper.failures in range(10):
        pauses.append(helper.pause())
    assert pauses == [0, 0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5]


@on_a_loop
async def test_more_descriptors_than_one_frame_may_carry_are_held_and_given_back(site: Site) -> None:
    link = await site.node()
    read, write = os.pipe()
    for number in range(300):
        link.hold(f"pipe/{number}", read)
    await link.drained()
    site.kill_node()
    link = await site.node()
    assert list(link.welcome.held) == [f"pipe/{number}" for number in range(300)]
    assert len({os.fstat(fd).st_ino for fd in link.welcome.held.values()}) == 1
    for fd in (read, write, *link.welcome.held.values()):
        os.close(fd)
