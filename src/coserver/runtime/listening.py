"""Hears a store's notifications for a worker that has no node to pass them on."""

from __future__ import annotations

import threading
from collections.abc import Callable

from coserver.errors import StoreUnavailable
from coserver.store.contract import Listener, Store

RETRY = 1.0
"""Seconds until a listener that could not be made is tried again."""
TURN = 5.0
"""Longest time in seconds of one wait."""


class Listening:
    """Owns the thread that waits; `heard` is called in it."""

    def __init__(self, store: Store, heard: Callable[[], None]) -> None:
        self._store = store
        self._heard = heard
        self._over = threading.Event()
        self._listener: Listener | None = None
        self._thread = threading.Thread(target=self._listen, name="listener", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def _listen(self) -> None:
        while not self._over.is_set():
            try:
                listener = self._listener = self._store.listener()
            except StoreUnavailable:
                self._over.wait(RETRY)  # polling goes on meanwhile
                continue
            self._heard()
            try:
                while not self._over.is_set():
                    if listener.wait(TURN, guesses=False):
                        self._heard()
            except StoreUnavailable:  # the lanes meet the same trouble and say so
                self._over.wait(RETRY)
            finally:
                listener.close()

    def close(self) -> None:
        """End the thread."""
        self._over.set()
        if self._listener is not None:
            self._listener.close()
        self._thread.join(1.0)
