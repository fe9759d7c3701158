"""The tasks that are measured. Retries and results are on, as an application would have them."""

from __future__ import annotations

import asyncio
import os

from bench.marks import begin, end, mark
from coserver import task


@task(retries=3)
async def noop(number: int) -> int:
    """Do nothing, and return something, so that a result is kept."""
    mark(number)
    return number


@task(retries=3)
def noop_plain(number: int) -> int:
    """The same as a plain function."""
    mark(number)
    return number


@task(retries=3, isolate=True)
def noop_isolated(number: int) -> int:
    """The same in a process beside the worker."""
    mark(number)
    return number


@task(retries=3)
async def sleep2(number: int) -> None:
    """Take two seconds."""
    begin(number)
    await asyncio.sleep(2)
    end(number)


@task
async def gate(number: int, opening: str) -> None:
    """Run until there is a file of that name."""
    mark(number)
    while not os.path.exists(opening):  # noqa: ASYNC110, ASYNC240 - another process makes it
        await asyncio.sleep(0.02)
