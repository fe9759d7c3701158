"""`coserver jobs …`: they speak to the store itself, so the site need not be up."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import click

from coserver.cli.context import (
    Surroundings,
    json_option,
    pass_surroundings,
    put_json,
    put_table,
    put_text,
    say,
)
from coserver.cli.services import Duration
from coserver.cli.table import Column, duration, shortened
from coserver.cli.why import why_as_dict, why_in_words
from coserver.client import Client
from coserver.errors import InvalidArguments, JobError, ResultGone, UnknownName, UnknownTask, UsageError
from coserver.model.job import JobInfo, State
from coserver.model.names import suggestion
from coserver.model.payload import MAX_DEPTH

COLUMNS = (
    Column("ID", right=True),
    Column("STATE"),
    Column("TASK"),
    Column("QUEUE", spare=2),
    Column("PRIORITY", spare=4),
    Column("TRY", right=True, spare=3),
    Column("AGE", right=True, spare=1),
    Column("TOOK", right=True, spare=2),
    Column("ERROR OR ARGUMENTS"),
)
_TOO_DEEP = f"it is nested too deeply; at most {MAX_DEPTH} levels are stored, so pass a reference to the data"
STATES = [state.name.lower() for state in State]


@click.group()
def jobs() -> None:
    """Submit, list, show and retry jobs."""


def _client(surroundings: Surroundings) -> Client:
    return Client(surroundings.site.store)


@jobs.command()
@click.argument("task")
@click.argument("arguments", nargs=-1, metavar="[ARGUMENT]…")
@click.option("--args", "as_array", metavar="JSON", help="All positional arguments, as a JSON array.")
@click.option("--kwargs", "as_object", metavar="JSON", help="The keyword arguments, as a JSON object.")
@click.option("--queue", metavar="NAME", help="Into this queue instead of the task's own.")
@click.option(
    "--priority", type=click.Choice(["high", "normal", "low"]), help="Higher ones come first (normal)."
)
@click.option("--delay", type=Duration(), metavar="TIME", help="Not before so much time has passed.")
@click.option("--wait", is_flag=True, help="Wait for the result and print it.")
@click.option("--timeout", type=Duration(), metavar="TIME", help="With --wait: how long (for ever).")
@click.option("--unchecked", is_flag=True, help="Do not look whether the site knows the task.")
@json_option
@pass_surroundings
def submit(
    surroundings: Surroundings,
    task: str,
    arguments: tuple[str, ...],
    as_array: str | None,
    as_object: str | None,
    queue: str | None,
    priority: Any,
    delay: float | None,
    wait: bool,
    timeout: float | None,
    unchecked: bool,
    as_json: bool,
) -> None:
    """Submit a job of TASK and print its number.

    \b
      coserver jobs submit shop.jobs:report daily
      coserver jobs submit shop.jobs:resize --args '["a.png"]' --kwargs '{"size": 200}'

    An ARGUMENT that is JSON (a number, true, a "text") is that; any other is text.
    """
    if arguments and as_array is not None:
        raise UsageError("cannot take both ARGUMENTs and --args; leave one out")
    positional = (
        [_value(argument) for argument in arguments] if as_array is None else _json("--args", as_array, list)
    )
    keywords = {} if as_object is None else _json("--kwargs", as_object, dict)
    if not unchecked:
        _check_known(surroundings, task)
    with _client(surroundings) as client:
        job = client.submit(task, positional, keywords, queue=queue, priority=priority, delay=delay)
        if not wait:
            put_json({"id": job.id}) if as_json else click.echo(job.id)
            return
        try:
            result = job.result(timeout)
        except JobError as error:
            info = client.look(job.id) if as_json else None
            if info is not None:
                put_json(_as_dict(info))
            say(f"job {job.id}: {error}")
            sys.exit(error.exit_status)
        put_json({"id": job.id, "result": result} if as_json else result)


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
        hint = suggestion(task, registry.names())
        known = ", ".join(registry.names()[:5]) or "none"
        raise UnknownTask(
            f'cannot submit "{task}": no service has that task{hint or f"; it knows {known}"}, '
            "or submit it with --unchecked"
        )


@jobs.command("list")
@click.option(
    "--state", "states", multiple=True, type=click.Choice(STATES), help="Only these; may be repeated."
)
@click.option("--queue", metavar="NAME", help="Only of this queue.")
@click.option("--task", metavar="NAME", help="Only of this task.")
@click.option("-n", "--limit", type=click.IntRange(1, 10_000), default=20, help="At most so many (20).")
@click.option("--before", type=int, metavar="ID", help="Older than this job.")
@json_option
@pass_surroundings
def list_jobs(
    surroundings: Surroundings,
    states: tuple[Any, ...],
    queue: str | None,
    task: str | None,
    limit: int,
    before: int | None,
    as_json: bool,
) -> None:
    """List jobs, newest first."""
    with _client(surroundings) as client:
        found = client.jobs(states=states, queue=queue, task=task, limit=limit, before=before)
    if as_json:
        put_json({"jobs": [_as_dict(info) for info in found]})
        return
    put_table(COLUMNS, [_row(info) for info in found])
    if len(found) == limit:
        say(f"more with --before {found[-1].id}")


def _row(info: JobInfo) -> list[str]:
    age = time.time() - info.created_at / 1e6
    took = None
    if info.started_at is not None and info.finished_at is not None:
        took = (info.finished_at - info.started_at) / 1e6
    return [
        str(info.id),
        info.state.name.lower(),
        shortened(info.task, 80),
        shortened(info.queue or "-", 40),
        info.priority.name.lower(),
        str(_attempt(info)),
        duration(max(0.0, age)),
        "-" if took is None else f"{took * 1000:.0f} ms" if took < 1 else duration(took),
        shortened(
            f"{info.error.type}: {info.error.message}".splitlines()[0] if info.error else info.args, 120
        ),
    ]


def _attempt(info: JobInfo) -> int:
    """Return which attempt it is in, or ended with, from 1 as its function sees it; while it waits, how many it had."""
    return info.attempt + (info.started_at is not None)


def _as_dict(info: JobInfo) -> dict[str, Any]:
    return {
        "id": info.id,
        "task": info.task,
        "queue": info.queue,
        "state": info.state.name.lower(),
        "priority": info.priority.name.lower(),
        "args": _stored(info.args),
        "attempt": _attempt(info),
        "crashes": info.crashes,
        "worker": info.worker,
        "created_at": _iso(info.created_at),
        "run_at": _iso(info.run_at),
        "started_at": _iso(info.started_at),
        "finished_at": _iso(info.finished_at),
        "result": None if info.result is None else _stored(info.result),
        "error": None
        if info.error is None
        else {
            "type": info.error.type,
            "message": info.error.message,
            "traceback": info.error.traceback,
        },
    }


def _stored(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _iso(at: int | None) -> str | None:
    from coserver.host.log_text import timestamp

    return None if at is None else timestamp(at)


@jobs.command()
@click.argument("id", type=int)
@json_option
@pass_surroundings
def show(surroundings: Surroundings, id: int, as_json: bool) -> None:
    """Show all that is known of one job."""
    with _client(surroundings) as client:
        found = client.why(id)
    if found is None:
        raise ResultGone(
            f"cannot find job {id}: its record was pruned, or it never was; see `coserver jobs list`"
        )
    info = found.job
    if as_json:
        put_json(_as_dict(info) | {"why": None if info.state.final else why_as_dict(found)})
        return
    put_text(f"job {info.id}  {info.task}  {info.state.name.lower()}", colour="bold")
    shown = _as_dict(info)
    for key in (
        "queue",
        "priority",
        "attempt",
        "crashes",
        "worker",
        "created_at",
        "run_at",
        "started_at",
        "finished_at",
    ):
        if shown[key] is not None:
            put_text(f"  {key.replace('_', ' '):12} {shown[key]}")
    if not info.state.final:
        put_text(f"  {'why':12} {why_in_words(found)}")
    put_text(f"  {'arguments':12} {info.args}")
    if info.result is not None:
        put_text(f"  {'result':12} {info.result}")
    if info.error is not None:
        put_text(f"\n{info.error.type}: {info.error.message}", colour="red")
        put_text(info.error.traceback)


@jobs.command()
@click.argument("ids", nargs=-1, type=int, metavar="[ID]…")
@click.option("--failed", "all_failed", is_flag=True, help="All failed and lost jobs.")
@click.option("--task", metavar="NAME", help="With --failed: only of this task.")
@click.option("--queue", metavar="NAME", help="With --failed: only of this queue.")
@click.option("--dry-run", is_flag=True, help="Only say how many they are.")
@json_option
@pass_surroundings
def retry(
    surroundings: Surroundings,
    ids: tuple[int, ...],
    all_failed: bool,
    task: str | None,
    queue: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Put failed or lost jobs back into their queues, with a fresh budget of retries."""
    if bool(ids) == all_failed:
        raise UsageError("cannot tell which jobs to retry; give their IDs or --failed")
    done: list[int] = []
    with _client(surroundings) as client:
        if ids:
            done = list(ids) if dry_run else client.retry(ids)
        else:
            before: int | None = None
            while found := client.jobs(
                states=[State.FAILED, State.LOST], queue=queue, task=task, limit=500, before=before
            ):
                before = found[-1].id
                batch = [info.id for info in found]
                done += batch if dry_run else client.retry(batch)
        left = [number for number in ids if number not in done]
        unknown = [number for number in left if client.look(number) is None]
    if as_json:
        put_json({"retried": [] if dry_run else done, "matched": len(done)})
    else:
        click.echo(f"{len(done)} jobs {'would be' if dry_run else 'are'} back in their queues")
    if unknown:
        raise UnknownName(f"cannot find job {unknown[0]}; see `coserver jobs list`")
    if left:
        say(f"left alone, since they have not failed: {', '.join(map(str, left))}")
        sys.exit(1)
