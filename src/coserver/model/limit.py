"""Limits: which slots a job needs, and how many jobs may be admitted now.

Theory. A limit bounds the jobs of one *key* in two ways: `running` of them at once, and `starts` of them begun in any
`period`. A job of a key is *admitted* when it gets a slot of it; from then on it may be claimed at any moment without
asking again. So both bounds are kept at admission:

- running: every slot counts from the admission to the end of the run;
- starts: a slot counts as a start that may happen at any moment as long as its job has not begun, and, once begun, for
  a period from there, even when the job is over. Take any period and the job admitted last of those that began in it:
  at its admission each of the others counted, either as not begun or as begun less than a period ago. So they were
  never more than `starts`.

A job begins, here, when it is claimed. One that is handed back unbegun has not begun.

Keys. `limit_key` of a job is any text; the part before its first colon names the limit that rules it, so that one
declaration (`user`) rules a key for each user (`user:7`). A key without a declaration runs one job at a time. Beside
it, a job needs a slot of `queue:NAME` when that limit is declared; there is none where nobody did. The job's own key
comes first, then the queue's, everywhere: an order in which nobody waits for another in a circle.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from coserver.model.job import Limit

QUEUE = "queue:"
"""What the key of a queue's limit begins with; no job's own key may."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a key's slots are taken by: `held` of jobs admitted and not ended, `unstarted` of them not begun, and
    `recent` starts within the last period, of jobs running and ended."""

    held: int = 0
    unstarted: int = 0
    recent: int = 0


def refuse_key(key: str) -> str | None:
    """Return why a job may not have this limit key, None if it may."""
    name = key.partition(":")[0]
    if f"{name}:" == QUEUE:
        return "is that of a queue, whose limit is stated at [queue.NAME]; put the job into the queue instead"
    if not name.strip():
        return 'has no name before its colon, so no limit can rule it; write one, such as "user:7"'
    return None


def queue_key(queue: str) -> str:
    """The key of a queue's limit."""
    return QUEUE + queue


def rule_of(key: str, declared: Mapping[str, Limit]) -> Limit:
    """The limit that rules a key. That of a queue whose declaration went away bounds nothing."""
    if key.startswith(QUEUE):
        return declared.get(key, Limit(key))
    name = key.partition(":")[0]
    return declared.get(name, Limit(name, running=1))


def locking(keys: set[str]) -> list[str]:
    """Keys in the order in which they are locked: jobs' own, then those of queues, each in the order of their text."""
    return sorted(keys, key=lambda key: (key.startswith(QUEUE), key))


def room(rule: Limit, usage: Usage) -> int | None:
    """How many more jobs may be admitted now; None: any number."""
    free = None if rule.running is None else rule.running - usage.held
    if rule.starts is not None and rule.period is not None:
        left = rule.starts - usage.unstarted - usage.recent
        free = left if free is None else min(free, left)
    return None if free is None else max(free, 0)


def starts_to_pass(rule: Limit, usage: Usage) -> int:
    """How many starts have to grow older than the period before the rate lets the next job in; 0: it does already."""
    if rule.starts is None or rule.period is None:
        return 0
    return max(usage.unstarted + usage.recent - rule.starts + 1, 0)


def reopens(period: int, start: int | None, now: int) -> int:
    """When (µs UTC) to look again at a rate that lets nobody in.

    `start` is the last of the starts that have to pass. None: some of these have not even begun, so nothing is free
    before a period from now; whoever looks then knows better, at most every 50 ms."""
    return now + max(period, 50_000) if start is None else start + period + 1
