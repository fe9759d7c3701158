"""What a task is given that runs because another job did not succeed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Failure:
    """How a job ended: its number, its final `state` ("failed", "lost", "cancelled" or "expired"), and the error.

    `type` is the exception's qualified name in its worker, `message` its text, `traceback` the formatted traceback;
    each is empty where there is nothing to tell. A task takes it as its only argument: `def alert(failure: Failure)`.
    """

    job: int
    state: str
    type: str
    message: str
    traceback: str
