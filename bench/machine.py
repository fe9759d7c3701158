"""What the numbers were measured on. Host names and paths are left out on purpose."""

from __future__ import annotations

import os
import platform
import statistics
import time
from importlib.metadata import version
from pathlib import Path

import apsw


def describe(directory: Path) -> dict[str, str]:
    """Return the machine and the versions; `directory` is where the databases lie."""
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "coserver": version("coserver"),
        "apsw": apsw.apsw_version(),
        "psycopg": version("psycopg"),
        "file system": _file_system(directory),
        "fdatasync": f"{fdatasync_ms(directory):.3f} ms (median of 200 after 4 KiB each)",
        "load before": f"{os.getloadavg()[0]:.2f}",
    }


def fdatasync_ms(directory: Path) -> float:
    """Return how long the disk takes to keep 4 KiB, in milliseconds."""
    path = directory / "fdatasync"
    file = os.open(path, os.O_WRONLY | os.O_CREAT)
    times = []
    try:
        for _ in range(200):
            os.write(file, b"x" * 4096)
            begun = time.perf_counter()
            os.fdatasync(file)
            times.append(time.perf_counter() - begun)
    finally:
        os.close(file)
        path.unlink()
    return statistics.median(times) * 1000


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _file_system(directory: Path) -> str:
    best = ("", "unknown")
    try:
        for line in Path("/proc/mounts").read_text().splitlines():
            _, where, kind, *_ = line.split()
            if directory.resolve().is_relative_to(where) and len(where) >= len(best[0]):
                best = (where, kind)
    except OSError:
        pass
    return best[1]
