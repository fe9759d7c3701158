"""The store on PostgreSQL: one database, many hosts.

Theory. Many write at once here, and a round trip costs more than the work of many jobs. Hence one statement per batch:
`exchange` finishes and claims in data-modifying parts of one statement, which locks what it claims with `SKIP LOCKED`,
so that claimers neither meet nor wait. All its parts see the database as it was when the statement began.

Time is the database's own (leases, delays, `now`), so hosts may disagree about theirs.

A worker can be declared dead while one of its statements is still under way; that statement may then commit jobs to
it afterwards. So a dead worker's estate stays open for longer than any statement may run (`GRACE`), and whatever
turns up in it is freed by the next exchange or tick, as if it had been there.

Waking: whoever makes work ready looks for parked workers after its commit (in the same round trip) and notifies only
then, because a notification takes a lock that all commits of the database pass.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from json import dumps
from math import inf
from operator import attrgetter
from secrets import token_hex
from selectors import EVENT_READ, DefaultSelector
from typing import Any, TypeVar

import psycopg

from coserver.errors import StoreUnavailable
from coserver.model.job import (
    Claimed,
    Counts,
    Failed,
    Input,
    JobFilter,
    JobInfo,
    Limit,
    NewJob,
    Outcome,
    Progress,
    QueueInfo,
    Release,
    Retry,
    State,
    Succeeded,
    TaskDefaults,
)
from coserver.model.payload import MAX_BYTES
from coserver.model.why import MANY, MANY_WAITING, Standing, Waiting, WorkerInfo
from coserver.store import beginnings, endings
from coserver.store import limits as rules
from coserver.store.contract import (
    PROTOCOL,
    Exchange,
    Held,
    Listener,
    Rescue,
    SchemaStatus,
    Settled,
    Upkeep,
    Want,
    WorkerIdentity,
)
from coserver.store.evidence import GROUPS, standing_of, waiting_of, workers_of
from coserver.store.foreign import arecognise, recognise
from coserver.store.foreign_postgres import (
    MIGRATION_LOCK,
    Execute,
    ForeignSession,
    Home,
    Whereabouts,
    call,
    on_postgres,
    on_postgres_async,
)
from coserver.store.pool import (
    SHORTLY,
    STATEMENT_SECONDS,
    Connection,
    NoAnswer,
    Pool,
    PostgresSession,
    Row,
    int_array,
    run,
    text_array,
)
from coserver.store.queues import queue_infos
from coserver.store.records import (
    EXPIRED_PER_EXCHANGE,
    IDS,
    INLINE,
    KEEP_WORKERS,
    PASSED_OVER,
    UPKEEP_PER_EXCHANGE,
    Batch,
    Freed,
    Reject,
    Route,
    alike,
    below,
    by_place,
    check_limits,
    check_new,
    check_queue,
    filters,
    job_info,
    judge,
    listing,
    possible,
    progress_text,
    route,
    sort_outcomes,
)
from coserver.store.round_trip import round_trip
from coserver.store.schema import MIN_PROTOCOL, check_protocol, check_version, least_of, schema_status
from coserver.store.session import Session
from coserver.store.statements import migrations
from coserver.store.url import PostgresUrl
from coserver.store.vacuum import Vacuum

GRACE = 2 * STATEMENT_SECONDS
"""Seconds that a dead worker's estate stays open."""

ATTEMPTS = 5
"""How often a change is begun anew after two had waited for each other."""

PATIENCE, IMPATIENCE, PATIENCE_IN_ALL = 20, 5, 0.5
"""How long outcomes that take the slow path wait for what another transaction holds: ms for any lock, all together and
then each alone, and seconds in all. A worker has more to do than to wait for a caller who keeps a transaction open."""

PULSE = 5.0
"""Seconds between a listener's calls to itself."""
DEAF = 2
"""So many connections in a row have to be deaf before somebody is told."""
DEAFEST = 300.0
"""Longest time in seconds until a listener that is deaf again and again tries another connection."""
RETRIES = (0.05, 2.0)
"""First and longest wait in seconds between attempts to connect."""

T = TypeVar("T")

log = logging.getLogger("coserver.store")


class PostgresListener:
    """A connection that listens. Between notifications it looks, at growing intervals up to 50 ms, whether any
    transaction has ended, which is how it hears of plain SQL. With `ends` it only hears that jobs have ended, for as
    long as it says every few seconds that somebody wants to know.

    A connection may be deaf without anybody telling: dead in silence, or a pooler's that passes no notifications on. So
    where only notifications count, it calls itself every `PULSE` seconds, and connects anew when it does not hear that.
    """

    def __init__(self, pool: Pool, *, ends: bool = False) -> None:
        self._pool = pool
        self._ends = ends
        self._await_at = 0.0
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._seen = ""
        self._own = f"coserver_{token_hex(8)}".encode()
        self._pulse_at = self._echo_by = inf
        self._deaf = 0  # connections in a row that heard nothing
        self._retry_at, self._pause = 0.0, RETRIES[0]
        self._connection: Connection | None = self._connect()

    def _connect(self) -> Connection:
        connection = self._pool.connect()
        try:
            if self._ends:
                connection.execute(b"LISTEN coserver_ends", prepare=False)
                self._await(connection)
            else:
                connection.execute(b"LISTEN coserver; LISTEN " + self._own, prepare=False)
                self._seen = run(connection, "snapshot", {})[0][0]
        except psycopg.Error as error:
            connection.close()
            raise self._pool.unavailable(error, "listen to") from error
        self._echo_by = inf
        # The first call comes at once; the more connections were deaf, the later the next one is suspected.
        self._pulse_at = time.monotonic() + (min(PULSE * 2.0**self._deaf, DEAFEST) if self._deaf else 0.0)
        return connection

    def wait(self, timeout: float, *, guesses: bool = True) -> bool:
        deadline = time.monotonic() + timeout
        looks = guesses and not self._ends
        pause, longest = (0.001, 0.05) if looks else (0.25, 0.25)
        while not self._closed.is_set():
            left = deadline - time.monotonic()
            with self._lock:
                try:
                    if self._connection is None:
                        if self._again():
                            return True
                    elif self._heard(self._connection, min(pause, max(left, 0)), guesses=guesses):
                        return True
                except (psycopg.Error, StoreUnavailable):
                    self._drop()
                finally:
                    if self._closed.is_set():
                        self._drop()
            if left <= 0:
                return False
            if self._connection is None:
                self._closed.wait(min(self._retry_at - time.monotonic(), left))
            pause = min(pause * 2, longest)
        return False

    def _again(self) -> bool:
        """Connect anew, if it is time."""
        now = time.monotonic()
        if self._closed.is_set() or now < self._retry_at:
            return False
        self._retry_at, self._pause = now + self._pause, min(self._pause * 2, RETRIES[1])
        self._connection = self._connect()
        self._pause = RETRIES[0]
        return True

    def _heard(self, connection: Connection, pause: float, *, guesses: bool) -> bool:
        if self._arrived(connection):
            return True
        # The driver's own way to wait spins for the last millisecond.
        with DefaultSelector() as selector:
            selector.register(connection.fileno(), EVENT_READ)
            readable = bool(selector.select(pause))
        if readable and self._arrived(connection):
            return True
        if self._ends:
            if time.monotonic() >= self._await_at:
                self._await(connection)
            return False
        if not guesses:
            self._call(connection)
            return False
        before, self._seen = self._seen, run(connection, "snapshot", {})[0][0]
        return before != self._seen

    def _arrived(self, connection: Connection) -> bool:
        """Whether a notification has arrived; our own calls to ourselves are taken note of."""
        heard = False
        for one in connection.notifies(timeout=0):
            if one.channel in ("coserver", "coserver_ends"):
                heard = True
            else:
                self._echo()
        return heard

    def _await(self, connection: Connection) -> None:
        """Say that somebody wants to know of ends."""
        run(connection, "await_ends", {})
        self._await_at = time.monotonic() + PULSE

    def _call(self, connection: Connection) -> None:
        """Call ourselves now and then; raise `NoAnswer` when that was not heard."""
        now = time.monotonic()
        if now >= self._echo_by:
            self._deaf += 1
            if self._deaf == DEAF:
                log.warning(
                    "the store %s passes no notifications on, as some poolers do; jobs start all the same, up to "
                    "50 ms later",
                    self._pool.shown,
                )
            raise NoAnswer("it is deaf")
        if now >= self._pulse_at:
            self._pulse_at, self._echo_by = inf, now + SHORTLY
            run(connection, "call", {"channel": self._own.decode()})

    def _echo(self) -> None:
        if self._deaf >= DEAF:
            log.warning("the store %s passes notifications on again", self._pool.shown)
        self._deaf = 0
        self._pulse_at, self._echo_by = time.monotonic() + PULSE, inf

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def close(self) -> None:
        self._closed.set()
        # Whoever waits just now closes the connection itself.
        if self._lock.acquire(timeout=0.2):
            try:
                self._drop()
            finally:
                self._lock.release()


@dataclass(slots=True)
class Told:
    """What came of outcomes: ids of those that changed nothing, those that have to wait for somebody, and how many jobs
    became ready."""

    stale: list[int] = field(default_factory=list)
    busy: list[Outcome] = field(default_factory=list)
    ready: int = 0


class PostgresStore:
    """`contract.Store` on a PostgreSQL database. Connects at the first use."""

    def __init__(self, where: PostgresUrl) -> None:
        self.url = where.masked
        self._pool = Pool(where.conninfo, where.masked)
        self._checked = False
        self._snapshot = ""
        self._rests_until = 0.0  # no exchange looks before at what is due, since it was passed over
        self._vacuum = Vacuum(self._pool)
        self._home = Home(self.url, self._whereabouts)

    def close(self) -> None:
        self._vacuum.close()
        self._pool.close()

    def _ready(self, connection: Connection) -> Connection:
        """Make sure, once, that the tables are this coserver's."""
        if not self._checked:
            self._check_version(connection)
            self._checked = True
        return connection

    def _run(self, name: str, /, **params: Any) -> list[Row]:
        with self._pool.connection() as connection:
            return run(self._ready(connection), name, params)

    def _rouse(self, connection: Connection, ready: int) -> None:
        if ready > 0:
            run(connection, "notify", {})

    def _whereabouts(self) -> Whereabouts:
        with self._pool.connection() as connection:
            return Whereabouts(*run(connection, "whereabouts", {})[0])

    def _look_at_version(self) -> None:
        """Make sure, before the caller's own connection is used, that the tables are there and this coserver's."""
        if not self._checked:
            with self._pool.connection() as connection:
                missing = self._version(connection) == 0
            if missing:
                self.migrate()
            with self._pool.connection() as connection:
                self._ready(connection)

    # -- schema --------------------------------------------------------------------------------------------------

    def _version(self, connection: Connection) -> int:
        if run(connection, "meta_exists", {})[0][0] == 0:
            return 0
        return int(run(connection, "meta_get", {"key": "schema"})[0][0])

    def _check_version(self, connection: Connection, *, older: bool = False) -> int:
        """Return the version of the tables, if this coserver can work with them."""
        version = self._version(connection)
        least = least_of(run(connection, "meta_get", {"key": MIN_PROTOCOL})) if version else None
        check_version(self.url, version, "postgres", older=older, least=least)
        return version

    def migrate(self) -> list[str]:
        applied: list[str] = []
        with self._pool.connection(answer=None) as connection:
            connection.execute("SET statement_timeout = 0", prepare=False)
            connection.execute(f"SELECT pg_advisory_lock({MIGRATION_LOCK})", prepare=False)
            try:
                version = self._check_version(connection, older=True)
                for step in migrations("postgres"):
                    if step.version <= version:
                        continue
                    with connection.transaction():
                        connection.execute(step.sql.encode(), prepare=False)
                        run(connection, "meta_set", {"key": "schema", "value": str(step.version)})
                    applied.append(step.name)
            finally:
                with suppress(psycopg.Error):
                    connection.execute(f"SELECT pg_advisory_unlock({MIGRATION_LOCK})", prepare=False)
                    connection.execute(f"SET statement_timeout = '{STATEMENT_SECONDS}s'", prepare=False)
        self._checked = False
        return applied

    def schema(self) -> SchemaStatus:
        with self._pool.connection() as connection:
            return schema_status(self._version(connection), "postgres")

    # -- producer ------------------------------------------------------------------------------------------------

    def submit(self, jobs: Sequence[NewJob]) -> list[int]:
        plain = check_new(jobs)
        if not jobs:
            return []
        if not plain:
            return self._change(lambda session: beginnings.submit(session, jobs))
        name, params = _insertion(jobs)
        with self._pool.connection() as connection:
            self._ready(connection)
            rows, _ = round_trip(connection, (name, params), ("notify", {}))
            if any(limited == b"1" for _, limited in rows):
                self._rouse(connection, self._admit(connection).ready)
            return sorted(int(number or 0) for number, _ in rows)

    def submit_on(self, connection: Any, jobs: Sequence[NewJob]) -> list[int]:
        plain = check_new(jobs)
        if not jobs:
            return []
        self._look_at_version()
        body = partial(_submit_within, jobs=jobs, plain=plain)
        return on_postgres(self._home, recognise(connection), body, apart=not plain)

    async def asubmit_on(self, connection: Any, jobs: Sequence[NewJob]) -> list[int]:
        plain = check_new(jobs)
        if not jobs:
            return []
        found = await arecognise(connection)
        await asyncio.to_thread(self._look_at_version)
        body = partial(_submit_within, jobs=jobs, plain=plain)
        return await on_postgres_async(self._home, found, body, apart=not plain)

    def job(self, id: int) -> JobInfo | None:
        if id not in IDS:
            return None
        rows = self._run("job", id=id)
        return job_info(rows[0]) if rows else None

    def jobs(self, where: JobFilter, *, limit: int, before: int | None = None) -> list[JobInfo]:
        rows = self._run(
            listing(where),
            states=int_array([int(state) for state in where.states]) if where.states else None,
            limit=limit,
            before=below(before),
            **filters(where),
        )
        return [job_info(row) for row in rows]

    def counts(self) -> Counts:
        found: Counter[State] = Counter()
        for state, n in self._run("counts"):
            found[State(state)] += n
        return Counts(dict(found))

    def retry(self, ids: Sequence[int]) -> list[int]:
        return self._change(lambda session: endings.revive(session, possible(ids)))

    def cancel(self, ids: Sequence[int]) -> dict[int, State]:
        asked: list[endings.CancelRequest] = []

        def change(session: Session) -> tuple[list[int], int]:
            asked[:] = [endings.cancel(session, possible(ids))]
            return asked[0].workers, asked[0].ready

        if self._change(change):
            self._run("notify_cancel")
        return asked[0].states

    def release_held(self, ids: Sequence[int]) -> list[int]:
        return self._change(lambda session: endings.release_held(session, possible(ids)))

    def discard(self, ids: Sequence[int]) -> list[int]:
        return self._change(lambda session: (endings.forget(session, possible(ids)), 0))

    def _change(self, change: Callable[[Session], tuple[list[int], int]]) -> list[int]:
        """Do what both databases do alike: it returns ids and how many jobs became ready."""
        with self._pool.connection() as connection:
            found, ready = _alone(self._ready(connection), change)
            self._rouse(connection, ready + self._admit(connection).ready)
        return found

    def inputs(self, id: int) -> list[Input]:
        return endings.inputs(self._run("inputs", id=id)) if id in IDS else []

    def listener(self, *, ends: bool = False) -> Listener:
        return PostgresListener(self._pool, ends=ends)

    # -- queues and limits ---------------------------------------------------------------------------------------

    def queues(self) -> list[QueueInfo]:
        with self._pool.connection() as connection:
            return queue_infos(PostgresSession(self._ready(connection)).rows)

    def pause_queue(self, name: str, *, by: str) -> None:
        check_queue(name)
        self._run("queue_pause", queue=name, by=by)

    def resume_queue(self, name: str) -> None:
        with self._pool.connection() as connection:
            self._rouse(connection, len(run(self._ready(connection), "queue_resume", {"queue": name})))

    def limits(self) -> list[Limit]:
        return [Limit(*row[:4]) for row in self._run("limits")]

    def set_limits(self, limits: Sequence[Limit], *, keep: Sequence[str] = (), once: bool = False) -> bool:
        check_limits(limits)
        with self._pool.connection() as connection:
            self._ready(connection)
            with connection.transaction():
                if not rules.declare(PostgresSession(connection), limits, keep=keep, once=once):
                    return False
            while self._introduce(connection, 5000):
                pass
            self._rouse(connection, self._admit(connection).ready)
        return True

    def _introduce(self, connection: Connection, limit: int) -> bool:
        with connection.transaction():
            return rules.introduce(PostgresSession(connection), limit)

    # -- worker --------------------------------------------------------------------------------------------------

    def register(self, who: WorkerIdentity, *, lease: float) -> int:
        said = [who.defaults.get(name, TaskDefaults()) for name in who.tasks]
        rows = self._run(
            "register",
            protocol=PROTOCOL,
            queue_names=text_array(list(who.queues)),
            task_names=text_array(list(who.tasks)),
            task_queues=text_array([task.queue for task in said]),
            task_crashes=int_array([task.max_crashes for task in said]),
            lease=int(lease * 1e6),
            process=who.process,
            host=who.host,
            pid=who.pid,
            token=who.token,
            wake=who.wake,
            queues=dumps(list(who.queues)),
            tasks=dumps(list(who.tasks)),
        )
        if not rows:
            check_protocol(self._run("meta_get", key=MIN_PROTOCOL))
        worker: int = rows[0][0]
        return worker

    def exchange(self, worker: int, done: Sequence[Outcome], want: Want) -> Exchange:
        batch = sort_outcomes(done)
        with self._pool.connection() as connection:
            self._ready(connection)
            header, claimed, told = self._swap(connection, worker, batch, want)
            ready = told.ready
            _, live, _, _, _, new, estates, suspects, due, _, _ = header
            if live and want.limit > 0:
                due_now = due is not None and due <= 0
                if due_now and (rest := self._rests_until - time.monotonic()) > 0:
                    due_now, due = False, int(rest * 1e6)
                moved = ready > 0  # by what the slow path recorded after the claim
                if new or estates or due_now:
                    upkeep = self._keep(connection, worker, bool(new), due_now, bool(estates))
                    ready += upkeep.ready
                    suspects = suspects or bool(upkeep.crashed)
                    if new or due_now:
                        due = upkeep.wait(run(connection, "next_due", {})[0][0])
                        if due_now and due == PASSED_OVER:
                            self._rests_until = time.monotonic() + PASSED_OVER / 1e6
                    moved = moved or upkeep.ready > 0
                if moved and not claimed:
                    again, claimed, _ = self._swap(connection, worker, Batch(), want)
                    suspects = again[7]
                if suspects and not claimed:
                    claimed = run(connection, "claim_suspect", {**_pairs(want), "worker": worker})
                ready -= len(claimed)
            self._rouse(connection, ready)
        claimed.sort(key=by_place)
        next_due = None if claimed or not live or due is None or want.limit <= 0 else max(due, 0)
        return Exchange([Claimed(*row[:10]) for row in claimed], told.stale, next_due, bool(live), told.busy)

    def _swap(
        self, connection: Connection, worker: int, batch: Batch, want: Want
    ) -> tuple[Row, list[Row], Told]:
        """Record and claim: the header row of `exchange`, the claimed rows, and what came of the outcomes."""
        params = _exchange_params(worker, batch, want)
        ended: list[Succeeded | Failed] = [*batch.succeeded, *batch.failed]
        large = [o for o in batch.succeeded if o.result is not None and len(o.result) > INLINE]
        back: list[Row] = []
        if batch.retries or batch.releases or large:
            with connection.transaction():
                back = self._hand_back(connection, worker, batch)
                rows = run(connection, "exchange", params)
                if large:
                    told = {
                        "ids": int_array([o.id for o in large]),
                        "claims": int_array([o.claim for o in large]),
                        "results": text_array([o.result for o in large]),
                    }
                    run(connection, "finish_blob", told)
        else:
            rows = run(connection, "exchange", params)
        header = rows.pop(0)
        left: list[Outcome] = [*batch.rare]
        if header[0] < len(ended):
            settled = set(run(connection, "settled", {"ids": params["ids"]}))
            left += [
                o
                for o in ended
                if (o.id, o.claim, State.SUCCEEDED if isinstance(o, Succeeded) else State.FAILED)
                not in settled
            ]
        if len(back) < len(batch.retries) + len(batch.releases):
            fitted = {row[0] for row in back}
            returned: list[Retry | Release] = [*batch.retries, *batch.releases]
            left += [o for o in returned if o.id not in fitted]
        ready = sum(row[1] == State.QUEUED for row in back)
        came = Told(ready=ready)
        if left:
            _tell(connection, worker, left, came)
            came.ready += self._admit(connection).ready
        return header, rows, came

    def _hand_back(self, connection: Connection, worker: int, batch: Batch) -> list[Row]:
        batch.retries.sort(key=attrgetter("id"))
        batch.releases.sort(key=attrgetter("id"))
        rows: list[Row] = []
        if batch.retries:
            params = {
                "ids": int_array([o.id for o in batch.retries]),
                "claims": int_array([o.claim for o in batch.retries]),
                "delays": int_array([o.delay for o in batch.retries]),
                "errors": text_array([o.error for o in batch.retries]),
                "worker": worker,
            }
            rows += run(connection, "retry", params)
        if batch.releases:
            params = {
                "ids": int_array([o.id for o in batch.releases]),
                "claims": int_array([o.claim for o in batch.releases]),
                "worker": worker,
            }
            rows += run(connection, "release", params)
        return rows

    def renew(self, workers: Sequence[int], *, lease: float) -> list[int]:
        with self._pool.connection(answer=SHORTLY) as connection:
            told = {"workers": int_array(list(workers)), "lease": int(lease * 1e6)}
            rows = run(self._ready(connection), "renew", told)
        live = {row[0] for row in rows}
        return [worker for worker in workers if worker not in live]

    def park(self, worker: int) -> bool:
        with self._pool.connection() as connection:
            run(self._ready(connection), "park", {"worker": worker})
            return bool(run(connection, "park_look", {"worker": worker})[0][0])

    def held(self, worker: int) -> list[Held]:
        return [Held(*row) for row in self._run("held", worker=worker)]

    def settled(self, ids: Sequence[int]) -> list[Settled]:
        rows = self._run("settled", ids=int_array(list(ids)))
        return [Settled(job, claim, State(state)) for job, claim, state in rows]

    def cancels(self, worker: int) -> list[Held]:
        return [Held(*row) for row in self._run("cancels", worker=worker)]

    def progress(self, worker: int, told: Sequence[Progress]) -> None:
        if told:
            rows = progress_text(told)
            self._run("progress", worker=worker, told=rows)

    def finish_on(self, connection: Any, worker: int, outcome: Outcome) -> bool:
        body = partial(_finish_within, worker=worker, outcome=outcome)
        return on_postgres(self._home, recognise(connection), body, apart=True)

    async def afinish_on(self, connection: Any, worker: int, outcome: Outcome) -> bool:
        body = partial(_finish_within, worker=worker, outcome=outcome)
        return await on_postgres_async(self._home, await arecognise(connection), body, apart=True)

    def leave(self, worker: int) -> None:
        def change(session: Session) -> int:
            if not session.rows("leave", worker=worker):
                return 0
            return endings.leave(session, worker) + len(session.rows("release_all", worker=worker))

        with self._pool.connection() as connection:
            ready = _alone(self._ready(connection), change)
            self._rouse(connection, ready + self._admit(connection).ready)

    # -- keeping -------------------------------------------------------------------------------------------------

    def bury(self, token: str, *, started: Sequence[int] | None, note: str) -> Rescue:
        known = None if started is None else dumps(list(started))

        def change() -> Freed:
            freed = Freed()
            run(connection, "bury", {"token": token, "started": known, "note": note})
            for estate in run(connection, "estate_of", {"token": token}):
                while self._settle(connection, freed, 500, estate):
                    pass
            return freed

        with self._pool.connection() as connection:
            self._ready(connection)
            freed = _anew(connection, change)
            freed.ready += self._admit(connection).ready
            self._rouse(connection, freed.ready)
        return Rescue(freed.uncharged, freed.crashed, freed.lost)

    def tick(self, *, retention: Sequence[tuple[State, int]] = (), limit: int = 500) -> Upkeep:
        pruned = 0
        with self._pool.connection() as connection:
            self._ready(connection)
            stray = self._introduce(connection, limit)
            done = self._keep(connection, 0, True, True, True, limit)
            done.more = done.more or stray
            for state, age in retention:
                pruned += _alone(connection, partial(_prune, state=state, age=age, limit=limit - pruned))
            gathered = run(connection, "count_gather", {"limit": limit})[0][0]
            run(connection, "prune_workers", {"age": KEEP_WORKERS, "limit": limit})
            self._vacuum.consider(connection)
            due = done.wait(run(connection, "next_due", {})[0][0])
            self._rouse(connection, done.ready if done.ready > 0 else len(run(connection, "idle", {})))
        more = (
            limit in (done.routed, done.promoted, pruned, gathered)
            or done.expired >= limit
            or done.rescued >= limit
            or done.more
        )
        return Upkeep(done.routed, done.promoted, done.rescued, pruned, more, due)

    def _keep(
        self,
        connection: Connection,
        worker: int,
        new: bool,
        due: bool,
        estates: bool,
        limit: int = UPKEEP_PER_EXCHANGE,
    ) -> Freed:
        done = Freed()
        if new:
            done.join(_anew(connection, partial(self._route, connection, limit)))
        if due:
            promoted = run(connection, "promote", {"limit": limit})
            done.promoted = len(promoted)
            done.ready += sum(row[1] == State.QUEUED for row in promoted)
            self._expire(connection, done, max(limit, EXPIRED_PER_EXCHANGE))
        if estates:
            run(connection, "expire", {"worker": worker})
            with suppress(psycopg.errors.LockNotAvailable):  # next time, then
                done.join(_anew(connection, partial(self._rescue, connection, limit)))
        admitted = self._admit(connection)
        done.ready += admitted.ready
        done.more = admitted.more
        return done

    def _rescue(self, connection: Connection, limit: int) -> Freed:
        freed = Freed()
        run(connection, "impatient", {"ms": PATIENCE})
        for estate in run(connection, "estates", {"grace": GRACE}):
            if freed.rescued >= limit:
                break
            self._settle(connection, freed, limit - freed.rescued, estate)
        return freed

    def _expire(self, connection: Connection, done: Freed, limit: int) -> None:
        now = run(connection, "clock", {})[0][0]
        late = [row[0] for row in run(connection, "overdue", {"now": now, "limit": limit})]
        if not late or self._expire_now(connection, done, limit, None, PATIENCE):
            return
        until = time.monotonic() + PATIENCE_IN_ALL
        for job in late:  # some child of some of them is in somebody's hands
            if time.monotonic() > until:
                return
            self._expire_now(connection, done, limit, job, IMPATIENCE)

    @staticmethod
    def _expire_now(connection: Connection, done: Freed, limit: int, only: int | None, patience: int) -> bool:
        """End late jobs; False, and none is, if that has to wait for a lock for more than `patience` ms."""

        def change(session: Session) -> tuple[int, int]:
            session.rows("impatient", ms=patience)
            return endings.expire(session, limit, only=only)

        try:
            expired, ready = _alone(connection, change)
        except psycopg.errors.LockNotAvailable:
            return False
        done.expired += expired
        done.ready += ready
        return True

    def _admit(self, connection: Connection) -> rules.Admitted:
        """Let in who may pass the limits that somebody has to look at."""
        with connection.transaction():
            return rules.settle(PostgresSession(connection))

    def _route(self, connection: Connection, limit: int) -> Freed:
        done = Freed()
        now = run(connection, "clock", {})[0][0]
        more = True
        while more and done.routed < limit:
            rows = run(connection, "unrouted", {"cap": MAX_BYTES, "limit": limit - done.routed})
            self._place(connection, done, now, rows)
            more = any(row[-1] for row in rows)
        return done

    def _place(self, connection: Connection, done: Freed, now: int, rows: Sequence[Row]) -> None:
        """Queue, schedule or reject new rows."""
        routes: list[Route] = []
        rejects: list[Reject] = []
        for row in rows:
            match route(row, now):
                case Route() as to:
                    routes.append(to)
                case Reject() as no:
                    rejects.append(no)
        if routes:
            params = {
                "ids": int_array([to.id for to in routes]),
                "queues": text_array([to.queue for to in routes]),
                "dues": text_array([None if to.run_at is None else str(to.run_at) for to in routes]),
                "larges": text_array(["t" if to.large else "f" for to in routes]),
            }
            run(connection, "route", params)
            session = PostgresSession(connection)
            limited = rules.queues(session)
            enter = [
                to.id for to in routes if to.run_at is None and (to.limit is not None or to.queue in limited)
            ]
            rules.enter(session, enter, keep_places=True)
            done.ready -= len(enter)
        if rejects:
            done.ready += endings.reject(PostgresSession(connection), {no.id: no.error for no in rejects})
        done.routed += len(routes) + len(rejects)
        done.ready += sum(to.run_at is None for to in routes)

    def _settle(self, connection: Connection, freed: Freed, limit: int, estate: Row) -> bool:
        """Free up to `limit` jobs of a dead worker; whether there may be more."""
        worker, started, note, process = estate
        rows = run(connection, "left_running", {"worker": worker, "limit": limit})
        verdict = judge(rows, started, note, process)
        freed.add(verdict)
        session = PostgresSession(connection)
        begun = [job for job, charge in verdict.back if charge]
        limited = rules.leave(session, begun)
        if verdict.back:
            params = {
                "ids": int_array([job for job, _ in verdict.back]),
                "charges": int_array([charge for _, charge in verdict.back]),
            }
            run(connection, "rescue", params)
            rules.enter(session, [job for job in begun if job in limited], keep_places=True)
        if verdict.lost or verdict.cancelled:
            freed.ready += endings.bereave(session, verdict)
        if len(rows) < limit:
            run(connection, "close_estate", {"worker": worker, "grace": GRACE})
        return len(rows) == limit

    def live_tokens(self) -> list[tuple[int, str]]:
        return [(row[0], row[1]) for row in self._run("live_tokens")]

    def probe(self) -> bool:
        before, self._snapshot = self._snapshot, self._run("snapshot")[0][0]
        return before != self._snapshot

    # -- inquiry -------------------------------------------------------------------------------------------------

    def workers(self) -> list[WorkerInfo]:
        return workers_of(self._run("workers"))

    def waiting(self) -> list[Waiting]:
        return waiting_of(self._run("waiting", groups=GROUPS, cap=MANY_WAITING + 1))

    def standing(self, id: int, tasks: Sequence[str]) -> Standing | None:
        if id not in IDS:
            return None
        return standing_of(self._run("standing", id=id, tasks=text_array(list(tasks)), cap=MANY + 1))


def _submit_within(execute: Execute, *, jobs: Sequence[NewJob], plain: bool) -> list[int]:
    """Store jobs in somebody else's transaction. Limits let them in after its commit: their gates are in it."""
    if plain:
        ids = sorted(row[0] for row in call(execute, *_insertion(jobs)))
    else:
        ids, _ = beginnings.submit(ForeignSession(execute), jobs)
    call(execute, "notify_within", {})
    return ids


def _finish_within(execute: Execute, *, worker: int, outcome: Outcome) -> bool:
    done = endings.finish(ForeignSession(execute), worker, [outcome])
    if done.ready:
        call(execute, "notify_within", {})
    return not done.stale


def _alone(connection: Connection, change: Callable[[Session], T]) -> T:
    """Do what both databases do alike, in a transaction of its own."""
    return _anew(connection, lambda: change(PostgresSession(connection)))


def _anew(connection: Connection, change: Callable[[], T]) -> T:
    """Do a change in a transaction of its own; anew, if the server ended it because two waited for each other."""
    for _ in range(ATTEMPTS):
        try:
            with connection.transaction():
                return change()
        except psycopg.errors.DeadlockDetected:
            continue
    with connection.transaction():
        return change()


def _tell(connection: Connection, worker: int, outcomes: Sequence[Outcome], told: Told) -> None:
    """Record outcomes the slow way, together, or, if that would have to wait for somebody, each that need not alone."""
    if _tell_now(connection, worker, outcomes, told, PATIENCE):
        return
    ids = [outcome.id for outcome in outcomes]
    busy = {row[0] for row in run(connection, "in_hands", {"ids": int_array(ids)})}
    until = time.monotonic() + PATIENCE_IN_ALL
    for outcome in outcomes:
        if (
            outcome.id in busy
            or time.monotonic() > until
            or not _tell_now(connection, worker, [outcome], told, IMPATIENCE)
        ):
            told.busy.append(outcome)


def _tell_now(
    connection: Connection, worker: int, outcomes: Sequence[Outcome], told: Told, patience: int
) -> bool:
    """Record outcomes together; False, and nothing is, if that has to wait for a lock for more than `patience` ms."""

    def change(session: Session) -> endings.Done:
        session.rows("impatient", ms=patience)
        return endings.finish(session, worker, outcomes)

    try:
        done = _alone(connection, change)
    except psycopg.errors.LockNotAvailable:
        return False
    told.stale += done.stale
    told.ready += done.ready
    return True


def _prune(session: Session, *, state: State, age: int, limit: int) -> int:
    """Forget finished jobs of one state past their retention; return how many."""
    rows = session.rows("prunable", state=int(state), before=session.now - age, limit=limit)
    return len(endings.forget(session, [row[0] for row in rows])) if rows else 0


def _exchange_params(worker: int, batch: Batch, want: Want) -> dict[str, Any]:
    """The parameters of `exchange`. Finishes go in the order of ids, like everybody who locks jobs, so that no two
    wait for each other in a circle."""
    ended: list[Succeeded | Failed] = [*batch.succeeded, *batch.failed]
    ended.sort(key=attrgetter("id"))
    results = [o.result if isinstance(o, Succeeded) else None for o in ended]
    return {
        "ids": int_array([o.id for o in ended]),
        "claims": int_array([o.claim for o in ended]),
        "states": int_array([10 if isinstance(o, Succeeded) else 11 for o in ended]),
        "starts": int_array([o.started_at for o in ended]),
        "ends": int_array([o.finished_at for o in ended]),
        "results": text_array(
            [None if text is not None and len(text) > INLINE else text for text in results]
        ),
        "errors": text_array([o.error if isinstance(o, Failed) else None for o in ended]),
        "worker": worker,
        "limit": want.limit,
        "lazy": "false" if batch else "true",
        "grace": GRACE,
        **_pairs(want),
    }


def _pairs(want: Want) -> dict[str, str]:
    """The parameters that say what a worker can take."""
    room = dict(want.room)
    return {
        "queues": text_array([queue for queue, _ in want.pairs]),
        "tasks": text_array([task for _, task in want.pairs]),
        "rooms": int_array([max(min(want.limit, room.get(queue, want.limit)), 0) for queue, _ in want.pairs]),
    }


def _insertion(jobs: Sequence[NewJob]) -> tuple[str, dict[str, Any]]:
    """The statement that stores these jobs, and its parameters: for `insert` one array per column."""
    if alike(jobs):
        job = jobs[0]
        one = len(jobs) == 1 and job.queue is not None
        return "insert_one" if one else "insert_alike", {
            "task": job.task,
            "args": job.args if one else text_array([job.args for job in jobs]),
            "options": job.options,
            "priority": int(job.priority),
            "max_crashes": job.max_crashes,
            "queue": job.queue,
            "run_at": job.run_at,
            "delay": job.delay,
        }
    return "insert", {
        "tasks": text_array([job.task for job in jobs]),
        "args": text_array([job.args if len(job.args) <= INLINE else None for job in jobs]),
        "larges": text_array([job.args if len(job.args) > INLINE else None for job in jobs]),
        "queues": text_array([job.queue for job in jobs]),
        "priorities": int_array([int(job.priority) for job in jobs]),
        "run_ats": _nullable([job.run_at for job in jobs]),
        "delays": _nullable([job.delay for job in jobs]),
        "max_crashes": _nullable([job.max_crashes for job in jobs]),
        "options": text_array([job.options for job in jobs]),
    }


def _nullable(values: list[int | None]) -> str:
    return "{" + ",".join(["NULL" if value is None else str(value) for value in values]) + "}"
