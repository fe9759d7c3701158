"""`coserver jobs submit`: a job of any task, from the shell."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from coserver.cli.context import Surroundings, json_option, pass_surroundings, put_json, say
from coserver.cli.job_text import as_whole
from coserver.cli.times import Duration, Moment
from coserver.client import Client
from coserver.errors import InvalidArguments, JobError, UnknownTask, UsageError
from coserver.model.names import task_suggestion
from coserver.model.payload import MAX_DEPTH

_TOO_DEEP = f"it is nested too deeply; at most {MAX_DEPTH} levels are stored, so pass a reference to the data"

NAMED = 5
"""Tasks that a message names."""


@click.command()
@click.argument("task")
@click.argument("arguments", nargs=-1, metavar="[ARGUMENT]…")
@click.option("--args", "as_array", metavar="JSON", help="All positional arguments, as a JSON array.")
@click.option("--kwargs", "as_object", metavar="JSON", help="The keyword arguments, as a JSON object.")
@click.option("--queue", metavar="NAME", help="Into this queue instead of the task's own.")
@click.option(
    "--priority", type=click.Choice(["high", "normal", "low"]), help="Higher ones come first (normal)."
)
@click.option("--delay", type=Duration(), metavar="TIME", help="Not before so much time has passed.")
@click.option(
    "--at", type=Moment(ahead=True), metavar="TIME", help="Not before 2026-01-31T12:00 (local time)."
)
@click.option("--hold", is_flag=True, help="Wait until `coserver jobs release`.")
@click.option(
    "--begin-by",
    type=Duration(),
    metavar="TIME",
    help="Expire when it has not begun so long after it was due.",
)
@click.option("--after", type=int, multiple=True, metavar="ID", help="Wait for this job; may be repeated.")
@click.option(
    "--when",
    type=click.Choice(["success", "failure", "end"]),
    help="With --after: on which end of those jobs it runs (success).",
)
@click.option("--unique", metavar="KEY", help="Only when no living job of this task has this key.")
@click.option("--unique-args", is_flag=True, help="Only when no living job of this task has these arguments.")
@click.option(
    "--unique-until",
    type=click.Choice(["finished", "started"]),
    help="With either of these: until when a job counts as living (finished).",
)
@click.option("--limit", metavar="KEY", help="Under this limit key, such as `api` or `user:7`.")
@click.option("--tag", "tags", multiple=True, metavar="WORD", help="A word to find it by; may be repeated.")
@click.option(
    "--retries", type=click.IntRange(0), metavar="NUMBER", help="So many attempts after a failed first one."
)
@click.option("--time-limit", type=Duration(), metavar="TIME", help="How long an attempt may take.")
@click.option("--wait", is_flag=True, help="Wait for the result and print it.")
@click.option("--timeout", type=Duration(), metavar="TIME", help="With --wait: how long (for ever).")
@click.option("--unchecked", is_flag=True, help="Do not look whether the site knows the task.")
@json_option
@pass_surroundings
def submit(
    surroundings: Surroundings,
    /,
    task: str,
    arguments: tuple[str, ...],
    as_array: str | None,
    as_object: str | None,
    after: tuple[int, ...],
    when: Any,
    unique: str | None,
    unique_args: bool,
    time_limit: float | None,
    wait: bool,
    timeout: float | None,
    unchecked: bool,
    as_json: bool,
    **said: Any,
) -> None:
    """Submit a job of TASK and print its number.

    \b
      coserver jobs submit shop.jobs:report daily
      coserver jobs submit shop.jobs:resize --args '["a.png"]' --kwargs '{"size": 200}'
      coserver jobs submit shop.jobs:publish --after 17 --delay 10m --tag spring

    An ARGUMENT that is JSON (a number, true, a "text") is that; any other is text. When --unique finds such a job, its
    number is printed, and nothing is submitted.
    """
    _refuse(
        (arguments and as_array is not None, "both ARGUMENTs and --args; leave one out"),
        (said["delay"] is not None and said["at"] is not None, "both --delay and --at; leave one out"),
        (unique is not None and unique_args, "both --unique and --unique-args; leave one out"),
        (when is not None and not after, "--when without --after; name the jobs that it waits for"),
        (timeout is not None and not wait, "--timeout without --wait; an attempt's own is --time-limit"),
        (
            said["unique_until"] is not None and unique is None and not unique_args,
            "--unique-until without --unique or --unique-args; name what is unique",
        ),
    )
    positional = (
        [_value(argument) for argument in arguments] if as_array is None else _json("--args", as_array, list)
    )
    keywords = {} if as_object is None else _json("--kwargs", as_object, dict)
    if not unchecked:
        _check_known(surroundings, task)
    with Client(surroundings.site.store) as client:
        said |= {
            "when": when,
            "after": [client.job(number) for number in after] or None,
            "unique": True if unique_args else unique,
            "timeout": time_limit,
        }
        job = client.submit(task, positional, keywords, **said)
        if not job.created:
            say(f"job {job.id} was there already, and lives; nothing was submitted")
        if not wait:
            put_json({"id": job.id, "created": job.created}) if as_json else click.echo(job.id)
            return
        try:
            result = job.result(timeout)
        except JobError as error:
            info = client.look(job.id) if as_json else None
            if info is not None:
                put_json(as_whole(info))
            say(f"job {job.id}: {error}")
            sys.exit(error.exit_status)
        put_json({"id": job.id, "created": job.created, "result": result} if as_json else result)


def _refuse(*mistakes: tuple[object, str]) -> None:
    for made, says in mistakes:
        if made:
            raise UsageError(f"cannot take {says}")


def _value(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        raise InvalidArguments(f"cannot read an ARGUMENT: {_TOO_DEEP}") from None
    except ValueError:
        return text


def _no_constant(name: str) -> None:
    raise ValueError(name)


def _json(option: str, text: str, kind: type) -> Any:
    shape = "an array such as '[1, \"a\"]'" if kind is list else "an object such as '{\"size\": 200}'"
    try:
        found = json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        raise InvalidArguments(f"cannot read {option}: {_TOO_DEEP}") from None
    except ValueError as error:
        raise InvalidArguments(f"cannot read {option}: it is no JSON ({error}); write {shape}") from None
    if not isinstance(found, kind):
        raise InvalidArguments(f"cannot read {option}: it is JSON, but not {shape}; quote it for the shell")
    return found


def _check_known(surroundings: Surroundings, task: str) -> None:
    """Refuse a task that no service of the site has; say so when that cannot be known."""
    from coserver.runtime.loading import CannotLoad, load_tasks, run_setup
    from coserver.tasks.registry import registry

    site = surroundings.site
    services = [service for service in site.services.values() if service.works]
    if not services:
        return
    try:
        for service in services:
            sys.path[:0] = [str(path) for path in service.path if str(path) not in sys.path]
            if service.setup is not None:
                run_setup(service.setup)
            load_tasks(service.tasks)
    except CannotLoad as error:
        say(f"not checked whether the site knows {task}: {error}")
        return
    if registry.get(task) is None:
        hint = task_suggestion(task, registry.names())
        names = registry.names()
        known = ", ".join([*names[:NAMED], *(["…"] if len(names) > NAMED else [])]) or "none"
        raise UnknownTask(
            f'cannot submit "{task}": no service has that task{hint or f"; it knows {known}"}, '
            "or submit it with --unchecked"
        )
