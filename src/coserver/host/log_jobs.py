"""Which of the lines that processes have printed belong to a job.

A line says so itself, as `coserver.logs` writes it and others may: as text by the word `job=123`, of which the first
one on the line counts; as a JSON object by its key `job`, or `job_id` where a formatter of somebody else writes it.
"""

from __future__ import annotations

import json
import re
from typing import Final

from coserver.host.logs import Record

WORD: Final = re.compile(rb"(?:^|\s)job=(\d+)(?=\s|$)")
KEY: Final = re.compile(rb'"job(?:_id)?"\s*:\s*"?(\d+)')


class OfJob:
    """Told every record in order, tells which are lines of one job; pieces of a long line go with its beginning."""

    def __init__(self, job: int) -> None:
        self._job = str(job).encode()
        self._open: dict[tuple[str, str], bool] = {}

    def __call__(self, record: Record) -> bool:
        """Whether the record belongs to the job."""
        owner = (record.process, record.stream)
        ours = self._ours(record) if record.begins else self._open.get(owner, False)
        if not (record.begins and record.ends):
            self._open[owner] = ours
        return ours

    def _ours(self, record: Record) -> bool:
        data = record.data
        if not data.startswith(b"{"):
            return self._is_named(WORD.search(data))
        if KEY.search(data) is None:
            return False
        try:
            entry = json.loads(data)
        except (ValueError, RecursionError):  # the first piece of a very long line, perhaps
            return self._is_named(KEY.search(data))
        said = entry.get("job", entry.get("job_id"))
        return str(said).encode() == self._job

    def _is_named(self, found: re.Match[bytes] | None) -> bool:
        """Whether the digits are the job's number. A program may print more of them than a number can have."""
        return found is not None and (found[1].lstrip(b"0") or b"0") == self._job
