"""A producer of the crash test, as a process of its own that may be killed at any moment:

    python -m tests.site.crash.produce STORE LEDGER NUMBER SEED SECONDS

Before each act it appends to LEDGER what it is going to do, afterwards what it knows of it; each line is a JSON object
with the token of the act:

    {"try": TOKEN, "kind": …, "marks": […]}     `marks`: the tokens that its jobs have, in their order, null for those
                                                 that take a result instead
    {"sure": TOKEN, "ids": […]}                 the store said that it has them; a negative one is another's
    {"back": TOKEN}                             rolled back
    {"unsure": TOKEN}                           the store failed meanwhile: all of it is there, or nothing
    {"ask": "cancel" | "retry", "ids": […]}     before asking
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import apsw
import psycopg

from coserver import Client, Job, StoreUnavailable, chain, group, using
from coserver.errors import InvalidArguments, ResultGone
from tests.site.crash.work import after, alert, apart, busy, collect, exact, nap, over, shaky, wide

BACKLOG = 300
"""So many living jobs are enough for now."""
LARGE = 40_000

Act = Callable[[str], Sequence[Job[Any]]]


class Undone(Exception):
    """What was done in this transaction was rolled back, as planned."""


class Producer:
    """Acts at random until its time is over; `number` is like no other producer's."""

    def __init__(self, store: str, ledger: str, number: int, seed: int) -> None:
        self._store = store
        self._number = number
        self._chance = random.Random(f"{seed} {number}")
        self._ledger = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._client = Client(store)
        self._recent: list[Job[Any]] = []
        self._held: list[Job[Any]] = []
        self._acts: list[tuple[int, Act]] = [
            (6, self.plain),
            (2, self.bulk),
            (4, self.unique),
            (6, self.limited),
            (3, self.narrow),
            (2, self.a_chain),
            (2, self.a_group),
            (2, self.failing),
            (2, self.delayed),
            (2, self.expiring),
            (1, self.holding),
            (1, self.releasing),
            (4, self.transaction),
            (2, self.exactly),
            (2, self.taking_over),
            (1, self.large),
            (2, self.plain_sql),
            (2, self.following),
            (2, self.cancelling),
            (1, self.retrying),
        ]

    def tell(self, **said: Any) -> None:
        os.write(self._ledger, (json.dumps(said) + "\n").encode())

    def run(self, seconds: float) -> None:
        weights, acts = zip(*self._acts, strict=True)
        ends, turn = time.monotonic() + seconds, 0
        with using(self._client):
            while time.monotonic() < ends:
                if self._enough():
                    time.sleep(0.05)
                    continue
                turn += 1
                self._act(f"{self._number}-{turn}", self._chance.choices(acts, weights)[0])
                time.sleep(self._chance.uniform(0.0, 0.03))

    def _enough(self) -> bool:
        try:
            return sum(n for state, n in self._client.counts().by_state.items() if not state.final) > BACKLOG
        except StoreUnavailable:
            return True

    def _act(self, token: str, act: Act) -> None:
        try:
            jobs = act(token)
        except Undone:
            self.tell(back=token)
        except (StoreUnavailable, psycopg.Error, apsw.Error) as error:
            self.tell(unsure=token, why=str(error))
            time.sleep(0.1)
        else:
            self.tell(sure=token, ids=[job.id if job.created else -job.id for job in jobs])
            self._recent = [*self._recent[-30:], *jobs]

    def going_to(self, token: str, *marks: str | None, **more: Any) -> None:
        """Write down what comes before it is done."""
        kind = sys._getframe(1).f_code.co_name
        self.tell(**{"try": token, "kind": kind, "marks": marks, **more})

    def seconds(self) -> float:
        return self._chance.choice([0.0, 0.0, 0.01, 0.05, 0.2])

    # -- acts ----------------------------------------------------------------------------------------------------

    def plain(self, token: str) -> Sequence[Job[Any]]:
        self.going_to(token, token)
        how = self._chance.choice([nap, busy, apart])
        priority = self._chance.choice(["high", "normal", "low"])
        return [how.options(priority=priority, tags=[f"t{self._number}"]).submit(token, self.seconds())]  # type: ignore[arg-type]

    def bulk(self, token: str) -> Sequence[Job[Any]]:
        marks = [f"{token}/{n}" for n in range(self._chance.randint(2, 40))]
        self.going_to(token, *marks)
        how = self._chance.choice([nap, busy])
        return how.submit_many(how.bind(mark) for mark in marks)

    def unique(self, token: str) -> Sequence[Job[Any]]:
        key = self._chance.choice("abc")
        self.going_to(token, token, unique=True)
        until = self._chance.choice(["finished", "started"])
        name = f"{key} until {until}"
        shown = f"unique:{key}" if until == "finished" else "-"
        options = nap.options(unique=name, unique_until=until)  # type: ignore[arg-type]
        return [options.submit(token, self.seconds(), shown)]

    def limited(self, token: str) -> Sequence[Job[Any]]:
        key = self._chance.choice(["solo:a", "solo:b", "pair:a", "pair:b", "rated:a"])
        self.going_to(token, token)
        how = self._chance.choice([nap, busy, apart])
        return [how.options(limit=key).submit(token, self.seconds() / 2, key)]

    def narrow(self, token: str) -> Sequence[Job[Any]]:
        """In a queue with a limit, and some under a limit of their own besides."""
        limit = self._chance.choice([None, "solo:n"])
        key = "queue:narrow" if limit is None else f"{limit},queue:narrow"
        self.going_to(token, token)
        return [busy.options(queue="narrow", limit=limit).submit(token, self.seconds() / 4, key)]

    def a_chain(self, token: str) -> Sequence[Job[Any]]:
        self.going_to(token, f"{token}/0", None, f"{token}/2")
        first = self._chance.choice([nap, busy, apart])
        return chain(first.bind(f"{token}/0", 0.01), after, nap.bind(f"{token}/2")).submit()

    def a_group(self, token: str) -> Sequence[Job[Any]]:
        marks = [f"{token}/{n}" for n in range(4)]
        self.going_to(token, *marks, None)
        return group(*[nap.bind(mark) for mark in marks]).then(collect).submit()

    def failing(self, token: str) -> Sequence[Job[Any]]:
        self.going_to(token, token)
        job = shaky.submit(token, self._chance.choice([1, 2, 9]))
        job.then(after, on_error=alert)
        return [job]

    def delayed(self, token: str) -> Sequence[Job[Any]]:
        self.going_to(token, token)
        key = self._chance.choice([None, "pair:a"])
        options = nap.options(delay=self._chance.uniform(0.05, 2.0), limit=key)
        return [options.submit(token, 0.01, key or "-")]

    def expiring(self, token: str) -> Sequence[Job[Any]]:
        self.going_to(token, token, expires=True)
        key = self._chance.choice([None, "solo:a"])
        options = nap.options(begin_by=self._chance.uniform(0.02, 0.5), limit=key)
        return [options.submit(token, 0.01, key or "-")]

    def holding(self, token: str) -> Sequence[Job[Any]]:
        self.going_to(token, token)
        job = nap.options(hold=True).submit(token)
        self._held.append(job)
        return [job]

    def releasing(self, token: str) -> Sequence[Job[Any]]:
        if self._held:
            self._held.pop().release()
        self.going_to(token)
        return []

    def transaction(self, token: str) -> Sequence[Job[Any]]:
        """Jobs and rows of the producer's own, all of them or nothing."""
        marks = [f"{token}/{n}" for n in range(3)]
        self.going_to(token, *marks, own=True)
        back = self._chance.random() < 0.4

        def store(connection: Any) -> list[Job[Any]]:
            return [
                nap.options(connection=connection).submit(marks[0]),
                nap.options(connection=connection, limit="solo:t").submit(marks[1], 0.0, "solo:t"),
                busy.options(connection=connection, queue="narrow").submit(marks[2], 0.0, "queue:narrow"),
            ]

        if self._store.startswith("sqlite:"):
            database = apsw.Connection(self._store.removeprefix("sqlite:"))
            try:
                database.set_busy_timeout(10_000)
                database.execute("BEGIN IMMEDIATE")
                for mark in marks:
                    database.execute("INSERT INTO crash_ledger VALUES ('own', ?)", (mark,))
                jobs = store(database)
                database.execute("ROLLBACK" if back else "COMMIT")
            finally:
                database.close(True)
        else:
            with psycopg.connect(self._store, connect_timeout=10) as connection:
                for mark in marks:
                    connection.execute("INSERT INTO crash_ledger VALUES ('own', %s)", (mark,))
                jobs = store(connection)
                if back:
                    connection.rollback()
        if back:
            raise Undone
        return jobs

    def exactly(self, token: str) -> Sequence[Job[Any]]:
        self.going_to(token, token)
        return [exact.submit(token)]

    def taking_over(self, token: str) -> Sequence[Job[Any]]:
        self.going_to(token, token)
        return [over.submit(token)]

    def large(self, token: str) -> Sequence[Job[Any]]:
        self.going_to(token, token)
        return [wide.submit(token, "x" * LARGE)]

    def plain_sql(self, token: str) -> Sequence[Job[Any]]:
        self.going_to(token, token)
        task, args = nap.name, json.dumps([token])
        if self._store.startswith("sqlite:"):
            database = apsw.Connection(self._store.removeprefix("sqlite:"))
            try:
                database.set_busy_timeout(10_000)
                insert = "INSERT INTO coserver_job (task, args) VALUES (?, ?) RETURNING id"
                [(number,)] = database.execute(insert, (task, args)).fetchall()
            finally:
                database.close(True)
        else:
            with psycopg.connect(self._store, connect_timeout=10) as connection:
                insert = "INSERT INTO coserver_job (task, args) VALUES (%s, %s) RETURNING id"
                row = connection.execute(insert, (task, args)).fetchone()
                assert row is not None
                number = row[0]
        return [Job(number, self._client, created=True)]

    def following(self, token: str) -> Sequence[Job[Any]]:
        self.going_to(token, None)
        if not self._recent:
            return []
        try:
            return [self._chance.choice(self._recent).then(after)]
        except InvalidArguments as error:  # nobody forgets jobs here
            raise AssertionError("a job is gone") from error

    def cancelling(self, token: str) -> Sequence[Job[Any]]:
        self._ask("cancel", self._client.cancel)
        self.going_to(token)
        return []

    def retrying(self, token: str) -> Sequence[Job[Any]]:
        self._ask("retry", self._client.retry)
        self.going_to(token)
        return []

    def _ask(self, what: str, ask: Callable[[list[int]], Any]) -> None:
        ids = [job.id for job in self._chance.sample(self._recent, min(len(self._recent), 2))]
        self.tell(ask=what, ids=ids)
        ask(ids)


def main(store: str, ledger: str, number: str, seed: str, seconds: str) -> None:
    try:
        Producer(store, ledger, int(number), int(seed)).run(float(seconds))
    except ResultGone as error:
        raise AssertionError("a job is gone") from error


if __name__ == "__main__":
    main(*sys.argv[1:])
