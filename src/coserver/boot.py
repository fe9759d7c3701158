"""From a configuration to objects that run: the only place that knows every concrete class.

`python -m coserver.boot node` is what the keeper starts as the node. Processes of Python services have a composition of
their own in `runtime.process`, since they must not import what only a node needs.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import logging.handlers
import os
import socket
import sys
from pathlib import Path

from coserver.config import Site, load
from coserver.control.server import ControlServer
from coserver.control.status import Figures
from coserver.control.verbs import Desk
from coserver.errors import CoserverError
from coserver.host.keeper_link import KeeperLink
from coserver.host.log_text import timestamp
from coserver.runtime import handover
from coserver.runtime.node import Node
from coserver.runtime.spawning import Places
from coserver.runtime.spec import LEASE
from coserver.runtime.upkeep import Death, Upkeep
from coserver.store import open_store
from coserver.store.contract import Rescue
from coserver.store.local import LocalState
from coserver.store.url import PostgresUrl, parse_url

log = logging.getLogger("coserver")

NODE_LOG_BYTES = 10 << 20
NODE_LOGS_KEPT = 3


def node_argv(file: Path, *, profile: str | None, attached: bool) -> list[str]:
    """Return the command line of a node, for the keeper. An `attached` one has the site shown on its terminal."""
    argv = [sys.executable, "-P", "-m", "coserver.boot", "node", "--config", str(file)]
    if profile is not None:
        argv += ["--profile", profile]
    return [*argv, "--attached"] if attached else argv


def printer_argv(file: Path, *, profile: str | None) -> list[str]:
    """Return the command line of what shows the site on a terminal, but for its last word, a time (µs since 1970)."""
    argv = [sys.executable, "-P", "-m", "coserver", "--config", str(file)]
    if profile is not None:
        argv += ["--profile", profile]
    return [*argv, "logs", "--follow", "--attached"]


async def run_node(file: Path, profile: str | None, keeper_fd: int, *, attached: bool) -> int:
    """Be the node until the site ends; return its exit status.

    A node that cannot go on leaves at once, whatever it was doing: its keeper starts the next one, which takes over
    what lives. Only the first node of a site, before it began anything, ends the site: a second would fail alike.
    """
    link = await KeeperLink.connect(keeper_fd)
    first = link.welcome.generation == 1
    node: Node | None = None
    try:
        node = _make_node(file, profile, link, attached=attached)
        server = ControlServer(Desk(node, Figures()))

        def serve(listener: socket.socket) -> asyncio.Task[None]:
            return asyncio.create_task(server.serve(listener), name="control")

        return await node.run(serve)
    except Exception as error:
        expected = isinstance(error, CoserverError)
        status = error.exit_status if isinstance(error, CoserverError) else 1
        log.critical("the node cannot go on: %s", error, exc_info=None if expected else error)
        print(
            f"coserver: {error}" if expected else f"coserver: {type(error).__name__}: {error}",
            file=sys.stderr,
        )
        if first and (node is None or node.phase == "starting"):
            link.finish(status)
            link.close()
        logging.shutdown()
        # Not through the loop's own end: it waits for threads that may be the trouble.
        os._exit(status)


def _make_node(file: Path, profile: str | None, link: KeeperLink, *, attached: bool) -> Node:
    # What a node writes is for its user alone; its children get a mask of their own from the keeper.
    os.umask(0o077)
    held = link.welcome.held.get(handover.HELD_AS)
    site = handover.find(held) if held is not None else None
    if held is not None:
        os.close(held)
    if site is None:
        site = load(file, profile=profile, environ=os.environ, cwd=Path.cwd())
        fd = handover.leave(site)
        link.hold(handover.HELD_AS, fd)
        os.close(fd)
    places = Places(site.node.state)
    places.make(others=any(service.user is not None for service in site.services.values()))
    _log_to(places.node_log, anew=link.welcome.generation == 1)
    return Node(
        site,
        places,
        link,
        LocalState(places.node_db),
        lambda node: _upkeep(node.site, node),
        environ=os.environ,
        show=printer_argv(site.file, profile=profile) if attached else None,
    )


def _upkeep(site: Site, node: Node) -> Upkeep:
    loop = asyncio.get_running_loop()

    def wake() -> None:
        loop.call_soon_threadsafe(node.hub.wake_workers)

    def rescued(death: Death, rescue: Rescue) -> None:
        loop.call_soon_threadsafe(node.rescued, death, rescue)

    def failed(error: BaseException) -> None:
        loop.call_soon_threadsafe(node.crash, error)

    return Upkeep(
        lambda: open_store(site.store),
        alive=node.living_workers,
        wake=wake,
        lease=LEASE,
        listens=isinstance(parse_url(site.store), PostgresUrl),
        retention=site.retention.seconds(),
        rescued=rescued,
        failed=failed,
    )


class _LocalTimes(logging.Formatter):
    """Times as everywhere else: local, with the offset."""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802, ARG002 - logging's
        return timestamp(int(record.created * 1e6))


def _log_to(path: Path, *, anew: bool) -> None:
    """Log into a file; `anew` begins a new one and keeps the last as `.1`."""
    handler = logging.handlers.RotatingFileHandler(
        path, maxBytes=NODE_LOG_BYTES, backupCount=NODE_LOGS_KEPT, encoding="utf-8"
    )
    if anew and path.stat().st_size:
        handler.doRollover()
    handler.setFormatter(_LocalTimes("%(asctime)s %(levelname)-7s %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.INFO)


def main(argv: list[str] | None = None) -> int:
    """Run as the keeper's node."""
    parser = argparse.ArgumentParser(prog="coserver.boot")
    parser.add_argument("part", choices=["node"])
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--profile")
    parser.add_argument("--attached", action="store_true")
    arguments = parser.parse_args(argv)
    keeper_fd = os.environ.get("COSERVER_KEEPER_FD", "")
    if not keeper_fd.isdecimal():
        print("cannot run: a node is started by its keeper; use `coserver up`", file=sys.stderr)
        return 2
    try:
        return asyncio.run(
            run_node(arguments.config, arguments.profile, int(keeper_fd), attached=arguments.attached)
        )
    except CoserverError as error:
        print(f"coserver: {error}", file=sys.stderr)
        return error.exit_status


if __name__ == "__main__":
    sys.exit(main())
