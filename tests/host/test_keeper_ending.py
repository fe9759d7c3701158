"""How a site ends: in order through the node, or by the keeper alone, but always down to the last process."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from coserver.host import keeper
from coserver.host.keeper import children_of
from coserver.host.keeper_link import Exited, KeeperGone, KeeperLink, Started, Terminate
from tests.host.keeping import Site, alive, eventually, heard, heard_among, on_a_loop

POLITE = "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.01; done"
STUBBORN = "trap '' TERM; echo ready; (trap '' TERM; setsid sleep 1000) & while :; do sleep 0.01; done"


async def spawned(site: Site, link: KeeperLink, key: str, script: str) -> int:
    """The process id of a script that has said it is ready."""
    link.spawn(site.spec(key, "sh", "-c", script, output=site.output(key)))
    started = await heard(link, Started, key)
    await eventually(lambda: "ready" in site.printed(key))
    return started.pid


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_asks_the_node_whose_word_ends_the_keeper(site: Site, number: signal.Signals) -> None:
    @on_a_loop
    async def go() -> None:
        link = await site.node()
        os.kill(site.pid, number)
        assert await heard(link, Terminate) == Terminate(number, 1)
        os.kill(site.pid, number)
        assert await heard(link, Terminate) == Terminate(number, 2)
        assert site.finish(link, 4) == 4
        assert not (site.state / "children").exists()

    go()


@on_a_loop
async def test_the_third_signal_kills_everything_without_the_node(site: Site) -> None:
    link = await site.node()
    child = await spawned(site, link, "a#1", STUBBORN)
    for count in (1, 2):
        os.kill(site.pid, signal.SIGINT)
        assert await heard(link, Terminate) == Terminate(signal.SIGINT, count)
    os.kill(site.pid, signal.SIGINT)
    assert site.wait() == 128 + signal.SIGINT
    assert not alive(child)
    assert isinstance(await link.events.get(), Exited | KeeperGone)


@on_a_loop
async def test_a_hung_node_does_not_keep_the_site_from_ending(make_site: Callable[..., Site]) -> None:
    site = make_site(stop_silence=0.3, abort=0.1)
    link = await site.node()
    child = await spawned(site, link, "a#1", POLITE)
    os.kill(site.node_pid, signal.SIGSTOP)
    os.kill(site.pid, signal.SIGTERM)
    assert site.wait() == 70  # blocks this loop, so no ping is answered
    assert not alive(child)
    assert site.printed("a#1").endswith("bye\n")


@on_a_loop
async def test_what_ignores_the_request_is_killed_with_all_it_started(make_site: Callable[..., Site]) -> None:
    site = make_site(stop_silence=0.3, abort=0.1, grace=0.3)
    link = await site.node()
    leader = await spawned(site, link, "a#1", STUBBORN)
    descendants = await eventually(lambda: children_of(leader))
    os.kill(site.pid, signal.SIGTERM)
    assert site.wait() == 70
    assert not any(map(alive, [leader, *descendants]))


@on_a_loop
async def test_a_node_that_dies_while_ending_gets_one_successor(site: Site) -> None:
    link = await site.node()
    child = await spawned(site, link, "a#1", POLITE)
    os.kill(site.pid, signal.SIGTERM)
    await heard(link, Terminate)
    site.kill_node()
    link = await site.node()
    assert link.welcome.terminate == Terminate(signal.SIGTERM, 1)
    assert alive(child)
    site.kill_node()
    assert await asyncio.to_thread(site.wait) == 70
    assert site.printed("a#1").endswith("bye\n")


@on_a_loop
async def test_the_successor_may_end_the_site_in_order(site: Site) -> None:
    link = await site.node()
    await spawned(site, link, "a#1", POLITE)
    os.kill(site.pid, signal.SIGTERM)
    await heard(link, Terminate)
    site.kill_node()
    link = await site.node()
    assert await link.signal("a#1", signal.SIGTERM)
    assert (await heard(link, Exited)).code == 0
    link.ack("a#1")
    assert site.finish(link) == 0


@on_a_loop
async def test_finish_is_heard_even_behind_much_that_was_not_written_yet(site: Site) -> None:
    link = await site.node()
    await spawned(site, link, "a#1", POLITE)
    for _ in range(300):
        link.note("a#1", "n" * 10_000)
    assert site.finish(link, 7) == 7


@on_a_loop
async def test_finish_ends_what_nobody_owns_and_refuses_what_comes_after(site: Site) -> None:
    link = await site.node()
    link.spawn(site.spec("a#1", "sh", "-c", "(setsid sleep 1000 &)"))
    await heard(link, Started)
    await heard(link, Exited)
    (orphan,) = await link.adoptees()
    link.ack("a#1")
    link.finish(0)
    link.spawn(site.spec("b#1", "touch", str(site.state / "b")))
    await link.drained()
    site.kill_node(signal.SIGTERM)
    assert site.wait() == 0
    assert not alive(orphan.pid)
    assert not (site.state / "b").exists()


@on_a_loop
async def test_a_keeper_without_anything_to_stop_leaves_at_the_first_signal(site: Site) -> None:
    site.start([*site.command[:3], "-c", "import time; time.sleep(100)"])
    await eventually(lambda: len(children_of(site.pid)) == 2)
    os.kill(site.pid, signal.SIGINT)
    assert site.wait() == 0


@on_a_loop
async def test_a_stopped_output_process_does_not_keep_the_site_from_ending(
    make_site: Callable[..., Site],
) -> None:
    site = make_site(grace=0.3)
    link = await site.node()
    await spawned(site, link, "a#1", POLITE)
    output = site.output_pid()
    assert output is not None
    os.kill(output, signal.SIGSTOP)
    await link.signal("a#1", signal.SIGTERM)
    await heard(link, Exited)
    link.ack("a#1")
    assert site.finish(link) == 0
    assert not alive(output)
    assert "output did not end in time" in site.log.read_text()


@on_a_loop
async def test_a_dead_keeper_is_noticed_at_once(site: Site) -> None:
    link = await site.node()
    child = await spawned(site, link, "a#1", POLITE)
    os.kill(site.pid, signal.SIGKILL)
    gone = await heard(link, KeeperGone)
    assert gone.reason
    assert not await link.signal("a#1", 0)
    assert await link.adoptees() == ()
    link.spawn(site.spec("b#1", "true"))
    assert alive(child)  # what becomes of it is the node's to decide


def pid_namespaces() -> str:
    """Why PID namespaces cannot be used here, or nothing."""
    unshare = shutil.which("unshare")
    if unshare is None:
        return "there is no `unshare` here"
    tried = subprocess.run([unshare, "--pid", "--fork", "--mount-proc", "true"], capture_output=True)
    return tried.stderr.decode().strip() if tried.returncode else ""


@pytest.mark.skipif(bool(why := pid_namespaces()), reason=f"a PID namespace is not to be had: {why}")
def test_everything_works_as_process_1(site: Site, tmp_path: Path) -> None:
    @on_a_loop
    async def go() -> None:
        site.state.mkdir()
        command = [sys.executable, "-I", "-S", keeper.__file__, f"--state={site.state}", "--grace=3", "--"]
        wrapped = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", *command, *site.command]
        site.run(wrapped)
        link = await site.node()
        assert link.welcome.keeper_pid == 1
        link.spawn(site.spec("a#1", "sh", "-c", "(setsid sleep 1000 &); (setsid sleep 0.05 &); exit 3"))
        await heard(link, Started)
        exited = await heard(link, Exited)
        assert exited.code == 3
        assert exited.adopted
        (inner,) = children_of(site.pid)
        await eventually(lambda: len(children_of(inner)) == 4)  # node, output, a#1, and one orphan of two
        link.spawn(site.spec("b#1", "sh", "-c", POLITE, output=site.output("b")))
        await heard(link, Started)
        await eventually(lambda: site.printed("b"))
        site.kill_node()
        link = await site.node()
        assert {row.key for row in link.welcome.children} == {"a#1", "b#1"}
        os.kill(inner, signal.SIGTERM)
        await heard_among(link, Terminate)
        assert await link.signal("b#1", signal.SIGTERM)
        await heard_among(link, Exited, "b#1")
        assert site.finish(link, 5) == 5
        assert site.printed("b") == "ready\nbye\n"

    go()
