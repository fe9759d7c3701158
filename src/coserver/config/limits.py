"""`[queue.NAME]` and `[limit.NAME]`: the limits that a file declares."""

from __future__ import annotations

from collections.abc import Callable

from coserver.config.check import Ledger, as_table, read_table
from coserver.config.records import LimitConfig
from coserver.config.tree import Table
from coserver.config.values import check_limit, check_queue
from coserver.model.job import Limit
from coserver.model.limit import queue_key


def read_limits(table: Table, ledger: Ledger) -> tuple[Limit, ...]:
    """Check both kinds of tables and return the limits by name."""
    queues = _read(table, ledger, "queue", check_queue)
    others = _read(table, ledger, "limit", check_limit)
    found = {queue_key(name): keys for name, keys in queues.items()} | others
    return tuple(_limit(name, keys) for name, keys in sorted(found.items()))


def _read(table: Table, ledger: Ledger, kind: str, check: Callable[[str], str]) -> dict[str, LimitConfig]:
    stated = as_table(table.get(kind), (kind,), ledger, f"[{kind}.NAME] tables")
    found = {}
    for name, node in stated.entries.items():
        path = (kind, name)
        try:
            check(name)
        except ValueError as error:
            ledger.problems.add(node.origin, path, str(error))
        keys = LimitConfig(
            **read_table(LimitConfig, node, path, ledger, expected=f"a table, [{kind}.{name}]").found
        )
        if isinstance(node, Table) and not node.entries:
            ledger.problems.add(node.origin, path, "it limits nothing; give it max_running, rate, or both")
        found[name] = keys
    return found


def _limit(name: str, keys: LimitConfig) -> Limit:
    if keys.rate is None:
        return Limit(name, running=keys.max_running)
    starts, period = keys.rate
    return Limit(name, keys.max_running, starts, round(period * 1_000_000))
