"""The keeper and the real output process together: whatever dies, no byte is lost."""

from __future__ import annotations

import functools
import os
import signal
from pathlib import Path

from coserver.host.keeper_link import Exited, Started
from tests.host.keeping import Site, alive, eventually, heard, on_a_loop

EXPECTED = "".join(f"line {number}\n" for number in range(100_000))
COUNT = 'i=0; while [ $i -lt {0} ]; do echo "line $i"; i=$((i+1)); done'


@on_a_loop
async def test_output_killed_ten_times_under_load_loses_no_line(site: Site) -> None:
    def grown(before: int) -> bool:
        return len(site.printed("a0")) > before or before == len(EXPECTED)

    link = await site.node()
    for number in range(3):
        link.spawn(
            site.spec(f"a/{number}#1", "sh", "-c", COUNT.format(100_000), output=site.output(f"a{number}"))
        )
    for _ in range(3):
        await heard(link, Started)
    for _ in range(10):
        pid = await eventually(site.output_pid)
        before = len(site.printed("a0"))
        os.kill(pid, signal.SIGKILL)
        await eventually(functools.partial(grown, before))
    for _ in range(3):
        assert (await heard(link, Exited)).code == 0
    for number in range(3):
        link.ack(f"a/{number}#1")
    assert site.finish(link) == 0
    for number in range(3):
        assert site.printed(f"a{number}") == EXPECTED


@on_a_loop
async def test_node_and_output_killed_together_lose_no_line(site: Site) -> None:
    link = await site.node()
    link.spawn(site.spec("a#1", "sh", "-c", COUNT.format(50_000), output=site.output("a")))
    await heard(link, Started)
    for _ in range(3):
        os.kill(await eventually(site.output_pid), signal.SIGKILL)
        site.kill_node()
        link = await site.node()
    (row,) = link.welcome.children
    if row.ended is None:
        await heard(link, Exited)
    link.ack("a#1")
    assert site.finish(link) == 0
    assert site.printed("a") == "".join(f"line {i}\n" for i in range(50_000))


@on_a_loop
async def test_stderr_joins_stdout_or_goes_its_own_way(site: Site) -> None:
    link = await site.node()
    script = "echo out; echo err >&2"
    link.spawn(site.spec("a#1", "sh", "-c", script, output=site.output("joined")))
    apart = site.output("out", error_path=str(site.state / "err.log"))
    link.spawn(site.spec("b#1", "sh", "-c", script, output=apart))
    for _ in range(4):
        await heard(link, Started | Exited)  # type: ignore[arg-type]
    link.ack("a#1")
    link.ack("b#1")
    assert site.finish(link) == 0
    assert site.printed("joined") == "out\nerr\n"
    assert (site.printed("out"), site.printed("err")) == ("out\n", "err\n")


@on_a_loop
async def test_a_pipe_is_read_after_its_leader_ended_while_others_hold_it(site: Site) -> None:
    link = await site.node()
    script = "(sleep 0.3; echo late) & echo early"
    link.spawn(site.spec("a#1", "sh", "-c", script, output=site.output("a")))
    await heard(link, Started)
    await heard(link, Exited)
    await eventually(lambda: site.printed("a") == "early\nlate\n")


@on_a_loop
async def test_what_is_in_a_pipe_when_its_run_is_acknowledged_is_written_and_then_it_is_closed(
    site: Site,
) -> None:
    link = await site.node()
    # A descendant holds the pipe for ever; when nobody reads it any more, its next word kills it.
    script = "(trap 'echo again; touch %s' USR1; while :; do sleep 0.01; done) & echo $!" % (
        site.state / "deaf"
    )
    link.spawn(site.spec("a#1", "sh", "-c", script, output=site.output("a")))
    await heard(link, Started)
    await heard(link, Exited)
    pid = int(await eventually(lambda: site.printed("a")))
    link.ack("a#1")
    pipe = os.readlink(f"/proc/{pid}/fd/1")
    await eventually(lambda: pipe not in pipes_of(site.pid))
    os.kill(pid, signal.SIGUSR1)
    await eventually(lambda: not alive(pid))
    assert not (site.state / "deaf").exists()


def pipes_of(pid: int) -> set[str]:
    """What a process has open."""
    return {entry.readlink().name for entry in Path(f"/proc/{pid}/fd").iterdir() if entry.is_symlink()}


@on_a_loop
async def test_nothing_stays_open_for_runs_that_were_acknowledged(site: Site) -> None:
    def open_descriptors() -> int:
        return len(os.listdir(f"/proc/{site.pid}/fd"))

    link = await site.node()
    assert not await link.signal("nobody", 0)  # whatever the start opened is open by now
    before = open_descriptors()
    for number in range(30):
        apart = site.output("a", error_path=str(site.state / "err.log"))
        program = "true" if number % 2 else "/nonesuch"
        link.spawn(site.spec(f"a#{number}", program, output=apart))
        await heard(link, Started) if number % 2 else None
        await link.events.get()
        link.ack(f"a#{number}")
    await eventually(lambda: open_descriptors() == before)


@on_a_loop
async def test_a_process_may_use_the_keepers_own_stdout(site: Site) -> None:
    link = await site.node()
    link.spawn(site.spec("a#1", "sh", "-c", "echo straight to the terminal"))
    await heard(link, Started)
    await heard(link, Exited)
    assert "straight to the terminal\n" in site.log.read_text()
