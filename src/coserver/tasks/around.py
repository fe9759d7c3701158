"""What a framework wants done around every job: connections closed, caches emptied, a context entered.

Theory. A web framework does such things around each request, and code that runs in jobs counts on them as well. It puts
a `Framework` into `active`, once in each process, before jobs run; while there is none, a run costs one look at a name.
What an isolated job needs is done in its own process.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Framework(Protocol):
    """What is entered before a job's function and left after it, however it ended."""

    def plain(self) -> AbstractContextManager[object]:
        """Around a plain function, in the thread that runs it."""

    def coroutine(self) -> AbstractAsyncContextManager[object]:
        """Around a coroutine, in its own context."""


active: Framework | None = None
"""Set once in a process, before it runs jobs; None: nothing is done."""


def call(framework: Framework, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Any) -> Any:
    """Call a plain function within what the framework wants."""
    with framework.plain():
        return function(*args, **kwargs)


async def wait(framework: Framework, coroutine: Awaitable[T]) -> T:
    """Await a coroutine within what the framework wants."""
    async with framework.coroutine():
        return await coroutine
