"""What a Python service process is told at its start: one record, built by the node, read by the process.

It travels as JSON in the environment variable `COSERVER_SPEC`. The record is complete: a process reads no
configuration file. Unknown keys are ignored, so that a newer node may start an older process during an upgrade.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec

ENVIRONMENT = "COSERVER_SPEC"

LEASE = 8.0
"""Seconds that a worker's lease lasts. Its jobs begin elsewhere at most a second or two later; and where two renewals
in a row are late, there is still time for a third."""
RENEWALS = 4
"""How often in that time it is renewed, by the node or by the worker itself."""


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """One Python service process.

    `process` is `images/2`, `run` grows with every start of that process and is never reused. `host` is what the node
    calls its host, None meaning that the system is to be asked. `store` is its URL, password included; `bus` and
    `token` lead to the node, both None when there is none. `path` goes before `sys.path` (absolute directories),
    `setup` is `module` or `module:function`, called before `tasks` (modules) are imported. `queues` holds (queue, jobs
    at once) and `concurrency` caps their sum, None meaning no further cap; without queues and tasks no worker runs.
    `threads` plain functions run at once, and isolated ones in `isolated` processes, None meaning as many as there are
    processors. `asgi` and `wsgi` are `module:attribute`, of which at most one is given, with `bind` as `HOST:PORT`,
    `[HOST]:PORT` or `unix:PATH`. `started` is the file of started jobs (see `runtime.started`), `wake` the directory
    for a socket that rouses the worker (SQLite only). `log_format` is "text" or "json" (see `coserver.logs`).
    When `max_jobs` have run, it is `max_age` seconds old, or it takes more than `max_memory` bytes, each roughly, the
    process leaves in order for a fresh one to take over. After a request to stop the process is gone within
    `stop_timeout` seconds.
    """

    site: str
    service: str
    process: str
    run: int = 0
    host: str | None = None
    store: str | None = None
    bus: str | None = None
    token: str | None = None
    path: tuple[str, ...] = ()
    setup: str | None = None
    tasks: tuple[str, ...] = ()
    queues: tuple[tuple[str, int], ...] = ()
    concurrency: int | None = None
    threads: int = 8
    isolated: int | None = None
    asgi: str | None = None
    wsgi: str | None = None
    bind: str | None = None
    started: str | None = None
    wake: str | None = None
    stop_timeout: float = 30.0
    max_jobs: int | None = None
    max_age: float | None = None
    max_memory: int | None = None
    log_format: Literal["text", "json"] = "text"


def encode(spec: ServiceSpec) -> str:
    """Return the specification as one line of JSON."""
    return msgspec.json.encode(spec).decode()


def decode(text: str) -> ServiceSpec:
    """Return the specification that `text` holds; ValueError when it holds none."""
    try:
        return msgspec.json.decode(text, type=ServiceSpec)
    except msgspec.MsgspecError as error:
        raise ValueError(f"cannot read {ENVIRONMENT}: {error}; the node has to set it") from error
