"""The store on SQLite: one file, one host.

Theory. SQLite has one writer at a time, so every change here is one short `BEGIN IMMEDIATE` transaction, and within a
process all threads share one writing connection behind a lock. What one transaction costs is its commit (a sync to
the disk, about 0.15 ms, while everything else costs microseconds per job). Hence

- `submit` groups: threads that come while another commits are taken along together by the next one (a leader writes
  for its followers and hands on the lead, so that nobody leads for ever);
- a commit that only claims, parks or renews does without the sync: losing it to a power failure gives the same state
  as never having done it, since no promise to a producer and no result is in it.

Other processes are waited for by trying again at short random intervals, so that no one of them is ahead of the
others, up to ten seconds. Readers have a connection of their own and wait for nobody.

A connection must not be carried through a fork. So everything that is open belongs to a session, a session belongs to
a process, and a child starts its own; what it inherited is kept untouched (closing it could disturb the parent).
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from heapq import merge
from itertools import islice
from json import dumps, loads
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeVar

from coserver.errors import CoserverError, StoreUnavailable
from coserver.model.job import (
    Claimed,
    Counts,
    JobFilter,
    JobInfo,
    NewJob,
    Outcome,
    Release,
    Retry,
    State,
    TaskDefaults,
)
from coserver.model.payload import MAX_BYTES
from coserver.store.clock import Clock, system_clock
from coserver.store.contract import (
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
from coserver.store.driver import Busy, Database, Row, Trouble, connect
from coserver.store.records import (
    INLINE,
    Batch,
    Freed,
    Reject,
    check_new,
    due_at,
    job_info,
    judge,
    route,
    sort_outcomes,
)
from coserver.store.schema import check_version, schema_status
from coserver.store.statements import migrations, statement
from coserver.store.url import SQLiteUrl
from coserver.store.wake import rouse

PATIENCE = 10.0
"""Seconds that a transaction waits for other processes before the store counts as unavailable."""

UPKEEP_PER_EXCHANGE = 100
"""How many jobs one exchange routes, promotes or rescues at most on its way."""

GROUP = 5000
"""How many new jobs one grouped commit takes at most, unless a single submission has more."""

KEEP_WORKERS = 7 * 86_400_000_000
"""Incarnations that ended longer ago (µs) are forgotten."""

T = TypeVar("T")

_inherited: list[object] = []
"""What forked children found open; see the module's theory."""


def _sql(name: str) -> str:
    return statement("sqlite", name)


@dataclass(slots=True)
class _Submission:
    jobs: Sequence[NewJob]
    turn: threading.Event = field(default_factory=threading.Event)
    ids: list[int] | None = None
    error: CoserverError | None = None


@dataclass(slots=True)
class _Session:
    """What one process has open."""

    pid: int
    write_lock: threading.Lock = field(default_factory=threading.Lock)
    writer: Database | None = None
    read_lock: threading.Lock = field(default_factory=threading.Lock)
    reader: Database | None = None
    probe_lock: threading.Lock = field(default_factory=threading.Lock)
    watch: Watch | None = None
    group_lock: threading.Lock = field(default_factory=threading.Lock)
    group: list[_Submission] = field(default_factory=list)
    led: bool = False


class Watch:
    """Sees whether anything was committed to a file, by `PRAGMA data_version` on a connection that never writes."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._version = self._read()

    def changed(self) -> bool:
        """Whether anything was committed since the last call; `Busy` while the file cannot be read."""
        before, self._version = self._version, self._read()
        return before != self._version

    def _read(self) -> int:
        version: int = self._database.all("PRAGMA data_version")[0][0]
        return version

    def close(self) -> None:
        self._database.close()


class SQLiteListener:
    """Looks at the file's data version at intervals that begin short and grow to 20 ms."""

    def __init__(self, store: SQLiteStore) -> None:
        self._store = store
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._watch: Watch | None = store.watch()

    def wait(self, timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        pause = 0.0005
        while True:
            if self._closed.is_set():
                return False
            if self._changed():
                return True
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self._closed.wait(min(pause, left))
            pause = min(pause * 2, 0.02)

    def _changed(self) -> bool:
        with self._lock:
            try:
                if self._watch is None:
                    self._watch = self._store.watch()
                    return True
                return self._watch.changed()
            except Busy:
                return False
            except (Trouble, StoreUnavailable):
                if self._watch is not None:
                    self._watch.close()
                    self._watch = None
                return False

    def close(self) -> None:
        self._closed.set()
        with self._lock:
            if self._watch is not None:
                self._watch.close()
                self._watch = None


class SQLiteStore:
    """`contract.Store` on one SQLite file. Opens the file at the first use."""

    def __init__(
        self, where: SQLiteUrl, *, clock: Clock | None = None, chance: Callable[[], float] = random.random
    ) -> None:
        self.url = where.masked
        self._where = where
        self._clock = clock or system_clock()
        self._chance = chance
        self._current = _Session(os.getpid())
        self._closed = False

    # -- connections ---------------------------------------------------------------------------------------------

    def close(self) -> None:
        self._closed = True
        session = self._current
        if session.pid != os.getpid():
            _inherited.append(session)
            return
        with session.write_lock, session.read_lock, session.probe_lock:
            for opened in (session.watch, session.reader, session.writer):
                if opened is not None:
                    opened.close()
            session.writer = session.reader = session.watch = None

    def _session(self) -> _Session:
        if self._closed:
            raise StoreUnavailable(f"cannot use the store {self.url}: it was closed; open it anew")
        if self._current.pid != os.getpid():
            _inherited.append(self._current)
            self._current = _Session(os.getpid())
        return self._current

    def _open(self, *, create: bool = False, check: bool = True) -> Database:
        """Open a connection; `check`: only to a store whose schema is this coserver's."""
        if check and self._missing():
            check_version(self.url, 0, "sqlite")
        database = self._patiently(lambda: connect(self._where.path, self._where.driver, create=create))
        try:
            self._patiently(lambda: self._prepare(database))
            if check:
                check_version(self.url, self._patiently(lambda: self._version(database)), "sqlite")
        except BaseException:
            database.close()
            raise
        return database

    def _missing(self) -> bool:
        """Whether the file could be made but is not there."""
        path = Path(self._where.path)
        return not path.exists() and path.parent.is_dir()

    def _prepare(self, database: Database) -> None:
        database.all("PRAGMA journal_mode = WAL")
        database.all(f"PRAGMA synchronous = {self._where.synchronous}")
        database.all("PRAGMA cache_size = -8000")
        database.all("PRAGMA temp_store = MEMORY")
        database.all("PRAGMA wal_autocheckpoint = 4000")

    def _patiently(self, action: Callable[[], T]) -> T:
        """Do `action`, again and again while others hold the lock that it needs. It must leave nothing half done."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return action()
            except Busy:
                if time.monotonic() > deadline:
                    raise StoreUnavailable(
                        f"cannot use the store {self.url}: another process has held its lock for {PATIENCE:.0f} s; "
                        "see which one has a transaction open"
                    ) from None
                time.sleep(0.0001 + 0.0008 * self._chance())
            except Trouble as trouble:
                raise StoreUnavailable(f"cannot open the store {self.url}: {trouble}") from trouble

    def _write(self, body: Callable[[Database], T], *, durable: bool = True) -> T:
        """Run `body` in one immediate transaction on the process's writing connection."""
        session = self._session()
        with session.write_lock:
            if session.writer is None:
                session.writer = self._open()
            database = session.writer
            lazy = not durable and self._where.synchronous == "FULL"
            try:
                return self._patiently(lambda: self._transaction(database, body, lazy))
            except StoreUnavailable:
                session.writer = None
                database.close()
                raise

    def _transaction(self, database: Database, body: Callable[[Database], T], lazy: bool) -> T:
        if lazy:
            database.all("PRAGMA synchronous = NORMAL")
        try:
            database.all("BEGIN IMMEDIATE")
            try:
                result = body(database)
                database.all("COMMIT")
            except BaseException:
                database.all("ROLLBACK")
                raise
            return result
        finally:
            if lazy:
                database.all("PRAGMA synchronous = FULL")

    def _read(self, name: str, **params: Any) -> list[Row]:
        session = self._session()
        with session.read_lock:
            if session.reader is None:
                session.reader = self._open()
            reader = session.reader
            try:
                return self._patiently(lambda: reader.all(_sql(name), params))
            except StoreUnavailable:
                session.reader = None
                reader.close()
                raise

    # -- schema --------------------------------------------------------------------------------------------------

    def _version(self, database: Database) -> int:
        if database.all(_sql("meta_exists"))[0][0] == 0:
            return 0
        return int(database.all(_sql("meta_get"), {"key": "schema"})[0][0])

    def migrate(self) -> list[str]:
        self._session()
        database = self._open(create=True, check=False)
        applied: list[str] = []
        try:
            for step in migrations("sqlite"):

                def apply(database: Database, step: Any = step) -> bool:
                    version = self._version(database)
                    check_version(self.url, version, "sqlite", older=True)
                    if version >= step.version:
                        return False
                    database.script(step.sql)
                    database.all(_sql("meta_set"), {"key": "schema", "value": str(step.version)})
                    return True

                if self._patiently(lambda: self._transaction(database, apply, False)):
                    applied.append(step.name)
        finally:
            database.close()
        return applied

    def schema(self) -> SchemaStatus:
        self._session()
        try:
            database = self._open(check=False)
        except StoreUnavailable:
            if self._missing():
                return schema_status(0, "sqlite")
            raise
        try:
            return schema_status(self._patiently(lambda: self._version(database)), "sqlite")
        finally:
            database.close()

    # -- producer ------------------------------------------------------------------------------------------------

    def submit(self, jobs: Sequence[NewJob]) -> list[int]:
        check_new(jobs)
        if not jobs:
            return []
        mine = _Submission(jobs)
        session = self._session()
        with session.group_lock:
            session.group.append(mine)
            lead = not session.led
            session.led = True
        if not lead:
            mine.turn.wait()
        if mine.ids is None and mine.error is None:
            self._lead(session, mine)
        if mine.error is not None:
            raise type(mine.error)(*mine.error.args) from mine.error
        assert mine.ids is not None
        return mine.ids

    def _lead(self, session: _Session, mine: _Submission) -> None:
        """Commit one group, `mine` included, then hand the lead to whoever came meanwhile."""
        group: list[_Submission] = []

        def body(database: Database) -> list[str]:
            with session.group_lock:
                room = GROUP
                while session.group and (not group or room > 0):
                    room -= len(session.group[0].jobs)
                    group.append(session.group.pop(0))
            wake: list[str] = []
            for submission in group:
                submission.ids = self._insert(database, submission.jobs)
            wake.extend(self._whom(database, [job for submission in group for job in submission.jobs]))
            return wake

        failure: BaseException | None = None
        wake: list[str] = []
        try:
            wake = self._write(body)
        except BaseException as error:
            failure = error
            raise
        finally:
            with session.group_lock:
                if mine not in group:
                    session.group.remove(mine)
                    group.append(mine)
                for submission in group:
                    if failure is not None:
                        submission.ids = None
                        submission.error = (
                            failure
                            if isinstance(failure, CoserverError)
                            else StoreUnavailable(
                                f"cannot submit to {self.url}: the committing thread was interrupted"
                            )
                        )
                    submission.turn.set()
                session.led = bool(session.group)
                if session.led:
                    session.group[0].turn.set()
        rouse(wake)

    def _insert(self, database: Database, jobs: Sequence[NewJob]) -> list[int]:
        now = self._clock.wall()
        first = self._line(database, len(jobs)) + 1
        open_tasks = {job.task for job in jobs if job.queue is None}
        queues: dict[str, str] = (
            dict(database.all(_sql("task_queues"), {"names": dumps(list(open_tasks))})) if open_tasks else {}
        )
        rows: list[Row] = []
        blobs: list[Row] = []
        for number, job in enumerate(jobs, first):
            queue = job.queue if job.queue is not None else queues.get(job.task)
            due = due_at(job, now)
            state = State.NEW if queue is None else State.QUEUED if due is None else State.SCHEDULED
            args: str | None = job.args
            if len(job.args) > INLINE:
                blobs.append((number, job.args))
                args = None
            rows.append(
                (
                    number,
                    int(state),
                    int(job.priority),
                    job.max_crashes,
                    now,
                    due,
                    queue,
                    job.task,
                    args,
                    job.options,
                )
            )
        database.many(_sql("insert"), rows)
        if blobs:
            database.many(_sql("insert_blob"), blobs)
        return list(range(first, first + len(jobs)))

    def _line(self, database: Database, n: int) -> int:
        """Take `n` places in line; return the number before the first of them."""
        before: int = database.all(_sql("line"), {"n": n})[0][0]
        return before

    def job(self, id: int) -> JobInfo | None:
        rows = self._read("job", id=id)
        return job_info(rows[0]) if rows else None

    def jobs(self, where: JobFilter, *, limit: int, before: int | None = None) -> list[JobInfo]:
        states = dumps([int(state) for state in where.states]) if where.states else None
        rows = self._read(
            "jobs", states=states, queue=where.queue, task=where.task, limit=limit, before=before
        )
        return [job_info(row) for row in rows]

    def counts(self) -> Counts:
        found: Counter[State] = Counter()
        for state, n in self._read("counts"):
            found[State(state)] += n
        return Counts(dict(found))

    def retry(self, ids: Sequence[int]) -> list[int]:
        def body(database: Database) -> tuple[list[int], list[str]]:
            rows = database.all(_sql("revivable"), {"ids": dumps(list(ids))})
            if not rows:
                return [], []
            revived = [row[0] for row in rows]
            first = self._line(database, len(rows)) + 1
            database.many(_sql("revive"), list(enumerate(revived, first)))
            database.all(_sql("prune"), {"ids": dumps(revived)})
            database.many(_sql("count_add"), [(0, queue, state, -1) for _, queue, state in rows])
            return revived, self._whom_any(database, len(revived))

        revived, wake = self._write(body)
        rouse(wake)
        return revived

    def listener(self) -> Listener:
        return SQLiteListener(self)

    # -- worker --------------------------------------------------------------------------------------------------

    def register(self, who: WorkerIdentity, *, lease: float) -> int:
        def body(database: Database) -> int:
            database.many(_sql("register_queue"), [(name,) for name in who.queues])
            database.many(_sql("register_task"), list(self._task_rows(who)))
            worker: int = database.all(
                _sql("register"),
                {
                    "until": self._clock.boot() + int(lease * 1e6),
                    "boot_id": self._clock.boot_id,
                    "process": who.process,
                    "host": who.host,
                    "pid": who.pid,
                    "token": who.token,
                    "wake": who.wake,
                    "queues": dumps(list(who.queues)),
                    "tasks": dumps(list(who.tasks)),
                    "now": self._clock.wall(),
                },
            )[0][0]
            return worker

        return self._write(body)

    @staticmethod
    def _task_rows(who: WorkerIdentity) -> Iterable[Row]:
        for name in who.tasks:
            said = who.defaults.get(name, TaskDefaults())
            yield name, said.queue, said.max_crashes

    def exchange(self, worker: int, done: Sequence[Outcome], want: Want) -> Exchange:
        batch = sort_outcomes(done)
        claims = want.limit > 0

        def body(database: Database) -> tuple[Exchange, list[str]]:
            freed = Freed()
            stale = self._record(database, worker, batch, freed) if done else []
            if not claims:
                live = bool(
                    database.all("SELECT 1 FROM coserver_worker WHERE id = ? AND state = 0", (worker,))
                )
                return Exchange((), stale, None, live), self._whom_any(database, freed.ready)
            now = self._clock.wall()
            parked, new, due, estates, suspects = database.all(
                _sql("look"), {"worker": worker, "boot_id": self._clock.boot_id, "boot": self._clock.boot()}
            )[0]
            if parked is None:
                return Exchange((), stale, None, False), self._whom_any(database, freed.ready)
            if new:
                self._route(database, freed, now, UPKEEP_PER_EXCHANGE)
            if due is not None and due <= now:
                self._promote(database, freed, now, UPKEEP_PER_EXCHANGE)
            if estates:
                self._rescue(database, freed, now, UPKEEP_PER_EXCHANGE, worker)
                suspects = True
            if new or (due is not None and due <= now):
                due = database.all("SELECT min(run_at) FROM coserver_job WHERE state = 4")[0][0]
            claimed = self._claim(database, worker, want, now, bool(suspects))
            if parked and claimed:
                database.all(_sql("unpark"), {"worker": worker})
            next_due = None if claimed or due is None else max(due - now, 0)
            return Exchange(claimed, stale, next_due, True), self._whom_any(
                database, freed.ready - len(claimed)
            )

        result, wake = self._write(body, durable=bool(done))
        rouse(wake)
        return result

    def _record(self, database: Database, worker: int, batch: Batch, freed: Freed) -> list[int]:
        stale: list[int] = []
        if batch.succeeded:
            rows = [
                (
                    10,
                    o.started_at,
                    o.finished_at,
                    None if o.result is not None and len(o.result) > INLINE else o.result,
                    None,
                    o.id,
                    o.claim,
                    worker,
                )
                for o in batch.succeeded
            ]
            stale += self._finish(database, worker, State.SUCCEEDED, rows)
            large = [
                (o.result, o.id, o.claim)
                for o in batch.succeeded
                if o.result is not None and len(o.result) > INLINE
            ]
            if large:
                database.many(_sql("finish_blob"), large)
        if batch.failed:
            stale += self._finish(
                database,
                worker,
                State.FAILED,
                [
                    (11, o.started_at, o.finished_at, None, o.error, o.id, o.claim, worker)
                    for o in batch.failed
                ],
            )
        if batch.retries or batch.releases:
            back: list[Retry | Release] = [*batch.retries, *batch.releases]
            fits: dict[int, int] = dict(
                database.all(_sql("fits"), {"ids": dumps([o.id for o in back]), "worker": worker})
            )
            stale += [o.id for o in back if fits.get(o.id) != o.claim]
        if batch.retries:
            now = self._clock.wall()
            later = [(now + o.delay, o.error, o.id, o.claim, worker) for o in batch.retries if o.delay > 0]
            at_once = [o for o in batch.retries if o.delay <= 0]
            database.many(_sql("retry_later"), later)
            if at_once:
                first = self._line(database, len(at_once)) + 1
                freed.ready += database.many(
                    _sql("retry_now"),
                    [(seq, o.error, o.id, o.claim, worker) for seq, o in enumerate(at_once, first)],
                )
        if batch.releases:
            freed.ready += database.many(_sql("release"), [(o.id, o.claim, worker) for o in batch.releases])
        return stale

    def _finish(self, database: Database, worker: int, state: State, rows: list[Row]) -> list[int]:
        """Move jobs to the finished ones; return the ids whose fence does not fit."""
        stale: list[int] = []
        fit = database.many(_sql("finish"), rows) == len(rows)
        ids = dumps([row[5] for row in rows])
        if not fit:
            ended = {row[:2] for row in database.all(_sql("settled"), {"ids": ids}) if row[2] == state}
            stale = [row[5] for row in rows if row[5:7] not in ended]
            ids = dumps([row[5] for row in rows if row[5:7] in ended])
        queues = Counter(
            queue for (queue,) in database.all(_sql("finish_remove"), {"ids": ids, "worker": worker})
        )
        database.many(_sql("count_add"), [(worker, queue, int(state), n) for queue, n in queues.items()])
        return stale

    def _claim(self, database: Database, worker: int, want: Want, now: int, suspects: bool) -> list[Claimed]:
        room = dict(want.room)
        if len(want.pairs) == 1 and not suspects:
            queue, task = want.pairs[0]
            rows = database.all(
                _sql("claim_pair"),
                {
                    "worker": worker,
                    "now": now,
                    "queue": queue,
                    "task": task,
                    "limit": min(want.limit, room.get(queue, want.limit)),
                },
            )
        else:
            ids = self._choose(database, want, room, suspects)
            if not ids:
                return []
            rows = database.all(_sql("claim"), {"worker": worker, "now": now, "ids": dumps(ids)})
        rows.sort(key=_BY_PLACE)
        return [Claimed(*row[:10]) for row in rows]

    def _choose(self, database: Database, want: Want, room: dict[str, int], suspects: bool) -> list[int]:
        """The best jobs over all pairs, at most `room` of each queue; a suspect alone, when its turn comes."""
        lines = []
        suspect: Row | None = None
        for queue, task in want.pairs:
            limit = min(want.limit, room.get(queue, want.limit))
            if limit <= 0:
                continue
            line = database.all(_sql("best"), (queue, task, limit))
            if line:
                lines.append([(*row, queue) for row in line])
            if suspects:
                for row in database.all(_sql("suspect"), (queue, task)):
                    suspect = row if suspect is None else min(suspect, row)
        chosen: list[int] = []
        for priority, seq, job, queue in merge(*lines) if len(lines) > 1 else (lines[0] if lines else ()):
            if suspect is not None and (priority, seq) > suspect[:2]:
                break
            if len(chosen) == want.limit:
                break
            if queue in room:
                if room[queue] <= 0:
                    continue
                room[queue] -= 1
            chosen.append(job)
        if not chosen and suspect is not None:
            return [suspect[2]]
        return chosen

    def renew(self, workers: Sequence[int], *, lease: float) -> list[int]:
        def body(database: Database) -> list[int]:
            until = self._clock.boot() + int(lease * 1e6)
            params = {"until": until, "boot_id": self._clock.boot_id, "workers": dumps(list(workers))}
            live = {row[0] for row in database.all(_sql("renew"), params)}
            return [worker for worker in workers if worker not in live]

        return self._write(body, durable=False)

    def park(self, worker: int) -> bool:
        rows = self._read("incarnation", worker=worker)
        if not rows:
            return True
        queues, tasks, parked = rows[0]
        if not parked:
            self._write(lambda database: database.all(_sql("park"), {"worker": worker}), durable=False)
        found = self._read(
            "park_look",
            worker=worker,
            queues=queues,
            tasks=tasks,
            now=self._clock.wall(),
            boot_id=self._clock.boot_id,
            boot=self._clock.boot(),
        )
        return bool(found[0][0])

    def held(self, worker: int) -> list[Held]:
        return [Held(*row) for row in self._read("held", worker=worker)]

    def settled(self, ids: Sequence[int]) -> list[Settled]:
        rows = self._read("settled", ids=dumps(list(ids)))
        return [Settled(job, claim, State(state)) for job, claim, state in rows]

    def leave(self, worker: int) -> None:
        def body(database: Database) -> list[str]:
            if not database.all(_sql("leave"), {"worker": worker, "now": self._clock.wall()}):
                return []
            before = database.many(_sql("release_all"), [{"worker": worker}])
            self._fold(database, worker)
            return self._whom_any(database, before)

        rouse(self._write(body))

    def _fold(self, database: Database, worker: int) -> None:
        database.all(_sql("count_fold"), {"worker": worker})
        database.all(_sql("count_clear"), {"worker": worker})

    # -- keeping -------------------------------------------------------------------------------------------------

    def bury(self, token: str, *, started: Sequence[int] | None, note: str) -> Rescue:
        def body(database: Database) -> tuple[Rescue, list[str]]:
            now = self._clock.wall()
            known = None if started is None else dumps(list(started))
            database.all(_sql("bury"), {"token": token, "now": now, "started": known, "note": note})
            freed = Freed()
            for estate in database.all(_sql("estate_of"), {"token": token}):
                self._settle(database, freed, now, -1, estate)
            return Rescue(freed.uncharged, freed.crashed, freed.lost), self._whom_any(database, freed.ready)

        rescue, wake = self._write(body)
        rouse(wake)
        return rescue

    def tick(self, *, retention: Sequence[tuple[State, int]] = (), limit: int = 500) -> Upkeep:
        def body(database: Database) -> tuple[Upkeep, list[str]]:
            freed = Freed()
            now = self._clock.wall()
            self._route(database, freed, now, limit)
            self._promote(database, freed, now, limit)
            self._rescue(database, freed, now, limit, 0)
            pruned = self._prune(database, retention, now, limit)
            due = database.all("SELECT min(run_at) FROM coserver_job WHERE state = 4")[0][0]
            more = limit in (freed.routed, freed.promoted, pruned) or freed.rescued >= limit
            upkeep = Upkeep(
                freed.routed,
                freed.promoted,
                freed.rescued,
                pruned,
                more,
                None if due is None else max(due - now, 0),
            )
            return upkeep, self._whom_any(database, freed.ready)

        upkeep, wake = self._write(body)
        rouse(wake)
        return upkeep

    def _route(self, database: Database, freed: Freed, now: int, limit: int) -> None:
        rows = database.all(_sql("unrouted"), {"cap": MAX_BYTES, "limit": limit})
        if not rows:
            return
        routes = []
        for row in rows:
            match route(row, now):
                case Reject(id, error):
                    database.many(_sql("reject"), [(now, error, id)])
                    database.all(_sql("remove"), {"ids": dumps([id])})
                    database.many(_sql("count_add"), [(0, row[1] or "", int(State.FAILED), 1)])
                case decision:
                    routes.append(decision)
        first = self._line(database, len(routes)) + 1
        database.many(
            _sql("route"),
            [
                (State.QUEUED if to.run_at is None else State.SCHEDULED, to.queue, seq, to.id)
                for seq, to in enumerate(routes, first)
            ],
        )
        large = [(to.id,) for to in routes if to.large]
        database.many(_sql("route_blob"), large)
        database.many(_sql("route_strip"), large)
        freed.routed += len(rows)
        freed.ready += sum(to.run_at is None for to in routes)

    def _promote(self, database: Database, freed: Freed, now: int, limit: int) -> None:
        ids = [row[0] for row in database.all(_sql("due"), {"now": now, "limit": limit})]
        if not ids:
            return
        first = self._line(database, len(ids)) + 1
        database.many(_sql("promote"), list(enumerate(ids, first)))
        freed.promoted += len(ids)
        freed.ready += len(ids)

    def _rescue(self, database: Database, freed: Freed, now: int, limit: int, me: int) -> None:
        database.all(
            _sql("expire"),
            {"now": now, "boot_id": self._clock.boot_id, "boot": self._clock.boot(), "worker": me},
        )
        for estate in database.all(_sql("estates")):
            if freed.rescued >= limit:
                return
            self._settle(database, freed, now, limit - freed.rescued, estate)

    def _settle(self, database: Database, freed: Freed, now: int, limit: int, estate: Row) -> None:
        """Free up to `limit` jobs (-1: all) of a dead worker, and close its estate when nothing is left."""
        worker, started, note, process = estate
        rows = database.all(_sql("left_running"), {"worker": worker, "limit": limit})
        verdict = judge(rows, started, note, process)
        freed.add(verdict)
        database.many(_sql("rescue"), [(charge, job) for job, charge in verdict.back])
        if verdict.lost:
            database.many(_sql("lose"), [(now, error, job) for job, _, error in verdict.lost])
            database.all(_sql("remove"), {"ids": dumps([job for job, _, _ in verdict.lost])})
            queues = Counter(queue for _, queue, _ in verdict.lost)
            database.many(_sql("count_add"), [(0, queue, int(State.LOST), n) for queue, n in queues.items()])
        if limit < 0 or len(rows) < limit:
            database.all(_sql("close_estate"), {"worker": worker})
            self._fold(database, worker)

    def _prune(self, database: Database, retention: Sequence[tuple[State, int]], now: int, limit: int) -> int:
        pruned = 0
        for state, age in retention:
            rows = database.all(
                _sql("prunable"), {"state": int(state), "before": now - age, "limit": limit - pruned}
            )
            if rows:
                ids = dumps([row[0] for row in rows])
                database.all(_sql("prune"), {"ids": ids})
                database.all(_sql("prune_blob"), {"ids": ids})
                pruned += len(rows)
        database.all(_sql("prune_workers"), {"before": now - KEEP_WORKERS, "limit": limit})
        return pruned

    def live_tokens(self) -> list[tuple[int, str]]:
        return [(row[0], row[1]) for row in self._read("live_tokens")]

    # -- waking --------------------------------------------------------------------------------------------------

    def watch(self) -> Watch:
        """Open a connection that sees commits; StoreUnavailable if that cannot be."""
        self._session()
        database = self._open()
        return self._patiently(lambda: Watch(database))

    def probe(self) -> bool:
        session = self._session()
        with session.probe_lock:
            try:
                if session.watch is None:
                    session.watch = self.watch()
                    return True
                return session.watch.changed()
            except Busy:
                return True
            except Trouble as trouble:
                if session.watch is not None:
                    session.watch.close()
                    session.watch = None
                raise StoreUnavailable(f"cannot use the store {self.url}: {trouble}") from trouble

    def _whom(self, database: Database, jobs: Sequence[NewJob]) -> list[str]:
        """The sockets of parked workers that can take one of `jobs`: one more than there are jobs, so that one that
        cannot hear holds nothing up."""
        parked = database.all(_sql("parked"))
        if not parked:
            return []
        tasks = {job.task for job in jobs}
        able = (row[1] for row in parked if row[1] is not None and not tasks.isdisjoint(loads(row[3])))
        return list(islice(able, len(jobs) + 1))

    def _whom_any(self, database: Database, n: int) -> list[str]:
        """The sockets of parked workers when `n` jobs became ready."""
        if n <= 0:
            return []
        return [row[1] for row in database.all(_sql("parked")) if row[1] is not None][: max(n + 1, 16)]


_BY_PLACE = itemgetter(7, 10)
