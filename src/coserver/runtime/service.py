"""The actor of one service: it owns the slots, feeds events to `model.service.step`, and has its actions performed.

Everything that happens to a service goes through `tell` or a command, one at a time and in order; what an action brings
about while another is being performed waits in the inbox. Nothing here blocks or awaits, except those who wait for the
service to arrive somewhere.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol, assert_never

from coserver.model.service import (
    Action,
    AskToEnd,
    Clear,
    Due,
    Event,
    Exited,
    Fatal,
    Forget,
    Kill,
    Restart,
    Rules,
    Running,
    SetTimer,
    Slot,
    Spawn,
    Start,
    Stop,
    Stopped,
    StopTimer,
    step,
)

Goal = Literal["up", "down"]


class Timer(Protocol):
    """A timer that can be called off."""

    def cancel(self) -> None: ...


class Hands(Protocol):
    """Performs what a service decided. Every call returns at once; answers come back as events."""

    def spawn(self, process: str, run: int) -> None:
        """Start the program of `process`; answer `Began` or `NotBegun`, later `Ended`."""

    def ask_to_end(self, process: str, run: int) -> None:
        """Send the stop signal to the leader."""

    def kill(self, process: str, run: int) -> None:
        """Kill everything that belongs to the run."""

    def clear(self, process: str, run: int) -> None:
        """End what the leader left; answer `Emptied`."""

    def forget(self, process: str, run: int) -> None:
        """The run is over."""

    def changed(self, process: str, before: Slot, after: Slot) -> None:
        """The slot is another than before; remember it and tell whom it concerns."""

    def timer(self, delay: float, due: Callable[[], None]) -> Timer:
        """Call `due` after `delay` seconds."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """How waiting for a service ended: it arrived, somebody wanted something else meanwhile, or it cannot arrive."""

    how: Literal["arrived", "superseded", "failed"]


class Service:
    """One service with its slots `name/1` … `name/count`."""

    def __init__(
        self,
        name: str,
        count: int,
        rules: Rules,
        hands: Hands,
        *,
        now: Callable[[], float],
        chance: Callable[[], float],
    ) -> None:
        self.name = name
        self.rules = rules
        self.slots = {index: Slot() for index in range(1, count + 1)}
        self._hands = hands
        self._now = now
        self._chance = chance
        self._inbox: deque[tuple[int, Event]] = deque()
        self._busy = False
        self._timers: dict[int, Timer] = {}
        self._commands = dict.fromkeys(self.slots, 0)
        self._moved = asyncio.Event()

    def processes(self) -> Iterator[tuple[str, Slot]]:
        """Yield (name, slot) of each process in order."""
        for index in sorted(self.slots):
            yield f"{self.name}/{index}", self.slots[index]

    def restore(self, index: int, slot: Slot) -> None:
        """Take over a slot as the node before left it, timers included. Events that it missed are told afterwards."""
        self.slots[index] = slot
        state = slot.state
        due = getattr(state, "deadline", None) or getattr(state, "until", None)
        if due is not None:
            self._set_timer(index, getattr(state, "run", 0), due)

    # Commands -----------------------------------------------------------------------------------------------

    def start(self, only: int | None = None) -> None:
        """Bring up what does not run; with `only`, that process alone."""
        self._order(Start(), only)

    def stop(self, *, now: bool = False, only: int | None = None) -> None:
        """Bring down what runs, without grace if `now`."""
        self._order(Stop(now), only)

    def restart(self, only: int | None = None) -> None:
        """Give every process a new run."""
        self._order(Restart(), only)

    def _order(self, event: Start | Stop | Restart, only: int | None) -> None:
        for index in sorted(self.slots):
            if only is None or index == only:
                self._commands[index] += 1
                self.tell(index, event)
        self._tell_waiters()

    def tell(self, index: int, event: Event) -> None:
        """Hand an event to a slot. Events are worked off in the order of their arrival."""
        if index not in self.slots:
            return
        self._inbox.append((index, event))
        if self._busy:
            return
        self._busy = True
        try:
            while self._inbox:
                self._work(*self._inbox.popleft())
        finally:
            self._busy = False

    def _work(self, index: int, event: Event) -> None:
        before = self.slots[index]
        after, actions = step(before, event, self.rules, now=self._now(), chance=self._chance())
        self.slots[index] = after
        process = f"{self.name}/{index}"
        if after != before:
            self._hands.changed(process, before, after)
            self._tell_waiters()
        for action in actions:
            self._perform(index, process, action)

    def _perform(self, index: int, process: str, action: Action) -> None:
        match action:
            case Spawn(run):
                self._hands.spawn(process, run)
            case AskToEnd(run):
                self._hands.ask_to_end(process, run)
            case Kill(run):
                self._hands.kill(process, run)
            case Clear(run):
                self._hands.clear(process, run)
            case Forget(run):
                self._hands.forget(process, run)
            case SetTimer(run, at):
                self._set_timer(index, run, at)
            case StopTimer():
                self._stop_timer(index)
            case _:
                assert_never(action)

    def _set_timer(self, index: int, run: int, at: float) -> None:
        self._stop_timer(index)
        delay = max(0.0, at - self._now())
        self._timers[index] = self._hands.timer(delay, lambda: self.tell(index, Due(run)))

    def _stop_timer(self, index: int) -> None:
        timer = self._timers.pop(index, None)
        if timer is not None:
            timer.cancel()

    def close(self) -> None:
        """Call off all timers."""
        for index in list(self._timers):
            self._stop_timer(index)

    # Waiting ------------------------------------------------------------------------------------------------

    async def arrive(self, goal: Goal, only: int | None = None) -> Arrival:
        """Wait until every process is ready (`up`) or at rest (`down`), or a later command makes that pointless."""
        awaited = [index for index in self.slots if only is None or index == only]
        commands = [self._commands[index] for index in awaited]
        while True:
            moved = self._moved
            states = [self.slots[index].state for index in awaited]
            if goal == "down":
                if all(isinstance(state, Stopped | Exited | Fatal) for state in states):
                    return Arrival("arrived")
            elif any(isinstance(state, Fatal) for state in states):
                return Arrival("failed")
            elif all(
                isinstance(state, Exited) or (isinstance(state, Running) and state.ready) for state in states
            ):
                return Arrival("arrived")
            await moved.wait()
            if [self._commands[index] for index in awaited] != commands:
                return Arrival("superseded")

    def _tell_waiters(self) -> None:
        # A fresh event each time: all who wait see the change, and nobody clears it before another has woken.
        self._moved.set()
        self._moved = asyncio.Event()
