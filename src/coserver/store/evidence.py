"""Between rows and the evidence of `model.why`, the same for both dialects: no SQL and no I/O here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from coserver.model.job import State
from coserver.model.why import MANY_WAITING, Standing, Waiting, WorkerInfo
from coserver.store.records import readable

GROUPS = 1000
"""How many groups of each kind a look at the waiting jobs goes through at most."""

_names = msgspec.json.Decoder(frozenset[str]).decode


def workers_of(rows: Iterable[Sequence[Any]]) -> list[WorkerInfo]:
    """Make workers of the rows of the statement of that name."""
    return [
        WorkerInfo(number, process, host, pid, _names(queues), _names(tasks), bool(parked), lease)
        for number, process, host, pid, queues, tasks, parked, lease in rows
    ]


def waiting_of(rows: Iterable[Sequence[Any]]) -> list[Waiting]:
    """Make groups of the rows of the statement of that name, which tells suspects apart from the others; text may come
    as bytes."""
    groups: dict[tuple[int, str | None, str], Waiting] = {}
    for state, queue, task, number, oldest, since in rows:
        key = (state, None if queue is None else readable(queue), readable(task))
        group = Waiting(State(state), key[1], key[2], number, oldest, since)
        other = groups.get(key)
        if other is not None:
            first = min(group, other, key=lambda one: one.oldest)
            total = min(group.number + other.number, MANY_WAITING + 1)
            group = Waiting(group.state, group.queue, group.task, total, first.oldest, first.since)
        groups[key] = group
    return list(groups.values())


def standing_of(rows: Sequence[Sequence[Any]]) -> Standing | None:
    """Make a standing of what the statement of that name found."""
    if not rows:
        return None
    state, worker, ahead, paused, parent, limit, opens, now = rows[0]
    key = None if limit is None else readable(limit)
    return Standing(State(state), now, ahead, worker, bool(paused), parent, key, opens)
