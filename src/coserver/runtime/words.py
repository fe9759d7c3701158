"""What a node says of its processes: the sentences of its log and of `why`."""

from __future__ import annotations

import errno
import logging
import sys
from collections.abc import Iterator
from typing import assert_never

from coserver.config import ServiceConfig
from coserver.host.keeper_link import SpawnFailed
from coserver.model import service as rules
from coserver.model.address import url
from coserver.model.service import Slot
from coserver.model.statuses import RECYCLED


def why_not_begun(config: ServiceConfig, event: SpawnFailed) -> str:
    """Say why a process never ran its program, and what mends it."""
    match event.stage:
        case "exec":
            program = config.command[0] if config.command else sys.executable
            if config.kind == "python":
                who = f'user "{config.user}"' if config.user else "this user"
                return f"cannot run {program}: {event.message}; let {who} read and execute the Python environment"
            if event.errno == errno.ENOENT:
                return f'cannot run "{program}": no such program; install it or correct `command`'
            return f'cannot run "{program}": {event.message}; see that it is executable'
        case "chdir":
            return f"cannot start in {config.cwd}: {event.message}; create the directory or correct `cwd`"
        case "rlimits" | "nice":
            return f"cannot start: {event.stage}: {event.message}; lower it, or start the site as root"
        case _:
            return f"cannot start: {event.stage}: {event.message}; see `coserver doctor`"


def news(
    process: str, before: Slot, after: Slot, config: ServiceConfig, now: float
) -> Iterator[tuple[int, str]]:
    """Yield what is worth a line in the log about a slot's change, as (level, sentence)."""
    state, earlier = after.state, before.state
    match state:
        case rules.Running():
            if not isinstance(earlier, rules.Running):
                yield logging.INFO, f"{process} runs, process {state.pid}"
            if state.ready and not (isinstance(earlier, rules.Running) and earlier.ready):
                if config.bind is not None:
                    yield logging.INFO, f"{process} is ready at {url(config.bind)}"
                elif config.kind == "python":
                    yield logging.INFO, f"{process} is ready"
        case rules.Clearing():
            if not isinstance(earlier, rules.Clearing):
                if config.kind == "python" and state.end.status == RECYCLED:
                    yield logging.INFO, f"{process} has done its part; a fresh process takes over"
                    return
                level = logging.INFO if isinstance(earlier, rules.Stopping) else logging.WARNING
                yield level, f"{process} ended: {rules.describe(state.end)}"
        case rules.Backoff():
            yield logging.WARNING, f"{process} starts again in {state.until - now:.1f} s"
        case rules.Fatal():
            yield (
                logging.ERROR,
                f"{process} is given up: {state.reason}; `coserver start {process}` tries again",
            )
        case rules.Stopped():
            if not isinstance(earlier, rules.Stopped):
                yield logging.INFO, f"{process} has stopped"
        case rules.Exited() | rules.Starting() | rules.Stopping():
            pass
        case _:
            assert_never(state)
