"""coserver's own scenarios: public calls, real worker processes, durable defaults."""

from __future__ import annotations

from bench import rows
from bench.databases import Database
from bench.jobs import noop_isolated, noop_plain
from bench.ours import crash, drain, idle, submit, wait
from bench.scenario import Contestant, Scenario, Sizes


def contestant(database: Database, sizes: Sizes) -> Contestant:
    """Return coserver on one database."""
    backlog = drain.Backlog(database, sizes)
    scenarios = (
        Scenario("drain", (rows.DRAIN,), lambda: drain.drain(database, sizes)),
        Scenario("drain", (rows.DRAIN_2, rows.SHARE), lambda: drain.drain_by_two(database, sizes)),
        Scenario("drain", (rows.THREADS,), lambda: drain.drain(database, sizes, noop_plain)),
        Scenario("drain", (rows.ISOLATED,), lambda: drain.drain(database, sizes, noop_isolated)),
        Scenario("drain", (rows.AMONG_QUEUED,), backlog.among_queued),
        Scenario("drain", (rows.AMONG_SCHEDULED,), backlog.among_scheduled),
        Scenario("submit", (rows.SUBMIT,), lambda: submit.one_thread(database, sizes)),
        Scenario("submit", (rows.SUBMIT_MANY,), lambda: submit.many_per_call(database, sizes)),
        Scenario("submit", (rows.SUBMIT_THREADS,), lambda: submit.many_threads(database, sizes)),
        Scenario(
            "submit",
            (rows.SUBMIT_PROCESSES, rows.SUBMIT_P50, rows.SUBMIT_P99, rows.SUBMIT_MAX),
            lambda: submit.many_processes(database, sizes),
        ),
        Scenario("start", (rows.START_P50, rows.START_P99), lambda: wait.start(database, sizes)),
        Scenario("start", (rows.REPLY_P50, rows.REPLY_P99), lambda: wait.reply(database, sizes)),
        Scenario(
            "idle",
            (rows.IDLE_CPU, rows.MEMORY, rows.RESIDENT, rows.NODE_CPU, rows.NODE_MEMORY),
            lambda: idle.idle(database, sizes),
            once=True,
            together=True,
        ),
        Scenario("crash", (rows.TAKEOVER,), lambda: crash.takeover(database, sizes)),
    )
    return Contestant(rows.OURS, database.name, scenarios)
