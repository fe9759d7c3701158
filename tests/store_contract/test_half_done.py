"""Whoever changes the store may die between any two of its statements: nothing is ever half done, nothing forgotten.

Each operation is begun again and again, and dies one statement later each time, until it comes to its end; after every
death the tables must agree with each other, and at last everything that lives must come to an end. To die with a
statement done and unanswered is the same to the store as to die before the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

import coserver.store.pool as pool
import coserver.store.postgres as postgres_store
import coserver.store.sqlite_file as sqlite_file
from coserver.errors import StoreUnavailable
from coserver.model.job import (
    Cancelled,
    Edge,
    Failed,
    JobFilter,
    Limit,
    NewJob,
    On,
    Outcome,
    Progress,
    Release,
    Retry,
    State,
    Succeeded,
    TakeOver,
)
from coserver.model.limit import Usage, room, rule_of
from coserver.store.contract import Store, Want
from coserver.store.driver import Database, Params, Row, Trouble, connect
from tests.store_contract.helpers import ERROR, TASK, Raw, claim, eventually, identity, job, ok

LIMITS = [Limit("pair", 2), Limit("rated", None, 2, 50_000), Limit("queue:narrow", 1)]
QUEUES = ("default", "narrow")
PAIRS = [(queue, TASK) for queue in QUEUES]
LARGE = '"' + "x" * 50_000 + '"'


class Death:
    """Comes before the statement number `at`, counted from 0, and stays until it is told to go."""

    def __init__(self) -> None:
        self._left: int | None = None

    def arm(self, at: int) -> None:
        self._left = at

    def comes(self) -> bool:
        """Count a statement; whether it must not be run any more."""
        if self._left:
            self._left -= 1
            return False
        return self._left == 0

    def go(self) -> None:
        self._left = None


class Mortal:
    """A connection to SQLite whose process may die. What it had not committed is gone then."""

    def __init__(self, database: Database, death: Death) -> None:
        self._database = database
        self._death = death

    def _statement(self) -> None:
        if self._death.comes():
            self._database.rollback()
            raise Trouble("it is dead")

    def all(self, sql: str, params: Params = ()) -> list[Row]:
        self._statement()
        return self._database.all(sql, params)

    def many(self, sql: str, rows: Any) -> int:
        self._statement()
        return self._database.many(sql, rows)

    def script(self, sql: str) -> None:
        self._database.script(sql)

    def rollback(self) -> None:
        self._database.rollback()

    def close(self) -> None:
        self._database.close()


@pytest.fixture
def death(monkeypatch: pytest.MonkeyPatch) -> Death:
    """What all connections of stores are subject to from now on."""
    one = Death()

    def mortal(path: str, driver: str, *, create: bool) -> Mortal:
        return Mortal(connect(path, driver, create=create), one)

    def deadly(cursor: psycopg.Cursor[Row], name: str, params: Any) -> None:
        if one.comes():
            cursor.connection.close()
            raise psycopg.OperationalError("it is dead")
        real(cursor, name, params)

    real = pool.queue_up
    monkeypatch.setattr(sqlite_file, "connect", mortal)
    monkeypatch.setattr(pool, "queue_up", deadly)
    monkeypatch.setattr(postgres_store, "queue_up", deadly, raising=False)
    return one


class World:
    """A store in which there is one of everything; `ids` are the jobs by name."""

    def __init__(self, store: Store, raw: Raw) -> None:
        self.store = store
        self.raw = raw
        self.ids: dict[str, int] = {}
        self.claims: dict[str, int] = {}
        store.set_limits(LIMITS)
        self.worker = store.register(identity(token="living", queues=QUEUES), lease=600)
        self.dead = store.register(identity("images/2", token="dying", queues=QUEUES), lease=600)
        self._run("failed", "succeeded", large=True)
        self._end()
        self._run("plain", "large", "retried", "later", "back", "stopped", "asked", "over", "bad")
        self._run("limited", limit="pair:a")
        self._run("narrow", queue="narrow", limit="solo")
        self._run("parent", "other")
        ids = self.ids
        self._add("child", after=(Edge(ids["parent"]),))
        self._add("grandchild", after=(Edge(ids["child"]),), limit="pair:a", tags=("a",))
        self._add("alert", after=(Edge(ids["other"], On.FAILURE),))
        self._add("both", after=(Edge(ids["parent"]), Edge(ids["other"], On.END)), held=True)
        self._add("follows the bad", after=(Edge(ids["bad"]),))
        self._run("lost", "lost parent", by=self.dead)
        self._run("lost limited", by=self.dead, limit="pair:b")
        self._add("orphan", after=(Edge(ids["lost parent"], On.END),))
        self._add("waits for pair", limit="pair:a")
        self._add("second of pair", limit="pair:a")
        self._add("waits for solo", limit="solo")
        self._add("waits for narrow", queue="narrow")
        for n in range(3):
            self._add(f"rated {n}", limit="rated:a")
        self._add("held", held=True, tags=("b", "c"))
        self._add("unique", unique="key", until_started=True)
        self._add("due", delay=1)
        self._add("due limited", delay=1, limit="pair:a")
        self._add("scheduled", delay=10**15)
        self._add("late", begin_by=1)
        raw("INSERT INTO coserver_job (task, args) VALUES (?, '[1]')", TASK)
        raw("INSERT INTO coserver_job (task, args, limit_key) VALUES (?, '[1]', 'pair:a')", TASK)
        raw("INSERT INTO coserver_job (task, args, priority) VALUES (?, '[1]', 77)", TASK)
        store.progress(self.worker, [Progress(ids["plain"], self.claims["plain"], 0.5, "half")])
        store.cancel([ids["asked"]])
        self.known = {row[0] for row in raw("SELECT id FROM coserver_job UNION SELECT id FROM coserver_done")}

    def _add(self, name: str, **more: Any) -> None:
        [self.ids[name]] = self.store.submit([job(**more)])

    def _run(self, *names: str, by: int | None = None, large: bool = False, **more: Any) -> None:
        """Jobs that run already."""
        worker = self.worker if by is None else by
        args = f"[{LARGE}]" if large else "[]"
        for name in names:
            [self.ids[name]] = self.store.submit([job(args=args, tags=(name,), **more)])
            [held] = claim(self.store, worker, 1, pairs=PAIRS)
            assert held.id == self.ids[name], name
            self.claims[name] = held.claim

    def _end(self) -> None:
        told: list[Outcome] = [
            Failed(self.ids["failed"], self.claims["failed"], ERROR, 1, 2),
            Succeeded(self.ids["succeeded"], self.claims["succeeded"], LARGE, 1, 2),
        ]
        self.store.exchange(self.worker, told, Want(0, ()))

    # -- what may die ----------------------------------------------------------------------------------------------

    def submit(self) -> None:
        jobs: list[NewJob] = [job(), job(delay=10**15), job(args=f"[{LARGE}]"), job(queue=None)]
        self.store.submit(jobs)
        self.store.submit([job()])
        self.store.submit([job(queue="narrow")])

    def submit_in_full(self) -> None:
        self.store.submit(
            [
                job(unique="key"),
                job(unique="other", limit="pair:a", tags=("a", "b"), args=f"[{LARGE}]"),
                job(after=(Edge(1, here=True), Edge(self.ids["parent"])), limit="solo"),
                job(after=(Edge(self.ids["failed"]),), tags=("ends at once",)),
                job(after=(Edge(3, here=True), Edge(self.ids["child"], On.END)), held=True),
            ]
        )

    def finish(self) -> None:
        ids, claims = self.ids, self.claims

        def told(name: str) -> tuple[int, int]:
            return ids[name], claims[name]

        outcomes: list[Outcome] = [
            Succeeded(*told("plain"), "1", 1, 2),
            Succeeded(*told("large"), LARGE, 1, 2),
            Retry(*told("retried"), ERROR, 0),
            Retry(*told("later"), ERROR, 10**15),
            Release(*told("back")),
            Cancelled(*told("stopped"), None, 1, 2),
            Retry(*told("asked"), ERROR, 0),
            TakeOver(*told("over"), ids["parent"], 1),
            Failed(*told("bad"), ERROR, 1, 2),
            Succeeded(*told("limited"), "2", 1, 2),
            Retry(*told("narrow"), ERROR, 10**15),
            Succeeded(*told("parent"), LARGE, 1, 2),
            Failed(*told("other"), ERROR, 1, 2),
        ]
        self.store.exchange(self.worker, outcomes, Want(5, PAIRS))

    def claim(self) -> None:
        for _ in range(4):
            self.store.exchange(self.worker, (), Want(2, PAIRS))

    def cancel(self) -> None:
        self.store.cancel(
            [self.ids[name] for name in ("plain", "child", "held", "waits for pair", "due limited")]
        )

    def revive(self) -> None:
        self.store.retry([self.ids["failed"]])

    def release(self) -> None:
        self.store.release_held([self.ids["held"], self.ids["both"]])

    def discard(self) -> None:
        self.store.discard([self.ids["failed"], self.ids["succeeded"]])

    def bury(self) -> None:
        self.store.bury("dying", started=[self.ids["lost limited"]], note="killed")

    def bury_all(self) -> None:
        """Nobody knows what had begun, and it is not the first time."""
        for token in ("dying", "living"):
            self.store.bury(token, started=None, note="killed")

    def tick(self) -> None:
        self.store.tick(retention=[(State.SUCCEEDED, 0), (State.FAILED, 0)])

    def leave(self) -> None:
        self.store.leave(self.worker)
        self.store.leave(self.dead)

    def limit(self) -> None:
        self.store.set_limits([Limit("pair", 1), Limit("solo", 2), Limit("queue:default", 3)])

    def register(self) -> None:
        self.store.register(identity("images/3", tasks=("a:new",), queues=("new",)), lease=60)

    def park(self) -> None:
        self.store.park(self.worker)
        self.store.renew([self.worker], lease=60)
        self.store.progress(self.worker, [Progress(self.ids["large"], self.claims["large"], 1.0, "done")])
        self.store.pause_queue("narrow", by="me")
        self.store.resume_queue("narrow")


OPERATIONS: dict[str, Callable[[World], None]] = {
    call.__name__: call
    for call in (
        World.submit,
        World.submit_in_full,
        World.finish,
        World.claim,
        World.cancel,
        World.revive,
        World.release,
        World.discard,
        World.bury,
        World.bury_all,
        World.tick,
        World.leave,
        World.limit,
        World.register,
        World.park,
    )
}
FORGET = ("discard", "tick")


def wrong(world: World, *, forgets: bool) -> Iterator[str]:
    """Say what does not agree."""
    raw = world.raw
    living = {
        row[0]: row
        for row in raw(
            "SELECT id, state, flags, waits, worker, limit_key, queue, blocked_on FROM coserver_job"
        )
    }
    done = {row[0]: row[1] for row in raw("SELECT id, state FROM coserver_done")}
    here = living.keys() | done.keys()
    if both := living.keys() & done.keys():
        yield f"they live and have ended: {both}"
    gone = world.known - here
    if gone and not forgets:
        yield f"they are gone: {gone}"
    [(counted,)] = raw("SELECT coalesce(sum(n), 0) FROM coserver_count WHERE state > 0")
    if counted != len(done) + len(gone):
        yield f"{counted} ends are counted, there are {len(done)} and {len(gone)} were forgotten"
    yield from _belongings(raw, here)
    yield from _limits(raw, living)
    watched = {row[0] for row in raw("SELECT id FROM coserver_worker WHERE state < 2")}
    children = raw("SELECT child, parent FROM coserver_dep WHERE state IS NULL")
    for number, state, _, waits, worker, *_ in living.values():
        open_edges = [parent for child, parent in children if child == number]
        if waits != len(open_edges):
            yield f"job {number} waits for {waits} parents, its edges say {open_edges}"
        if state == State.WAITING and not waits:
            yield f"job {number} waits for nobody"
        for parent in open_edges:
            if parent not in living or not living[parent][2] & 2:
                yield f"job {number} waits for {parent}, which does not know"
        if state == State.RUNNING and worker not in watched:
            yield f"job {number} runs at nobody who is watched"


def _belongings(raw: Raw, here: set[int]) -> Iterator[str]:
    for table, column in (("tag", "job"), ("progress", "job"), ("blob", "job"), ("dep", "child")):
        owners = {row[0] for row in raw(f"SELECT {column} FROM coserver_{table}")}
        if owners - here:
            yield f"coserver_{table} has rows of nobody: {owners - here}"
    large = {row[0] for row in raw("SELECT job FROM coserver_blob WHERE kind = 0")}
    for table in ("job", "done"):
        bare = {row[0] for row in raw(f"SELECT id FROM coserver_{table} WHERE args IS NULL")}
        if bare - large:
            yield f"jobs without arguments: {bare - large}"


def _limits(raw: Raw, living: dict[int, tuple[Any, ...]]) -> Iterator[str]:
    rules = {
        name: Limit(name, 0 if closed else running, starts, period)
        for name, running, starts, period, closed in raw(
            "SELECT name, running, starts, period, closed FROM coserver_limit"
        )
    }
    slots = raw("SELECT key, job FROM coserver_slot WHERE job IS NOT NULL")
    gates = {row[0] for row in raw("SELECT key FROM coserver_gate")}
    for key, number in slots:
        if number not in living or not living[number][2] & 4:
            yield f"job {number} holds a slot of {key}, and does not know"
    for number, state, flags, _, _, limit, _, blocked in living.values():
        held = [key for key, holder in slots if holder == number]
        if bool(flags & 4) != bool(held):
            yield f"job {number} has flags {flags} and slots {held}"
        if state in (State.QUEUED, State.RUNNING) and limit is not None and limit not in held:
            yield f"job {number} is in line without a slot of {limit}"
        if (state == State.LIMITED) != (blocked is not None):
            yield f"job {number} is in state {state}, blocked on {blocked}"
        if blocked is not None and blocked not in gates:
            usage = Usage(sum(key == blocked for key, _ in slots), 0, 0)
            if room(rule_of(blocked, rules), usage) != 0:
                yield f"job {number} waits at {blocked}, which has room, and nobody will look"


@pytest.fixture(params=["sqlite", "postgres"])
def store_url(request: pytest.FixtureRequest) -> str:
    """Once per database is enough; there is nothing of a library's own in it."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.mark.parametrize("name", OPERATIONS)
def test_whoever_dies_between_two_statements_leaves_nothing_half_done(
    store: Store, raw: Raw, death: Death, name: str
) -> None:
    world = World(store, raw)
    for at in range(1000):
        death.arm(at)
        try:
            OPERATIONS[name](world)
        except StoreUnavailable:
            died = True
        else:
            died = False
        finally:
            death.go()
        found = list(wrong(world, forgets=name in FORGET))
        assert not found, f"after death at statement {at}: {found}"
        if not died:
            break
    assert not died and at > 0
    _ends(world)


def _ends(world: World) -> None:
    """Everything that lives comes to its end, but for what is due in years."""
    store = world.store
    for token in ("living", "dying"):
        store.bury(token, started=[], note="killed")
    worker = store.register(identity("images/9", token="last", queues=QUEUES), lease=600)

    def only_years_are_left() -> bool:
        store.release_held([info.id for info in store.jobs(JobFilter(states=(State.HELD,)), limit=100)])
        held = store.exchange(worker, (), Want(10, PAIRS)).claimed
        store.exchange(worker, [ok(one, "1") for one in held], Want(0, ()))
        store.tick()
        return not world.raw("SELECT 1 FROM coserver_job WHERE run_at IS NULL OR run_at < ?", 2**51)

    eventually(only_years_are_left)
    store.cancel([row[0] for row in world.raw("SELECT id FROM coserver_job")])
    assert not world.raw("SELECT id, state, blocked_on FROM coserver_job")
    assert not list(wrong(world, forgets=True))
