"""What a worker and the processes beside it that run isolated jobs say to each other: bytes ↔ messages.

Theory. A message is a frame: four bytes of length, big-endian, then MessagePack of an array whose first element names
the message. Jobs and outcomes travel in lists, so that a thousand short jobs cost a few frames. Both ends are the same
program of the same version, so nothing is negotiated.

The worker says `Work`, `Recall` to have back what has not begun, and `Halt` to have one job stopped. The process
answers a recall by `Returned` with all that it had and did not begin, says `Ready` when it can work, reports
`Outcomes`, `Began` for those jobs whose begin the worker wants to know, and `Told` for progress. The end of the
connection is the end of the process.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from coserver.model.job import (
    Cancelled,
    Claimed,
    Crashed,
    Failed,
    Interrupted,
    Outcome,
    Release,
    Retry,
    Succeeded,
    TakeOver,
)


class Item(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A job to run. `args` are final; `place` is its slot in the file of started jobs, None when it has none; `tell`
    asks for `Began`."""

    id: int
    claim: int
    task: str
    queue: str
    args: str
    attempt: int
    crashes: int
    priority: int
    created_at: int
    options: str | None
    place: int | None
    tell: bool

    def claimed(self) -> Claimed:
        """The job as the store gave it."""
        return Claimed(
            self.id,
            self.claim,
            self.task,
            self.queue,
            self.args,
            self.attempt,
            self.crashes,
            self.priority,
            self.created_at,
            self.options,
        )


class Work(msgspec.Struct, frozen=True, array_like=True, tag="work", gc=False):
    """Run these, in this order, after what you have."""

    items: list[Item]


class Recall(msgspec.Struct, frozen=True, array_like=True, tag="recall", gc=False):
    """Give back what you have not begun."""


class Halt(msgspec.Struct, frozen=True, array_like=True, tag="halt", gc=False):
    """Stop this job: give it back if it has not begun, else raise `SystemExit` in it and ask what it has started to
    end. A process that was told so ends when the job has: a function that was cut short may leave anything behind."""

    id: int


class Began(msgspec.Struct, frozen=True, array_like=True, tag="began", gc=False):
    """The job begins now."""

    id: int


class Outcomes(msgspec.Struct, frozen=True, array_like=True, tag="outcomes", gc=False):
    """How jobs ended, each as (kind, id, claim, text or none, number, number)."""

    ends: list[tuple[int, int, int, str | None, int, int]]


class Told(msgspec.Struct, frozen=True, array_like=True, tag="told", gc=False):
    """What jobs say of their progress: (id, claim, fraction, note)."""

    words: list[tuple[int, int, float | None, str]]


class Returned(msgspec.Struct, frozen=True, array_like=True, tag="returned", gc=False):
    """These have not begun and never will here."""

    ids: list[int]


class Ready(msgspec.Struct, frozen=True, array_like=True, tag="ready", gc=False):
    """The application is imported."""


ToChild = Work | Recall | Halt
FromChild = Ready | Began | Outcomes | Told | Returned

_HEAD = 4
_encoder = msgspec.msgpack.Encoder()
M = TypeVar("M")


def encode(message: ToChild | FromChild) -> bytearray:
    """Return the message as one frame."""
    frame = bytearray(_HEAD)
    _encoder.encode_into(message, frame, _HEAD)
    frame[:_HEAD] = (len(frame) - _HEAD).to_bytes(_HEAD, "big")
    return frame


class Decoder(Generic[M]):
    """Turns the bytes of one direction into messages; made by `to_child` or `from_child`."""

    def __init__(self, type: Any) -> None:
        self._decode = msgspec.msgpack.Decoder(type).decode
        self._rest = bytearray()

    def feed(self, data: bytes) -> Iterator[M]:
        """Yield the messages that `data` completes, in order."""
        rest = self._rest
        rest += data
        at = 0
        while len(rest) - at >= _HEAD:
            end = at + _HEAD + int.from_bytes(rest[at : at + _HEAD], "big")
            if len(rest) < end:
                break
            yield self._decode(bytes(rest[at + _HEAD : end]))
            at = end
        del rest[:at]


def to_child() -> Decoder[ToChild]:
    """A decoder for the process's side."""
    return Decoder(ToChild)


def from_child() -> Decoder[FromChild]:
    """A decoder for the worker's side."""
    return Decoder(FromChild)


def pack(outcomes: Sequence[Outcome]) -> Outcomes:
    """Return outcomes as they travel."""
    return Outcomes([_packed(outcome) for outcome in outcomes])


def _packed(one: Outcome) -> tuple[int, int, int, str | None, int, int]:
    match one:
        case Succeeded():
            return 0, one.id, one.claim, one.result, one.started_at, one.finished_at
        case Failed():
            return 1, one.id, one.claim, one.error, one.started_at, one.finished_at
        case Retry():
            return 2, one.id, one.claim, one.error, one.delay, 0
        case Cancelled():
            return 3, one.id, one.claim, one.error, one.started_at, one.finished_at
        case TakeOver():
            return 4, one.id, one.claim, None, one.job, one.started_at
        case Release() | Crashed() | Interrupted():
            raise AssertionError(f"no process beside the worker says {type(one).__name__}")


def unpack(message: Outcomes) -> Iterator[Outcome]:
    """Yield the outcomes that `pack` packed."""
    for kind, job, claim, text, first, second in message.ends:
        match kind:
            case 0:
                yield Succeeded(job, claim, text, first, second)
            case 1:
                yield Failed(job, claim, text or "", first, second)
            case 2:
                yield Retry(job, claim, text or "", first)
            case 3:
                yield Cancelled(job, claim, text, first, second)
            case _:
                yield TakeOver(job, claim, first, second)
