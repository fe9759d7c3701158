"""Limits in the store: who may be in line at all.

Theory. A job that a limit rules waits as *limited*, `blocked_on` naming the key of the slot that it needs next, and
gets into its line only when it has all of its slots (`model.limit` says which, and how many there are). A claim
therefore asks nothing: what is queued may run. Slots are rows of `coserver_slot`; a job that holds any carries the flag
SLOTS, so that its end takes the slow path, which frees them.

Whoever changes what a limit depends on (a job comes to wait, a slot comes free, a declaration changes) does not decide
who is next, but leaves a *gate*: a row that says which key somebody has to look at, and when. `settle` looks at the
gates whose time has come and admits. So nothing is ever forgotten: whoever dies in between leaves the gate behind, and
the next exchange or tick finds it. A rate leaves a gate too, for the moment at which it lets the next job in.

Deciding is the only thing that has to be alone, for each key. On PostgreSQL `settle` has a transaction of its own,
which locks its keys in the one order that all follow (`model.limit.locking`), counts after that, and waits for nobody's
rows: a waiting job whose row another transaction holds is passed over, and a gate looks at it again. On SQLite it may
stand in any transaction, because there is one at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from coserver.model.job import Limit, State
from coserver.model.limit import (
    QUEUE,
    Usage,
    locking,
    queue_key,
    reopens,
    room,
    rule_of,
    starts_to_pass,
)
from coserver.store.session import Session

KEYS_AT_ONCE = 100
"""How many keys one `settle` looks at."""

ADMITTED_AT_ONCE = 500
"""How many jobs it lets in at each."""

AGAIN = 20_000
"""After how many µs somebody looks again at a key whose next job could not be had."""


AT_ONCE = 0
"""When to look at a key without delay, whatever the clocks say."""


@dataclass(slots=True)
class Admitted:
    """What one `settle` did: how many jobs are in their lines now, and whether it left gates that are open."""

    ready: int = 0
    more: bool = False


def declared(session: Session) -> dict[str, Limit]:
    """The declared limits by name; one that is still being introduced (see `introduce`) lets nobody in."""
    return {
        name: Limit(name, 0 if closed else running, starts, period)
        for name, running, starts, period, closed in session.rows("limits")
    }


def queues(session: Session) -> set[str]:
    """The queues that have a limit."""
    return {row[0] for row in session.rows("limited_queues")}


def enter(session: Session, ids: Sequence[int], *, keep_places: bool = False) -> int:
    """Make jobs ready: living ones that do not run and hold no slots, in the order in which they are to stand in line.

    They are queued or, where a limit rules them, limited, and `settle` decides about these. Each gets a fresh place,
    or, with `keep_places`, keeps the one it has. Returns how many are queued at once.
    """
    if not ids:
        return 0
    places: Sequence[int | None] = [None] * len(ids) if keep_places else session.places(len(ids))
    rows = session.rows("limit_enter", ids=ids, places=places)
    look(session, {row[2] for row in rows if row[1] == State.LIMITED})
    return sum(row[1] == State.QUEUED for row in rows)


def leave(session: Session, ids: Sequence[int]) -> set[int]:
    """Free the slots of jobs that end, wait for their next attempt, or wait for another job.

    To be called while their rows still say when they were claimed, or when they are among the finished ones: with a
    rate, a start counts until it is a period old, even if its job is over. Returns those that held slots; does nothing
    to others.
    """
    if not ids:
        return set()
    held = session.rows("limit_held", ids=ids)
    if not held:
        return set()
    rules = declared(session)
    kept = {
        slot: started
        for slot, key, _, started in held
        if started is not None and rule_of(key, rules).starts is not None
    }
    freed = [slot for slot, _, _, _ in held if slot not in kept]
    if freed:
        session.rows("limit_free", slots=freed)
    if kept:
        session.rows("limit_keep", slots=list(kept), starts=list(kept.values()))
    holders = {job for _, _, job, _ in held}
    session.rows("limit_lower", ids=sorted(holders))
    look(session, {key for _, key, _, _ in held})
    return holders


def declare(
    session: Session, limits: Sequence[Limit], *, keep: Sequence[str] = (), once: bool = False
) -> bool:
    """Replace the declared limits but for those in `keep`, and with `once` only if these are new to the store; return
    whether that was done. A queue's new limit lets nobody in before `introduce`."""
    if once:
        mark = _mark(limits)
        if session.rows("meta_get", key=mark):
            return False
        session.rows("meta_set", key=mark, value=str(session.now))
    before = {row[0]: Limit(*row[:4]) for row in session.rows("limits")}
    wanted = {limit.name: limit for limit in limits}
    dropped = [name for name in before if name not in wanted and name not in keep]
    changed = [limit for limit in wanted.values() if limit != before.get(limit.name)]
    if dropped:
        session.rows("limit_drop", names=dropped)
    for limit in sorted(changed, key=lambda one: one.name):
        closed = limit.name.startswith(QUEUE) and limit.name not in before
        session.rows(
            "limit_set",
            key=limit.name,
            running=limit.running,
            starts=limit.starts,
            period=limit.period,
            closed=int(closed),
        )
    known = [limit.name.removeprefix(QUEUE) for limit in changed if limit.name.startswith(QUEUE)]
    if known:
        session.rows("queue_register", names=known)
    names = {*dropped, *(limit.name for limit in changed)}
    waiting = {row[0] for row in session.rows("limit_keys")} if names else set()
    look(session, {key for key in waiting if rule_of(key, {}).name in names})
    return True


def _mark(limits: Sequence[Limit]) -> str:
    """The key under which the store remembers that it has seen these limits."""
    told = sorted((limit.name, limit.running, limit.starts, limit.period) for limit in limits)
    return f"limits {sha256(repr(told).encode()).hexdigest()[:32]}"


def introduce(session: Session, limit: int) -> bool:
    """Bring up to `limit` jobs that stand in line without a slot (-1: all) under the limits of their queues; once there
    are no more, count what runs in queues whose limits are new, and let these limits admit. Return whether to go on.
    """
    strays = session.rows("limit_strays", limit=limit)
    look(session, {row[1] for row in strays})
    if limit >= 0 and len(strays) == limit:
        return True
    adopted = [row[0] for row in session.rows("limit_adopt")]
    if adopted:
        session.rows("limit_raise", ids=sorted(adopted))
    look(session, {row[0] for row in session.rows("limit_open")})
    return False


def look(session: Session, keys: set[str]) -> None:
    """Have these keys looked at as soon as may be."""
    if keys:
        session.rows("limit_gate", keys=sorted(keys), at=AT_ONCE)


def settle(session: Session, *, keys: int = KEYS_AT_ONCE) -> Admitted:
    """Look at the gates that are open, at up to `keys` keys, and let in who may be. Cheap when there are none."""
    done = Admitted()
    found = session.rows("limit_gates", now=session.now, limit=keys)
    if not found:
        return done
    due = {row[0] for row in found}
    # A job goes from its own key to that of its queue, never back: two rounds, and the locks are in order.
    queues = {key for key in due if key.startswith(QUEUE)}
    _round(session, due - queues, queues, done)
    _round(session, queues, queues, done)
    done.more = done.more or len(found) == keys
    return done


def _round(session: Session, due: set[str], queues: set[str], done: Admitted) -> None:
    """Admit at each of the keys `due`; the queues' keys at which jobs have to wait next are added to `queues`."""
    if not due:
        return
    keys = locking(due)
    session.rows("limit_lock", keys=keys)
    session.rows("limit_ungate", keys=keys)
    rules = declared(session)
    since = [_since(rule_of(key, rules), session.now) for key in keys]
    if any(start is not None for start in since):
        session.rows("limit_forget", keys=keys, sinces=since)
    for key, held, unstarted, recent, waiting in session.rows(
        "limit_usage", keys=keys, sinces=since, now=session.now
    ):
        if waiting:
            _admit(session, key, rule_of(key, rules), Usage(held, unstarted, recent), rules, queues, done)


def _admit(
    session: Session,
    key: str,
    rule: Limit,
    usage: Usage,
    rules: Mapping[str, Limit],
    queues: set[str],
    done: Admitted,
) -> None:
    """Let in who may be at one key, and leave a gate if time alone will let in more."""
    free = room(rule, usage)
    most = ADMITTED_AT_ONCE if free is None else min(free, ADMITTED_AT_ONCE)
    rows = session.rows("limit_waiting", key=key, limit=most) if most else []
    if rows:
        _move(session, key, rows, rules, queues, done)
        if not session.rows("limit_left", key=key):
            return
    usage = Usage(usage.held + len(rows), usage.unstarted + len(rows), usage.recent)
    at = _next_look(session, key, rule, usage, all_taken=len(rows) == most)
    if at is not None:
        session.rows("limit_gate", keys=[key], at=at)
        done.more = done.more or at <= session.now


def _move(
    session: Session,
    key: str,
    rows: Sequence[Sequence[Any]],
    rules: Mapping[str, Limit],
    queues: set[str],
    done: Admitted,
) -> None:
    """Give a slot of `key` to each of these jobs, and send it on to its queue's limit, or into its line."""
    onward: list[str | None] = []
    for _, queue in rows:
        after = queue_key(queue)
        onward.append(after if after in rules and not key.startswith(QUEUE) else None)
    ids = [row[0] for row in rows]
    session.rows("limit_take", ids=ids)
    session.rows("limit_admit", ids=ids, keys=onward)
    queues.update(after for after in onward if after is not None)
    done.ready += onward.count(None)


def _next_look(session: Session, key: str, rule: Limit, usage: Usage, *, all_taken: bool) -> int | None:
    """When to look again at a key at which somebody still waits; None: when a slot comes free."""
    if room(rule, usage) != 0:
        return AT_ONCE if all_taken else session.now + AGAIN
    passing = starts_to_pass(rule, usage)
    if rule.period is None or passing == 0:
        return None
    begun = session.rows("limit_start", key=key, since=_since(rule, session.now), now=session.now, n=passing)
    return reopens(rule.period, begun[0][0] if begun else None, session.now)


def _since(rule: Limit, now: int) -> int | None:
    """The oldest start that counts for a rate now."""
    return None if rule.starts is None or rule.period is None else now - rule.period
