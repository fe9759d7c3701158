"""A look at the store again and again while all is shaken: what must be true at every moment."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import apsw
import psycopg

from coserver.model.job import State
from tests.site.crash.base import Base
from tests.site.crash.verdict import LIMITS

EVERY = 0.1


class Observer:
    """A thread that looks; `wrong` is what it saw."""

    def __init__(self, base: Base) -> None:
        self._base = base
        self._stop = threading.Event()
        self.wrong: list[str] = []
        self.looks = 0
        self.broken: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="observer")

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def end(self) -> None:
        """Look no more."""
        self._stop.set()
        self._thread.join(60)

    def _run(self) -> None:
        while not self._stop.wait(EVERY):
            try:
                living, both = self._base.together(
                    "SELECT id, state, claim, queue, unique_key, limit_key FROM coserver_job",
                    "SELECT id FROM coserver_job WHERE id IN (SELECT id FROM coserver_done)",
                )
            except (psycopg.Error, apsw.Error):
                continue  # the database is away
            except BaseException as error:
                self.broken = error
                return
            self.looks += 1
            self._look(living)
            if both:
                self.wrong.append(f"jobs that live and have ended: {both}")

    def _look(self, living: list[dict[str, Any]]) -> None:
        keys = Counter(row["unique_key"] for row in living if row["unique_key"] is not None)
        if doubled := [key for key, n in keys.items() if n > 1]:
            self.wrong.append(f"unique keys of two living jobs: {doubled}")
        running = [row for row in living if row["state"] == State.RUNNING]
        limited = Counter(row["limit_key"] for row in running if row["limit_key"] is not None)
        limited.update("queue:narrow" for row in running if row["queue"] == "narrow")
        for key, n in limited.items():
            most = LIMITS.get(key.partition(":")[0])
            if most is not None and n > most:
                self.wrong.append(f"{n} run at once of {key}, of which {most} may")
