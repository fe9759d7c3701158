"""How `coserver up` becomes a keeper, or starts one.

One lock per state directory makes sure of a single keeper. The locked descriptor is inherited by the keeper
and by its node, so the lock is held until both are gone: a second `up` neither doubles a site that lives
nor overtakes a node that is still stopping what its dead keeper left. Order: `take_lock`, `recorded.clear`,
then `become_keeper` or `start_keeper`.

In the foreground the command itself turns into the keeper (same process id: PID 1 stays PID 1, Ctrl-C
reaches it). The keeper must be the subreaper of all its descendants; that attribute survives exec, so it is
set here, where loading ctypes costs nobody anything.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, NoReturn

from coserver.errors import CoserverError
from coserver.host import keeper

PR_SET_CHILD_SUBREAPER: Final = 36
RETRY_EVERY: Final = 0.05


class SiteIsUp(CoserverError):
    """Another keeper, or the node of one that died, has the site."""

    code = "up-already"
    http_status = 409

    def __init__(self, message: str, keeper_pid: int | None) -> None:
        super().__init__(message)
        self.keeper_pid = keeper_pid


def take_lock(
    state: Path,
    *,
    wait: float = 0.0,
    now: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Return the descriptor of the site's lock, made with the state directory if there is none.

    Raises SiteIsUp at once while a keeper lives; if only a node is left, which is about to stop everything,
    after `wait` seconds.
    """
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except (FileExistsError, NotADirectoryError) as error:
        raise CoserverError(
            f"cannot use the state directory {state}: there is a file in its place; move that away, or set `state` "
            "in [node]"
        ) from error
    except OSError as error:
        raise CoserverError(
            f"cannot use the state directory {state}: {error.strerror}; mend its rights, or set `state` in [node]"
        ) from error
    deadline = now() + wait
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return fd
        except BlockingIOError:
            holder = lock_holder(state)
            if holder is None and now() < deadline:
                sleep(RETRY_EVERY)
                continue
        os.close(fd)
        if holder is not None:
            raise SiteIsUp(
                f"cannot start the site: it is up already (keeper {holder}); use `coserver status`, "
                "or `coserver down` first",
                holder,
            )
        raise SiteIsUp(
            f"cannot start the site: the last one is still being stopped ({state / 'lock'} is held); "
            "try again in a moment",
            None,
        )


def lock_holder(state: Path) -> int | None:
    """The process id of the live keeper that holds the lock; None if there is none or only its node is
    left."""
    try:
        told = json.loads((state / "lock").read_bytes())
        pid, start = int(told["pid"]), int(told["start"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    stat = keeper.stat_of(pid)
    return pid if stat is not None and stat.start == start and stat.state != "Z" else None


def become_keeper(state: Path, lock_fd: int, node: Sequence[str], settings: Mapping[str, float]) -> NoReturn:
    """Turn this process into the keeper, whose node runs the command `node`. Standard streams are kept.

    `settings` are the keeper's times in seconds by name (see `keeper.Settings`). Raises OSError if it cannot.
    """
    command = keeper_command(state, lock_fd, node, settings)
    become_subreaper()
    sign_lock(lock_fd, os.getpid())
    os.set_inheritable(lock_fd, True)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(command[0], command)


def start_keeper(
    state: Path, lock_fd: int, node: Sequence[str], settings: Mapping[str, float]
) -> subprocess.Popen[bytes]:
    """Start a keeper in a session of its own, its words and its node's in `keeper.log`. Raises OSError if
    it cannot.

    `lock_fd` stays the caller's to close. The caller has to be a program without threads, as commands are.
    """
    with open(state / "keeper.log", "ab", opener=private) as words:
        process = subprocess.Popen(
            keeper_command(state, lock_fd, node, settings),
            stdin=subprocess.DEVNULL,
            stdout=words,
            stderr=words,
            start_new_session=True,
            pass_fds=[lock_fd],
            preexec_fn=become_subreaper,
        )
    sign_lock(lock_fd, process.pid)
    return process


def keeper_command(
    state: Path, lock_fd: int, node: Sequence[str], settings: Mapping[str, float]
) -> list[str]:
    """The command line of a keeper."""
    times = [f"--{name.replace('_', '-')}={value:g}" for name, value in settings.items()]
    interpreter = [sys.executable, "-I", "-S", str(keeper.__file__)]
    return [*interpreter, f"--state={state.absolute()}", f"--lock-fd={lock_fd}", *times, "--", *node]


def become_subreaper() -> None:
    """Have orphaned descendants come to this process instead of init; survives exec, not fork."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def sign_lock(lock_fd: int, pid: int) -> None:
    """Write into the lock file which keeper has it."""
    stat = keeper.stat_of(pid)
    text = json.dumps({"pid": pid, "start": stat.start if stat else 0}).encode("ascii")
    os.pwrite(lock_fd, text, 0)
    os.ftruncate(lock_fd, len(text))


def private(path: str, flags: int) -> int:
    """Open as `open` would, readable by nobody else."""
    return os.open(path, flags, 0o600)
