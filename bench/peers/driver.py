"""Runs in a peer's virtual environment and prints one line of JSON.

    python -m bench.peers.driver ADAPTER has_many                    whether it can submit many jobs in one call
    python -m bench.peers.driver ADAPTER prepare                     make an empty store
    python -m bench.peers.driver ADAPTER workers PROCESSES AT_ONCE   the commands to start; AT_ONCE 0: what is best
    python -m bench.peers.driver ADAPTER one|many TASK FIRST COUNT   submit; the seconds that it took
    python -m bench.peers.driver ADAPTER paced FIRST COUNT RATE      submit no-op jobs; when each was (monotonic ns)

Peers that are synchronous run without an event loop, since some refuse to run inside of one.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import os
import sys
import time
from types import ModuleType
from typing import Any

BULK = 1000


def do(adapter: ModuleType, what: str, *words: str) -> Any:
    """Do it with a synchronous peer."""
    if what == "prepare":
        return adapter.prepare()
    producer = adapter.Producer()
    if what == "paced":
        first, count, rate = int(words[0]), int(words[1]), float(words[2])
        sent = []
        for number in range(first, first + count):
            time.sleep(1 / rate)
            sent.append(time.monotonic_ns())
            producer.one("noop", number)
        return sent
    task, numbers = words[0], range(int(words[1]), int(words[1]) + int(words[2]))
    begun = time.perf_counter()
    if what == "many":
        for some in _portions(numbers):
            producer.many(task, some)
    else:
        for number in numbers:
            producer.one(task, number)
    return time.perf_counter() - begun


async def ado(adapter: ModuleType, what: str, *words: str) -> Any:
    """Do it with an asynchronous peer."""
    if what == "prepare":
        return await adapter.prepare()
    producer = adapter.Producer()
    await producer.open()
    try:
        if what == "paced":
            first, count, rate = int(words[0]), int(words[1]), float(words[2])
            sent = []
            for number in range(first, first + count):
                await asyncio.sleep(1 / rate)
                sent.append(time.monotonic_ns())
                await producer.one("noop", number)
            return sent
        task, numbers = words[0], range(int(words[1]), int(words[1]) + int(words[2]))
        begun = time.perf_counter()
        if what == "many":
            for some in _portions(numbers):
                await producer.many(task, some)
        else:
            for number in numbers:
                await producer.one(task, number)
        return time.perf_counter() - begun
    finally:
        await producer.close()


def _portions(numbers: range) -> list[range]:
    return [numbers[at : at + BULK] for at in range(0, len(numbers), BULK)]


def main() -> None:
    """Do what the command line says."""
    _, name, what, *words = sys.argv
    adapter = importlib.import_module(f"bench.peers.{name}")
    if what == "has_many":
        answer: Any = hasattr(adapter.Producer, "many")
    elif what == "workers":
        answer = adapter.workers(int(words[0]), int(words[1]) or None)
    elif inspect.iscoroutinefunction(adapter.prepare):
        answer = asyncio.run(ado(adapter, what, *words))
    else:
        answer = do(adapter, what, *words)
    print("\n" + json.dumps(answer), flush=True)
    os._exit(0)  # some leave threads behind that would hold the process


if __name__ == "__main__":
    main()
