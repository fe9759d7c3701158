"""What a worker concludes after a trip to the store whose reply was lost.

Theory. When the connection breaks during a trip, the worker does not know whether its transaction was committed:
whether the outcomes it carried were recorded, and whether jobs were claimed whose rows never arrived. It asks the
store which jobs run under its incarnation, and compares:

    in the store   at the worker        conclusion
    running        begun or at hand     nothing happened to it; it goes on
    running        outcome carried      the trip was not committed: carry the outcome again
    running        unknown              claimed by the lost reply: hand it back uncharged
    not running    begun                somebody else was given the job; its finish will be stale
    not running    at hand              the same, and it has not begun: forget it
    not running    outcome carried      recorded, if the job is finished under the same claim number or was to be
                                        tried again or handed back; otherwise the outcome came too late

"The same job" means the same id and the same claim number throughout.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from coserver.model.job import Failed, Outcome, Release, Succeeded

Key = tuple[int, int]
"""A job's id and claim number."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`resend` carry again; `release` hand back, `forget` drop jobs at hand; `ask` are outcomes of which only a look at
    the finished jobs tells whether they were recorded; all others were."""

    resend: Sequence[Outcome]
    release: Sequence[Release]
    forget: frozenset[Key]
    ask: Sequence[Succeeded | Failed]


def reconcile(
    held: Collection[Key], *, at_hand: Collection[Key], others: Collection[Key], carried: Iterable[Outcome]
) -> Verdict:
    """Compare what the store says is running (`held`) with what the worker has: jobs `at_hand`, `others` that it runs
    or has outcomes of that were not carried yet, and the outcomes `carried` by lost trips."""
    running = frozenset(held)
    carried = list(carried)
    known = frozenset(at_hand) | frozenset(others) | {(one.id, one.claim) for one in carried}
    return Verdict(
        resend=[one for one in carried if (one.id, one.claim) in running],
        release=[Release(job, claim) for job, claim in sorted(running - known)],
        forget=frozenset(at_hand) - running,
        ask=[
            one
            for one in carried
            if isinstance(one, Succeeded | Failed) and (one.id, one.claim) not in running
        ],
    )
