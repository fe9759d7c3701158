"""The store on SQLite: one file, one host.

Theory. Every change is one short transaction of the file's only writer (see `sqlite_file`). What a transaction costs
is its commit (a sync to the disk, about 0.15 ms, while everything else costs microseconds per job). Hence

- submits are grouped: threads that come while another commits share the next commit (see `group`);
- a commit that only claims, parks or renews does without the sync: losing it to a power failure gives the same state
  as never having done it, since no promise to a producer and no result is in it.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from heapq import merge
from itertools import islice
from json import dumps, loads
from typing import Any, Literal, TypeVar

import msgspec

from coserver.model.job import (
    Claimed,
    Counts,
    Flag,
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
    TaskDefaults,
)
from coserver.model.payload import MAX_BYTES
from coserver.model.why import MANY, MANY_WAITING, Standing, Waiting, WorkerInfo
from coserver.store import beginnings, endings
from coserver.store import limits as rules
from coserver.store.clock import Clock, system_clock
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
from coserver.store.driver import Database, Row
from coserver.store.evidence import GROUPS, standing_of, waiting_of, workers_of
from coserver.store.foreign import arecognise, recognise
from coserver.store.foreign_sqlite import on_sqlite, on_sqlite_async
from coserver.store.group import GroupCommit
from coserver.store.queues import queue_infos
from coserver.store.records import (
    EXPIRED_PER_EXCHANGE,
    IDS,
    INLINE,
    KEEP_WORKERS,
    UPKEEP_PER_EXCHANGE,
    Batch,
    Freed,
    Reject,
    alike,
    below,
    by_place,
    check_limits,
    check_new,
    check_queue,
    due_at,
    filters,
    job_info,
    json_text,
    judge,
    listing,
    possible,
    progress_text,
    route,
    sort_outcomes,
)
from coserver.store.schema import MIN_PROTOCOL, check_protocol
from coserver.store.session import Session, SQLiteSession
from coserver.store.sqlite_file import SQLiteFile, SQLiteListener, Watch
from coserver.store.statements import statement
from coserver.store.url import SQLiteUrl
from coserver.store.wake import CANCEL, rouse

T = TypeVar("T")

GROUP = 5000
"""How many new jobs one grouped commit takes at most, unless a single submission has more."""

Ended = tuple[int, int, int, int, str | None, str | None]
"""A finish as the statement of that name reads it: id, claim, started_at, finished_at, result, error."""

Best = Literal["best", "best_in_time"]
"""The statement that reads a line: the second where some jobs may be overdue."""


_UNTIL_STARTED = int(Flag.UNTIL_STARTED)  # a plain number, because it is looked at once per job


class _General(list[NewJob]):
    """A submission in which some job needs more than the fast path."""


def _checked(jobs: Sequence[NewJob]) -> Sequence[NewJob]:
    """The jobs, marked if some of them need more than the fast path. Raises as `check_new`."""
    return jobs if check_new(jobs) else _General(jobs)


def _columns(job: NewJob, now: int, queues: dict[str, str]) -> Row:
    """What the statement `insert` stores of a plain job, but for its id. `queues`: those of tasks by their names."""
    queue = job.queue if job.queue is not None else queues.get(job.task)
    due = due_at(job, now)
    state = State.NEW if queue is None else State.QUEUED if due is None else State.SCHEDULED
    return (
        int(state),
        int(job.priority),
        job.max_crashes,
        now,
        due,
        queue,
        job.task,
        job.args if len(job.args) <= INLINE else None,
        job.options,
    )


def _sql(name: str) -> str:
    return statement("sqlite", name)


class SQLiteStore:
    """`contract.Store` on one SQLite file. Opens the file at the first use."""

    def __init__(
        self, where: SQLiteUrl, *, clock: Clock | None = None, chance: Callable[[], float] = random.random
    ) -> None:
        self.url = where.masked
        self._where = where
        self._clock = clock or system_clock()
        self._file = SQLiteFile(where, chance)
        self._watch = Watch(self._file)
        self._group = GroupCommit(self._commit, most=GROUP)

    def close(self) -> None:
        self._watch.close()
        self._file.close()

    def migrate(self) -> list[str]:
        return self._file.migrate()

    def schema(self) -> SchemaStatus:
        return self._file.schema()

    # -- producer ------------------------------------------------------------------------------------------------

    def submit(self, jobs: Sequence[NewJob]) -> list[int]:
        jobs = _checked(jobs)
        if not jobs:
            return []
        if not isinstance(jobs, _General) or all(edge.here for job in jobs for edge in job.after):
            return self._group.submit(jobs)
        [ids] = self._commit([jobs])  # alone, because a parent that does not exist undoes it all
        return ids

    def submit_on(self, connection: Any, jobs: Sequence[NewJob]) -> list[int]:
        jobs = _checked(jobs)
        if not jobs:
            return []
        return self._told(on_sqlite(self._where, recognise(connection), self._insertion(jobs)))

    async def asubmit_on(self, connection: Any, jobs: Sequence[NewJob]) -> list[int]:
        jobs = _checked(jobs)
        if not jobs:
            return []
        found = await arecognise(connection)
        return self._told(await on_sqlite_async(self._where, found, self._insertion(jobs)))

    def _insertion(self, jobs: Sequence[NewJob]) -> Callable[[Database], tuple[list[int], list[str]]]:
        """Store jobs in somebody else's transaction. Limits let them in after its commit: their gates are in it."""

        def body(database: Database) -> tuple[list[int], list[str]]:
            limited = rules.queues(SQLiteSession(database, self._clock.wall()))
            return self._insert(database, jobs, limited), self._whom(database, jobs)

        return body

    @staticmethod
    def _told(done: tuple[tuple[T, list[str]], bool]) -> T:
        """Rouse the workers, if what was done on the caller's connection is committed already."""
        (result, wake), committed = done
        if committed:
            rouse(wake)
        return result

    def _commit(self, submissions: list[Sequence[NewJob]]) -> list[list[int]]:
        """Store the jobs of several threads in one transaction."""

        def body(database: Database) -> tuple[list[list[int]], list[str]]:
            now = self._clock.wall()
            limited = rules.queues(SQLiteSession(database, now))
            everything = [job for jobs in submissions for job in jobs]
            if any(isinstance(jobs, _General) for jobs in submissions):
                ids = [self._insert(database, jobs, limited) for jobs in submissions]
                rules.settle(SQLiteSession(database, now))
            else:
                numbers = iter(self._insert(database, everything, limited))
                ids = [list(islice(numbers, len(jobs))) for jobs in submissions]
                if limited:
                    rules.settle(SQLiteSession(database, now))
            return ids, self._whom(database, everything)

        ids, wake = self._file.write(body)
        rouse(wake)
        return ids

    def _insert(self, database: Database, jobs: Sequence[NewJob], limited: set[str]) -> list[int]:
        now = self._clock.wall()
        if isinstance(jobs, _General):
            return beginnings.submit(SQLiteSession(database, now), jobs).ids
        first = self._line(database, len(jobs)) + 1
        open_tasks = {job.task for job in jobs if job.queue is None}
        queues: dict[str, str] = (
            dict(database.all(_sql("task_queues"), {"names": dumps(list(open_tasks))})) if open_tasks else {}
        )
        if len(jobs) > 1 and alike(jobs):
            enter = self._insert_alike(database, jobs, first, now, queues, limited)
        else:
            enter = self._insert_each(database, jobs, first, now, queues, limited)
        if enter:
            rules.enter(SQLiteSession(database, now), enter, keep_places=True)
        return list(range(first, first + len(jobs)))

    def _insert_each(
        self,
        database: Database,
        jobs: Sequence[NewJob],
        first: int,
        now: int,
        queues: dict[str, str],
        limited: set[str],
    ) -> list[int]:
        """Store plain jobs under the ids from `first` on; return those that have to be let into their queues."""
        rows = [(number, *_columns(job, now, queues)) for number, job in enumerate(jobs, first)]
        database.many(_sql("insert"), rows)
        blobs = [(row[0], job.args) for row, job in zip(rows, jobs, strict=True) if row[8] is None]
        if blobs:
            database.many(_sql("insert_blob"), blobs)
        return [row[0] for row in rows if row[1] == State.QUEUED and row[6] in limited]

    def _insert_alike(
        self,
        database: Database,
        jobs: Sequence[NewJob],
        first: int,
        now: int,
        queues: dict[str, str],
        limited: set[str],
    ) -> list[int]:
        """As `_insert_each`, for jobs that are `alike`."""
        state, priority, max_crashes, now, due, queue, task, _, options = _columns(jobs[0], now, queues)
        row = {
            "state": state,
            "priority": priority,
            "max_crashes": max_crashes,
            "now": now,
            "run_at": due,
            "queue": queue,
            "task": task,
            "options": options,
        }
        for begin in range(0, len(jobs), GROUP):
            args = json_text([job.args for job in jobs[begin : begin + GROUP]])
            database.all(_sql("insert_alike"), {**row, "first": first + begin, "args": args})
        return list(range(first, first + len(jobs))) if state == State.QUEUED and queue in limited else []

    def _line(self, database: Database, n: int) -> int:
        """Take `n` places in line; return the number before the first of them."""
        before: int = database.all(_sql("line"), {"n": n})[0][0]
        return before

    def job(self, id: int) -> JobInfo | None:
        if id not in IDS:
            return None
        rows = self._file.read("job", id=id)
        return job_info(rows[0]) if rows else None

    def jobs(self, where: JobFilter, *, limit: int, before: int | None = None) -> list[JobInfo]:
        rows = self._file.read(
            listing(where),
            states=dumps([int(state) for state in where.states]) if where.states else None,
            limit=limit,
            before=below(before),
            **filters(where),
        )
        return [job_info(row) for row in rows]

    def counts(self) -> Counts:
        found: Counter[State] = Counter()
        for state, n in self._file.read("counts"):
            found[State(state)] += n
        return Counts(dict(found))

    def retry(self, ids: Sequence[int]) -> list[int]:
        return self._change(lambda session: endings.revive(session, possible(ids)))

    def cancel(self, ids: Sequence[int]) -> dict[int, State]:
        def body(database: Database) -> tuple[dict[int, State], list[str], list[str]]:
            session = SQLiteSession(database, self._clock.wall())
            done = endings.cancel(session, possible(ids))
            asked = [row[0] for row in session.rows("wakes", workers=done.workers)] if done.workers else []
            return done.states, asked, self._whom_any(database, done.ready + rules.settle(session).ready)

        states, asked, wake = self._file.write(body)
        rouse(asked, CANCEL)
        rouse(wake)
        return states

    def release_held(self, ids: Sequence[int]) -> list[int]:
        return self._change(lambda session: endings.release_held(session, possible(ids)))

    def discard(self, ids: Sequence[int]) -> list[int]:
        return self._change(lambda session: (endings.forget(session, possible(ids)), 0))

    def _change(self, change: Callable[[Session], tuple[list[int], int]]) -> list[int]:
        """Do what both databases do alike: it returns ids and how many jobs became ready."""

        def body(database: Database) -> tuple[list[int], list[str]]:
            session = SQLiteSession(database, self._clock.wall())
            found, ready = change(session)
            return found, self._whom_any(database, ready + rules.settle(session).ready)

        found, wake = self._file.write(body)
        rouse(wake)
        return found

    def inputs(self, id: int) -> list[Input]:
        return endings.inputs(self._file.read("inputs", id=id)) if id in IDS else []

    def listener(self, *, ends: bool = False) -> Listener:  # noqa: ARG002 - it hears of every commit
        return SQLiteListener(self._file)

    # -- queues and limits ---------------------------------------------------------------------------------------

    def queues(self) -> list[QueueInfo]:
        def rows(name: str, **params: Any) -> list[Row]:
            told = {key: dumps(value) if isinstance(value, list) else value for key, value in params.items()}
            return self._file.read(name, **told)

        return queue_infos(rows)

    def pause_queue(self, name: str, *, by: str) -> None:
        check_queue(name)
        params = {"queue": name, "by": by, "now": self._clock.wall()}
        self._file.write(lambda database: database.all(_sql("queue_pause"), params))

    def resume_queue(self, name: str) -> None:
        def body(database: Database) -> list[str]:
            resumed = database.all(_sql("queue_resume"), {"queue": name})
            return self._whom_any(database, MANY) if resumed else []

        rouse(self._file.write(body))

    def limits(self) -> list[Limit]:
        return [Limit(*row[:4]) for row in self._file.read("limits")]

    def set_limits(self, limits: Sequence[Limit], *, keep: Sequence[str] = (), once: bool = False) -> bool:
        check_limits(limits)

        def body(database: Database) -> tuple[bool, list[str]]:
            session = SQLiteSession(database, self._clock.wall())
            if not rules.declare(session, limits, keep=keep, once=once):
                return False, []
            rules.introduce(session, -1)
            return True, self._whom_any(database, rules.settle(session).ready)

        done, wake = self._file.write(body)
        rouse(wake)
        return done

    # -- worker --------------------------------------------------------------------------------------------------

    def register(self, who: WorkerIdentity, *, lease: float) -> int:
        def body(database: Database) -> int:
            check_protocol(database.all(_sql("meta_get"), {"key": MIN_PROTOCOL}))
            database.many(_sql("register_queue"), [(name,) for name in who.queues])
            database.many(_sql("register_task"), list(self._task_rows(who)))
            worker: int = database.all(
                _sql("register"),
                {
                    "boot": self._clock.boot(),
                    "lease": int(lease * 1e6),
                    "boot_id": self._clock.boot_id,
                    "process": who.process,
                    "host": who.host,
                    "pid": who.pid,
                    "token": who.token,
                    "wake": who.wake,
                    "queues": dumps(list(who.queues)),
                    "tasks": dumps(list(who.tasks)),
                    "now": self._clock.wall(),
                    "protocol": PROTOCOL,
                },
            )[0][0]
            return worker

        return self._file.write(body)

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
                live = bool(database.all(_sql("incarnation"), {"worker": worker}))
                return Exchange((), stale, None, live), self._whom_any(database, freed.ready)
            now = self._clock.wall()
            parked, new, due, estates, suspects, gate, paused = database.all(
                _sql("look"), {"worker": worker, "boot_id": self._clock.boot_id, "boot": self._clock.boot()}
            )[0]
            if parked is None:
                return Exchange((), stale, None, False), self._whom_any(database, freed.ready)
            if new:
                self._route(database, freed, now, UPKEEP_PER_EXCHANGE)
            if due is not None and due <= now:
                self._promote(database, freed, now, UPKEEP_PER_EXCHANGE)
                self._expire(database, freed, now, EXPIRED_PER_EXCHANGE)
            if estates:
                self._rescue(database, freed, now, UPKEEP_PER_EXCHANGE, worker)
                suspects = True
            if new or estates or (due is not None and due <= now) or (gate is not None and gate <= now):
                freed.ready += rules.settle(SQLiteSession(database, now)).ready
                due = database.all(_sql("next_due"))[0][0]
            elif gate is not None:
                due = gate if due is None else min(due, gate)
            best: Best = "best_in_time" if freed.expired == EXPIRED_PER_EXCHANGE else "best"
            closed = set(loads(paused)) if paused != "[]" else set()
            claimed = self._claim(database, worker, want, now, best, bool(suspects), closed)
            if parked and claimed:
                database.all(_sql("unpark"), {"worker": worker})
            next_due = None if claimed or due is None else max(due - now, 0)
            return Exchange(claimed, stale, next_due, True), self._whom_any(
                database, freed.ready - len(claimed)
            )

        result, wake = self._file.write(body, durable=bool(done))
        rouse(wake)
        return result

    def _record(self, database: Database, worker: int, batch: Batch, freed: Freed) -> list[int]:
        """Record what the fast path can; what is left, because a row has flags or the fence does not fit, goes the
        slow way. Return the ids of outcomes that changed nothing."""
        left: list[Outcome] = [*batch.rare]
        if batch.succeeded:
            large = [o for o in batch.succeeded if o.result is not None and len(o.result) > INLINE]
            beside = {o.id for o in large}
            told: list[Ended] = [
                (o.id, o.claim, o.started_at, o.finished_at, None if o.id in beside else o.result, None)
                for o in batch.succeeded
            ]
            unfit = self._finish(database, worker, State.SUCCEEDED, told)
            left += [o for o in batch.succeeded if (o.id, o.claim) in unfit]
            database.many(_sql("finish_blob"), [(o.result, o.id, o.claim) for o in large])
        if batch.failed:
            told = [(o.id, o.claim, o.started_at, o.finished_at, None, o.error) for o in batch.failed]
            unfit = self._finish(database, worker, State.FAILED, told)
            left += [o for o in batch.failed if (o.id, o.claim) in unfit]
        fits: dict[int, int] = {}
        if batch.retries or batch.releases:
            back: list[Retry | Release] = [*batch.retries, *batch.releases]
            fits = dict(database.all(_sql("fits"), {"ids": dumps([o.id for o in back]), "worker": worker}))
            left += [o for o in back if fits.get(o.id) != o.claim]
        if batch.retries:
            now = self._clock.wall()
            later = [(now + o.delay, o.error, o.id, o.claim, worker) for o in batch.retries if o.delay > 0]
            at_once = [o for o in batch.retries if o.delay <= 0 and fits.get(o.id) == o.claim]
            database.many(_sql("retry_later"), later)
            if at_once:
                first = self._line(database, len(at_once)) + 1
                freed.ready += database.many(
                    _sql("retry_now"),
                    [(seq, o.error, o.id, o.claim, worker) for seq, o in enumerate(at_once, first)],
                )
        if batch.releases:
            freed.ready += database.many(_sql("release"), [(o.id, o.claim, worker) for o in batch.releases])
        if not left:
            return []
        session = SQLiteSession(database, self._clock.wall())
        done = endings.finish(session, worker, left)
        freed.ready += done.ready + rules.settle(session).ready
        return done.stale

    def _finish(
        self, database: Database, worker: int, state: State, told: list[Ended]
    ) -> set[tuple[int, int]]:
        """Move jobs to the finished ones; return (id, claim) of those that did not go this way."""
        unfit: set[tuple[int, int]] = set()
        params: dict[str, Any] = {"state": int(state), "worker": worker, "told": json_text(told)}
        ids = json_text([one[0] for one in told])
        if database.many(_sql("finish"), [params]) < len(told):
            ended = {row[:2] for row in database.all(_sql("settled"), {"ids": ids}) if row[2] == state}
            unfit = {one[:2] for one in told} - ended
            ids = json_text([one[0] for one in told if one[:2] in ended])
        database.all(_sql("finish_count"), {"ids": ids, "worker": worker, "state": int(state)})
        database.all(_sql("finish_remove"), {"ids": ids, "worker": worker})
        return unfit

    def _claim(
        self,
        database: Database,
        worker: int,
        want: Want,
        now: int,
        best: Best,
        suspects: bool,
        paused: set[str],
    ) -> list[Claimed]:
        room = dict(want.room) | dict.fromkeys(paused, 0)
        chosen = self._choose(database, want, room, best, now, suspects)
        if not chosen:
            return []
        ids = json_text(chosen)
        database.all(_sql("claim"), {"worker": worker, "now": now, "ids": ids})
        rows = _rows(database.all(_sql("claimed"), {"worker": worker, "ids": ids})[0][0])
        begun = [row[0] for row in rows if row[11] & _UNTIL_STARTED]
        if begun:
            database.all(_sql("forget_unique"), {"ids": json_text(begun)})
        rows.sort(key=by_place)
        return [Claimed(*row[:10]) for row in rows]

    def _choose(
        self, database: Database, want: Want, room: dict[str, int], best: Best, now: int, suspects: bool
    ) -> list[int]:
        """The best jobs over all pairs, at most `room` of each queue; a suspect alone, when its turn comes."""
        late = (now,) if best == "best_in_time" else ()
        lines = []
        suspect: Row | None = None
        for queue, task in want.pairs:
            limit = min(want.limit, room.get(queue, want.limit))
            if limit <= 0:
                continue
            line = _rows(database.all(_sql(best), (queue, task, limit, *late))[0][0])
            if line:
                line.sort()
                lines.append([(*row, queue) for row in line])
            if suspects:
                for row in database.all(_sql("suspect"), (queue, task)):
                    suspect = row if suspect is None else min(suspect, row)
        if len(lines) == 1 and suspect is None:  # fetched within its room already
            return [row[2] for row in lines[0]]
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
            params = {
                "boot": self._clock.boot(),
                "lease": int(lease * 1e6),
                "boot_id": self._clock.boot_id,
                "workers": dumps(list(workers)),
            }
            live = {row[0] for row in database.all(_sql("renew"), params)}
            return [worker for worker in workers if worker not in live]

        return self._file.write(body, durable=False)

    def park(self, worker: int) -> bool:
        rows = self._file.read("incarnation", worker=worker)
        if not rows:
            return True
        queues, tasks, parked = rows[0]
        if not parked:
            self._file.write(lambda database: database.all(_sql("park"), {"worker": worker}), durable=False)
        found = self._file.read(
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
        return [Held(*row) for row in self._file.read("held", worker=worker)]

    def settled(self, ids: Sequence[int]) -> list[Settled]:
        rows = self._file.read("settled", ids=dumps(list(ids)))
        return [Settled(job, claim, State(state)) for job, claim, state in rows]

    def cancels(self, worker: int) -> list[Held]:
        return [Held(*row) for row in self._file.read("cancels", worker=worker)]

    def progress(self, worker: int, told: Sequence[Progress]) -> None:
        params = {
            "worker": worker,
            "told": progress_text(told),
            "now": self._clock.wall(),
        }
        if told:
            self._file.write(lambda database: database.all(_sql("progress"), params), durable=False)

    def finish_on(self, connection: Any, worker: int, outcome: Outcome) -> bool:
        return self._told(on_sqlite(self._where, recognise(connection), self._ending(worker, outcome)))

    async def afinish_on(self, connection: Any, worker: int, outcome: Outcome) -> bool:
        found = await arecognise(connection)
        return self._told(await on_sqlite_async(self._where, found, self._ending(worker, outcome)))

    def _ending(self, worker: int, outcome: Outcome) -> Callable[[Database], tuple[bool, list[str]]]:
        def body(database: Database) -> tuple[bool, list[str]]:
            done = endings.finish(SQLiteSession(database, self._clock.wall()), worker, [outcome])
            return not done.stale, self._whom_any(database, done.ready)

        return body

    def leave(self, worker: int) -> None:
        def body(database: Database) -> list[str]:
            session = SQLiteSession(database, self._clock.wall())
            if not database.all(_sql("leave"), {"worker": worker, "now": session.now}):
                return []
            before = endings.leave(session, worker)
            before += database.many(_sql("release_all"), [{"worker": worker}])
            before += rules.settle(session).ready
            self._fold(database, worker)
            return self._whom_any(database, before)

        rouse(self._file.write(body))

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
            freed.ready += rules.settle(SQLiteSession(database, now)).ready
            return Rescue(freed.uncharged, freed.crashed, freed.lost), self._whom_any(database, freed.ready)

        rescue, wake = self._file.write(body)
        rouse(wake)
        return rescue

    def tick(self, *, retention: Sequence[tuple[State, int]] = (), limit: int = 500) -> Upkeep:
        def body(database: Database) -> tuple[Upkeep, list[str]]:
            freed = Freed()
            now = self._clock.wall()
            self._route(database, freed, now, limit)
            self._promote(database, freed, now, limit)
            self._rescue(database, freed, now, limit, 0)
            self._expire(database, freed, now, limit)
            pruned = self._prune(database, retention, now, limit)
            admitted = rules.settle(SQLiteSession(database, now))
            freed.ready += admitted.ready
            due = database.all(_sql("next_due"))[0][0]
            more = (
                limit in (freed.routed, freed.promoted, freed.expired, pruned)
                or freed.rescued >= limit
                or admitted.more
            )
            upkeep = Upkeep(
                freed.routed,
                freed.promoted,
                freed.rescued,
                pruned,
                more,
                None if due is None else max(due - now, 0),
            )
            wake = self._whom_any(database, freed.ready)
            return upkeep, wake or [row[1] for row in database.all(_sql("idle")) if row[1] is not None]

        upkeep, wake = self._file.write(body)
        rouse(wake)
        return upkeep

    def _route(self, database: Database, freed: Freed, now: int, limit: int) -> None:
        more = True
        while more and freed.routed < limit:
            rows = database.all(_sql("unrouted"), {"cap": MAX_BYTES, "limit": limit - freed.routed})
            if rows:
                self._place(database, freed, now, rows)
            more = any(row[-1] for row in rows)

    def _place(self, database: Database, freed: Freed, now: int, rows: Sequence[Row]) -> None:
        """Queue, schedule or reject new rows."""
        routes = []
        for row in rows:
            match route(row, now):
                case Reject(id, error):
                    freed.ready += endings.reject(SQLiteSession(database, now), {id: error})
                case decision:
                    routes.append(decision)
        first = self._line(database, len(routes)) + 1
        placed = [
            (State.QUEUED if to.run_at is None else State.SCHEDULED, to.queue, seq, to.id)
            for seq, to in enumerate(routes, first)
        ]
        database.many(_sql("route"), placed)
        large = [(to.id,) for to in routes if to.large]
        database.many(_sql("route_blob"), large)
        database.many(_sql("route_strip"), large)
        session = SQLiteSession(database, now)
        limited = rules.queues(session)
        enter = [
            to.id for to in routes if to.run_at is None and (to.limit is not None or to.queue in limited)
        ]
        rules.enter(session, enter, keep_places=True)
        freed.routed += len(rows)
        freed.ready += sum(to.run_at is None for to in routes) - len(enter)

    def _promote(self, database: Database, freed: Freed, now: int, limit: int) -> None:
        rows = database.all(_sql("due"), {"now": now, "limit": limit})
        if not rows:
            return
        first = self._line(database, len(rows)) + 1
        database.many(_sql("promote"), [(place, row[0]) for place, row in enumerate(rows, first)])
        limited = [job for job, key in rows if key is not None]
        rules.enter(SQLiteSession(database, now), limited, keep_places=True)
        freed.promoted += len(rows)
        freed.ready += len(rows) - len(limited)

    def _rescue(self, database: Database, freed: Freed, now: int, limit: int, me: int) -> None:
        database.all(
            _sql("expire"),
            {"now": now, "boot_id": self._clock.boot_id, "boot": self._clock.boot(), "worker": me},
        )
        for estate in database.all(_sql("estates")):
            if freed.rescued >= limit:
                return
            self._settle(database, freed, now, limit - freed.rescued, estate)

    def _expire(self, database: Database, freed: Freed, now: int, limit: int) -> None:
        expired, ready = endings.expire(SQLiteSession(database, now), limit)
        freed.expired += expired
        freed.ready += ready

    def _settle(self, database: Database, freed: Freed, now: int, limit: int, estate: Row) -> None:
        """Free up to `limit` jobs (-1: all) of a dead worker, and close its estate when nothing is left."""
        worker, started, note, process = estate
        rows = database.all(_sql("left_running"), {"worker": worker, "limit": limit})
        verdict = judge(rows, started, note, process)
        freed.add(verdict)
        session = SQLiteSession(database, now)
        begun = [job for job, charge in verdict.back if charge]
        limited = rules.leave(session, begun)
        database.many(_sql("rescue"), [(charge, job) for job, charge in verdict.back])
        rules.enter(session, [job for job in begun if job in limited], keep_places=True)
        if verdict.lost or verdict.cancelled:
            freed.ready += endings.bereave(SQLiteSession(database, now), verdict)
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
                pruned += len(endings.forget(SQLiteSession(database, now), [row[0] for row in rows]))
        database.all(_sql("prune_workers"), {"before": now - KEEP_WORKERS, "limit": limit})
        return pruned

    def live_tokens(self) -> list[tuple[int, str]]:
        return [(row[0], row[1]) for row in self._file.read("live_tokens")]

    # -- inquiry -------------------------------------------------------------------------------------------------

    def workers(self) -> list[WorkerInfo]:
        return workers_of(self._file.read("workers", boot_id=self._clock.boot_id, boot=self._clock.boot()))

    def waiting(self) -> list[Waiting]:
        return waiting_of(self._file.read("waiting", groups=GROUPS, cap=MANY_WAITING + 1))

    def standing(self, id: int, tasks: Sequence[str]) -> Standing | None:
        if id not in IDS:
            return None
        rows = self._file.read(
            "standing", id=id, tasks=dumps(list(tasks)), cap=MANY + 1, now=self._clock.wall()
        )
        return standing_of(rows)

    # -- waking --------------------------------------------------------------------------------------------------

    def probe(self) -> bool:
        return self._watch.changed()

    def _whom(self, database: Database, jobs: Sequence[NewJob]) -> list[str]:
        """The sockets of parked workers that can take one of `jobs`: one more than there are jobs, so that one that
        cannot hear holds nothing up."""
        parked = database.all(_sql("parked"))
        if not parked:
            return []
        wanted = {(job.queue, job.task) for job in jobs}

        def can(queues: Sequence[str], tasks: Sequence[str]) -> bool:
            # A job that leaves its queue open goes where its task's workers say.
            return any(task in tasks and (queue is None or queue in queues) for queue, task in wanted)

        able = (row[1] for row in parked if row[1] is not None and can(loads(row[2]), loads(row[3])))
        return list(islice(able, len(jobs) + 1))

    def _whom_any(self, database: Database, n: int) -> list[str]:
        """The sockets of parked workers when `n` jobs became ready."""
        if n <= 0:
            return []
        return [row[1] for row in database.all(_sql("parked")) if row[1] is not None][: max(n + 1, 16)]


_rows = msgspec.json.Decoder(list[list[Any]]).decode
