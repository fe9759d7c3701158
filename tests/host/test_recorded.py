"""What both deaths leave is found by the recorded table and ended, and nothing else is."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from coserver.host import launch, proc
from coserver.host.keeper import Table, read_proc, stat_of, table_line
from coserver.host.keeper_link import Exited, KeeperLink, Started
from coserver.host.proc import Process
from coserver.host.recorded import LeftoversRemain, Recorded, clear, end_all, left_over, read_recorded
from tests.host.keeping import Site, alive, eventually, heard, heard_among, on_a_loop, until

MARKS = {10: "site:a#1", 14: "site:a#1", 20: "other:a#1"}
WORLD = {
    row[0]: Process(*row, "S", "sh")
    for row in (
        # process id, parent, group, session, start
        (1, 0, 1, 1, 0),
        (10, 1, 10, 10, 100),
        (11, 10, 10, 10, 101),
        (12, 1, 10, 10, 102),
        (13, 11, 13, 13, 103),
        (14, 1, 14, 14, 104),
        (15, 14, 15, 15, 105),
        (20, 1, 20, 20, 200),
        (21, 20, 20, 20, 201),
    )
}


@pytest.mark.parametrize(
    ("row", "left"),
    [
        (Recorded("a#1", 10, 100, "site:a#1"), {10, 11, 12, 13, 14, 15}),  # everything that shows any sign
        (Recorded("a#1", 10, 100, ""), {10, 11, 12, 13}),  # session, group, descent
        (Recorded("b#1", 10, 99, ""), set()),  # the number came again: another process and its group
        (Recorded("b#1", 10, 99, "site:b#1"), {10, 11, 13, 14, 15}),  # but the marker is this site's
        (Recorded("c#1", 99, 1, ""), set()),
        (Recorded("c#1", 99, 1, "nosuch:c#1"), set()),
        (Recorded("o#1", 20, 200, ""), {20, 21}),
    ],
)
def test_what_belongs_to_a_row(row: Recorded, left: set[int]) -> None:
    assert left_over([row], WORLD, MARKS) == left


def test_a_dead_leaders_group_is_still_its_own() -> None:
    world = {pid: process for pid, process in WORLD.items() if pid != 10}
    assert left_over([Recorded("a#1", 10, 100, "")], world, {}) == {11, 12, 13}


def test_zombies_are_nothing_that_is_left() -> None:
    world = {10: WORLD[10]._replace(state="Z"), 11: WORLD[11]}
    assert left_over([Recorded("a#1", 10, 100, "")], world, {}) == {11}


def test_rows_are_read_as_they_were_written_and_a_torn_one_is_none(tmp_path: Path) -> None:
    path = tmp_path / "children"
    table = Table(str(path))
    rows = (Recorded("a#1", 10, 100, "site:a#1"), Recorded("é\udcff#2", 11, 101, ""))
    for row in rows:
        os.write(table.fd, table_line(row.key, row.pid, row.start, row.mark))
    os.write(table.fd, table_line("c#1", 12, 102, "")[:-9])
    assert read_recorded(path) == rows
    table.remove()
    assert read_recorded(path) == ()


def test_a_struck_row_says_nothing_about_the_group_of_a_stranger_who_had_its_number(tmp_path: Path) -> None:
    path = tmp_path / "children"
    table = Table(str(path))
    os.write(table.fd, table_line("a/1#1", 1234, 10, ""))
    os.write(table.fd, table_line("b/1#1", 99, 10, ""))
    strangers = {5000: Process(5000, 1, 1234, 1234, 500, "S", "sh")}
    assert left_over(read_recorded(path), strangers, {}) == {5000}
    table.strike([(1234, 10), (99, 9)])
    assert [row.key for row in read_recorded(path)] == ["b/1#1"]
    assert left_over(read_recorded(path), strangers, {}) == set()
    os.close(table.fd)


def test_a_torn_line_spoils_none_that_comes_after_it(tmp_path: Path) -> None:
    path = tmp_path / "children"
    table = Table(str(path))
    os.write(table.fd, table_line("a#1", 10, 100, ""))
    os.write(table.fd, b'\n{"gone":10,"sta')
    os.write(table.fd, table_line("b#1", 11, 101, ""))
    os.write(table.fd, table_line("c#1", 12, 102, "")[:-9])
    table.strike([(10, 100)])
    assert read_recorded(path) == (Recorded("b#1", 11, 101, ""),)
    os.close(table.fd)


@on_a_loop
async def test_a_run_is_struck_from_the_table_once_its_end_is_acknowledged(site: Site) -> None:
    link = await site.node()
    table = site.state / "children"
    numbers = range(40)  # too few for the table to be written anew
    for number in numbers:
        link.spawn(site.spec(f"a/{number}#1", "true"))
    for _ in numbers:
        await heard_among(link, Exited)
    keys = {f"a/{number}#1" for number in numbers}
    assert {row.key for row in read_recorded(table)} >= keys
    before = table.stat().st_ino
    for key in keys:
        link.ack(key)
    await eventually(lambda: not {row.key for row in read_recorded(table)} & keys)
    assert {row.key for row in read_recorded(table)} == {"@node", "@output"}
    assert table.stat().st_ino == before


@on_a_loop
async def test_an_orphans_row_is_struck_when_its_group_is_empty(site: Site) -> None:
    link = await site.node()
    table = site.state / "children"
    house = "(setsid sh -c 'sleep 1000 & echo $! $$; exec sleep 1000' &)"
    link.spawn(site.spec("a#1", "sh", "-c", house + "; read x", output=site.output("a")))
    await heard_among(link, Exited)
    text = await eventually(lambda: site.printed("a"))
    member, orphan = map(int, text.split())
    recorded = functools.partial(read_recorded, table)
    await eventually(lambda: orphan in {row.pid for row in recorded()})
    os.kill(orphan, signal.SIGKILL)
    await eventually(lambda: member in {row.pid for row in recorded()})
    for _ in range(3):
        await link.adoptees()  # the keeper looks anew each time
    assert orphan in {row.pid for row in recorded()}
    os.kill(member, signal.SIGKILL)
    await eventually(lambda: not {row.pid for row in recorded()} & {member, orphan})


@pytest.mark.parametrize("change", [{"boot": "another"}, {"pidns": 1}])
def test_rows_of_another_boot_or_namespace_mean_nothing(tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "children"
    table = Table(str(path))
    os.write(table.fd, table_line("a#1", os.getpid(), 1, ""))
    assert len(read_recorded(path)) == 1
    header, _, rows = path.read_bytes().partition(b"\n")
    path.write_bytes(json.dumps({**json.loads(header), **change}).encode() + b"\n" + rows)
    assert read_recorded(path) == ()
    os.close(table.fd)


@pytest.mark.parametrize("content", [b"", b"\n", b"[]\n", b"nonsense\nmore", b'{"boot":1}\n'])
def test_a_file_that_is_no_table_has_no_rows(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "children").write_bytes(content)
    assert read_recorded(tmp_path / "children") == ()


def test_the_table_is_rewritten_when_most_of_it_is_past(site: Site) -> None:
    @on_a_loop
    async def go() -> None:
        link = await site.node()
        link.spawn(site.spec("steady#1", "sleep", "1000"))
        steady = await heard(link, Started)
        for number in range(200):
            link.spawn(site.spec(f"a#{number}", "true"))
            await heard(link, Started)
            await heard(link, Exited)
            link.ack(f"a#{number}")
        rows = read_recorded(site.state / "children")
        assert len(rows) < 100
        mine = [row for row in rows if row.key == "steady#1"]
        assert {(row.pid, row.start) for row in mine} == {(steady.pid, steady.start_time)}
        assert {"@node", "@output"} < {row.key for row in rows}

    go()


async def house(site: Site, link: KeeperLink) -> list[int]:
    """A leader with a member of its group, a daemon, and one that hides every sign; their process ids."""
    script = (
        "echo $$; sleep 1000 & echo $!; (setsid sh -c 'echo $$; exec sleep 1000' &);"
        "(setsid env -i sh -c 'echo $$; exec sleep 1000' &); wait"
    )
    link.spawn(site.spec("a#1", "sh", "-c", script, output=site.output("a")))
    await heard(link, Started)
    await eventually(lambda: len(site.printed("a").split()) == 4)
    pids = [int(pid) for pid in site.printed("a").split()]
    rows = functools.partial(read_recorded, site.state / "children")
    await eventually(lambda: len({row.pid for row in rows()} & set(pids)) == 3)  # leader and two orphans
    return pids


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """A process that is none of the site's."""
    process = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    yield process
    process.kill()
    process.wait()


@on_a_loop
async def test_after_both_deaths_nothing_is_left_when_the_next_one_starts(
    site: Site, bystander: subprocess.Popen[bytes]
) -> None:
    link = await site.node()
    pids = await house(site, link)
    assert site.keeper is not None
    site.keeper.kill()
    site.kill_node()
    site.keeper.wait()
    assert any(map(alive, pids))
    os.close(launch.take_lock(site.state, wait=10))
    found = clear(site.state / "children")
    assert {(row.key, row.pid) for row in found} >= {("a#1", pids[0])}
    assert {row.pid for row in found} < set(pids)  # leaders and orphans; a member of a group has no row
    assert not any(map(alive, pids))
    assert not (site.state / "children").exists()
    assert bystander.poll() is None
    assert clear(site.state / "children") == ()


@on_a_loop
async def test_output_may_finish_its_work_before_it_is_ended(site: Site) -> None:
    link = await site.node()
    script = 'i=0; while [ $i -lt 3000 ]; do echo "line $i"; i=$((i+1)); done; exec sleep 1000'
    link.spawn(site.spec("a#1", "sh", "-c", script, output=site.output("a")))
    await heard(link, Started)
    output = site.output_pid()
    assert output is not None and site.keeper is not None
    os.kill(output, signal.SIGSTOP)
    pid = next(row.pid for row in read_recorded(site.state / "children") if row.key == "a#1")
    until(lambda: b"sleep" in read_proc(f"/proc/{pid}/cmdline").partition(b"\0")[0])
    site.keeper.kill()
    site.kill_node()
    site.keeper.wait()
    os.kill(output, signal.SIGCONT)
    clear(site.state / "children")
    assert not alive(output)
    assert site.printed("a") == "".join(f"line {number}\n" for number in range(3000))


def test_what_survives_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bystander: subprocess.Popen[bytes]
) -> None:
    stat = stat_of(bystander.pid)
    assert stat is not None
    table = Table(str(tmp_path / "children"))
    os.write(table.fd, table_line("a#1", bystander.pid, stat.start, ""))
    monkeypatch.setattr(proc, "kill", lambda members, number: frozenset())
    with pytest.raises(LeftoversRemain, match=f"processes {bystander.pid} .sleep. survive"):
        clear(tmp_path / "children", patience=0.1)
    assert (tmp_path / "children").exists()
    os.close(table.fd)


OBEYS = "trap 'echo asked; exit' {0}; echo ready; while :; do sleep 0.01; done"
IGNORES = (
    "trap 'echo asked' TERM; (trap 'echo told' TERM; echo ready; while :; do sleep 0.01; done) &"
    " while :; do wait; done"
)


def printed_once(site: Site, key: str, word: str) -> bool:
    """Whether the run printed the word so far, once."""
    return site.printed(key.replace("/", "-")).count(word) == 1


@on_a_loop
async def test_a_node_whose_keeper_died_ends_each_run_as_its_service_wants_it(
    site: Site, bystander: subprocess.Popen[bytes]
) -> None:
    link = await site.node()
    pids = await house(site, link)
    scripts = {"b/1#1": OBEYS.format("USR1"), "b/2#1": OBEYS.format("USR1"), "c/1#7": IGNORES}
    started: dict[str, int] = {}
    for key, script in scripts.items():
        link.spawn(site.spec(key, "sh", "-c", script, output=site.output(key.replace("/", "-"))))
        started[key] = (await heard_among(link, Started, key)).pid
        await eventually(functools.partial(printed_once, site, key, "ready"))
    command = ("sh", "-c", "sleep 1000 & echo $!; wait")
    link.spawn(site.spec("coserver/printer#1", *command, output=site.output("printer")))
    printer = (await heard_among(link, Started, "coserver/printer#1")).pid
    printers = int(await eventually(lambda: site.printed("printer")))
    link.spawn(site.spec("d/1#1", "sleep", "1000"))
    spared = (await heard_among(link, Started, "d/1#1")).pid
    assert site.keeper is not None
    site.keeper.kill()
    site.keeper.wait()
    began = time.monotonic()
    graces = {"b": 60.0, "c": 0.5}
    await asyncio.to_thread(
        end_all,
        site.state / "children",
        spare=frozenset({spared}),
        signals={"b": signal.SIGUSR1},
        grace=graces,
    )
    assert 0.5 < time.monotonic() - began < 10
    assert not any(map(alive, [*started.values(), *pids]))
    for stays in (printer, printers, spared, site.node_pid):
        assert alive(stays)
    assert bystander.poll() is None
    for key in scripts:
        await eventually(functools.partial(printed_once, site, key, "asked"))
    assert "told" not in site.printed("c-1#7")  # its leader alone was asked
    assert (site.state / "children").exists()


@pytest.fixture
def table(tmp_path: Path) -> Iterator[Table]:
    made = Table(str(tmp_path / "children"))
    yield made
    os.close(made.fd)


def record(table: Table, process: subprocess.Popen[bytes], key: str, *, older: int = 0) -> None:
    """Write a process's row; one of another process that had its number before with `older`."""
    stat = stat_of(process.pid)
    assert stat is not None
    os.write(table.fd, table_line(key, process.pid, stat.start - older, ""))


def test_who_records_himself_late_is_ended_too(
    tmp_path: Path, table: Table, bystander: subprocess.Popen[bytes]
) -> None:
    naps = 0

    def sleep(seconds: float) -> None:
        nonlocal naps
        naps += 1
        if naps == 2:  # by then one look has found nobody
            record(table, bystander, "a/1#1")
        time.sleep(seconds)

    end_all(tmp_path / "children", spare=frozenset(), signals={}, grace={}, sleep=sleep)
    assert bystander.wait(5) == -signal.SIGTERM


def test_a_number_that_came_again_is_not_asked_to_end(
    tmp_path: Path, table: Table, bystander: subprocess.Popen[bytes]
) -> None:
    record(table, bystander, "a/1#1", older=1)
    end_all(tmp_path / "children", spare=frozenset(), signals={}, grace={"a": 0.0})
    assert bystander.poll() is None


def test_what_survives_its_grace_and_kill_is_named_to_the_node(
    tmp_path: Path, table: Table, monkeypatch: pytest.MonkeyPatch, bystander: subprocess.Popen[bytes]
) -> None:
    record(table, bystander, "a/1#1")
    monkeypatch.setattr(proc, "kill", lambda members, number: frozenset())
    with pytest.raises(
        LeftoversRemain, match=f"cannot end the site: processes {bystander.pid} .sleep. survive"
    ):
        end_all(tmp_path / "children", spare=frozenset(), signals={}, grace={"a": 0.1}, patience=0.1)
