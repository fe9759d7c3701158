"""The one place where tracing takes hold: who submits and who runs jobs asks here whether anybody wants to know.

Theory. coserver itself makes no traces. An `Instrument` (`coserver.contrib.otel` has one) is put into `active`, once
in each process; while there is none, a submit and a run cost one look at a name. What a submit gives to its jobs goes
along in their options, and so reaches whoever runs them, on any host.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import msgspec

from coserver.model.job import Claimed, NewJob, Outcome


class Carrier(msgspec.Struct, omit_defaults=True):
    """What a job carries of its trace, as keys of its options: the headers of W3C Trace Context."""

    traceparent: str | None = None
    tracestate: str | None = None


class Submitting(Protocol):
    """A submit under way: `jobs` are those to store, and `stored` is told the ids that the store gave them."""

    jobs: Sequence[NewJob]

    def stored(self, ids: Sequence[int]) -> None:
        """The ids in order, negated where a living job had the unique key."""


Ending = Callable[[Outcome, bool], None]
"""Told, once, how a run ended, and whether its job had failed before that, because its time was over."""


class Instrument(Protocol):
    """What follows jobs. Every method may be called by any thread, and must not raise."""

    def submitting(
        self, jobs: Sequence[NewJob], before: Sequence[Carrier]
    ) -> AbstractContextManager[Submitting]:
        """Follow a submit from here to the end of the block. `before`: of the jobs that these wait for."""

    def begin(self, claimed: Claimed) -> Ending | None:
        """A run begins, in this context, which is the run's own; None when it is not followed."""

    def crashed(self, claimed: Claimed, at: int, outcome: Outcome) -> None:
        """A run that began at `at` (ns since 1970) ended with the process that it had; its ending is not told."""

    def fields(self) -> Mapping[str, str]:
        """What a log record of this context is to carry: `trace_id` and `span_id`, or nothing."""


active: Instrument | None = None
"""Set once in a process, before it submits or runs jobs; None: nobody follows them."""


def carrier(options: str | None) -> Carrier:
    """Return what options (JSON text) carry; nothing when they cannot be read."""
    if options is None or '"traceparent"' not in options:
        return Carrier()
    try:
        return msgspec.json.decode(options, type=Carrier)
    except (msgspec.DecodeError, UnicodeError):
        return Carrier()


def carrying(options: str | None, carried: Carrier) -> str | None:
    """Return options (JSON text) that carry this besides; those that carry something already stay as they are."""
    if carried.traceparent is None or (options is not None and '"traceparent"' in options):
        return options
    added = msgspec.json.encode(carried).decode()
    return added if options is None or options == "{}" else f"{added[:-1]},{options[1:]}"
