"""The keeper's promises, with real processes."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from coserver.host.keeper import children_of, stat_of
from coserver.host.keeper_link import (
    Exited,
    KeeperLink,
    PassedSocket,
    SpawnFailed,
    SpawnRefused,
    Started,
)
from tests.host.keeping import Site, eventually, heard, heard_among, on_a_loop

TELL_ALL = r"""
import json, os, resource, signal, sys
status = dict(line.split(":\t", 1) for line in open("/proc/self/status").read().splitlines())
fds = {int(fd): os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")
       if os.path.exists(f"/proc/self/fd/{fd}")}
umask = os.umask(0)
print(json.dumps({
    "pid": os.getpid(), "sid": os.getsid(0), "pgid": os.getpgid(0), "cwd": os.getcwd(), "umask": umask,
    "nice": os.getpriority(os.PRIO_PROCESS, 0), "nofile": resource.getrlimit(resource.RLIMIT_NOFILE),
    "core": resource.getrlimit(resource.RLIMIT_CORE), "uids": os.getresuid(), "gids": os.getresgid(),
    "groups": os.getgroups(), "env": dict(os.environ), "fds": fds,
    "blocked": int(status["SigBlk"], 16), "ignored": int(status["SigIgn"], 16), "caught": int(status["SigCgt"], 16),
}))
"""

LIBRARYS_OWN = 0b11 << 31
"""Signals 32 and 33: the C library keeps them for itself, and lets nobody change how a test run inherited them."""


def proportional_set_kib(pid: int) -> int:
    """The memory of a process, shared pages by share."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    size = next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    print(f"proportional set of {pid}: {size} KiB")
    return size


def processor_seconds(pid: int) -> float:
    """What a process has used of a processor so far."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


async def told_by(site: Site, link: KeeperLink, key: str = "tell#1", **other: Any) -> dict[str, Any]:
    """What a process spawned with these attributes sees of itself."""
    spec = site.spec(key, sys.executable, "-I", "-S", "-c", TELL_ALL, output=site.output(key), **other)
    link.spawn(spec)
    await heard(link, Started, key)
    exited = await heard(link, Exited, key)
    assert exited.code == 0, site.printed(key)
    line = await eventually(lambda: site.printed(key))
    told: dict[str, Any] = json.loads(line)
    return told


# ------------------------------------------------------------------------------------------------------- spawning


@on_a_loop
async def test_a_process_starts_and_its_end_is_told_with_its_code(site: Site) -> None:
    link = await site.node()
    link.spawn(site.spec("a#1", "sh", "-c", "exit 7"))
    started = await heard(link, Started, "a#1")
    exited = await heard(link, Exited, "a#1")
    assert (exited.pid, exited.code, exited.signal, exited.core) == (started.pid, 7, None, False)
    assert started.start_time > 0
    link.ack("a#1")
    assert site.finish(link, 3) == 3


@on_a_loop
async def test_an_end_by_signal_is_told_as_one(site: Site) -> None:
    link = await site.node()
    link.spawn(site.spec("a#1", "sleep", "100"))
    await heard(link, Started)
    assert await link.signal("a#1", signal.SIGTERM)
    exited = await heard(link, Exited)
    assert (exited.code, exited.signal) == (None, signal.SIGTERM)


@on_a_loop
async def test_a_signal_right_behind_the_request_reaches_the_process(site: Site) -> None:
    link = await site.node()
    for number in range(20):
        link.spawn(site.spec(f"a#{number}", "sleep", "1000"))
        assert await link.signal(f"a#{number}", signal.SIGTERM, group=True)
        await heard(link, Started)
        assert (await heard(link, Exited)).signal == signal.SIGTERM


@on_a_loop
async def test_the_leader_keeps_its_process_id_until_its_end_is_acknowledged(site: Site) -> None:
    link = await site.node()
    link.spawn(site.spec("a#1", "true"))
    pid = (await heard(link, Started)).pid
    await heard(link, Exited)
    stat = stat_of(pid)
    assert stat is not None and stat.state == "Z"
    assert not await link.signal("a#1", signal.SIGTERM)
    link.ack("a#1")
    await eventually(lambda: stat_of(pid) is None)
    assert not await link.signal("a#1", signal.SIGTERM)


@on_a_loop
async def test_a_key_that_is_known_is_refused(site: Site) -> None:
    link = await site.node()
    link.spawn(site.spec("a#1", "sleep", "100"))
    link.spawn(site.spec("a#1", "sleep", "100"))
    refused = await heard_among(link, SpawnRefused)
    assert refused.key == "a#1" and "known" in refused.reason
    assert len(children_of(site.pid)) == 3  # node, output, one sleep


@on_a_loop
async def test_a_key_is_free_again_once_its_end_is_acknowledged(site: Site) -> None:
    link = await site.node()
    for _ in range(2):
        link.spawn(site.spec("a#1", "true"))
        await heard(link, Started)
        await heard(link, Exited)
        link.ack("a#1")


@pytest.mark.parametrize(
    ("change", "stage", "says"),
    [
        ({"argv": ("/nonesuch/program",)}, "exec", "No such file"),
        ({"argv": ("nonesuch-program",)}, "exec", "No such file"),
        ({"argv": ("/etc",)}, "exec", "Permission denied"),
        ({"argv": ()}, "request", "no program"),
        ({"argv": ("true", "a\0b")}, "request", "NUL"),
        ({"cwd": "/nonesuch"}, "chdir", "No such file"),
        ({"rlimits": {"files": (1, 1)}}, "request", "files"),
        ({"rlimits": {"nofile": (100, 10)}}, "rlimits", ""),
        ({"sockets": (PassedSocket("http"),)}, "request", "http"),
    ],
)
def test_a_start_that_fails_says_where_and_why(
    site: Site, change: dict[str, Any], stage: str, says: str
) -> None:
    @on_a_loop
    async def go() -> None:
        link = await site.node()
        spec = site.spec("a#1", "true", output=site.output("a"))
        link.spawn(replace(spec, **change))
        failed = await heard(link, SpawnFailed, "a#1")
        assert failed.stage == stage
        assert says in failed.message
        await eventually(lambda: len(children_of(site.pid)) == 2)  # node and output: it left no zombie
        site.kill_node()
        link = await site.node()
        (row,) = link.welcome.children
        assert row.ended == failed  # as an end it stays until it is acknowledged
        link.ack("a#1")
        site.kill_node()
        assert (await site.node()).welcome.children == ()

    go()


@on_a_loop
async def test_five_hundred_children_fit_in_twelve_megabytes_and_cost_next_to_nothing(
    make_site: Callable[..., Site],
) -> None:
    site = make_site(ping=2.0)  # as it is by default
    link = await site.node()
    for number in range(500):
        env = {f"SOME_VARIABLE_{n}": "some value" * 5 for n in range(30)}
        link.spawn(
            site.spec(f"sleeper/{number}#1", "sleep", "1000", output=site.output(f"s{number}"), env=env)
        )
    for _ in range(500):
        await heard(link, Started)
    assert proportional_set_kib(site.pid) <= 12 * 1024
    before = processor_seconds(site.pid)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(4.0):
            await link.events.get()
    assert processor_seconds(site.pid) - before < 0.01 * 4.0
    site.kill_node()
    link = await site.node()
    assert len(link.welcome.children) == 500
    assert all(row.ended is None and not row.starting for row in link.welcome.children)


# ----------------------------------------------------------------------------------------------------- attributes


@on_a_loop
async def test_a_child_leads_a_session_and_inherits_nothing_it_was_not_meant_to(site: Site) -> None:
    link = await site.node()
    told = await told_by(site, link)
    assert told["pid"] == told["sid"] == told["pgid"]
    assert set(told["fds"]) == {"0", "1", "2"}
    assert told["fds"]["0"] == "/dev/null"
    assert told["fds"]["1"] == told["fds"]["2"]
    assert told["fds"]["1"].startswith("pipe:")
    assert told["cwd"] == "/"
    assert told["blocked"] == 0
    assert not told["ignored"] & ~(
        1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1 | LIBRARYS_OWN
    )  # Python's own, in the child
    assert told["nofile"] == list(resource.getrlimit(resource.RLIMIT_NOFILE))
    leaked = {"NOTIFY_SOCKET", "COSERVER_KEEPER_FD", "COSERVER_LOCK_FD", "LISTEN_FDS"} & set(told["env"])
    assert not leaked


@on_a_loop
async def test_no_signal_is_ignored_or_blocked_in_a_child_even_if_the_keeper_ignores_it(site: Site) -> None:
    link = await site.node()
    link.spawn(site.spec("a#1", "grep", "^Sig", "/proc/self/status", output=site.output("a")))
    await heard_among(link, Exited)
    status = await eventually(lambda: site.printed("a"))
    masks = dict(line.split(":\t") for line in status.splitlines())
    assert int(masks["SigBlk"], 16) == 0
    assert int(masks["SigIgn"], 16) & ~LIBRARYS_OWN == 0


@on_a_loop
async def test_umask_nice_limits_and_directory_are_applied(site: Site, tmp_path: Path) -> None:
    link = await site.node()
    told = await told_by(site, link, umask=0o027, nice=5, rlimits={"nofile": (77, 99), "core": (0, 0)})
    assert (told["umask"], told["nice"], told["nofile"], told["core"]) == (0o027, 5, [77, 99], [0, 0])


@pytest.fixture
def low_soft_limit() -> Iterator[int]:
    """A soft limit of open files below the hard one, for whatever is started meanwhile."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (333, before[1]))
    yield 333
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@on_a_loop
async def test_the_keeper_takes_all_the_descriptors_it_may_have_and_children_get_what_it_was_given(
    site: Site, low_soft_limit: int
) -> None:
    link = await site.node()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert resource.prlimit(site.pid, resource.RLIMIT_NOFILE) == (hard, hard)
    assert (await told_by(site, link))["nofile"] == [low_soft_limit, hard]
    assert resource.prlimit(site.node_pid, resource.RLIMIT_NOFILE) == (low_soft_limit, hard)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
@on_a_loop
async def test_user_and_groups_are_applied_and_no_way_leads_back(site: Site) -> None:
    link = await site.node()
    wanted: dict[str, dict[str, Any]] = {
        "a#1": {"uid": 65534, "gid": 65533, "groups": (65533, 12)},
        "a#2": {"uid": 65534, "gid": 65533},
    }
    for key, attributes in wanted.items():
        link.spawn(site.spec(key, "cat", "/proc/self/status", output=site.output(key), **attributes))
        await heard(link, Started, key)
        await heard(link, Exited, key)
    told = []
    for key in wanted:
        lines = (await eventually(functools.partial(site.printed, key))).splitlines()
        told.append({line.partition(":")[0]: line.partition(":")[2].split() for line in lines})
    for status in told:
        assert status["Uid"] == ["65534"] * 4
        assert status["Gid"] == ["65533"] * 4
        assert int(status["CapEff"][0], 16) == int(status["CapPrm"][0], 16) == 0
    assert [status["Groups"] for status in told] == [["12", "65533"], []]


@on_a_loop
async def test_held_sockets_are_passed_from_three_up_with_their_names(site: Site) -> None:
    link = await site.node()
    with socket.create_server(("127.0.0.1", 0)) as http, socket.create_server(("127.0.0.1", 0)) as metrics:
        link.hold("socket/http", http.fileno())
        link.hold("metrics", metrics.fileno())
        ports = {name: listener.getsockname()[1] for name, listener in (("http", http), ("metrics", metrics))}
    told = await told_by(site, link, sockets=(PassedSocket("metrics"), PassedSocket("socket/http", "http")))
    assert set(told["fds"]) == {"0", "1", "2", "3", "4"}
    assert told["env"]["LISTEN_PID"] == str(told["pid"])
    assert told["env"]["LISTEN_FDS"] == "2"
    assert told["env"]["LISTEN_FDNAMES"] == "metrics:http"
    site.kill_node()
    link = await site.node()
    held = {name: socket.socket(fileno=fd) for name, fd in link.welcome.held.items()}
    assert held["socket/http"].getsockname()[1] == ports["http"]
    assert held["metrics"].getsockname()[1] == ports["metrics"]
    for listener in held.values():
        listener.close()
    link.release("metrics")
    site.kill_node()
    link = await site.node()
    assert set(link.welcome.held) == {"socket/http"}
    os.close(link.welcome.held["socket/http"])
