"""`coserver doctor`: what is wrong with site and machine, and how to mend it."""

from __future__ import annotations

import os
import resource
import shutil
import socket
import sqlite3
import sys
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import click

from coserver.cli.context import Surroundings, json_option, pass_surroundings, put_json, put_text
from coserver.cli.others import dangers, obstacles
from coserver.cli.status import UNSERVED
from coserver.cli.table import Colour, colourful, paint
from coserver.config import Site
from coserver.errors import CoserverError, NotRunning
from coserver.model.address import TcpAddress
from coserver.model.why import Unserved
from coserver.model.why_words import mend, says_of_group

Verdict = Literal["ok", "note", "bad"]
_COLOURS: dict[Verdict, Colour] = {"ok": "green", "note": "yellow", "bad": "red"}
MIN_FILES = 4096
NETWORK_FILESYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "glusterfs", "fuse.sshfs", "lustre"}
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. A `note` works less well than it could, a `bad` one does not work."""

    verdict: Verdict
    about: str
    says: str


@click.command()
@json_option
@pass_surroundings
def doctor(surroundings: Surroundings, as_json: bool) -> None:
    """Look at machine, configuration, store and node, and say what is wrong and how to mend it.

    Exit code 1 when something does not work.
    """
    findings = list(_examine(surroundings))
    if as_json:
        put_json({"findings": [{"verdict": f.verdict, "about": f.about, "says": f.says} for f in findings]})
    else:
        colour = colourful(sys.stdout)
        for finding in findings:
            word = paint(f"{finding.verdict:4}", _COLOURS[finding.verdict], colour)
            click.echo(f"{word}  ", nl=False, color=colour)
            put_text(f"{finding.about}: {finding.says}")
    if any(finding.verdict == "bad" for finding in findings):
        sys.exit(1)


def _examine(surroundings: Surroundings) -> Iterator[Finding]:
    yield from _machine()
    try:
        site = surroundings.site
    except CoserverError as error:
        yield Finding("bad", "configuration", str(error))
        return
    yield Finding("ok", "configuration", f"{site.file}, {len(site.services)} services")
    yield from _state(site)
    yield from _store(site)
    up = yield from _node(surroundings)
    yield from _services(site, up=up)


def _machine() -> Iterator[Finding]:
    if sys.platform != "linux":
        yield Finding("bad", "machine", f"cannot supervise on {sys.platform}; sites run on Linux")
        return
    release = os.uname().release
    if not hasattr(os, "pidfd_open") or tuple(int(n) for n in release.split(".")[:2]) < (5, 4):
        yield Finding("bad", "kernel", f"{release} is older than 5.4, and lacks pidfd; upgrade it")
    else:
        yield Finding("ok", "kernel", release)
    yield Finding("ok", "python", f"{sys.version.split()[0]} at {sys.executable}")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < MIN_FILES:
        yield Finding(
            "note", "open files", f"at most {hard}, enough for some {hard // 8} processes; raise `ulimit -Hn`"
        )
    else:
        yield Finding("ok", "open files", f"{soft}, up to {hard}")
    group = _delegated_cgroup()
    if group is None:
        yield Finding(
            "note", "cgroup v2", "not delegated to this user: processes are found by session, parent and mark"
        )
    else:
        yield Finding("ok", "cgroup v2", str(group))
    if _has_wal_race(sqlite3.sqlite_version_info):
        yield Finding(
            "note",
            "sqlite3 module",
            f"SQLite {sqlite3.sqlite_version} can corrupt a WAL that several write to (mended in 3.51.3); "
            "coserver brings its own and does not use it unless the store says driver=sqlite3",
        )


def _has_wal_race(version: tuple[int, ...]) -> bool:
    """Whether a SQLite has the WAL-reset race; it was mended in 3.51.3, 3.50.7 and 3.44.6 (see sqlite.org/wal.html)."""
    return version < (3, 51, 3) and not (
        (version[:2] == (3, 50) and version >= (3, 50, 7))
        or (version[:2] == (3, 44) and version >= (3, 44, 6))
    )


def _delegated_cgroup() -> Path | None:
    try:
        own = next(
            line.split("::", 1)[1]
            for line in Path("/proc/self/cgroup").read_text().splitlines()
            if line.startswith("0::")
        )
    except (OSError, StopIteration):
        return None
    path = Path("/sys/fs/cgroup") / own.lstrip("/")
    return path if (path / "cgroup.procs").exists() and os.access(path, os.W_OK) else None


def _state(site: Site) -> Iterator[Finding]:
    state = site.node.state
    nearest = state
    while not nearest.exists():
        nearest = nearest.parent
    if not nearest.is_dir():
        yield Finding(
            "bad", "state directory", f"{nearest} is a file; move it away, or set `state` in [node]"
        )
    elif not os.access(nearest, os.W_OK):
        yield Finding(
            "bad", "state directory", f"cannot write {nearest}; mend its rights, or set `state` in [node]"
        )
    else:
        free = shutil.disk_usage(nearest).free
        word: Verdict = "ok" if free > 100 << 20 else "note"
        yield Finding(word, "state directory", f"{state}, {free >> 20} MB free")


def _store(site: Site) -> Iterator[Finding]:
    from coserver.store import open_store
    from coserver.store.inquiry import ask_all
    from coserver.store.url import SQLiteUrl, parse_url

    try:
        where = parse_url(site.store)
        if isinstance(where, SQLiteUrl):
            kind = _filesystem(Path(where.path))
            if kind in NETWORK_FILESYSTEMS:
                yield Finding(
                    "bad",
                    "store",
                    f"{where.path} lies on {kind}, where SQLite's locks do not hold; use a local disk",
                )
            yield from _library(where.driver)
            if not Path(where.path).exists():
                yield Finding("ok", "store", f"{where.path} is not there yet; `up` makes it")
                return
        store = open_store(site.store)
        try:
            found = store.schema()
            waiting = ask_all(store) if found.version == found.latest else []
        finally:
            store.close()
    except CoserverError as error:
        yield Finding("bad", "store", str(error))
        return
    if found.version > found.latest:
        yield Finding(
            "bad",
            "store",
            f"its schema {found.version} is newer than this coserver's {found.latest}; upgrade",
        )
    elif found.pending:
        yield Finding(
            "note",
            "store",
            f"{len(found.pending)} migrations are pending; `coserver db migrate` applies them",
        )
    else:
        yield Finding("ok", "store", f"schema {found.version}")
    yield from _waiting(waiting)


def _library(driver: Literal["apsw", "sqlite3"]) -> Iterator[Finding]:
    """The SQLite library by which the store is opened, when it has the race."""
    import apsw

    found = sqlite3.sqlite_version if driver == "sqlite3" else apsw.sqlite_lib_version()
    if not _has_wal_race(tuple(int(part) for part in found.split("."))):
        return
    if driver == "sqlite3":
        name, mend = (
            "Python's sqlite3",
            "upgrade that SQLite, or leave ?driver=sqlite3 out where no code of yours opens the file",
        )
    else:
        name, mend = "apsw", "install apsw from PyPI, which brings its own"
    yield Finding(
        "note",
        "store",
        f"it is opened by {name} with SQLite {found}, which can corrupt a WAL that several write to; {mend}",
    )


def _waiting(found: Sequence[Unserved]) -> Iterator[Finding]:
    """Jobs that nobody takes."""
    now = time.time_ns() // 1000
    for one in found[:UNSERVED]:
        yield Finding("note", "jobs", f"{says_of_group(one, now)}; {mend(one.cause)}")
    if len(found) > UNSERVED:
        yield Finding("note", "jobs", f"and {len(found) - UNSERVED} more such groups")


def _filesystem(path: Path) -> str:
    best, kind = -1, ""
    for line in Path("/proc/mounts").read_text().splitlines():
        _, mount, found, *_ = line.split()
        if path.is_relative_to(mount) and len(mount) > best:
            best, kind = len(mount), found
    return kind


def _node(surroundings: Surroundings) -> Generator[Finding, None, bool]:
    """Yield what is found; return whether a keeper has the site."""
    from coserver.host import launch

    state = surroundings.site.node.state
    keeper = launch.lock_holder(state)
    try:
        answer = surroundings.node.status()
    except NotRunning:
        if keeper is None:
            yield Finding("ok", "node", "the site is not up")
        else:
            yield Finding(
                "bad", "node", f"keeper {keeper} lives, but no node answers; see {state / 'keeper.log'}"
            )
        return keeper is not None
    except CoserverError as error:
        yield Finding("bad", "node", str(error))
        return True
    yield Finding(
        "ok", "node", f"process {answer['node']['pid']} under keeper {answer['node']['keeper_pid']}"
    )
    for service in answer["services"]:
        for process in service["processes"]:
            if not process["healthy"]:
                yield Finding(
                    "bad", process["name"], f"{process['state']}: {process['why'] or 'see its logs'}"
                )
    return True


def _services(site: Site, *, up: bool) -> Iterator[Finding]:
    for service in site.services.values():
        if service.command is not None:
            path = service.env.get("PATH", os.environ.get("PATH", os.defpath))
            beside = Path(sys.executable).parent
            program = service.command[0]
            found = shutil.which(
                str(service.cwd / program) if "/" in program else program, path=f"{beside}:{path}"
            )
            if found is None:
                yield Finding("bad", service.name, f'no program "{program}"; install it or correct `command`')
        if not service.cwd.is_dir():
            yield Finding("bad", service.name, f"no directory {service.cwd}; create it or correct `cwd`")
        if isinstance(service.bind, TcpAddress) and not up:
            yield from _free(service.name, service.bind)
        if service.user is not None:
            yield from _user(service.name, service.user)
            for obstacle in obstacles(site, service):
                yield Finding("bad", service.name, obstacle)
            for danger in dangers(site, service):
                yield Finding("note", service.name, danger)


def _free(name: str, address: TcpAddress) -> Iterator[Finding]:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address.host, address.port))
        except OSError as error:
            yield Finding(
                "bad", name, f"cannot listen on {address}: {error.strerror}; end who does, or change `bind`"
            )


def _user(name: str, user: str) -> Iterator[Finding]:
    from coserver.host.users import account

    try:
        found = account(user)
    except CoserverError as error:
        yield Finding("bad", name, str(error))
        return
    if os.geteuid() not in (0, found.uid):
        yield Finding(
            "bad", name, f'only root may run it as "{user}"; start the site as root, or leave `user` out'
        )
