"""Names of processes, runs and patterns over them; what a queue may be called.

A service is `mail`, its second process `mail/2`, and the seventeenth run of that process has the key `mail/2#17`. A
pattern is a name, a glob over service names (`ma*`) or one over process names (`mail/*`).

A queue's name means the same in a configuration, in a glob and in a shell, so it holds nothing that these would read as
anything else. One rule holds for configuration and submits; only a row of plain SQL may say otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase

QUEUE_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.:-]*"
LONGEST_NAME = 63
"""Characters of the name of a queue, a limit, a service, a node or a site."""
QUEUE_RULE = f'its name holds letters, digits, "_", "-", "." and ":", at most {LONGEST_NAME} characters'

_queue = re.compile(QUEUE_NAME, re.ASCII).fullmatch


def is_queue(text: str) -> bool:
    """Whether a queue can have this name; `QUEUE_RULE` says it in words."""
    return len(text) <= LONGEST_NAME and _queue(text) is not None


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one process."""

    service: str
    index: int
    run: int

    @property
    def process(self) -> str:
        """`mail/2`."""
        return f"{self.service}/{self.index}"

    @property
    def key(self) -> str:
        """`mail/2#17`, the name that the keeper knows it by."""
        return f"{self.service}/{self.index}#{self.run}"


def parse_key(key: str) -> Run | None:
    """Return the run that a key names, or None when it is no key of a run."""
    process, _, run = key.rpartition("#")
    service, _, index = process.rpartition("/")
    if service and index.isdecimal() and run.isdecimal():
        return Run(service, int(index), int(run))
    return None


@dataclass(frozen=True, slots=True)
class Target:
    """A whole service, or, with `index`, one of its processes."""

    service: str
    index: int | None = None

    @property
    def name(self) -> str:
        """`mail` or `mail/2`."""
        return self.service if self.index is None else f"{self.service}/{self.index}"


def resolve(patterns: Iterable[str], services: Mapping[str, Sequence[int]]) -> tuple[list[Target], list[str]]:
    """Return what the patterns name, each once and in the order of `services`, and the patterns that name nothing.

    `services` maps each service's name to the indexes of its processes.
    """
    wanted: dict[Target, None] = {}
    unknown: list[str] = []
    for pattern in patterns:
        found = list(_matches(pattern, services))
        if not found:
            unknown.append(pattern)
        wanted.update(dict.fromkeys(found))
    wanted = {t: None for t in wanted if t.index is None or Target(t.service) not in wanted}
    order = {name: place for place, name in enumerate(services)}
    return sorted(wanted, key=lambda target: (order[target.service], target.index or 0)), unknown


def _matches(pattern: str, services: Mapping[str, Sequence[int]]) -> Iterable[Target]:
    if "/" in pattern:
        for service, indexes in services.items():
            for index in indexes:
                target = Target(service, index)
                if fnmatchcase(target.name, pattern):
                    yield target
    else:
        yield from (Target(service) for service in services if fnmatchcase(service, pattern))


def near(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that this one is close to, None when there is none."""
    return next(iter(get_close_matches(name, list(known), n=1, cutoff=0.6)), None)


def near_task(name: str, known: Iterable[str]) -> str | None:
    """Return the known task, such as `shop.jobs:report`, that this name is close to, None when there is none.

    Within one module the functions are compared, because the module's name would make all of them look alike. Those of
    other modules have to be closer, or to have just this function.
    """
    module, _, function = name.rpartition(":")
    names = list(known)
    mates = {one.rpartition(":")[2]: one for one in names if one.rpartition(":")[0] == module}
    close = near(function, mates)
    if close is not None:
        return mates[close]
    closest = get_close_matches(name, names, n=1, cutoff=0.8)
    return next(iter(closest), None) or next(
        (one for one in names if one.rpartition(":")[2] == function), None
    )


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean "…"?` for a name that is close to a known one, else an empty text."""
    return _asked(near(name, known))


def task_suggestion(name: str, known: Iterable[str]) -> str:
    """As `suggestion`, for the name of a task."""
    return _asked(near_task(name, known))


def _asked(name: str | None) -> str:
    return "" if name is None else f'; did you mean "{name}"?'


def shown(value: object) -> str:
    """Return a value as an error message quotes it: what Python writes for it, cut where that is long."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({len(text):,} characters)"


_SHOWN = 80
