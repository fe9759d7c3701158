"""`coserver queues …`: they speak to the store itself, so the site need not be up."""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import click

from coserver.cli.bulk import CANCEL, WAITING, change_chosen, jobs_in_words
from coserver.cli.choosing import Where
from coserver.cli.context import (
    Surroundings,
    json_option,
    pass_surroundings,
    put_json,
    put_table,
    put_text,
    user_name,
)
from coserver.cli.job_text import iso
from coserver.cli.table import Column, duration, shortened
from coserver.client import Client
from coserver.errors import UnknownName
from coserver.model import units
from coserver.model.job import Limit, QueueInfo, State
from coserver.model.names import suggestion

MANY = 10_000
"""Counts of living jobs are exact up to here."""
COLUMNS = (
    Column("QUEUE"),
    Column("STATE"),
    Column("QUEUED", right=True),
    Column("RUNNING", right=True),
    Column("LIMITED", right=True, spare=3),
    Column("SCHEDULED", right=True, spare=4),
    Column("WAITING", right=True, spare=5),
    Column("HELD", right=True, spare=6),
    Column("OLDEST", right=True),
    Column("LIMIT", spare=1),
    Column("PAUSED", spare=2),
)


@click.group()
def queues() -> None:
    """List, pause, resume and purge queues."""


@queues.command("list")
@click.argument("names", nargs=-1, metavar="[NAME]…")
@json_option
@pass_surroundings
def list_queues(surroundings: Surroundings, names: tuple[str, ...], as_json: bool) -> None:
    """List queues: how many jobs are in them, how old the oldest ready one is, limits and pauses.

    NAME is a queue or a glob such as 'mail*'.
    """
    with Client(surroundings.site.store) as client:
        found = client.queues()
    if names:
        chosen = set(_named(names, [queue.name for queue in found]))
        found = [queue for queue in found if queue.name in chosen]
    now = time.time()
    if as_json:
        put_json({"queues": [_as_dict(queue, now) for queue in found]})
    else:
        put_table(COLUMNS, [_row(queue, now) for queue in found])


@queues.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME…")
@json_option
@pass_surroundings
def pause(surroundings: Surroundings, names: tuple[str, ...], as_json: bool) -> None:
    """Let nobody take jobs of these queues any more. What is claimed goes on, and jobs can still be submitted.

    NAME is a queue or a glob such as 'mail*'. It stays paused until `coserver queues resume`, also after `down`.
    """
    by = f"{user_name()}@{platform.node()}"
    with Client(surroundings.site.store) as client:
        before = {queue.name: queue for queue in client.queues()}
        chosen = _named(names, [*before, *_declared(surroundings)])
        for name in chosen:
            client.pause_queue(name, by=by)
        after = {queue.name: queue for queue in client.queues()}
    changed = [name for name in chosen if name not in before or before[name].paused_at is None]
    if as_json:
        _put_changes(chosen, changed, after)
        return
    for name in chosen:
        if name in changed:
            running = after[name].by_state.get(State.RUNNING, 0)
            rest = (
                f"; {jobs_in_words(running)} of it still run{'s' if running == 1 else ''}" if running else ""
            )
            put_text(f"{name} is paused{rest}")
        else:
            put_text(f"{name} was paused already{_by(after[name])}")


@queues.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME…")
@json_option
@pass_surroundings
def resume(surroundings: Surroundings, names: tuple[str, ...], as_json: bool) -> None:
    """Let workers take jobs of these queues again.

    NAME is a queue or a glob such as 'mail*', which means the paused ones.
    """
    with Client(surroundings.site.store) as client:
        before = {queue.name: queue for queue in client.queues()}
        chosen = _named(names, before)
        changed = [name for name in chosen if before[name].paused_at is not None]
        for name in changed:
            client.resume_queue(name)
        after = {queue.name: queue for queue in client.queues()}
    if as_json:
        _put_changes(chosen, changed, after)
        return
    for name in chosen:
        if name in changed:
            put_text(f"{name} goes on; {jobs_in_words(before[name].by_state.get(State.QUEUED, 0))} queued")
        elif name in names:
            put_text(f"{name} was not paused")


@queues.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME…")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only say which and how many jobs they are.")
@json_option
@pass_surroundings
def purge(
    surroundings: Surroundings, names: tuple[str, ...], yes: bool, dry_run: bool, as_json: bool
) -> None:
    """Cancel everything in these queues that does not run yet.

    NAME is a queue or a glob such as 'mail*'. The jobs are shown and asked about; --yes goes ahead, and without a
    terminal it must be said. `coserver jobs cancel` chooses among the jobs of a queue.
    """
    with Client(surroundings.site.store) as client:
        chosen = [
            Where(WAITING, queue=name) for name in _named(names, [queue.name for queue in client.queues()])
        ]
        change_chosen(client, CANCEL, chosen, yes=yes, dry_run=dry_run, as_json=as_json)


def _named(patterns: Sequence[str], known: Any) -> list[str]:
    """Return the known queues that names and globs mean, each once. Raises UnknownName for one that means none."""
    names = list(dict.fromkeys(known))
    found: dict[str, None] = {}
    for pattern in patterns:
        exact = [name for name in names if name == pattern]
        fits = exact or [name for name in names if fnmatchcase(name, pattern)]
        if not fits:
            hint = suggestion(pattern, names) or (f"; known are {', '.join(names[:5])}" if names else "")
            raise UnknownName(
                f'cannot find the queue "{pattern}": no worker has read it, and no job waits in it{hint}'
            )
        found.update(dict.fromkeys(fits))
    return sorted(found)


def _declared(surroundings: Surroundings) -> list[str]:
    """Return the queues that the configuration names, of which the store may not have heard yet."""
    return [name for service in surroundings.site.services.values() for name in service.queues]


def _row(queue: QueueInfo, now: float) -> list[str]:
    return [
        shortened(queue.name, 40),
        "open" if queue.paused_at is None else "paused",
        *(
            _count(queue.by_state.get(state, 0))
            for state in (
                State.QUEUED,
                State.RUNNING,
                State.LIMITED,
                State.SCHEDULED,
                State.WAITING,
                State.HELD,
            )
        ),
        "-" if queue.oldest_at is None else duration(max(0.0, now - queue.oldest_at / 1e6)),
        _limit(queue.limit),
        "" if queue.paused_at is None else f"{duration(max(0.0, now - queue.paused_at / 1e6))}{_by(queue)}",
    ]


def _count(number: int) -> str:
    return str(number) if number <= MANY else f">{MANY}"


def _limit(limit: Limit | None) -> str:
    if limit is None:
        return "-"
    parts = [] if limit.running is None else [f"{limit.running} at once"]
    if limit.starts is not None and limit.period is not None:
        parts.append(f"{limit.starts}/{units.format_seconds(limit.period / 1e6)}")
    return ", ".join(parts) or "-"


def _by(queue: QueueInfo) -> str:
    return f" by {queue.paused_by}" if queue.paused_by else ""


def _as_dict(queue: QueueInfo, now: float) -> dict[str, Any]:
    limit = queue.limit
    return {
        "name": queue.name,
        "paused": queue.paused_at is not None,
        "paused_at": iso(queue.paused_at),
        "paused_by": queue.paused_by or None,
        "jobs": {
            state.name.lower(): queue.by_state.get(state, 0) for state in State if state is not State.NEW
        },
        "oldest_at": iso(queue.oldest_at),
        "oldest_age_s": None if queue.oldest_at is None else round(max(0.0, now - queue.oldest_at / 1e6), 3),
        "limit": None
        if limit is None
        else {
            "running": limit.running,
            "starts": limit.starts,
            "period_s": None if limit.period is None else limit.period / 1e6,
        },
    }


def _put_changes(chosen: Sequence[str], changed: Sequence[str], after: dict[str, QueueInfo]) -> None:
    put_json(
        {
            "queues": [
                {
                    "name": name,
                    "paused": after[name].paused_at is not None,
                    "paused_by": after[name].paused_by or None,
                    "changed": name in changed,
                }
                for name in chosen
            ]
        }
    )
