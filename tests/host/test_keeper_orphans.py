"""Orphans come to the keeper: it finds them, says whose they are as far as anybody can know, and reaps them."""

from __future__ import annotations

import os
import signal

from coserver.host.keeper import children_of, stat_of
from coserver.host.keeper_link import Adoptee, Exited, Started
from coserver.host.recorded import read_recorded
from tests.host.keeping import Site, alive, eventually, heard, on_a_loop

# A daemon in a session of its own whose parent is gone; it prints its process id. $1 is put before the command.
DAEMON = "(setsid $1 sh -c 'echo $$; exec sleep 1000' & )\n"


async def adoptee(site: Site, name: str) -> Adoptee:
    """The daemon that printed its process id, with nothing said of whose it is."""
    pid = int(await eventually(lambda: site.printed(name).strip()))
    stat = await eventually(lambda: stat_of(pid))
    return Adoptee(pid, stat.start, None)


@on_a_loop
async def test_a_daemon_that_left_its_session_is_told_with_the_end_of_its_leader(site: Site) -> None:
    link = await site.node()
    link.spawn(site.spec("a#1", "sh", "-c", DAEMON + "read x", "sh", "", output=site.output("a")))
    await heard(link, Started)
    exited = await heard(link, Exited)
    daemon = await adoptee(site, "a")
    assert exited.adopted == (Adoptee(daemon.pid, daemon.start_time, "a#1"),)
    assert await link.adoptees() == exited.adopted
    assert alive(daemon.pid)


@on_a_loop
async def test_a_daemon_without_marker_is_the_leaders_whose_end_brought_it(site: Site) -> None:
    link = await site.node()
    script = "setsid env -i sh -c 'echo $$; exec sleep 1000' & sleep 0.1"
    link.spawn(site.spec("a#1", "sh", "-c", script, output=site.output("a")))
    await heard(link, Started)
    exited = await heard(link, Exited)
    daemon = await adoptee(site, "a")
    assert exited.adopted == (Adoptee(daemon.pid, daemon.start_time, "a#1"),)


@on_a_loop
async def test_an_orphan_of_one_run_is_not_blamed_on_another(site: Site) -> None:
    link = await site.node()
    link.spawn(
        site.spec("a#1", "sh", "-c", DAEMON + "exec sleep 1000", "sh", "env -i", output=site.output("a"))
    )
    await heard(link, Started)
    daemon = await adoptee(site, "a")
    # It hides its marker and its leader lives, so nothing tells of it: a ping's look finds it, unasked.
    await eventually(lambda: daemon.pid in {row.pid for row in read_recorded(site.state / "children")})
    link.spawn(site.spec("b#1", "true"))
    await heard(link, Started)
    assert (await heard(link, Exited, "b#1")).adopted == ()
    assert await link.adoptees() == (daemon,)


@on_a_loop
async def test_when_two_runs_end_at_once_nobody_is_blamed_for_an_orphan_without_signs(site: Site) -> None:
    link = await site.node()
    script = "setsid env -i sh -c 'echo $$; exec sleep 1000' & exec sleep 1000"
    link.spawn(site.spec("a#1", "sh", "-c", script, output=site.output("a")))
    link.spawn(site.spec("b#1", "sleep", "1000"))
    leaders = {(await heard(link, Started)).pid for _ in range(2)}
    daemon = await adoptee(site, "a")
    os.kill(site.pid, signal.SIGSTOP)
    await eventually(lambda: (stat := stat_of(site.pid)) is not None and stat.state == "T")
    for pid in leaders:
        os.kill(pid, signal.SIGKILL)
    await eventually(lambda: not any(map(alive, leaders)))
    os.kill(site.pid, signal.SIGCONT)
    assert [(await heard(link, Exited)).adopted for _ in range(2)] == [(), ()]
    assert daemon in await link.adoptees()


@on_a_loop
async def test_the_marker_tells_whose_an_orphan_is_even_when_another_run_ends(site: Site) -> None:
    link = await site.node()
    link.spawn(site.spec("b#1", "sleep", "1000"))
    await heard(link, Started)
    link.spawn(site.spec("a#1", "sh", "-c", DAEMON + "exec sleep 1000", "sh", "", output=site.output("a")))
    await heard(link, Started)
    daemon = await adoptee(site, "a")
    await link.signal("b#1", signal.SIGKILL)
    assert (await heard(link, Exited, "b#1")).adopted == ()
    assert await link.adoptees() == (Adoptee(daemon.pid, daemon.start_time, "a#1"),)


@on_a_loop
async def test_orphans_are_reaped_as_they_end(site: Site) -> None:
    link = await site.node()
    for number in range(20):
        link.spawn(site.spec(f"a/{number}#1", "sh", "-c", "(setsid sleep 0.1 &); exit 0"))
    for _ in range(40):
        await heard(link, Started | Exited)  # type: ignore[arg-type]
    for number in range(20):
        link.ack(f"a/{number}#1")
    await eventually(lambda: len(children_of(site.pid)) == 2)  # node and output
    assert await link.adoptees() == ()


@on_a_loop
async def test_a_group_is_signalled_as_a_whole_even_after_its_leader_ended(site: Site) -> None:
    link = await site.node()
    link.spawn(site.spec("a#1", "sh", "-c", "sleep 1000 & echo $!", output=site.output("a")))
    await heard(link, Started)
    exited = await heard(link, Exited)
    member = int(await eventually(lambda: site.printed("a").strip()))
    assert [orphan.pid for orphan in exited.adopted] == [member]
    assert os.getpgid(member) == exited.pid
    assert not await link.signal("a#1", signal.SIGTERM)
    assert await link.signal("a#1", signal.SIGTERM, group=True)
    await eventually(lambda: stat_of(member) is None)
