"""What is measured: every line of the report, its unit, and what coserver aims at on two cores.

Theory. A row has the same meaning whoever measures it. Where coserver can do one thing in several ways (run functions
in the loop or in threads, submit from one thread or from eight), each way is a row of its own, and `beside` names the
row of the peers and loops that it is compared with. An aim may depend on other rows of the same run, because what a
disk can do decides what a durable submit can cost.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

RATE, MS, SECONDS, PERCENT, MB = "jobs/s", "ms", "s", "%", "MB"

Look = Callable[[str, str], float | None]
"""Returns the median of a contestant's row by both their names, None when it was not measured."""

OURS, BARE = "coserver", "bare loop"


@dataclass(frozen=True, slots=True)
class Aim:
    """A bound: the figure shall be at least, or else at most, `bound`."""

    bound: float
    most: bool = False

    def met(self, value: float) -> bool:
        return value <= self.bound if self.most else value >= self.bound


Aiming = Callable[[Look], Aim | None]


def at_least(bound: float) -> Aiming:
    return lambda _look: Aim(bound)


def at_most(bound: float) -> Aiming:
    return lambda _look: Aim(bound, most=True)


def share_of(row: str, share: float, *, least: float = 0.0) -> Aiming:
    """At least this share of another row of ours, and at least `least`."""

    def aim(look: Look) -> Aim | None:
        other = look(OURS, row)
        return None if other is None else Aim(max(share * other, least))

    return aim


def _eight_threads(look: Look) -> Aim | None:
    """10,000/s where one commit takes 0.2 ms or less, else 80 % of what eight committers could have at best."""
    commits = look(BARE, "submit, 1 thread")
    if commits is None:
        return None
    return Aim(10_000) if commits >= 5_000 else Aim(0.8 * 8 * commits)


@dataclass(frozen=True, slots=True)
class Row:
    """`name` says what is measured, `short` the same where there is little room. `aims` are by database."""

    name: str
    short: str
    unit: str = RATE
    aims: dict[str, Aiming] = field(default_factory=dict)
    beside: str | None = None

    @property
    def rivals(self) -> str:
        """The row of the others that this one is compared with."""
        return self.beside or self.name


def _both(sqlite: Aiming, postgresql: Aiming | None = None) -> dict[str, Aiming]:
    return {"SQLite": sqlite, "PostgreSQL": postgresql or sqlite}


DRAIN = Row("drain, 1 process", "drain", aims=_both(at_least(60_000), at_least(40_000)))
DRAIN_2 = Row("drain, 2 processes", "drain ×2", aims=_both(share_of("drain, 1 process", 0.5, least=30_000)))
SHARE = Row("drain, 2 processes: smaller share", "share", PERCENT, _both(at_least(30)))
THREADS = Row("drain, plain functions in threads", "threads", RATE, _both(at_least(25_000)), DRAIN.name)
ISOLATED = Row("drain, isolated functions", "isolated", RATE, _both(at_least(25_000)), DRAIN.name)
AMONG_QUEUED = Row("drain, many more queued", "queued", RATE, _both(share_of(DRAIN.name, 0.8)), DRAIN.name)
AMONG_SCHEDULED = Row(
    "drain, many scheduled beside", "scheduled", RATE, _both(share_of(DRAIN.name, 0.8)), DRAIN.name
)

SUBMIT = Row("submit, 1 thread", "submit", aims={"PostgreSQL": at_least(3_000)})
SUBMIT_THREADS = Row("submit, 8 threads", "8 threads", RATE, {"SQLite": _eight_threads}, beside=SUBMIT.name)
SUBMIT_PROCESSES = Row("submit, 8 processes", "8 proc.", beside=SUBMIT.name)
SUBMIT_P50 = Row("submit, 8 processes: p50", "p50", MS)
SUBMIT_P99 = Row("submit, 8 processes: p99", "p99", MS, {"SQLite": at_most(20)})
SUBMIT_MAX = Row("submit, 8 processes: longest", "max", MS, {"SQLite": at_most(200)})
SUBMIT_MANY = Row("submit, 1000 per call", "bulk", aims=_both(at_least(200_000), at_least(120_000)))

START_P50 = Row("submit to start, p50", "p50", MS, _both(at_most(1), at_most(2)))
START_P99 = Row("submit to start, p99", "p99", MS)
REPLY_P50 = Row("submit to result, p50", "reply p50", MS, _both(at_most(5)))
REPLY_P99 = Row("submit to result, p99", "reply p99", MS)

IDLE_CPU = Row("idle worker, CPU", "idle CPU", PERCENT, _both(at_most(0.5)))
MEMORY = Row("idle worker, memory (PSS)", "memory", MB)
RESIDENT = Row("idle worker, resident", "resident", MB, _both(at_most(45)))
NODE_CPU = Row("idle keeper and node, CPU", "node CPU", PERCENT)
NODE_MEMORY = Row("idle keeper and node, memory (PSS)", "node memory", MB)
TAKEOVER = Row("kill -9: its 10 jobs run again", "takeover", SECONDS, _both(at_most(0.1)))

ROWS = (
    DRAIN, DRAIN_2, SHARE, THREADS, ISOLATED, AMONG_QUEUED, AMONG_SCHEDULED,
    SUBMIT, SUBMIT_THREADS, SUBMIT_PROCESSES, SUBMIT_P50, SUBMIT_P99, SUBMIT_MAX, SUBMIT_MANY,
    START_P50, START_P99, REPLY_P50, REPLY_P99,
    IDLE_CPU, MEMORY, RESIDENT, NODE_CPU, NODE_MEMORY, TAKEOVER,
)  # fmt: skip
