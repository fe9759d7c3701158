"""The answer to `status`: one plain object whose shape other tools rely on (keys may be added, never renamed)."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

from coserver import __version__
from coserver.host.logs import LogReader, Source
from coserver.model import service as rules
from coserver.model.address import url
from coserver.model.job import Counts, State
from coserver.model.names import Target
from coserver.model.service import End, Slot
from coserver.model.why import Unserved
from coserver.model.why_words import mend, says_of_group, word
from coserver.runtime.clock import boot_now
from coserver.runtime.node import Node

_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_FRESH = 0.5
LAST_WORDS = 300
_WORST_FIRST = ("fatal", "backoff", "stopping", "starting", "exited", "stopped", "running")
_SHOWN = (
    State.QUEUED,
    State.RUNNING,
    State.SCHEDULED,
    State.HELD,
    State.WAITING,
    State.LIMITED,
    State.NEW,
    State.SUCCEEDED,
    State.FAILED,
    State.LOST,
    State.CANCELLED,
    State.EXPIRED,
)


def usage(pid: int) -> tuple[float, int] | None:
    """Return the CPU seconds that a process has used and its resident bytes; None for one that is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / _TICK, int(fields[21]) * _PAGE


class Figures:
    """CPU and memory of processes, looked at only when somebody asks.

    The share of a CPU is that since the last look at the process, or, at the first look, since it began.
    """

    def __init__(self) -> None:
        self._seen: dict[int, tuple[float, float, float]] = {}

    def of(self, pid: int, uptime: float) -> tuple[float, int]:
        """Return (percent of one CPU, resident bytes); zeros for a process that is gone."""
        found = usage(pid)
        if found is None:
            self._seen.pop(pid, None)
            return 0.0, 0
        used, resident = found
        now = time.monotonic()
        then, before, share = self._seen.get(pid, (now - max(uptime, 0.01), 0.0, 0.0))
        if pid not in self._seen or now - then >= _FRESH:
            share = max(0.0, 100.0 * (used - before) / max(now - then, 0.01))
            self._seen[pid] = (now, used, share)
        return round(share, 1), resident

    def forget_all_but(self, pids: set[int]) -> None:
        """Drop processes that are no more."""
        for gone in self._seen.keys() - pids:
            del self._seen[gone]


async def status(node: Node, figures: Figures) -> dict[str, Any]:
    """Describe the site as this node sees it."""
    tally = await node.upkeep.tally()
    now = boot_now()
    intents = node.state.intents()
    services: list[dict[str, Any]] = []
    for name, service in node.services.items():
        config = node.site.services[name]
        processes = [
            _process(node, process, slot, figures, now, Target(name, int(process.rpartition("/")[2])))
            for process, slot in service.processes()
        ]
        held = [
            {"name": key, "by": intent.by, "at": intent.at}
            for key, intent in intents.items()
            if intent.wanted == "stopped" and (key == name or key.startswith(f"{name}/"))
        ]
        services.append(
            {
                "name": name,
                "kind": config.kind,
                "state": next(
                    (word for word in _WORST_FIRST if any(p["state"] == word for p in processes)), "stopped"
                ),
                "ready": bool(processes) and all(p["ready"] for p in processes),
                "url": url(config.bind) if config.bind is not None else None,
                "held_stopped": held,
                "processes": processes,
            }
        )
    figures.forget_all_but({p["pid"] for s in services for p in s["processes"] if p["pid"]})
    return {
        "site": node.site.name,
        "node": {
            "name": node.site.node.name,
            "pid": os.getpid(),
            "keeper_pid": node.link.welcome.keeper_pid,
            "version": __version__,
        },
        "state": node.phase,
        "healthy": all(p["healthy"] for s in services for p in s["processes"])
        and node.upkeep.trouble is None,
        "services": services,
        "unowned": sorted(pid for pid, _ in await node.unowned()),
        "jobs": None if tally is None else _jobs(tally.counts),
        "unserved": [] if tally is None else _unserved(tally.unserved),
        "store": {"state": "unavailable" if node.upkeep.trouble else "ok", "trouble": node.upkeep.trouble},
    }


def _jobs(counts: Counts) -> dict[str, int]:
    return {state.name.lower(): counts.by_state.get(state, 0) for state in _SHOWN}


def _unserved(found: Sequence[Unserved]) -> list[dict[str, Any]]:
    now = time.time_ns() // 1000
    return [
        {
            "state": one.group.state.name.lower(),
            "queue": one.group.queue,
            "task": one.group.task,
            "number": one.group.number,
            "oldest": one.group.oldest,
            "since": one.group.since,
            "cause": word(one.cause),
            "says": says_of_group(one, now),
            "mend": mend(one.cause),
        }
        for one in found
    ]


def _process(
    node: Node, name: str, slot: Slot, figures: Figures, now: float, target: Target
) -> dict[str, Any]:
    state = slot.state
    pid = state.pid if isinstance(state, rules.Running | rules.Stopping) else None
    uptime = now - state.since if isinstance(state, rules.Running) else None
    cpu, rss = figures.of(pid, uptime or 0.0) if pid else (0.0, 0)
    ready = isinstance(state, rules.Running) and state.ready
    told = node.hub.told(name)
    return {
        "name": name,
        "pid": pid,
        "state": rules.word(state),
        "ready": ready,
        "uptime_s": round(uptime, 1) if uptime is not None else None,
        "restarts": slot.restarts,
        "cpu_percent": cpu,
        "rss_bytes": rss,
        "run": slot.run,
        "busy": told.busy if told else None,
        "why": _why(node, name, state, now),
        "healthy": _healthy(node, state, target),
    }


def _healthy(node: Node, state: rules.State, target: Target) -> bool:
    """Whether the process does what is wanted of it, or was never meant to."""
    if node.wanted(target) == "stopped":
        return True
    if isinstance(state, rules.Exited):
        config = node.site.services[target.service]
        return config.restart.when == "never" or state.end.status in config.restart.expected
    return isinstance(state, rules.Running) and state.ready


def _why(node: Node, name: str, state: rules.State, now: float) -> str | None:
    match state:
        case rules.Fatal():
            return state.reason + _last_words(node, name, state.end)
        case rules.Backoff():
            again = f"{rules.describe(state.end)}; starts again in {max(0.0, state.until - now):.1f} s"
            return again + _last_words(node, name, state.end)
        case rules.Exited():
            return rules.describe(state.end)
        case rules.Running() if not state.ready:
            return "not ready yet"
        case _:
            return None


def _last_words(node: Node, process: str, end: End) -> str:
    """Return what a process that failed printed last: mostly it says why. Empty when it never printed anything."""
    if end.status in (None, 0):
        return ""
    service, _, index = process.rpartition("/")
    paths = (node.places.error_log(service, int(index)), node.places.log(service, int(index)))
    path = next((path for path in paths if path.exists()), None)
    if path is None:
        return ""
    with LogReader(Source(process, path)) as reader:
        reader.from_last(1)
        lines = [record.data for record in reader.read()]
    words = lines[-1].decode("utf-8", "backslashreplace").strip() if lines else ""
    return f"; it said: {words[:LAST_WORDS]}" if words else ""
