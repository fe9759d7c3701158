"""Keeps a worker's lease alive.

Theory. The lease tells others that the worker lives, however long its jobs take and however busy its event loop is, so
a thread of its own renews it. A node that the worker is connected to renews the leases of all of its workers, which
also helps one that is stopped for a while, or whose interpreter is held by a library. Then the worker renews half as
often, which is still often enough: a node may be stopped, too, or reach the store by another way.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from coserver.errors import StoreUnavailable
from coserver.runtime.spec import RENEWALS
from coserver.store.contract import Store

RETRY = 0.5
"""Seconds until the next attempt when the store could not be reached."""


class Lease:
    """Owns the thread. `worker` returns the present incarnation (None: none yet), `dead` is told when the store says
    that it is dead."""

    def __init__(
        self,
        store: Store,
        *,
        lease: float,
        worker: Callable[[], int | None],
        tended: Callable[[], bool],
        dead: Callable[[int], None],
    ) -> None:
        self._store = store
        self._lease = lease
        self._worker = worker
        self._tended = tended
        self._dead = dead
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def _keep(self) -> None:
        rest = self._lease / RENEWALS
        while not self._over.wait(rest):
            rest = self._lease / RENEWALS * (2 if self._tended() else 1)
            worker = self._worker()
            if worker is None:
                continue
            try:
                if self._store.renew([worker], lease=self._lease):
                    self._dead(worker)
            except StoreUnavailable:  # the lanes meet the same trouble and say so
                rest = min(rest, RETRY)

    def close(self) -> None:
        """End the thread, after a trip that is under way unless that takes longer than a second."""
        self._over.set()
        self._thread.join(1.0)
