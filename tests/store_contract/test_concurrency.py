"""Many claimers at once, and claimers that die at any moment."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psycopg

from coserver.model.job import Edge, State
from coserver.store import open_store
from coserver.store.contract import Store
from tests.store_contract.helpers import again, back, bad, claim, eventually, finish, job, join, ok, swap

ROOT = Path(__file__).parents[2]


def spawn(url: str, name: str, limit: int, log: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.store_contract.drain", url, name, str(limit), str(log)], cwd=ROOT
    )


def claimed_ids(logs: list[Path]) -> list[int]:
    return [int(line) for log in logs if log.exists() for line in log.read_text().split()]


def test_no_job_is_claimed_twice_by_threads(store: Store, another: Callable[[], Store]) -> None:
    """J2: a job is claimed by exactly one."""
    numbers = store.submit([job() for _ in range(2000)])
    got: list[int] = []
    failures: list[BaseException] = []

    def drain(mine: Store, name: str) -> None:
        try:
            worker = join(mine, name)
            batch = claim(mine, worker, 17)
            while batch:
                got.extend(held.id for held in batch)
                result = swap(mine, worker, [ok(held) for held in batch], limit=17)
                assert result.stale == []
                batch = list(result.claimed)
        except BaseException as failure:
            failures.append(failure)

    stores = [store, store, another(), another()]
    threads = [threading.Thread(target=drain, args=(mine, f"w/{n}")) for n, mine in enumerate(stores)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    # A claimer may find everything locked by others and leave early; what it left is there for the next.
    worker = join(store, "last")
    while batch := claim(store, worker, 500):
        got.extend(held.id for held in batch)
        finish(store, worker, *[ok(held) for held in batch])
    assert sorted(got) == numbers
    assert store.counts().by_state[State.SUCCEEDED] == 2000


def test_no_job_is_claimed_twice_by_processes(store: Store, store_url: str, tmp_path: Path) -> None:
    """J2: a job is claimed by exactly one, whoever else claims at the same moment."""
    numbers = store.submit([job() for _ in range(3000)])
    logs = [tmp_path / f"log-{n}" for n in range(3)]
    workers = [spawn(store_url, f"w/{n}", 20, log) for n, log in enumerate(logs)]
    more = [number for _ in range(20) for number in store.submit([job() for _ in range(25)])]
    assert [worker.wait(60) for worker in workers] == [0, 0, 0]
    counted = Counter(claimed_ids(logs))
    assert sorted(counted) == numbers + more
    assert set(counted.values()) == {1}
    assert store.counts().by_state[State.SUCCEEDED] == 3500
    assert store.counts().by_state[State.RUNNING] == 0


def test_kill_9_at_any_moment_loses_nothing_and_doubles_no_result(
    store: Store, store_url: str, tmp_path: Path
) -> None:
    """A claimer killed anywhere, also inside a transaction, leaves a store from which every job still ends once."""
    numbers = store.submit([job(max_crashes=1000) for _ in range(2000)])
    chance = random.Random(7)
    logs = []
    for round_ in range(6):
        logs.append(tmp_path / f"log-{round_}")
        victim = spawn(store_url, f"w/{round_}", 5, logs[-1])
        log = logs[-1]
        eventually(
            lambda log=log, victim=victim: victim.poll() is not None or (log.exists() and log.read_text())
        )
        time.sleep(chance.random() * 0.05)  # not to wait for something, but to hit a random moment
        victim.kill()
        victim.wait()
        # What its server process was doing when it died may still commit; rescue finds it whenever that is.
        store.bury(f"w/{round_}", started=None, note="killed")
    logs.append(tmp_path / "log-last")
    worker = join(store, "last")
    while store.counts().by_state[State.SUCCEEDED] < len(numbers):
        batch = claim(store, worker, 100)
        finish(store, worker, *[ok(held) for held in batch])
    assert [info.state for info in map(store.job, numbers) if info is not None] == [State.SUCCEEDED] * len(
        numbers
    )
    found = store.counts().by_state
    assert (found[State.SUCCEEDED], found[State.QUEUED], found[State.RUNNING]) == (len(numbers), 0, 0)


def test_submits_from_several_processes_are_all_there(store: Store, store_url: str) -> None:
    program = (
        "import sys; from coserver.store import open_store; from tests.store_contract.helpers import job\n"
        "store = open_store(sys.argv[1])\n"
        "for n in range(100): store.submit([job(args=f'[\"{sys.argv[2]}\", {n}]')])\n"
        "store.close()"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", program, store_url, str(n)], cwd=ROOT) for n in range(4)
    ]
    assert [process.wait(60) for process in running] == [0] * 4
    worker = join(store)
    got = [held.args for held in claim(store, worker, 1000)]
    assert sorted(got) == sorted(f'["{n}", {m}]' for n in range(4) for m in range(100))
    # What one process submits one after the other stays in order.
    for n in range(4):
        mine = [args for args in got if args.startswith(f'["{n}"')]
        assert mine == [f'["{n}", {m}]' for m in range(100)]


def test_an_outcome_whose_row_somebody_holds_holds_up_no_other(postgres_url: str) -> None:
    """Whoever submits a child locks its parent until the transaction ends: the parent's end is told again."""
    store = open_store(postgres_url)
    try:
        worker = join(store)
        store.submit([job() for _ in range(7)])
        one, two, three, four, five, six, seven = claim(store, worker)
        # The end of `five` concerns a child whose row is held, not its own.
        [grandchild] = store.submit([job(after=(Edge(five.id),))])
        with psycopg.connect(postgres_url) as user:
            [child] = store.submit_on(user, [job(after=tuple(Edge(held.id) for held in (one, two, three)))])
            store.submit_on(user, [job(after=(Edge(grandchild),))])
            outcomes = [ok(one), again(two), back(three), ok(four), ok(five), bad(six), ok(seven)]
            began = time.monotonic()
            done = finish(store, worker, *outcomes)
            assert time.monotonic() - began < 10
            assert list(done.busy) == [ok(one), ok(five), again(two), back(three)]
            assert done.stale == []
            assert store.counts().by_state[State.SUCCEEDED] == 2
            assert store.counts().by_state[State.FAILED] == 1
            assert list(finish(store, worker, *done.busy).busy) == list(done.busy)
            user.commit()
        assert (last := finish(store, worker, *done.busy)).busy == [] and last.stale == []
        assert store.counts().by_state[State.SUCCEEDED] == 4
        states = [store.job(number).state for number in (two.id, three.id, grandchild, child)]  # type: ignore[union-attr]
        assert states == [State.QUEUED, State.QUEUED, State.QUEUED, State.WAITING]
    finally:
        store.close()
