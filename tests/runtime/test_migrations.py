"""Migrations while workers run (N15): an upgrade brings one that this coserver does not know, and it is at work."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import Counter

import pytest

from coserver.errors import SchemaMismatch
from coserver.model.job import State
from coserver.store.contract import PROTOCOL, Store
from tests.runtime import jobs
from tests.runtime.workers import auntil, fresh, in_loop, results, submit, working

NEWER = """
import sys
from coserver.store import open_store, postgres, schema, sqlite_file, statements

made_up = statements.Migration(9999, "9999_made_up", sys.stdin.read())

def migrations(dialect, known=statements.migrations):
    return (*known(dialect), made_up)

for module in (postgres, schema, sqlite_file):
    module.migrations = migrations
assert open_store(sys.argv[1]).migrate() == ["9999_made_up"]
"""

COMPATIBLE = f"""
ALTER TABLE coserver_job ADD COLUMN made_up text;
ALTER TABLE coserver_done ADD COLUMN made_up text;
CREATE INDEX coserver_made_up ON coserver_job (made_up) WHERE made_up IS NOT NULL;
INSERT INTO coserver_meta (key, value) VALUES ('min_protocol', '{PROTOCOL}');
"""

INCOMPATIBLE = f"""
INSERT INTO coserver_meta (key, value) VALUES ('min_protocol', '{PROTOCOL + 1}');
UPDATE coserver_worker SET state = 1, parked = 0, started = '[]', ended_at = created_at, note = 'it is too old'
 WHERE state = 0 AND protocol < {PROTOCOL + 1};
"""


def upgrade(url: str, sql: str) -> None:
    """Migrate as a newer coserver, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", NEWER, url], input=sql, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_n15_a_worker_goes_on_through_a_migration_that_it_can_live_with(store_url: str, store: Store) -> None:
    """N15."""

    async def test() -> None:
        ids = submit(store, "add", *[f"[{n},1]" for n in range(3000)])
        async with working(store) as worker:
            first = worker.incarnation
            await asyncio.to_thread(upgrade, store_url, COMPATIBLE)
            # Whoever comes later does, too: other processes of the old release are restarted meanwhile.
            late = fresh(store_url)
            assert late.migrate() == []
            ids += submit(late, "add", *[f"[{n},1]" for n in range(1000)])
            await results(store, ids)
            assert worker.failure is None
            assert worker.incarnation == first or first is None
            late.close()
        assert Counter(jobs.ran.values()) == {1: 4000}

    in_loop(test)


def test_n15_a_worker_that_is_too_old_ends_and_says_so_and_leaves_its_jobs_to_newer_ones(
    store_url: str, store: Store
) -> None:
    """N15."""

    async def test() -> None:
        ids = submit(store, "hold", *['["x"]'] * 5) + submit(store, "add", *[f"[{n},1]" for n in range(100)])
        async with working(store, {"default": 5}) as worker:
            await auntil(lambda: jobs.held["x"] == 5, "all slots are taken")
            await asyncio.to_thread(upgrade, store_url, INCOMPATIBLE)
            await asyncio.wait_for(worker.gone(), 30)
            assert worker.failure is not None
            assert "upgrade coserver" in str(worker.failure)
        old = fresh(store_url)
        with pytest.raises(SchemaMismatch, match="upgrade coserver"):
            old.counts()
        old.close()
        counts = store.counts().by_state
        assert counts.get(State.RUNNING, 0) + counts.get(State.QUEUED, 0) == len(ids)
        assert {job for job, ran in jobs.ran.items() if ran} <= set(ids[:5])

    in_loop(test)
