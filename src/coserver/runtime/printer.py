"""The process that shows a site on the terminal where `up` was called.

It is a child of the keeper like any other but no service. It follows the log files, so a terminal that is slow, halted
or closed can hold up nothing else. It outlives nodes. When the terminal was closed it ends by itself, and that was it;
when anything else ended it, the terminal must not stay mute: another one goes on from there.
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
from coserver.runtime.clock import boot_now, monotonic_now, wall_now

KEY = "coserver/printer#"
TERMINAL_GONE = 74
"""The status with which it ends when its terminal was closed."""
LIVED = 1.0
"""Seconds after which one has certainly shown what was there when it began."""
SHORT_LIVES = 3
"""How many may end earlier, one after the other, before no other one follows."""
OVERLAP = 0.5
"""Seconds before the end of one that the next one shows again: it had perhaps not come so far."""
PATIENCE = 3.0
"""Seconds in which it has to show the last lines and leave."""


@dataclass(frozen=True, slots=True)
class Show:
    """What to run as the printer, with what environment, where, and under which mark. `argv` lacks its last word, the
    time from which on it shows (µs since 1970)."""

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
        self._stopping = False
        self._show: Show | None = None
        self._begun = 0.0
        self._since = 0
        self._resume: int | None = None
        """from where to go on for one that ended while there was no node"""
        self._short_lives = 0

    @property
    def process(self) -> tuple[int, int] | None:
        """Its process id and kernel start time, None while there is none."""
        return self._process

    def take_over(self, row: ChildRow) -> None:
        """A printer was started under an earlier node."""
        if row.ended is not None:
            self._link.ack(row.key)
            if isinstance(row.ended, Exited) and row.ended.code != TERMINAL_GONE:
                self._resume = _just_before(row.ended)
            else:
                self._left = True
        else:
            self._key = row.key
            self._process = (row.pid, row.start_time)

    def start(self, show: Show, number: int, *, since: int) -> None:
        """Start it, unless there is one or it has left already, to show what was printed since a time (µs since 1970).
        `number` must never have been used."""
        self._show, self._since = show, since if self._resume is None else min(since, self._resume)
        if self._key is not None or self._left:
            return
        self._resume = None
        self._key = f"{KEY}{number}"
        self._ended.clear()
        self._link.spawn(
            SpawnSpec(
                key=self._key,
                argv=(*show.argv, str(self._since)),
                env=show.env,
                cwd=show.cwd,
                mark=f"{show.instance}:{self._key}",
                output=None,
            )
        )

    def hear(self, event: Started | SpawnFailed | SpawnRefused | Exited) -> None:
        """Take note of what became of it, and have another one go on where something ended it."""
        if event.key != self._key:
            return
        if isinstance(event, Started):
            self._process = (event.pid, event.start_time)
            self._begun = monotonic_now()
            return
        self._key = self._process = None
        self._link.ack(event.key)
        if isinstance(event, Exited) and event.code != TERMINAL_GONE and not self._stopping:
            self._follow_on(event)
        if self._key is None:
            self._left = True
            self._ended.set()

    def _follow_on(self, end: Exited) -> None:
        """Have another one go on, unless one after the other ends at once. Some lines may be shown twice, none is
        left out."""
        if end.at_monotonic_us / 1e6 - self._begun >= LIVED:
            self._short_lives = 0
            self._since = _just_before(end)
        else:
            self._short_lives += 1
        if self._show is not None and self._short_lives <= SHORT_LIVES:
            self.start(self._show, int(boot_now() * 1e6), since=self._since)

    async def stop(self) -> None:
        """Let the terminal have the last lines."""
        self._stopping = True
        if self._key is None:
            return
        await self._link.signal(self._key, signal.SIGTERM)
        try:
            async with asyncio.timeout(PATIENCE):
                await self._ended.wait()
        except TimeoutError:
            pass


def _just_before(end: Exited) -> int:
    """Return when it certainly had shown all before (µs since 1970)."""
    return wall_now() - int((monotonic_now() - end.at_monotonic_us / 1e6 + OVERLAP) * 1e6)
