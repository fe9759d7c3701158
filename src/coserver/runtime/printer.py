"""The process that shows a site on the terminal where `up` was called.

It is a child of the keeper like any other but no service. It follows the log files, so a terminal that is slow, halted
or closed can hold up nothing else. It outlives nodes; when it ends by itself (the terminal was closed), no matter.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from coserver.host.keeper_link import (
    ChildRow,
    Exited,
    KeeperLink,
    SpawnFailed,
    SpawnRefused,
    SpawnSpec,
    Started,
)

KEY = "coserver/printer#"
PATIENCE = 3.0
"""Seconds in which it has to show the last lines and leave."""


@dataclass(frozen=True, slots=True)
class Show:
    """What to run as the printer, with what environment, where, and under which mark."""

    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: str
    instance: str


class Printer:
    """At most one printer; the node passes on what the keeper says of keys that begin with `KEY`."""

    def __init__(self, link: KeeperLink) -> None:
        self._link = link
        self._key: str | None = None
        self._process: tuple[int, int] | None = None
        self._ended = asyncio.Event()
        self._left = False

    @property
    def process(self) -> tuple[int, int] | None:
        """Its process id and kernel start time, None while there is none."""
        return self._process

    def take_over(self, row: ChildRow) -> None:
        """A printer was started under an earlier node."""
        if row.ended is not None:
            self._left = True
            self._link.ack(row.key)
        else:
            self._key = row.key
            self._process = (row.pid, row.start_time)

    def start(self, show: Show, number: int) -> None:
        """Start it, unless there is one or it has left already. `number` must never have been used."""
        if self._key is not None or self._left:
            return
        self._key = f"{KEY}{number}"
        self._ended.clear()
        self._link.spawn(
            SpawnSpec(
                key=self._key,
                argv=tuple(show.argv),
                env=show.env,
                cwd=show.cwd,
                mark=f"{show.instance}:{self._key}",
                output=None,
            )
        )

    def hear(self, event: Started | SpawnFailed | SpawnRefused | Exited) -> None:
        """Take note of what became of it."""
        if event.key != self._key:
            return
        if isinstance(event, Started):
            self._process = (event.pid, event.start_time)
            return
        self._key = self._process = None
        self._left = True
        self._ended.set()
        self._link.ack(event.key)

    async def stop(self) -> None:
        """Let the terminal have the last lines."""
        if self._key is None:
            return
        await self._link.signal(self._key, signal.SIGTERM)
        try:
            async with asyncio.timeout(PATIENCE):
                await self._ended.wait()
        except TimeoutError:
            pass
