"""A worker in a thread, for pages whose code runs in one process."""

from __future__ import annotations

import asyncio
import threading

from coserver.store import open_store
from coserver.tasks.registry import registry


def work(url: str, stop: threading.Event) -> None:
    """Run jobs until told to stop."""
    from tests.runtime.workers import working

    async def main() -> None:
        store = open_store(url)
        try:
            async with working(store, tasks=registry.names()):
                await asyncio.to_thread(stop.wait, 60)
        finally:
            store.close()

    asyncio.run(main())
