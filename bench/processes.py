"""Processes that are measured: how they are started and ended, and what `/proc` says of them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_PR_SET_PDEATHSIG = 1


def spawn(
    argv: Sequence[str],
    environment: Mapping[str, str],
    *,
    cwd: Path | None = None,
    stdout: int | IO[bytes] | None = None,
    stderr: IO[bytes] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a process that ends with this one, however that ends."""
    return subprocess.Popen(
        argv,
        env={**os.environ, **environment},
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        preexec_fn=_end_with_parent,
    )


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def tree(pid: int) -> list[int]:
    """Return a process and all its living descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))) is not None:
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, waiting = [], [pid]
    while waiting:
        found.append(waiting.pop())
        waiting += children.get(found[-1], [])
    return found


def parent(pid: int) -> int:
    """Return a living process's parent."""
    fields = _stat(pid)
    if fields is None:
        raise ProcessLookupError(pid)
    return int(fields[1])


def kill_tree(process: subprocess.Popen[bytes]) -> None:
    """Kill a process that we started, and its descendants, in one stroke: stopped first, they start nothing more."""
    if process.poll() is None:
        caught: list[int] = []
        while fresh := [pid for pid in tree(process.pid) if pid not in caught]:
            caught += fresh
            _signal(fresh, signal.SIGSTOP)
        _signal(caught, signal.SIGKILL)
    process.wait()


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return what the processes and their ended children have used, in the kernel and outside."""
    used = 0
    for pid in pids:
        if (fields := _stat(pid)) is not None:
            used += sum(int(field) for field in fields[11:15])
    return used / _TICKS


def resident_mb(pids: Iterable[int]) -> float:
    """Return the sum of the resident memory; pages that are shared count in each."""
    return sum(int(fields[21]) * _PAGE for pid in pids if (fields := _stat(pid)) is not None) / 1e6


def proportional_mb(pids: Iterable[int]) -> float:
    """Return the sum of the memory where a page that n processes share counts 1/n in each (PSS)."""
    kilobytes = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    kilobytes += int(line.split()[1])
    return kilobytes * 1024 / 1e6


def _signal(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _stat(pid: int) -> list[str] | None:
    """Return the fields of a process's `stat` from its state on, None when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
