"""A bare worker as a process of its own, for tests of concurrency and of crashes.

    python -m tests.store_contract.drain URL NAME LIMIT FILE

It claims and finishes until nothing is left for a while, and appends every id that it claimed to FILE, one per line,
before it finishes it. `LIMIT` is the size of a batch.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from coserver.errors import StoreUnavailable
from coserver.model.job import Outcome, Succeeded
from coserver.store import open_store
from coserver.store.contract import Want
from tests.store_contract.helpers import PAIR, identity


def main(url: str, name: str, limit: str, path: str) -> None:
    store = open_store(url)
    worker = store.register(identity(name, token=name), lease=600)
    want = Want(int(limit), [PAIR])
    done: list[Outcome] = []
    quiet_since = time.monotonic()
    with Path(path).open("a", buffering=1) as log:
        while time.monotonic() - quiet_since < 1.0:
            try:
                exchange = store.exchange(worker, done, want)
            except StoreUnavailable:
                continue
            assert not exchange.stale
            if not exchange.live:
                break
            log.write("".join(f"{job.id}\n" for job in exchange.claimed))
            done = [Succeeded(job.id, job.claim, f'"{name}"', 1, 2) for job in exchange.claimed]
            if exchange.claimed:
                quiet_since = time.monotonic()
            else:
                time.sleep(0.005)
    store.leave(worker)
    store.close()
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
