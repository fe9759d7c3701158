"""Functions that jobs call on the root of a ZODB."""

from __future__ import annotations

import os
import threading
from typing import Any

import transaction
from BTrees.OOBTree import OOBTree
from persistent.mapping import PersistentMapping

barrier: threading.Barrier | None = None
starts: list[int] = []
"""One entry per attempt of `meet`: the thread that made it."""


def put(root: Any, name: str, value: Any) -> int:
    root.setdefault("shelf", OOBTree())[name] = value
    return len(root["shelf"])


def get(root: Any, name: str) -> Any:
    return root["shelf"][name]


def shelf(root: Any) -> Any:
    return PersistentMapping(root)


def put_and_fail(root: Any, name: str) -> None:
    put(root, name, 1)
    raise LookupError(name)


def put_and_return_it(root: Any, name: str) -> Any:
    put(root, name, 1)
    return root["shelf"]


def count(root: Any) -> int:
    """Count up; two who do so at once are in conflict."""
    root["count"] = root.get("count", 0) + 1
    found: int = root["count"]
    return found


def meet(root: Any) -> int:
    """As `count`, but the first attempts of two threads wait until both have read."""
    before: int = root.get("count", 0)
    first = threading.get_ident() not in starts
    starts.append(threading.get_ident())
    if first and barrier is not None:
        barrier.wait(30)
    root["count"] = before + 1
    return before + 1


def always_in_conflict(root: Any) -> None:
    starts.append(os.getpid())
    raise transaction.interfaces.TransientError("somebody else again")


not_callable = 1
