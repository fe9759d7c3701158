"""`coserver jobs …`: they speak to the store itself, so the site need not be up."""

from __future__ import annotations

import click

from coserver.cli import bulk
from coserver.cli.choosing import Where, filters
from coserver.cli.context import (
    Surroundings,
    json_option,
    pass_surroundings,
    put_json,
    put_table,
    put_text,
    say,
)
from coserver.cli.job_text import COLUMNS, as_dict, as_whole, cancel_requested, row
from coserver.cli.submit import submit
from coserver.cli.why import why_as_dict, why_in_words
from coserver.client import Client
from coserver.errors import ResultGone
from coserver.model.job import JobInfo, State

RELATIVES = 5
"""Jobs before and after a job whose states are shown with it."""


@click.group()
def jobs() -> None:
    """Submit, list, show, cancel and retry jobs."""


@jobs.command("list")
@filters(tuple(State))
@click.option("-n", "--limit", type=click.IntRange(1, 10_000), default=20, help="At most so many (20).")
@click.option("--before", type=int, metavar="ID", help="Older than this job.")
@json_option
@pass_surroundings
def list_jobs(
    surroundings: Surroundings, where: Where, limit: int, before: int | None, as_json: bool
) -> None:
    """List jobs, newest first.

    \b
      coserver jobs list --state failed --task shop.jobs:report --since 2h
      coserver jobs list --tag spring --args '"order-77"'
    """
    with Client(surroundings.site.store) as client:
        found = client.jobs(limit=limit, before=before, **where.query())
    if as_json:
        put_json({"jobs": [as_dict(info) for info in found]})
        return
    put_table(COLUMNS, [row(info) for info in found])
    if len(found) == limit:
        say(f"more with --before {found[-1].id}")


@jobs.command()
@click.argument("id", type=int)
@json_option
@pass_surroundings
def show(surroundings: Surroundings, id: int, as_json: bool) -> None:
    """Show all that is known of one job."""
    with Client(surroundings.site.store) as client:
        found = client.why(id)
        if found is None:
            raise ResultGone(
                f"cannot find job {id}: its record was pruned, or it never was; see `coserver jobs list`"
            )
        info = found.job
        if as_json:
            put_json(as_whole(info) | {"why": None if info.state.final else why_as_dict(found)})
            return
        parents, children = _relatives(client, info.parents), _relatives(client, info.children)
    put_text(f"job {info.id}  {info.task}  {info.state.name.lower()}", colour="bold")
    for name, text in _facts(info):
        put_text(f"  {name:12} {text}")
    if parents:
        put_text(f"  {'after':12} {parents}")
    if children:
        put_text(f"  {'before':12} {children}")
    if not info.state.final:
        put_text(f"  {'why':12} {why_in_words(found)}")
    put_text(f"  {'arguments':12} {info.args}")
    if info.result is not None:
        put_text(f"  {'result':12} {info.result}")
    if info.error is not None:
        said = f"{info.error.type}: {info.error.message}"
        put_text(f"\n{said}", colour="red")
        if info.error.traceback.strip() not in (
            "",
            said.strip(),
        ):  # an error that nobody raised has no more to tell
            put_text(info.error.traceback)


def _facts(info: JobInfo) -> list[tuple[str, str]]:
    """Return what there is to say of the job, by name."""
    shown = as_whole(info)
    facts = [
        (key.replace("_", " "), str(shown[key]))
        for key in ("queue", "priority", "attempt", "crashes", "worker", "created_at", "run_at", "begin_by")
        if shown[key] is not None
    ]
    facts += [(key.replace("_", " "), str(shown[key])) for key in ("started_at", "finished_at") if shown[key]]
    if info.progress is not None or info.note:
        percent = "" if info.progress is None else f"{info.progress:.0%}"
        facts.append(("progress", " ".join(part for part in (percent, info.note) if part)))
    if cancel_requested(info):
        facts.append(("cancel", "requested; it still runs"))
    if info.tags:
        facts.append(("tags", ", ".join(info.tags)))
    if info.unique is not None:
        facts.append(("unique", _key_in_words(info)))
    if info.limit is not None:
        facts.append(("limit", info.limit))
    if info.blocked_on is not None:
        facts.append(("blocked on", info.blocked_on))
    if info.options is not None:
        facts.append(("options", info.options))
    return facts


def _key_in_words(info: JobInfo) -> str:
    """Return a unique key as its submitter wrote it (see `tasks.options.Options.key`)."""
    key = info.unique or ""
    if key.startswith(f"{info.task}#"):
        return "by its arguments"
    return key.removeprefix(f"{info.task} ")


def _relatives(client: Client, ids: tuple[int, ...]) -> str:
    """Return jobs with their states, the first few of many."""
    words = []
    for job in ids[:RELATIVES]:
        info = client.look(job)
        words.append(f"{job} {'gone' if info is None else info.state.name.lower()}")
    if len(ids) > RELATIVES:
        words.append(f"and {len(ids) - RELATIVES:,} more")
    return ", ".join(words)


jobs.add_command(submit)
for _change in (bulk.cancel, bulk.retry, bulk.discard, bulk.release):
    jobs.add_command(_change)
