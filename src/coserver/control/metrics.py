"""What a node tells Prometheus, and the reference page of it.

Theory. Nothing is counted for it: all figures are there anyway, in the store, in the node's own books and in `/proc`,
and are read when somebody asks; those of the store at most once a second. What cannot be known just now is left out, so
a graph shows a gap and never an old value. Names, labels and help are fixed: the table below is the interface, and
`docs/reference/metrics.md` is made of it by `python -m coserver.control.metrics > docs/reference/metrics.md`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

from coserver.control.exposition import Metric, Sample
from coserver.control.status import Figures, status, usage
from coserver.model.job import State
from coserver.runtime.node import Node
from coserver.runtime.upkeep import Ledger

_PROCESS = ("service", "process")
_QUEUE_STATE = ("queue", "state")

INFO = Metric("coserver_info", "gauge", ("site", "node", "version"), "Always 1; the labels tell who answers.")
STATE = Metric(
    "coserver_state", "gauge", ("state",), "1 for the state that the node is in, 0 for the others."
)
HEALTHY = Metric(
    "coserver_healthy", "gauge", (), "1 when everything runs that should, and the store can be used; else 0."
)
STORE_UP = Metric(
    "coserver_store_up",
    "gauge",
    (),
    "1 when the store can be used; else 0, and what comes from the store is left out.",
)
TAKEOVERS = Metric(
    "coserver_node_takeovers_total",
    "counter",
    (),
    "How often a new node has taken over from one that ended, since the site is up.",
)
UNOWNED = Metric("coserver_unowned_processes", "gauge", (), "Orphaned processes that no service claims.")
PART_CPU = Metric(
    "coserver_part_cpu_seconds_total",
    "counter",
    ("part",),
    "CPU time of coserver's own processes: node and keeper.",
)
PART_RSS = Metric(
    "coserver_part_resident_bytes", "gauge", ("part",), "Memory in RAM of coserver's own processes."
)
PROCESS_STATE = Metric(
    "coserver_process_state",
    "gauge",
    (*_PROCESS, "state"),
    "1 for the state that the process is in, 0 for the others.",
)
PROCESS_READY = Metric(
    "coserver_process_ready", "gauge", _PROCESS, "1 when the process does its work; else 0."
)
PROCESS_HEALTHY = Metric(
    "coserver_process_healthy",
    "gauge",
    _PROCESS,
    "1 when the process is as it should be (also when an operator stopped it); else 0.",
)
PROCESS_START = Metric(
    "coserver_process_start_time_seconds",
    "gauge",
    _PROCESS,
    "When the present run began, in seconds since 1970 UTC.",
)
PROCESS_RESTARTS = Metric(
    "coserver_process_restarts_total",
    "counter",
    _PROCESS,
    "How often the process was started again after it had ended by itself, since the site is up.",
)
PROCESS_CPU = Metric(
    "coserver_process_cpu_seconds_total",
    "counter",
    _PROCESS,
    "CPU time of the present run's first process, without children; begins anew with each run.",
)
PROCESS_RSS = Metric(
    "coserver_process_resident_bytes",
    "gauge",
    _PROCESS,
    "Memory in RAM of the run's first process, without children.",
)
WORKER_BUSY = Metric(
    "coserver_worker_busy_slots", "gauge", _PROCESS, "How many jobs the process runs just now."
)
WORKER_SLOTS = Metric(
    "coserver_worker_slots", "gauge", _PROCESS, "How many jobs the process can run at once."
)
WORKERS = Metric(
    "coserver_workers",
    "gauge",
    ("state",),
    "Workers of the whole site: live ones, and dead ones whose jobs are not all freed yet.",
)
JOBS = Metric(
    "coserver_jobs",
    "gauge",
    _QUEUE_STATE,
    "Jobs of the whole site that have not ended; counted up to 10000, more are 10001. New jobs have no queue yet.",
)
FINISHED = Metric(
    "coserver_jobs_finished_total",
    "counter",
    _QUEUE_STATE,
    "Jobs of the whole site that have ever ended so, those included that were put back by a retry since, or pruned.",
)
UNSERVED = Metric(
    "coserver_jobs_unserved",
    "gauge",
    ("queue", "task"),
    "Ready jobs that no live worker takes; counted up to 1000, more are 1001.",
)
OLDEST = Metric(
    "coserver_queue_oldest_seconds",
    "gauge",
    ("queue",),
    "How long ago the job was submitted that has been ready in the queue for the longest; 0 when none is.",
)
PAUSED = Metric("coserver_queue_paused", "gauge", ("queue",), "1 when the queue is paused; else 0.")

METRICS = (
    *(INFO, STATE, HEALTHY, STORE_UP, TAKEOVERS, UNOWNED, PART_CPU, PART_RSS),
    *(
        PROCESS_STATE,
        PROCESS_READY,
        PROCESS_HEALTHY,
        PROCESS_START,
        PROCESS_RESTARTS,
        PROCESS_CPU,
        PROCESS_RSS,
    ),
    *(WORKER_BUSY, WORKER_SLOTS, WORKERS, JOBS, FINISHED, UNSERVED, OLDEST, PAUSED),
)

PHASES = ("starting", "running", "stopping")
PROCESS_STATES = ("starting", "running", "stopping", "stopped", "backoff", "exited", "fatal")
_LIVING = (State.HELD, State.WAITING, State.LIMITED, State.SCHEDULED, State.QUEUED, State.RUNNING)
_FINAL = tuple(state for state in State if state.final)


async def collect(node: Node, figures: Figures) -> list[Sample]:
    """Read all figures of the site, as this node sees it."""
    answer = await status(node, figures)
    store_up = answer["store"]["state"] == "ok"
    ledger = await node.upkeep.ledger() if store_up else None
    samples = [*_node(node, answer, store_up=ledger is not None)]
    for service in answer["services"]:
        for process in service["processes"]:
            samples += _process(node, service["name"], process)
    if ledger is not None:
        new = (answer["jobs"] or {}).get("new")
        samples += _jobs(ledger, new, answer["unserved"], time.time_ns() // 1000)
    return samples


def _node(node: Node, answer: dict[str, Any], *, store_up: bool) -> Iterator[Sample]:
    yield INFO, (answer["site"], answer["node"]["name"], answer["node"]["version"]), 1
    yield from ((STATE, (phase,), phase == answer["state"]) for phase in PHASES)
    yield HEALTHY, (), answer["healthy"]
    yield STORE_UP, (), store_up
    yield TAKEOVERS, (), node.link.welcome.generation - 1
    yield UNOWNED, (), len(answer["unowned"])
    for part, pid in (("node", os.getpid()), ("keeper", answer["node"]["keeper_pid"])):
        if (used := usage(pid)) is not None:
            yield PART_CPU, (part,), used[0]
            yield PART_RSS, (part,), used[1]


def _process(node: Node, service: str, process: dict[str, Any]) -> Iterator[Sample]:
    labels = (service, process["name"])
    yield from ((PROCESS_STATE, (*labels, state), state == process["state"]) for state in PROCESS_STATES)
    yield PROCESS_READY, labels, process["ready"]
    yield PROCESS_HEALTHY, labels, process["healthy"]
    yield PROCESS_RESTARTS, labels, process["restarts"]
    if process["uptime_s"] is not None:
        yield PROCESS_START, labels, round(time.time() - process["uptime_s"], 1)
    if process["pid"] and (used := usage(process["pid"])) is not None:
        yield PROCESS_CPU, labels, used[0]
        yield PROCESS_RSS, labels, used[1]
    told = node.hub.told(process["name"])
    if told is not None and told.worker is not None:
        yield WORKER_BUSY, labels, told.busy
        yield WORKER_SLOTS, labels, told.busy + told.free


def _jobs(ledger: Ledger, new: int | None, unserved: list[dict[str, Any]], now: int) -> Iterator[Sample]:
    live = sum(worker.live for worker in ledger.workers)
    yield WORKERS, ("live",), live
    yield WORKERS, ("dead",), len(ledger.workers) - live
    if new is not None:
        yield JOBS, ("", "new"), new
    for queue in ledger.queues:
        for state in _LIVING:
            yield JOBS, (queue.name, state.name.lower()), queue.by_state.get(state, 0)
        for state in _FINAL:
            ended = queue.by_state.get(state, 0) + queue.put_back.get(state, 0)
            yield FINISHED, (queue.name, state.name.lower()), ended
        oldest = 0 if queue.oldest_at is None else max(0, now - queue.oldest_at)
        yield OLDEST, (queue.name,), oldest / 1e6
        yield PAUSED, (queue.name,), queue.paused_at is not None
    for group in unserved:
        yield UNSERVED, (group["queue"] or "", group["task"]), group["number"]


def reference() -> str:
    """Return the page."""
    rows = "\n".join(
        f"| `{metric.name}` | {metric.kind} | {', '.join(f'`{label}`' for label in metric.labels)} | {metric.help} |"
        for metric in METRICS
    )
    states = ", ".join(f"`{state}`" for state in PROCESS_STATES)
    living = ", ".join(f"`{state.name.lower()}`" for state in (State.NEW, *_LIVING))
    final = ", ".join(f"`{state.name.lower()}`" for state in _FINAL)
    return f"""\
# Metrics

<!-- Made from the table of metrics by `python -m coserver.control.metrics`; do not edit. -->

What `coserver metrics` prints, and what the node answers to `GET /metrics` on its control socket, in the text format of
Prometheus (0.0.4). Names, labels and their meaning do not change; metrics may be added. How to have them collected,
[the how-to on observing a site](../how-to/observability.md) tells.

| Metric | Type | Labels | Meaning |
|---|---|---|---|
{rows}

States of a process: {states}. States of jobs that have not ended: {living}; final states: {final}.

What concerns the whole site comes from the store and is the same on each of its nodes: take it from one of them, or by
`max` and not by `sum`. Figures of the store are up to a second old.
"""


if __name__ == "__main__":
    print(reference(), end="")
