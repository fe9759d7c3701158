"""The verbs of a node: for each its name, its path, what it takes and what it does.

A verb is an HTTP request on the node's Unix socket: reads are GET, changes are POST, arguments are a JSON object, the
answer is a JSON object (of `metrics` it is text). An error answers with the HTTP status of its class and
`{"error": {"code", "message"}}`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from coserver.control import exposition, metrics
from coserver.control.status import Figures, status
from coserver.errors import NotRunning
from coserver.model import service as rules
from coserver.model.names import Target
from coserver.runtime.node import Node


class Nothing(msgspec.Struct, forbid_unknown_fields=True):
    """No arguments."""


class Order(msgspec.Struct, forbid_unknown_fields=True):
    """Which services and processes, by name or glob; `timeout` in seconds, with `wait` false none; `by` who asks."""

    names: list[str]
    wait: bool = True
    timeout: float = 60.0
    by: str = "somebody"


class Down(msgspec.Struct, forbid_unknown_fields=True):
    """`now`: without grace."""

    now: bool = False


@dataclass(frozen=True, slots=True)
class Desk:
    """What verbs work on."""

    node: Node
    figures: Figures


@dataclass(frozen=True, slots=True)
class Text:
    """An answer that is no JSON."""

    type: str
    text: str


Answer = dict[str, Any] | Text


@dataclass(frozen=True, slots=True)
class Verb:
    """One verb. `path` may hold `{name}`, which becomes the argument `names`."""

    name: str
    method: Literal["GET", "POST"]
    path: str
    takes: type[msgspec.Struct]
    effect: Callable[[Desk, Any], Awaitable[Answer]]
    summary: str


async def _status(desk: Desk, _: Nothing) -> dict[str, Any]:
    return await status(desk.node, desk.figures)


async def _metrics(desk: Desk, _: Nothing) -> Text:
    return Text(exposition.TYPE, exposition.written(await metrics.collect(desk.node, desk.figures)))


async def _healthz(desk: Desk, _: Nothing) -> dict[str, Any]:
    return {"ok": True, "state": desk.node.phase}


async def _readyz(desk: Desk, _: Nothing) -> dict[str, Any]:
    answer = await status(desk.node, desk.figures)
    waiting = [p["name"] for s in answer["services"] for p in s["processes"] if not p["healthy"]]
    if answer["state"] != "running" or waiting:
        raise NotRunning(f"the site is not ready: {', '.join(waiting) or answer['state']}")
    return {"ok": True}


def _ordering(verb: str) -> Callable[[Desk, Order], Awaitable[dict[str, Any]]]:
    async def effect(desk: Desk, order: Order) -> dict[str, Any]:
        node = desk.node
        targets = node.targets(order.names)
        wait = order.timeout if order.wait else None
        arrivals = await asyncio.gather(
            *(node.order(verb, target, by=order.by, wait=wait) for target in targets)
        )
        how = [arrival.how if arrival else ("asked" if not order.wait else "timeout") for arrival in arrivals]
        return {
            "verb": verb,
            "results": [
                {"name": target.name, "result": result, "processes": _processes(node, target)}
                for target, result in zip(targets, how, strict=True)
            ],
        }

    return effect


def _processes(node: Node, target: Target) -> list[dict[str, Any]]:
    found = []
    for name, slot in node.services[target.service].processes():
        if target.index is None or name == target.name:
            state = slot.state
            reason = state.reason if isinstance(state, rules.Fatal) else None
            if isinstance(state, rules.Backoff | rules.Exited):
                reason = rules.describe(state.end)
            found.append(
                {
                    "name": name,
                    "state": rules.word(state),
                    "ready": isinstance(state, rules.Running) and state.ready,
                    "pid": state.pid if isinstance(state, rules.Running) else None,
                    "why": reason,
                }
            )
    return found


async def _down(desk: Desk, down: Down) -> dict[str, Any]:
    if desk.node.phase != "stopping":
        desk.node.ask_keeper_to_end()
    if down.now:
        desk.node.go_down()
        desk.node.go_down(at_once=True)
    return {"keeper_pid": desk.node.link.welcome.keeper_pid}


async def _forget_intents(desk: Desk, _: Nothing) -> dict[str, Any]:
    return {"started": desk.node.forget_intents()}


VERBS = (
    Verb("healthz", "GET", "/healthz", Nothing, _healthz, "whether the node answers"),
    Verb("readyz", "GET", "/readyz", Nothing, _readyz, "whether everything that should run is ready"),
    Verb("metrics", "GET", "/metrics", Nothing, _metrics, "figures for Prometheus"),
    Verb("status", "GET", "/api/v1/status", Nothing, _status, "services, processes and jobs"),
    *(
        Verb(verb, "POST", f"/api/v1/services/{{name}}/{verb}", Order, _ordering(verb), summary)
        for verb, summary in (
            ("start", "start what does not run"),
            ("stop", "stop, and remember that it is wanted so"),
            ("restart", "give every process a new run"),
        )
    ),
    Verb("down", "POST", "/api/v1/down", Down, _down, "stop everything and leave"),
    Verb("reset", "POST", "/api/v1/reset", Nothing, _forget_intents, "forget operators' stops"),
)
