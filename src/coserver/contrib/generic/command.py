"""`command`: run a program; the result is its output.

Theory. Whoever may submit a job may have this worker's user run what this worker's user can run. The environment
variable COSERVER_COMMAND_ALLOW of the service narrows that to the programs that it names, separated as in PATH; each is
a name to be found on the worker's PATH, or a path. What is run is then the very file so found, and a job may not bring
environment variables, since PATH, LD_PRELOAD and their like would make another program of it.

The program inherits the worker's environment, less what would let it pose as the worker.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from coserver.contrib.generic import checks, program
from coserver.errors import InvalidArguments
from coserver.model import units
from coserver.tasks.declaration import task
from coserver.tasks.retry import Retry

if os.name != "posix":
    raise ImportError("the task `command` needs process groups, which this system does not have")

ALLOW = "COSERVER_COMMAND_ALLOW"
LAST_LINES = 10
"""Lines of output that an error shows."""
LAST_BYTES = 2000

_NOT_FOR_PROGRAMS = frozenset({"COSERVER_TOKEN", "COSERVER_SPEC", ALLOW, "NOTIFY_SOCKET"})
_OURS = "COSERVER_MARK"


class CommandRefused(Exception):
    """The program may not be run or is not there; the next attempt would find it the same."""


class CommandFailed(Exception):
    """The program ended otherwise than expected."""


class CommandTimeout(CommandFailed, TimeoutError):
    """The program's time was up, so it was ended."""


@task(name="command", retries=Retry(0, never=(CommandRefused, InvalidArguments)))
async def command(
    argv: list[str],
    cwd: str | None = None,
    env: dict[str, str] | None = None,
    timeout: str | float = "1m",
    stdin: str | None = None,
    max_output: str | int = "64K",
    expect: list[int] | None = None,
) -> dict[str, Any]:
    """Run a program, without a shell, and return `{"status", "stdout", "stderr", "seconds"}`.

    `env` is added to the worker's environment. `max_output`: bytes kept of each output, half of its beginning and half
    of its end. `expect`: the exit statuses that are a success, by default [0]; a signal that ended it is its number
    below zero. Raises `CommandRefused`, which no retry mends, `CommandTimeout` and `CommandFailed`.
    """
    if not argv or not argv[0]:
        raise InvalidArguments(
            'cannot run a command: argv names no program; write ["convert", "a.png", "b.jpg"]'
        )
    given = env or {}
    file = _program(argv[0], cwd, given)
    seconds = checks.seconds("command", timeout)
    limit = checks.size("command", "max_output", max_output)
    expected = [0] if expect is None else expect
    name = Path(argv[0]).name
    try:
        ended = await program.run(
            argv,
            executable=file,
            cwd=cwd,
            env=_environment(os.environ, given),
            stdin=stdin,
            timeout=seconds,
            limit=limit,
        )
    except BlockingIOError as error:
        raise CommandFailed(
            f"cannot run {name}: {error.strerror}; the machine has no room for it now"
        ) from None
    except (OSError, ValueError) as error:
        raise CommandRefused(f"cannot run {name}: {error}; correct argv, cwd or env") from None
    if ended.late:
        raise CommandTimeout(
            f"cannot run {name}: it had not ended after {units.format_seconds(seconds)}, so it was ended; allow a "
            f"longer timeout{_last_lines(ended)}"
        )
    if ended.status not in expected:
        wanted = " or ".join(map(str, expected))
        raise CommandFailed(
            f"cannot run {name}: {said(ended.status)} after {ended.seconds:.3g} s, expected {wanted}"
            f"{_last_lines(ended)}"
        )
    return {
        "status": ended.status,
        "stdout": ended.stdout,
        "stderr": ended.stderr,
        "seconds": round(ended.seconds, 3),
    }


def _program(name: str, cwd: str | None, env: Mapping[str, str]) -> str:
    """Return the file of a program. Raises `CommandRefused`."""
    file = _found(name, cwd)
    allowed = os.environ.get(ALLOW)
    if allowed is not None:
        names = [one for one in allowed.split(os.pathsep) if one]
        if file is None or file not in {_found(one, None) for one in names}:
            raise CommandRefused(
                f"cannot run {name}: this worker may run {', '.join(names) or 'nothing'} only; add it to {ALLOW}"
            )
        if env:
            raise CommandRefused(
                f"cannot run {name}: with {ALLOW} a job may not bring env={{…}}; set it for the service"
            )
    if file is None:
        where = (
            "there is no such file that can be run" if os.sep in name else "it is not on the worker's PATH"
        )
        raise CommandRefused(f"cannot run {name}: {where}; install it, or name its path")
    return file


def _found(name: str, cwd: str | None) -> str | None:
    # As exec does: a path is relative to the directory that the program starts in.
    found = shutil.which(os.path.join(cwd, name) if cwd and os.sep in name else name)  # noqa: PTH118
    return None if found is None else str(Path(found).absolute())


def _environment(inherited: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """Return a program's environment. The site's mark stays: by it a stopped service finds what is left of it."""
    kept = {name: value for name, value in inherited.items() if name not in _NOT_FOR_PROGRAMS}
    return kept | {name: value for name, value in given.items() if name != _OURS}


def said(status: int) -> str:
    """Say how a program ended: `it exited with status 3`, `it was ended by SIGKILL`."""
    if status >= 0:
        return f"it exited with status {status}"
    try:
        return f"it was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"it was ended by signal {-status}"


def _last_lines(ended: program.Ended) -> str:
    for name, text in (("stderr", ended.stderr), ("stdout", ended.stdout)):
        lines = text.rstrip().splitlines()[-LAST_LINES:]
        if lines:
            return f"; the end of its {name}:\n" + "\n".join(lines)[-LAST_BYTES:]
    return "; it printed nothing"
