"""Quantities in the arguments of generic tasks, read as the configuration reads them."""

from __future__ import annotations

from coserver.errors import InvalidArguments
from coserver.model import units


def seconds(task: str, timeout: str | float) -> float:
    """Return a time limit in seconds. Raises `InvalidArguments` for what is none, or not above zero."""
    try:
        found = units.seconds(timeout)
    except ValueError as error:
        raise InvalidArguments(f"{error} (timeout of {task})") from None
    if found <= 0:
        raise InvalidArguments(f'cannot run {task}: timeout = {timeout!r} leaves no time; write "30s"')
    return found


def size(task: str, name: str, value: str | int) -> int:
    """Return a size in bytes. Raises `InvalidArguments`."""
    try:
        return units.size(value)
    except ValueError as error:
        raise InvalidArguments(f"{error} ({name} of {task})") from None
