"""`coserver start`, `stop` and `restart`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import click

from coserver.cli.context import (
    Surroundings,
    json_option,
    pass_surroundings,
    put_json,
    put_text,
    say,
    user_name,
)
from coserver.cli.times import Duration
from coserver.errors import TimedOut

_DONE = {"start": "running", "stop": "stopped", "restart": "running"}


def _verb(name: str, help_text: str) -> click.Command:
    @click.command(name, help=help_text)
    @click.argument("names", nargs=-1, required=True, metavar="NAME…")
    @click.option("--no-wait", is_flag=True, help="Do not wait until it is done.")
    @click.option("--timeout", type=Duration(), default=60.0, metavar="TIME", help="How long to wait (60s).")
    @json_option
    @pass_surroundings
    def command(
        surroundings: Surroundings, names: tuple[str, ...], no_wait: bool, timeout: float, as_json: bool
    ) -> None:
        site = surroundings.running
        say(f"{name} {' '.join(names)} on {site.name} ({site.file})")
        answer = surroundings.node.order(name, list(names), by=user_name(), wait=not no_wait, timeout=timeout)
        if as_json:
            put_json(answer)
        else:
            for result in answer["results"]:
                _print(result)
        _leave(name, answer, timeout)

    return command


def _print(result: dict[str, Any]) -> None:
    for process in result["processes"]:
        pid = f", process {process['pid']}" if process["pid"] else ""
        why = f": {process['why']}" if process["why"] else ""
        put_text(f"{process['name']} {process['state']}{pid}{why}")
    if result["result"] == "superseded":
        say(f"another command for {result['name']} came in between; the later one holds")


def _leave(verb: str, answer: dict[str, Any], timeout: float) -> None:
    results = {result["result"] for result in answer["results"]}
    if "timeout" in results:
        late = [result["name"] for result in answer["results"] if result["result"] == "timeout"]
        raise TimedOut(
            f"cannot say that {', '.join(late)} is {_DONE[verb]}: not within {timeout:g} s; "
            f"it goes on trying, `coserver status` shows how it is"
        )
    if "failed" in results:
        failed = [result["name"] for result in answer["results"] if result["result"] == "failed"]
        say(f"see `coserver logs {failed[0]}`")
        sys.exit(1)


NAMES_HELP = """

NAME is a service, one of its processes as NAME/2, or a glob such as 'web*'.
"""

start: Callable[..., Any] = _verb(
    "start", "Start what does not run, and wait until it is ready." + NAMES_HELP
)
stop: Callable[..., Any] = _verb(
    "stop",
    "Stop, and wait until nothing is left of it. It stays stopped, also after the next `up`, until `start`."
    + NAMES_HELP,
)
restart: Callable[..., Any] = _verb(
    "restart", "Stop and start anew, and wait until it is ready." + NAMES_HELP
)
