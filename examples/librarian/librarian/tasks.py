"""The work of the librarian: two tasks, run by the processes of the service `indexers`.

A task is a function that can also be submitted: `index_file(path)` calls it here and now, `index_file.submit(path)`
stores a job, which one of the indexers takes. An indexer may be killed in the middle of a file; coserver then gives the
job to another one, so both tasks can be repeated without harm.
"""

import asyncio
import hashlib
from pathlib import Path

from coserver import Retry, task
from librarian import index, library, reading


@task(queue="library", priority="high")
async def scan() -> int:
    """Submit one job for each file of the library; return how many.

    A coroutine runs in the indexer's event loop: right for work that mostly waits, here for the disk and the store.
    """
    modules = {str(path): library.module(path) for path in await asyncio.to_thread(library.files)}
    await asyncio.to_thread(index.expect, modules)
    await index_file.asubmit_many(index_file.bind(path) for path in modules)
    return len(modules)


@task(queue="library", retries=Retry(1, backoff="2s"))
def index_file(path: str) -> int:
    """Index one file unless it is as it was; return how many definitions it holds now, 0 when unchanged.

    A plain function runs in a thread: right for work that computes or blocks. Files that Python itself cannot read,
    such as tests with a wrong encoding, fail with Python's own error and are tried once more.
    """
    module = library.module(Path(path))
    try:
        source = reading.read(Path(path))
        digest = hashlib.sha256(source.encode(errors="surrogatepass")).hexdigest()
        if digest == index.digest(path):
            return 0
        definitions = reading.definitions(source, module, path)
    except (SyntaxError, ValueError) as error:
        index.put_problem(path, module, f"{type(error).__name__}: {error}")
        raise
    index.put(path, module, digest, definitions)
    return len(definitions)
