"""The tasks that this process has declared, by name.

Theory. A job carries its task's name, so a name means one function for ever: a second function under a taken name is
an error where it is declared, not a surprise where it runs. The *same* function may come again, because modules are
reloaded, and because the file that `python -m` runs is imported a second time under its own name; it is the same when
module or file, and the qualified name, are. An alias is a former name: jobs still queued under it find the task.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import TYPE_CHECKING, Any

from coserver.errors import UsageError

if TYPE_CHECKING:
    from coserver.tasks.declaration import Task


class Registry:
    """Tasks by name and alias. Thread-safe."""

    def __init__(self) -> None:
        self._by_name: dict[str, Task[..., Any]] = {}
        self._lock = Lock()

    def add(self, task: Task[..., Any]) -> None:
        """Register a task under its name and aliases. Raises `UsageError` when another function has one of them."""
        names = (task.name, *task.aliases)
        with self._lock:
            for name in names:
                other = self._by_name.get(name)
                if other is not None and not _same(other.function, task.function):
                    raise UsageError(
                        f"cannot declare task {name!r} at {place(task.function)}: {place(other.function)} has that "
                        "name already; give one of them another with @task(name=…)"
                    )
            # A reloaded module may have dropped an alias.
            self._by_name = {
                name: known
                for name, known in self._by_name.items()
                if not _same(known.function, task.function) or known.name not in names
            }
            self._by_name.update(dict.fromkeys(names, task))

    def get(self, name: str) -> Task[..., Any] | None:
        """Return the task of that name or alias."""
        return self._by_name.get(name)

    def names(self) -> list[str]:
        """Return all names under which a job may come, aliases included."""
        return sorted(self._by_name)

    def tasks(self) -> list[Task[..., Any]]:
        """Return each task once, by name."""
        return [task for name, task in sorted(self._by_name.items()) if name == task.name]


registry = Registry()
"""What `@task` fills and the worker provides."""


def place(function: Callable[..., Any]) -> str:
    """Say where a function stands: `shop.jobs:resize (/srv/shop/jobs.py:12)`."""
    code = getattr(function, "__code__", None)
    where = f" ({code.co_filename}:{code.co_firstlineno})" if code is not None else ""
    return f"{function.__module__}:{function.__qualname__}{where}"


def _same(one: Callable[..., Any], other: Callable[..., Any]) -> bool:
    return one.__qualname__ == other.__qualname__ and (
        one.__module__ == other.__module__ or (_file(one) is not None and _file(one) == _file(other))
    )


def _file(function: Callable[..., Any]) -> str | None:
    code = getattr(function, "__code__", None)
    return None if code is None else str(code.co_filename)
