"""Jobs that wait for jobs: what follows when some of them end.

Theory. An edge leads from a parent to a child and names the end that it asks for. A child counts the parents that it
still waits for (`waits`). A parent's end that fits lowers the count, and at zero the child is let go; one that does not
fit ends the child as cancelled, and that is an end like any other, so it goes on down the graph wave by wave. A child
that took over from its parent ends just as the parent did.

Edges lead to jobs that were there before, so no circle can arise, except by taking over: whoever writes such an edge
looks first whether the parent waits for the child.

A child that no longer waits (it was cancelled for another reason) takes no notice of ends. Put back, it waits again for
those that have not ended as it asks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from coserver.model.job import On, State


@dataclass(frozen=True, slots=True)
class Link:
    """An edge whose parent has ended as `state`."""

    child: int
    parent: int
    on: On
    state: State


@dataclass(frozen=True, slots=True)
class Cancel:
    """The child ends as cancelled; `why` says it to people."""

    why: str


@dataclass(frozen=True, slots=True)
class Adopt:
    """The child ends as `parent` did."""

    parent: int


@dataclass(frozen=True, slots=True)
class Wave:
    """What follows from one wave of ends: the new `waits` of children that wait on, children that wait no more, and
    those that end themselves. A child is in exactly one of them."""

    waits: dict[int, int] = field(default_factory=dict)
    free: list[int] = field(default_factory=list)
    ends: dict[int, Cancel | Adopt] = field(default_factory=dict)


def meets(on: On, state: State) -> bool:
    """Whether an end is one that the edge asks for."""
    match on:
        case On.SUCCESS:
            return state == State.SUCCEEDED
        case On.FAILURE:
            return state != State.SUCCEEDED
        case On.END | On.TAKE_OVER:
            return True


def verdict(links: Iterable[Link]) -> Cancel | Adopt | None:
    """What the ends of its parents mean for one child: None, if all fit."""
    for link in links:
        if link.on is On.TAKE_OVER:
            return Adopt(link.parent)
        if not meets(link.on, link.state):
            return Cancel(_why(link))
    return None


def follow(links: Iterable[Link], waits: Mapping[int, int]) -> Wave:
    """Say what follows from the ends of `links`. `waits`: of how many parents each living child awaits the end."""
    by_child: defaultdict[int, list[Link]] = defaultdict(list)
    for link in links:
        by_child[link.child].append(link)
    wave = Wave()
    for child, its in sorted(by_child.items()):
        left = waits.get(child, 0) - len(its)
        if left < 0:
            continue
        end = verdict(its)
        if end is not None:
            wave.ends[child] = end
        elif left:
            wave.waits[child] = left
        else:
            wave.free.append(child)
    return wave


_WORDS = {
    State.SUCCEEDED: "succeeded",
    State.FAILED: "failed",
    State.CANCELLED: "was cancelled",
    State.EXPIRED: "expired",
    State.LOST: "was lost",
}


def _why(link: Link) -> str:
    awaited = "whose failure it waited for" if link.on is On.FAILURE else "which it waited for"
    return f"job {link.parent}, {awaited}, {_WORDS[link.state]}"
