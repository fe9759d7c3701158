"""Queues as people see them, out of a few counts that never read a long backlog to its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from coserver.model.job import Limit, QueueInfo, State
from coserver.model.limit import QUEUE
from coserver.store.evidence import GROUPS
from coserver.store.records import readable

if TYPE_CHECKING:
    from coserver.store.driver import Row

MANY = 10_000
"""Counting stops above this."""


def queue_infos(rows: Callable[..., list[Row]]) -> list[QueueInfo]:
    """Read every known queue, and those in which jobs wait unknown to anybody, by name. `rows` runs a
    statement, like `Session.rows`."""
    known: dict[str, tuple[int | None, str | None]] = {
        row[0]: (row[1], row[2]) for row in rows("queue_known")
    }
    declared = {
        name.removeprefix(QUEUE): Limit(name, *rest)
        for name, *rest, _ in rows("limits")
        if name.startswith(QUEUE)
    }
    oldest: dict[str, tuple[int, int]] = {}
    for _, queue, _, _, job, created_at in rows("waiting", groups=GROUPS, cap=1):
        if queue is not None:
            name = readable(queue)
            oldest[name] = min(oldest.get(name, (job, created_at)), (job, created_at))
    resting = {readable(row[0]) for row in rows("queue_resting")}
    names = sorted({*known, *declared, *oldest, *resting})
    counts: dict[str, dict[State, int]] = {name: {} for name in names}
    put_back: dict[str, dict[State, int]] = {name: {} for name in names}
    for queue, state, n in rows("queue_counts", names=names, cap=MANY + 1):
        if n and queue in counts:
            of = State(abs(state))
            (counts if state >= 0 else put_back)[queue][of] = n if of.final else min(n, MANY + 1)
    return [
        _info(name, known.get(name, (None, None)), declared, counts[name], oldest.get(name), put_back[name])
        for name in names
    ]


def _info(
    name: str,
    pause: tuple[int | None, Any],
    declared: dict[str, Limit],
    by_state: dict[State, int],
    oldest: tuple[int, int] | None,
    put_back: dict[State, int],
) -> QueueInfo:
    since = None if oldest is None else oldest[1]
    return QueueInfo(name, *pause, declared.get(name), by_state, since, put_back)
