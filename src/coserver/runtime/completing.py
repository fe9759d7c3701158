"""Finishing a job inside the transaction of its own function (see `tasks.current.CurrentJob.complete`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from coserver.model.job import Succeeded
from coserver.store.contract import Store


class Completing:
    """`tasks.current.Completer` of a worker, whose present incarnation `worker` tells."""

    def __init__(self, store: Store, worker: Callable[[], int | None]) -> None:
        self._store = store
        self._worker = worker

    def complete(self, connection: Any, outcome: Succeeded) -> bool:
        """Record it on the function's connection; whether the fence fitted."""
        worker = self._worker()
        return worker is not None and self._store.finish_on(connection, worker, outcome)

    async def acomplete(self, connection: Any, outcome: Succeeded) -> bool:
        """As `complete`, on an asynchronous connection."""
        worker = self._worker()
        return worker is not None and await self._store.afinish_on(connection, worker, outcome)
