"""Django's connections around jobs: what Django does around requests, which jobs have none of."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from asgiref.sync import sync_to_async
from django.db import close_old_connections, reset_queries


class AroundJobs:
    """`tasks.around.Framework`: connections that are broken or too old are closed before and after each job, in the
    thread that uses them, and what DEBUG remembers of queries is forgotten."""

    @contextmanager
    def plain(self) -> Iterator[None]:
        """In the thread of a plain function."""
        _begin()
        try:
            yield
        finally:
            close_old_connections()

    @asynccontextmanager
    async def coroutine(self) -> AsyncIterator[None]:
        """Around a coroutine, whose calls of the ORM run in the one thread that asgiref has for them."""
        await sync_to_async(_begin)()
        try:
            yield
        finally:
            await sync_to_async(close_old_connections)()


def _begin() -> None:
    reset_queries()
    close_old_connections()
