"""The life of one process of a service: every state, every event, and what follows.

Theory. A service has *slots* (`mail/1`, `mail/2`, …); a slot has at most one *run* at a time, and runs are numbered for
ever. This module is the rule of one slot. It decides and does nothing: `step` takes the slot and an event and returns
the slot as it is now together with the actions that somebody has to perform.

    Stopped ──▶ Starting ──▶ Running ──▶ Stopping ──▶ Clearing ──▶ Stopped | Starting | Backoff | Exited | Fatal
                    │            └────── ended unasked ──▲
                    └── could not be started ────────────┘

* A run is over only when it is *empty*: its leader has ended **and** no process that belongs to it is left (see
  `host.containment`). Between the two the slot is Clearing. No new run begins before the old one is empty, so nothing
  is ever doubled.
* Who asked decides what follows. `Then.REST`: an operator (or the site going down) wants it stopped. `Then.AGAIN`: an
  operator wants a new run. `Then.POLICY`: it ended by itself, and `model.restart` is asked. A command may change
  `then` at any moment before the run is empty; the last command wins, and none is refused.
* Processes of our own say by their exit status what no policy has to guess: RECYCLED, that they have done their part
  and a fresh one should take over, which begins at once and is no failure; UNFIT, that trying again cannot help.
* Every event that answers something carries the number of the run it speaks of. News of another run are ignored, so a
  late timer, a late exit or a late readiness report can do no harm.
* Operators outrank policy: `Start` forgives every earlier failure, `Stop` ends a backoff.

Times are seconds of the boot clock (it does not jump, and it survives a restart of the node); chance is an argument.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from typing import assert_never

from coserver.model import restart
from coserver.model.restart import Again, Done, GiveUp, Record, RestartPolicy
from coserver.model.statuses import RECYCLED, UNFIT


class Then(Enum):
    """What follows once the run is empty."""

    REST = "rest"
    AGAIN = "again"
    POLICY = "policy"


@dataclass(frozen=True, slots=True)
class End:
    """How a run ended. Exactly one of `status`, `signal` and `reason` is set.

    `status`: the leader's exit status; `signal`: the number of the signal that killed it; `reason`: a sentence, when
    there never was a program to run or nobody saw it end. `at`: µs since 1970 UTC, for people.
    """

    at: int
    status: int | None = None
    signal: int | None = None
    reason: str | None = None


# States ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Stopped:
    """Nothing runs and nothing is wanted."""


@dataclass(frozen=True, slots=True)
class Starting:
    """The keeper was asked to start `run`; the program has not been confirmed to run yet."""

    run: int
    since: float


@dataclass(frozen=True, slots=True)
class Running:
    """The program runs. `ready` says whether it can do its work; without a readiness check it is ready at once."""

    run: int
    pid: int
    since: float
    ready: bool


@dataclass(frozen=True, slots=True)
class Stopping:
    """The leader was asked to end and has not yet. `deadline`: when it is killed; None: it has been."""

    run: int
    pid: int | None
    since: float
    then: Then
    deadline: float | None


@dataclass(frozen=True, slots=True)
class Clearing:
    """The leader has ended; what it left behind is being ended. `uptime` is how long the run lasted, in seconds."""

    run: int
    end: End
    uptime: float
    then: Then
    deadline: float | None


@dataclass(frozen=True, slots=True)
class Backoff:
    """It ended by itself and starts again at `until`."""

    run: int
    end: End
    until: float


@dataclass(frozen=True, slots=True)
class Exited:
    """It ended by itself and its policy wants no new run."""

    run: int
    end: End


@dataclass(frozen=True, slots=True)
class Fatal:
    """It ended too often; it rests until an operator starts it."""

    run: int
    end: End
    reason: str


State = Stopped | Starting | Running | Stopping | Clearing | Backoff | Exited | Fatal


@dataclass(frozen=True, slots=True)
class Slot:
    """One process of a service as the node sees it. `run` is the newest run's number, 0 before the first."""

    state: State = field(default_factory=Stopped)
    run: int = 0
    record: Record = field(default_factory=Record)
    restarts: int = 0


@dataclass(frozen=True, slots=True)
class Rules:
    """What the configuration says about the life of a service's processes. Times in seconds.

    `reports_ready`: the process tells by itself when it is ready; otherwise it is ready as soon as it runs. `ours`: it
    is one of our own, whose exit statuses RECYCLED and UNFIT mean what they say.
    """

    restart: RestartPolicy = field(default_factory=RestartPolicy)
    stop_timeout: float = 10.0
    clear_timeout: float = 2.0
    reports_ready: bool = False
    ours: bool = False


# Events ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Start:
    """An operator, or the site coming up, wants it running."""


@dataclass(frozen=True, slots=True)
class Stop:
    """An operator, or the site going down, wants it stopped; `now` means without grace."""

    now: bool = False


@dataclass(frozen=True, slots=True)
class Restart:
    """An operator wants a new run."""


@dataclass(frozen=True, slots=True)
class Began:
    """The program of `run` has replaced the keeper's child: it runs."""

    run: int
    pid: int


@dataclass(frozen=True, slots=True)
class NotBegun:
    """The program of `run` could not be started."""

    run: int
    end: End


@dataclass(frozen=True, slots=True)
class Ended:
    """The leader of `run` has ended, at the time `at` of the boot clock if that is known, else just now."""

    run: int
    end: End
    at: float | None = None


@dataclass(frozen=True, slots=True)
class Emptied:
    """No process that belongs to `run` is left."""

    run: int


@dataclass(frozen=True, slots=True)
class Readiness:
    """The process of `run` says whether it is ready."""

    run: int
    ready: bool


@dataclass(frozen=True, slots=True)
class Due:
    """The timer that was set for `run` has gone off."""

    run: int


Event = Start | Stop | Restart | Began | NotBegun | Ended | Emptied | Readiness | Due


# Actions --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Spawn:
    """Ask the keeper for a new process under this run number."""

    run: int


@dataclass(frozen=True, slots=True)
class AskToEnd:
    """Send the stop signal to the leader of `run`."""

    run: int


@dataclass(frozen=True, slots=True)
class Kill:
    """Kill everything that belongs to `run`, the leader too."""

    run: int


@dataclass(frozen=True, slots=True)
class Clear:
    """Find what is left of `run`, ask it to end, and answer `Emptied` when nothing is; `Kill` hurries it."""

    run: int


@dataclass(frozen=True, slots=True)
class Forget:
    """`run` is over: let the keeper reap its leader."""

    run: int


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Answer `Due(run)` at the time `at`, at once if that is past; it replaces the slot's earlier timer."""

    run: int
    at: float


@dataclass(frozen=True, slots=True)
class StopTimer:
    """The slot waits for nothing any more."""


Action = Spawn | AskToEnd | Kill | Clear | Forget | SetTimer | StopTimer


def step(
    slot: Slot, event: Event, rules: Rules, *, now: float, chance: float
) -> tuple[Slot, tuple[Action, ...]]:
    """Return the slot after `event`, and what has to be done. `chance` lies in [0, 1)."""
    state = slot.state
    match state:
        case Stopped() | Exited() | Fatal():
            return _at_rest(slot, event, now)
        case Backoff():
            return _in_backoff(slot, state, event, now)
        case Starting():
            return _starting(slot, state, event, rules, now)
        case Running():
            return _running(slot, state, event, rules, now)
        case Stopping():
            return _stopping(slot, state, event, rules, now)
        case Clearing():
            return _clearing(slot, state, event, rules, now, chance)
        case _:
            assert_never(state)


Answer = tuple[Slot, tuple[Action, ...]]


def _begin(slot: Slot, now: float, *, forgiven: bool) -> Answer:
    run = slot.run + 1
    record = Record() if forgiven else slot.record
    return replace(slot, state=Starting(run, now), run=run, record=record), (Spawn(run),)


def _at_rest(slot: Slot, event: Event, now: float) -> Answer:
    match event:
        case Start() | Restart():
            return _begin(slot, now, forgiven=True)
        case Stop():
            return replace(slot, state=Stopped()), ()
        case Began() | NotBegun() | Ended() | Emptied() | Readiness() | Due():
            return slot, ()
        case _:
            assert_never(event)


def _in_backoff(slot: Slot, state: Backoff, event: Event, now: float) -> Answer:
    match event:
        case Start() | Restart():
            after, actions = _begin(slot, now, forgiven=True)
            return after, (StopTimer(), *actions)
        case Stop():
            return replace(slot, state=Stopped()), (StopTimer(),)
        case Due():
            if event.run != state.run:
                return slot, ()
            after, actions = _begin(slot, now, forgiven=False)
            return replace(after, restarts=slot.restarts + 1), actions
        case Began() | NotBegun() | Ended() | Emptied() | Readiness():
            return slot, ()
        case _:
            assert_never(event)


def _starting(slot: Slot, state: Starting, event: Event, rules: Rules, now: float) -> Answer:
    match event:
        case Start():
            return slot, ()
        case Stop():
            return _ask(slot, state.run, None, state.since, Then.REST, event.now, rules, now)
        case Restart():
            return _ask(slot, state.run, None, state.since, Then.AGAIN, False, rules, now)
        case Began():
            if event.run != state.run:
                return slot, ()
            return replace(slot, state=Running(state.run, event.pid, now, not rules.reports_ready)), ()
        case NotBegun() | Ended():
            if event.run != state.run:
                return slot, ()
            return _leader_gone(slot, state.run, event, state.since, Then.POLICY, rules, now)
        case Emptied() | Readiness() | Due():
            return slot, ()
        case _:
            assert_never(event)


def _running(slot: Slot, state: Running, event: Event, rules: Rules, now: float) -> Answer:
    match event:
        case Start():
            return slot, ()
        case Stop():
            return _ask(slot, state.run, state.pid, state.since, Then.REST, event.now, rules, now)
        case Restart():
            return _ask(slot, state.run, state.pid, state.since, Then.AGAIN, False, rules, now)
        case Readiness():
            if event.run != state.run:
                return slot, ()
            return replace(slot, state=replace(state, ready=event.ready)), ()
        case NotBegun() | Ended():
            if event.run != state.run:
                return slot, ()
            return _leader_gone(slot, state.run, event, state.since, Then.POLICY, rules, now)
        case Began() | Emptied() | Due():
            return slot, ()
        case _:
            assert_never(event)


def _stopping(slot: Slot, state: Stopping, event: Event, rules: Rules, now: float) -> Answer:
    match event:
        case Start() | Restart():
            return replace(slot, state=replace(state, then=Then.AGAIN)), ()
        case Stop():
            if event.now and state.deadline is not None:
                after = replace(state, then=Then.REST, deadline=None)
                return replace(slot, state=after), (StopTimer(), Kill(state.run))
            return replace(slot, state=replace(state, then=Then.REST)), ()
        case Due():
            if event.run != state.run or state.deadline is None:
                return slot, ()
            return replace(slot, state=replace(state, deadline=None)), (Kill(state.run),)
        case Began():
            if event.run != state.run:
                return slot, ()
            # The request to end may have come before the program could see it: ask once more.
            again = AskToEnd(state.run) if state.deadline is not None else Kill(state.run)
            return replace(slot, state=replace(state, pid=event.pid)), (again,)
        case NotBegun() | Ended():
            if event.run != state.run:
                return slot, ()
            # What is left has the rest of the stop's grace, but need not have more than a clearing gets.
            cleared = Clearing(state.run, event.end, _uptime(event, state.since, now), state.then, None)
            if state.deadline is None:
                return replace(slot, state=cleared), (Clear(state.run), Kill(state.run))
            deadline = min(state.deadline, now + rules.clear_timeout)
            return (
                replace(slot, state=replace(cleared, deadline=deadline)),
                (Clear(state.run), SetTimer(state.run, deadline)),
            )
        case Emptied() | Readiness():
            return slot, ()
        case _:
            assert_never(event)


def _clearing(slot: Slot, state: Clearing, event: Event, rules: Rules, now: float, chance: float) -> Answer:
    match event:
        case Start() | Restart():
            return replace(slot, state=replace(state, then=Then.AGAIN)), ()
        case Stop():
            after = replace(state, then=Then.REST)
            if event.now and state.deadline is not None:
                return replace(slot, state=replace(after, deadline=None)), (StopTimer(), Kill(state.run))
            return replace(slot, state=after), ()
        case Due():
            if event.run != state.run or state.deadline is None:
                return slot, ()
            return replace(slot, state=replace(state, deadline=None)), (Kill(state.run),)
        case Emptied():
            if event.run != state.run:
                return slot, ()
            after_slot, actions = _over(slot, state, rules, now, chance)
            return after_slot, (StopTimer(), Forget(state.run), *actions)
        case Began() | NotBegun() | Ended() | Readiness():
            return slot, ()
        case _:
            assert_never(event)


def _ask(
    slot: Slot, run: int, pid: int | None, since: float, then: Then, at_once: bool, rules: Rules, now: float
) -> Answer:
    if at_once:
        return replace(slot, state=Stopping(run, pid, since, then, None)), (Kill(run),)
    deadline = now + rules.stop_timeout
    return replace(slot, state=Stopping(run, pid, since, then, deadline)), (
        AskToEnd(run),
        SetTimer(run, deadline),
    )


def _uptime(event: NotBegun | Ended, since: float, now: float) -> float:
    ended = event.at if isinstance(event, Ended) and event.at is not None else now
    return max(0.0, ended - since)


def _leader_gone(
    slot: Slot, run: int, event: NotBegun | Ended, since: float, then: Then, rules: Rules, now: float
) -> Answer:
    deadline = now + rules.clear_timeout
    return (
        replace(slot, state=Clearing(run, event.end, _uptime(event, since, now), then, deadline)),
        (Clear(run), SetTimer(run, deadline)),
    )


def _over(slot: Slot, state: Clearing, rules: Rules, now: float, chance: float) -> Answer:
    match state.then:
        case Then.REST:
            return replace(slot, state=Stopped()), ()
        case Then.AGAIN:
            return _begin(slot, now, forgiven=True)
        case Then.POLICY if rules.ours and state.end.status == RECYCLED:
            return _begin(slot, now, forgiven=False)
        case Then.POLICY if rules.ours and state.end.status == UNFIT:
            reason = "it cannot work as things are, and says why in its log"
            return replace(slot, state=Fatal(state.run, state.end, reason)), ()
        case Then.POLICY:
            record, verdict = restart.decide(
                rules.restart,
                slot.record,
                now=now,
                uptime=state.uptime,
                status=state.end.status,
                chance=chance,
            )
            slot = replace(slot, record=record)
            match verdict:
                case Again(delay):
                    if delay <= 0:
                        after, actions = _begin(slot, now, forgiven=False)
                        return replace(after, restarts=slot.restarts + 1), actions
                    until = now + delay
                    return replace(slot, state=Backoff(state.run, state.end, until)), (
                        SetTimer(state.run, until),
                    )
                case Done():
                    return replace(slot, state=Exited(state.run, state.end)), ()
                case GiveUp(count, window):
                    reason = f"ended {count} times within {window:g} s; last: {describe(state.end)}"
                    return replace(slot, state=Fatal(state.run, state.end, reason)), ()
                case _:
                    assert_never(verdict)
        case _:
            assert_never(state.then)


def describe(end: End) -> str:
    """Say in words how a run ended."""
    if end.reason is not None:
        return end.reason
    if end.signal is not None:
        return f"killed by signal {end.signal}"
    return f"exit status {end.status}"


def word(state: State) -> str:
    """Return the state's word in `status`: part of the published format."""
    match state:
        case Stopped():
            return "stopped"
        case Starting():
            return "starting"
        case Running():
            return "running"
        case Stopping() | Clearing():
            return "stopping"
        case Backoff():
            return "backoff"
        case Exited():
            return "exited"
        case Fatal():
            return "fatal"
        case _:
            assert_never(state)


def run_of(state: State) -> int | None:
    """Return the number of the run that may still have processes, or None at rest."""
    match state:
        case Starting() | Running() | Stopping() | Clearing():
            return state.run
        case Stopped() | Backoff() | Exited() | Fatal():
            return None
        case _:
            assert_never(state)
