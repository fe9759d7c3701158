"""The node's hand for containment: one look at the machine at a time, for all runs that need one.

`host.containment` has the theory and decides; this file looks (in a thread, for a look takes milliseconds), signals,
and calls back. A run is *known* from its start. It is looked at before its leader is signalled, so that the ancestry of
its processes is remembered before parents die; *cleared* once its leader has ended: what is left is asked to end by
TERM, and killed when the service's patience is over; and *forgotten* when it is empty.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Iterable
from dataclasses import replace

from coserver.host import containment, proc
from coserver.host.containment import Ending, Round, RunIdentity
from coserver.host.proc import Member
from coserver.model.names import Run
from coserver.runtime.spawning import mark

log = logging.getLogger("coserver")

FIRST_PAUSE = 0.002
LONGEST_PAUSE = 0.05


class Sweeper:
    """Looks, asks and kills. Used on the node's loop only."""

    def __init__(self, instance: str, *, keeper_pid: int) -> None:
        """`instance` begins the marks of this site's processes."""
        self._instance = instance
        self._spared = frozenset(
            Member(pid, start)
            for pid in (keeper_pid, os.getpid())
            if (start := proc.start_time(pid)) is not None
        )
        self._runs: dict[str, RunIdentity] = {}
        self._endings: dict[str, Ending] = {}
        self._after_look: dict[str, Callable[[], None]] = {}
        self._emptied: dict[str, Callable[[], None]] = {}
        self._asked: dict[str, frozenset[Member]] = {}
        self._known: dict[str, frozenset[Member]] = {}
        self._bell = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> asyncio.Task[None]:
        """Begin to serve; return the task that does, for its owner to watch."""
        self._task = asyncio.create_task(self._serve(), name="sweeper")
        return self._task

    async def close(self) -> None:
        """Stop serving."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    # What the node tells ------------------------------------------------------------------------------------

    def leader(self, run: Run, pid: int, start: int) -> None:
        """A run's leader is known from now on."""
        self._runs[run.key] = RunIdentity(run.key, Member(pid, start), mark(self._instance, run))

    def adopted(self, run: Run, members: frozenset[tuple[int, int]]) -> None:
        """The keeper adopted these processes as the run's leader ended."""
        identity = self._runs.get(run.key)
        if identity is not None and members:
            found = identity.adopted | {Member(*member) for member in members}
            self._runs[run.key] = replace(identity, adopted=found)

    def forget(self, run: Run) -> None:
        """The run is over."""
        for kept in (self._runs, self._endings, self._after_look, self._emptied, self._asked, self._known):
            kept.pop(run.key, None)

    # What the node asks -------------------------------------------------------------------------------------

    def look(self, run: Run, then: Callable[[], None]) -> None:
        """Remember who belongs to the run, then call back."""
        if run.key not in self._runs:
            then()
            return
        self._after_look[run.key] = then
        self._begin(run.key)

    def kill(self, run: Run) -> None:
        """Kill everybody who belongs, as often as somebody does, until the run is forgotten."""
        self._begin(run.key, force=True)

    def clear(self, run: Run, emptied: Callable[[], None]) -> None:
        """The leader has ended: ask who is left to end, and call back when nobody is."""
        if run.key not in self._runs:
            asyncio.get_running_loop().call_soon(emptied)
            return
        self._emptied[run.key] = emptied
        self._begin(run.key)

    async def end(self, members: Iterable[tuple[int, int]], *, grace: float = 0.0) -> None:
        """End processes and all below them: TERM if there is grace (seconds), then KILL, until none is left."""
        wanted = frozenset(Member(*member) for member in members)
        identities = {key: identity for key, identity in self._runs.items() if identity.leader in wanted}
        strays = wanted - {identity.leader for identity in identities.values()}
        for number, stray in enumerate(sorted(strays)):
            key = f"stray/{number}"
            identities[key] = RunIdentity(key, stray, "\0", held=False)
        endings = {
            key: Ending(identity, known=self._known.get(key, frozenset()))
            for key, identity in identities.items()
        }
        if grace > 0 and endings:
            proc.kill(wanted, signal.SIGTERM)
        until = asyncio.get_running_loop().time() + grace
        pause = FIRST_PAUSE
        while endings:
            if asyncio.get_running_loop().time() >= until:
                endings = {key: replace(ending, force=True) for key, ending in endings.items()}
            done = await self._round(endings)
            endings = dict(done.endings)
            for key, left in done.left.items():
                # What a leader leaves behind is asked as it was.
                if identities[key].leader not in left and not endings[key].force:
                    self._ask(key, left)
            await asyncio.sleep(pause)
            pause = min(LONGEST_PAUSE, pause * 2)

    async def unclaimed(self, adoptees: Iterable[tuple[int, int]]) -> frozenset[Member]:
        """Return those of the keeper's adoptees that belong to no run."""
        snapshot = await asyncio.to_thread(containment.look, list(self._runs.values()))
        claimed: set[Member] = set()
        for key, identity in self._runs.items():
            known = self._known.get(key, frozenset())
            claimed |= containment.members(snapshot.table, identity, known, snapshot.marks)
        return frozenset(Member(*adoptee) for adoptee in adoptees) - claimed

    # Serving ------------------------------------------------------------------------------------------------

    def _begin(self, key: str, *, force: bool = False) -> None:
        identity = self._runs.get(key)
        if identity is None:
            return
        before = self._endings.get(key) or Ending(identity, known=self._known.get(key, frozenset()))
        self._endings[key] = replace(before, run=identity, force=before.force or force, empty_looks=0)
        self._bell.set()

    async def _serve(self) -> None:
        pause = FIRST_PAUSE
        while True:
            if not self._endings:
                await self._bell.wait()
                pause = FIRST_PAUSE
            self._bell.clear()
            awaited = dict(self._endings)
            try:
                done = await self._round(awaited)
                after = dict(done.endings)
                for key, left in done.left.items():
                    if key in self._emptied and not after[key].force:
                        self._ask(key, left)
            except OSError as error:
                log.error("cannot look at the machine's processes: %s", error)
                after = awaited
            self._take(awaited, after)
            try:
                async with asyncio.timeout(pause):
                    await self._bell.wait()
                pause = FIRST_PAUSE
            except TimeoutError:
                pause = min(LONGEST_PAUSE, pause * 2)

    def _take(self, before: dict[str, Ending], after: dict[str, Ending]) -> None:
        for key, old in before.items():
            now = self._endings.get(key)
            if now is None:
                continue  # forgotten meanwhile
            new = after.get(key)
            if new is not None:
                # What was asked while we looked still holds.
                force = now.force or new.force
                empty = 0 if now is not old else new.empty_looks
                self._endings[key] = replace(new, run=now.run, force=force, empty_looks=empty)
            elif now is not old:
                self._endings[key] = replace(now, known=now.known | old.known)
            else:
                del self._endings[key]
                if (emptied := self._emptied.pop(key, None)) is not None:
                    emptied()
            if (then := self._after_look.pop(key, None)) is not None:
                then()
            if key in self._endings and key not in self._emptied and not self._endings[key].force:
                # Only looked at: what was seen is kept for the next time, and nothing more is to be done.
                self._known[key] = self._endings.pop(key).known

    async def _round(self, endings: dict[str, Ending]) -> Round:
        snapshot = await asyncio.to_thread(containment.look, [ending.run for ending in endings.values()])
        outside = self._spared | {
            identity.leader for key, identity in self._runs.items() if key not in endings
        }
        done = containment.step(endings, snapshot, outside)
        proc.kill(done.freeze, signal.SIGSTOP)
        proc.kill(done.kill, signal.SIGKILL)
        return done

    def _ask(self, key: str, left: frozenset[Member]) -> None:
        new = left - self._asked.get(key, frozenset())
        if new:
            proc.kill(new, signal.SIGTERM)
            self._asked[key] = self._asked.get(key, frozenset()) | new
