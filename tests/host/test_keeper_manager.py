"""Under a service manager such as systemd: what is meant for the keeper stays with it, and reaches no child."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from coserver.host import keeper, launch
from coserver.host.keeper_link import Exited, PassedSocket, Started, Terminate
from tests.host.keeping import Site, eventually, heard, on_a_loop


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """A service manager's notify socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(10)
        yield listener


@on_a_loop
async def test_the_node_speaks_to_the_service_manager_through_the_keeper(
    site: Site, manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", manager.getsockname())
    link = await site.node()
    link.notify("READY=1")
    assert manager.recv(100) == b"READY=1"
    assert b"NOTIFY_SOCKET" not in keeper.read_proc(f"/proc/{site.node_pid}/environ")
    os.kill(site.pid, signal.SIGTERM)
    assert manager.recv(100) == b"STOPPING=1"
    await heard(link, Terminate)
    assert site.finish(link) == 0


@on_a_loop
async def test_an_abstract_notify_address_is_understood(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        name = f"coserver-test-{os.getpid()}"
        listener.bind(f"\0{name}")
        listener.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
        link = await site.node()
        link.notify("STATUS=fine")
        assert listener.recv(100) == b"STATUS=fine"


@on_a_loop
async def test_the_watchdog_is_fed_as_long_as_the_keepers_loop_turns(
    site: Site, manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", manager.getsockname())
    monkeypatch.setenv("WATCHDOG_USEC", "50000")
    await site.node()
    for _ in range(3):
        assert manager.recv(100) == b"WATCHDOG=1"
    assert b"WATCHDOG" not in keeper.read_proc(f"/proc/{site.node_pid}/environ")


@on_a_loop
async def test_without_a_service_manager_notifying_is_nothing(site: Site) -> None:
    link = await site.node()
    link.notify("READY=1")
    assert await link.adoptees() == ()


@on_a_loop
async def test_sockets_of_the_service_manager_are_held_by_their_names(site: Site) -> None:
    script = 'exec 3<"$1" 4<"$2" 5<"$2"; shift 2; LISTEN_PID=$$; export LISTEN_PID; exec "$@"'
    (site.state.parent / "a").touch()
    (site.state.parent / "b").touch()
    command = launch.keeper_command(site.state, 0, site.command, {"ping": 0.2})
    command.remove("--lock-fd=0")
    files = [f"{site.state.parent}/a", f"{site.state.parent}/b"]
    listen = ["env", "LISTEN_FDS=3", "LISTEN_FDNAMES=web:api:api"]
    site.run([*listen, "sh", "-c", script, "sh", *files, *command])
    link = await site.node()
    held = {name: os.readlink(f"/proc/self/fd/{fd}") for name, fd in link.welcome.held.items()}
    assert held == {"systemd/web": files[0], "systemd/api": files[1], "systemd/api/2": files[1]}
    for fd in link.welcome.held.values():
        os.close(fd)
    link.spawn(
        site.spec(
            "a#1",
            *("sh", "-c", "readlink /proc/self/fd/3; echo $LISTEN_FDNAMES; test ! -e /proc/self/fd/4"),
            output=site.output("a"),
            sockets=(PassedSocket("systemd/web", "web"),),
        )
    )
    await heard(link, Started)
    assert (await heard(link, Exited)).code == 0
    await eventually(lambda: site.printed("a") == f"{files[0]}\nweb\n")
    link.spawn(
        site.spec("b#1", sys.executable, "-c", "import os; print(*os.environ)", output=site.output("b"))
    )
    await heard(link, Started)
    await heard(link, Exited)
    assert "LISTEN" not in await eventually(lambda: site.printed("b"))
