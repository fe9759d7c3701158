"""Asking a node that may be replaced while it is asked.

A node may be killed at any moment, and the next one is there soon: the keeper holds the socket, so that who asks again
waits for it. A read that found no answer is therefore asked once more. A change is not, for nobody knows whether it was
done before the node ended; the person is told so. An answer that took too long is not waited for twice, and who waits
for one that takes long is told what for.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from coserver.cli.context import say
from coserver.control.client import ControlClient
from coserver.errors import NodeUnreachable

MOMENT = 0.3
"""Seconds until a node is asked again."""
LONG = 1.0
"""Seconds after which the person is told what a read waits for."""


class AskingClient(ControlClient):
    """A ControlClient for commands: reads try again once, changes say what an answer that never came may mean."""

    def get(self, path: str) -> dict[str, Any]:
        """Read; once more after a moment when the node ended in between."""
        waiting = threading.Timer(LONG, say, [f"waiting for the answer of {self._site}'s node …"])
        waiting.daemon = True
        waiting.start()
        try:
            return self._get(path)
        finally:
            waiting.cancel()

    def _get(self, path: str) -> dict[str, Any]:
        try:
            return super().get(path)
        except NodeUnreachable as error:
            if isinstance(error.__context__, TimeoutError):
                raise
        time.sleep(MOMENT)
        return super().get(path)

    def post(self, path: str, arguments: dict[str, Any], *, patience: float = 0.0) -> dict[str, Any]:
        """Change something. Raises NodeUnreachable that says what may be so when no answer came."""
        try:
            return super().post(path, arguments, patience=patience)
        except NodeUnreachable as error:
            cause = str(error).rpartition("; ")[0] or str(error)
            raise NodeUnreachable(f"{cause}; it may have been done, see `coserver status`") from error
