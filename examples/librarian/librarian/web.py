"""The search page: a small ASGI application, served by the service `web`."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from coserver import Client
from librarian import index, pages, reading, tasks

ADDRESS = f"http://127.0.0.1:{os.environ.get('LIBRARIAN_PORT') or 8642}"
STATIC = Path(__file__).parent / "static"


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """Have the whole library indexed, and tell how far it is, for as long as the application runs."""
    async with Client(os.environ["COSERVER_STORE"]) as app.state.jobs:
        await tasks.scan.asubmit()
        telling = asyncio.create_task(tell_progress())
        yield
        telling.cancel()
        with suppress(asyncio.CancelledError):
            await telling


async def tell_progress() -> None:
    """Print a line whenever the index has grown, at most one in a second."""
    print(f"search the library at {ADDRESS}", flush=True)
    told = None
    while True:
        now = await asyncio.to_thread(index.progress)
        if now != told and now.files:
            print(pages.in_words(now), flush=True)
            told = now
        await asyncio.sleep(1)


# Functions that are not coroutines run in threads of the web server, so they may read the disk.


def search(request: Request) -> Response:
    """`/?q=WORDS&page=N`: the results of a search; without words, the way to begin."""
    query = request.query_params.get("q", "").strip()[:200]
    page = _number(request, "page", 1)
    total, found = index.search(query, limit=pages.PER_PAGE, offset=(page - 1) * pages.PER_PAGE)
    results = [(one, reading.lines_with(Path(one.path), one.first, one.last, query)) for one in found]
    return _html(pages.search(query, total, results, page, index.progress(), _jobs(request)))


def source(request: Request) -> Response:
    """`/source/MODULE?from=N&to=N`: the text of a module, with some lines of it marked."""
    module = request.path_params["module"]
    path = index.path_of(module)
    if path is None:
        raise HTTPException(404, f"The library has no module {module}.")
    try:
        text = reading.read(Path(path))
    except (OSError, SyntaxError, ValueError) as error:
        raise HTTPException(404, f"{module} cannot be read: {error}") from error
    first, last = _number(request, "from", 0), _number(request, "to", 0)
    return _html(pages.source(module, path, text, first, last))


def problems(_: Request) -> Response:
    """`/problems`: the files that cannot be indexed, and why."""
    return _html(pages.problems(index.problems()))


def progress(request: Request) -> Response:
    """`/progress`: how far the index is, and how many jobs are in which state, as JSON."""
    now, jobs = index.progress(), _jobs(request)
    words = {"words": pages.in_words(now), "jobs_words": pages.jobs_in_words(jobs)}
    return JSONResponse(asdict(now) | {"done": now.done, "jobs": jobs} | words)


async def trouble(_: Request, error: Exception) -> Response:
    """Show what went wrong as a page."""
    assert isinstance(error, HTTPException)
    return _html(pages.trouble(error.detail), error.status_code)


def _jobs(request: Request) -> dict[str, int]:
    counts = request.app.state.jobs.counts()
    return {state.name.lower(): count for state, count in counts.by_state.items()}


def _html(text: str, status: int = 200) -> Response:
    return HTMLResponse(text, status, headers={"Content-Security-Policy": "default-src 'self'"})


def _number(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, "")
    return max(default, int(text)) if text.isascii() and text.isdecimal() and len(text) < 7 else default


app = Starlette(
    routes=[
        Route("/", search),
        Route("/source/{module}", source),
        Route("/problems", problems),
        Route("/progress", progress),
        Mount("/static", StaticFiles(directory=STATIC)),
    ],
    exception_handlers={HTTPException: trouble},
    lifespan=lifespan,
)
