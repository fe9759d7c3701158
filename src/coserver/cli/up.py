"""`coserver up` and `coserver down`."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import click

from coserver.cli.context import Surroundings, pass_surroundings, say
from coserver.cli.others import obstacles
from coserver.cli.status import print_status
from coserver.cli.times import Duration
from coserver.config import Site
from coserver.errors import (
    CoserverError,
    Denied,
    NodeUnreachable,
    NotRunning,
    SchemaMismatch,
    StoreUnavailable,
    TimedOut,
)

LOCK_WAIT = 30.0
LOOK_EVERY = 0.05


@click.command()
@click.option("-d", "--detach", is_flag=True, help="Return as soon as everything runs.")
@click.option("--no-wait", is_flag=True, help="With -d: return as soon as the node answers.")
@click.option(
    "--timeout", type=Duration(), default=60.0, metavar="TIME", help="With -d: how long to wait (60s)."
)
@click.option("--reset", is_flag=True, help="Forget what operators had stopped.")
@pass_surroundings
def up(surroundings: Surroundings, detach: bool, no_wait: bool, timeout: float, reset: bool) -> None:
    """Start the site.

    In a terminal it stays in the foreground and shows what all processes print, until Ctrl-C stops everything in order;
    a second Ctrl-C hurries.
    """
    from coserver import boot
    from coserver.host import launch, recorded

    site = surroundings.site
    lock = _lock(site.node.state)
    for left in recorded.clear(surroundings.places.children):
        say(f"ended process {left.pid}, left over from {left.key} of an earlier run")
    surroundings.places.make(others=any(service.user is not None for service in site.services.values()))
    _prepare_store(site)
    for service in site.services.values():
        for obstacle in obstacles(site, service):
            say(f"{service.name}: {obstacle}")
    _tell_intents(surroundings, reset)
    node = boot.node_argv(site.file, profile=surroundings.profile, attached=not detach)
    if not detach:
        count = sum(service.processes for service in site.services.values() if service.autostart)
        say(
            f"{site.name}: starting {count} processes of {len(site.services)} services; Ctrl-C stops everything"
        )
        launch.become_keeper(site.node.state, lock, node, {})
    keeper = launch.start_keeper(site.node.state, lock, node, {})
    os.close(lock)
    _wait_up(surroundings, keeper, timeout=timeout, settled=not no_wait)


def _lock(state: Path) -> int:
    from coserver.host import launch

    try:
        return launch.take_lock(state, wait=LOCK_WAIT)
    except CoserverError as error:
        if isinstance(error.__cause__, PermissionError):
            raise Denied(str(error)) from error
        raise


def _prepare_store(site: Site) -> None:
    """Make or bring up to date the store's tables, so that a store that cannot work is known before anything starts.

    A database server that is away is no reason to leave a whole site down: it may even be one of its services.
    """
    from coserver.store import open_store
    from coserver.store.url import PostgresUrl, parse_url

    store = open_store(site.store)
    try:
        for name in store.migrate():
            say(f"store: applied migration {name}")
        if store.set_limits(site.limits, once=True) and site.limits:
            say(f"store: limits of {', '.join(limit.name for limit in site.limits)} hold from now on")
    except SchemaMismatch:
        raise
    except StoreUnavailable as error:
        if not isinstance(parse_url(site.store), PostgresUrl):
            raise
        say(f"{error}\nstarting without it; jobs wait until it answers")
    finally:
        store.close()


def _tell_intents(surroundings: Surroundings, reset: bool) -> None:
    from coserver.host.log_text import timestamp
    from coserver.store.local import LocalState

    state = LocalState(surroundings.places.node_db)
    try:
        if reset:
            state.forget_intents()
        for name, intent in state.intents().items():
            if intent.wanted == "stopped":
                since = timestamp(intent.at)
                say(
                    f"{name} stays stopped, as {intent.by} said on {since}; `coserver start {name}` ends that"
                )
    finally:
        state.close()


def _wait_up(
    surroundings: Surroundings, keeper: subprocess.Popen[bytes], *, timeout: float, settled: bool
) -> None:
    until = time.monotonic() + timeout
    answer = None
    while time.monotonic() < until:
        code = keeper.poll()
        if code is not None:
            _fail_to_start(surroundings.site.node.state / "keeper.log", code)
        try:
            answer = surroundings.node.status()
        except (NotRunning, NodeUnreachable):
            time.sleep(LOOK_EVERY)
            continue
        processes = [process for service in answer["services"] for process in service["processes"]]
        arrived = all(process["healthy"] or process["state"] == "fatal" for process in processes)
        if not settled or arrived:
            print_status(answer, starting=True)
            if settled and not answer["healthy"]:
                sys.exit(1)
            return
        time.sleep(LOOK_EVERY)
    if answer is not None:
        print_status(answer, starting=True)
    raise TimedOut(
        f"cannot say that everything runs: not within {timeout:g} s; the site goes on, see `coserver status`"
    )


def _fail_to_start(words: Path, code: int) -> None:
    lines = words.read_text(errors="replace").splitlines()[-5:] if words.exists() else []
    for line in lines:
        say(line)
    say(f"coserver: cannot start the site: its keeper left with status {code}")
    sys.exit(code if code > 0 else 1)


@click.command()
@click.option("--now", is_flag=True, help="Without grace.")
@click.option("--timeout", type=Duration(), default=120.0, metavar="TIME", help="How long to wait (2m).")
@pass_surroundings
def down(surroundings: Surroundings, now: bool, timeout: float) -> None:
    """Stop the whole site, and wait until nothing of it is left. What operators want is kept for the next `up`.

    A site that is going down already is only waited for; `--now` hurries that.
    """
    from coserver.host import launch

    site = surroundings.running
    say(f"down {site.name} ({site.file})")
    try:
        keeper = _ask_to_end(surroundings, now=now)
    except (NodeUnreachable, NotRunning):
        # Without a node that answers, the keeper stops everything by itself when a signal asks it to.
        holder = launch.lock_holder(site.node.state)
        if holder is None:
            if not _clear_left(surroundings):
                raise
            return
        keeper = holder
        os.kill(keeper, signal.SIGTERM)
        say(f"its node does not answer; the keeper, process {keeper}, was asked to end everything")
    if not _gone(keeper, timeout):
        raise TimedOut(_not_down(surroundings, now=now, timeout=timeout))
    say(f"{site.name} is down")


def _clear_left(surroundings: Surroundings) -> bool:
    """End what a site left whose keeper and node were killed both; False when there was nothing."""
    from coserver.host import launch, recorded

    if not surroundings.places.children.exists():
        return False
    lock = launch.take_lock(surroundings.running.node.state, wait=LOCK_WAIT)
    try:
        left = recorded.clear(surroundings.places.children)
    finally:
        os.close(lock)
    for row in left:
        say(f"ended process {row.pid}, left over from {row.key}")
    return bool(left)


def _ask_to_end(surroundings: Surroundings, *, now: bool) -> int:
    """Ask the node for the end, unless it is on the way there: a keeper that is asked twice hurries.

    Returns the keeper's process id. Raises NodeUnreachable and NotRunning when nobody was asked.
    """
    if not now and (keeper := _going_down(surroundings)) is not None:
        say("it is going down already")
        return keeper
    try:
        return int(surroundings.node.post("/api/v1/down", {"now": now})["keeper_pid"])
    except NodeUnreachable:
        # The node ended in between. If it had passed the request on, the next node knows.
        if (keeper := _going_down(surroundings)) is not None:
            return keeper
        raise


def _going_down(surroundings: Surroundings) -> int | None:
    """Return the keeper of a site that is going down, None when it is not."""
    from coserver.host import launch

    if surroundings.node.get("/healthz")["state"] != "stopping":
        return None
    return launch.lock_holder(surroundings.running.node.state)


def _gone(pid: int, timeout: float) -> bool:
    """Wait until a process is gone; tell whether it is."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    except OSError as error:
        raise CoserverError(f"cannot wait for process {pid}: {error.strerror}") from error
    try:
        readable, _, _ = select.select([pidfd], [], [], timeout)
    finally:
        os.close(pidfd)
    return bool(readable)


def _not_down(surroundings: Surroundings, *, now: bool, timeout: float) -> str:
    """Say what a site that does not go down still waits for, and what helps."""
    left: list[str] = []
    try:
        services = surroundings.node.status()["services"]
    except CoserverError:
        pass
    else:
        left = [p["name"] for service in services for p in service["processes"] if p["pid"] is not None]
    what = f" ({', '.join(left)} not ended yet)" if left else ""
    mend = "see `coserver logs coserver`" if now else "it goes on, and `coserver down --now` hurries it"
    return f"cannot say that the site is down: not within {timeout:g} s{what}; {mend}"
