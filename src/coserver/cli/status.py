"""`coserver status`."""

from __future__ import annotations

import sys
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
from coserver.cli.table import Column, colourful, duration, paint, size

COLUMNS = (
    Column("PROCESS"),
    Column("STATE"),
    Column("READY", spare=2),
    Column("PID", right=True, spare=3),
    Column("UPTIME", right=True),
    Column("RESTARTS", right=True, spare=4),
    Column("CPU", right=True, spare=1),
    Column("MEMORY", right=True, spare=1),
    Column("", spare=0),
)

UNSERVED = 3
"""How many groups of jobs that nobody takes are told."""


@click.command()
@json_option
@click.option("-q", "--quiet", is_flag=True, help="Print nothing; the exit code tells.")
@pass_surroundings
def status(surroundings: Surroundings, as_json: bool, quiet: bool) -> None:
    """Show services, processes and jobs.

    Exit code 1 when something that should run does not, 3 when the site is not up.
    """
    answer = surroundings.node.status()
    if as_json:
        put_json(answer)
    elif not quiet:
        print_status(answer)
    if not answer["healthy"]:
        sys.exit(1)


def print_status(answer: dict[str, Any], *, starting: bool = False) -> None:
    """Print the answer of `status` for a person.

    `starting`: the site is just being started, so that no worker was live a moment ago is nothing to tell.
    """
    colour = colourful(sys.stdout)
    node = answer["node"]
    head = f"{answer['site']} on {node['name']}: {answer['state']}"
    click.echo(
        f"{paint(head, 'bold', colour)}   {paint('coserver ' + node['version'], 'grey', colour)}\n",
        color=colour,
    )
    rows = [_row(service, process) for service in answer["services"] for process in service["processes"]]
    put_table(COLUMNS, rows)
    click.echo()
    if answer["jobs"] is None:
        put_text("jobs: the store does not answer")
    else:
        words = [f"{count} {state}" for state, count in answer["jobs"].items() if count]
        put_text(f"jobs: {', '.join(words) or 'none yet'}")
    unserved = [group for group in answer["unserved"] if not starting or group["cause"] != "no_worker"]
    for group in unserved[:UNSERVED]:
        put_text(f"unserved: {group['says']}; {group['mend']}")
    more = len(unserved) - UNSERVED
    if more > 0:
        put_text(f"unserved: and {more} more such groups; `coserver status --json` lists them")
    for service in answer["services"]:
        for held in service["held_stopped"]:
            say(f"{held['name']} is held stopped by {held['by']}; `coserver start {held['name']}` ends that")
    if answer["unowned"]:
        say(f"processes that no service owns: {', '.join(map(str, answer['unowned']))}; `down` ends them")
    if answer["store"]["trouble"]:
        say(answer["store"]["trouble"])


def _row(service: dict[str, Any], process: dict[str, Any]) -> list[str]:
    alive = process["pid"] is not None
    note = process["why"] or (service["url"] if process["ready"] and service["url"] else "") or ""
    return [
        process["name"],
        process["state"],
        "yes" if process["ready"] else "no" if alive else "-",
        str(process["pid"] or "-"),
        duration(process["uptime_s"]),
        str(process["restarts"]),
        f"{process['cpu_percent']:.0f} %" if alive else "-",
        size(process["rss_bytes"]) if alive else "-",
        note,
    ]
