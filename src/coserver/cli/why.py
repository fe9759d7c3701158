"""`coserver why JOB`: speaks to the store itself, so the site need not be up."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from coserver.cli.context import Surroundings, json_option, pass_surroundings, put_json, put_text
from coserver.client import Client
from coserver.errors import ResultGone
from coserver.model.job import State
from coserver.model.why_words import Why, word


@click.command()
@click.argument("job", type=int)
@json_option
@pass_surroundings
def why(surroundings: Surroundings, job: int, as_json: bool) -> None:
    """Say why a job is where it is: one cause from a fixed list, and what mends it.

    The causes: finished, held, not_due, paused, no_worker, unknown_task, unread_queue, other_queues, limited, behind,
    waiting_for, dead_lease, running. The site need not be up.
    """
    with Client(surroundings.site.store) as client:
        found = client.why(job)
    if found is None:
        raise ResultGone(
            f"cannot find job {job}: its record was pruned, or it never was; see `coserver jobs list`"
        )
    info = found.job
    if as_json:
        of = {"id": info.id, "task": info.task, "queue": info.queue, "state": info.state.name.lower()}
        put_json(of | why_as_dict(found))
        return
    put_text(f"job {info.id}  {info.task}  {info.state.name.lower()}", colour="bold")
    put_text(f"  {'why':12} {found.says}")
    if found.mend is not None:
        put_text(f"  {'mend':12} {found.mend}")


def why_as_dict(found: Why) -> dict[str, Any]:
    """Return the answer for programs; times in `evidence` are µs, moments since 1970 UTC."""
    return {
        "cause": word(found.cause),
        "says": found.says,
        "mend": found.mend,
        "evidence": {key: _plain(value) for key, value in asdict(found.cause).items()},
    }


def why_in_words(found: Why) -> str:
    """Return cause and mend as one line."""
    return found.says if found.mend is None else f"{found.says}; {found.mend}"


def _plain(value: Any) -> Any:
    return value.name.lower() if isinstance(value, State) else value
