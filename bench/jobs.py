"""The tasks that are measured. Retries and results are on, as an application would have them."""

from __future__ import annotations

import os
import struct
import time

from coserver import task

_marks = os.environ.get("BENCH_MARKS")
_file = os.open(_marks, os.O_WRONLY | os.O_APPEND | os.O_CREAT) if _marks else -1
MARK = struct.Struct("<qq")


@task(retries=3)
async def noop(number: int) -> int:
    """Do nothing, and return something, so that a result is kept."""
    return number


@task(retries=3)
def noop_plain(number: int) -> int:
    """The same as a plain function."""
    return number


@task
async def mark(number: int) -> None:
    """Write down when this began (ns on the machine's monotonic clock)."""
    os.write(_file, MARK.pack(number, time.monotonic_ns()))
