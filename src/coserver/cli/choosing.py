"""Choosing jobs on the command line: the same filters to look at jobs and to change many at once."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import click

from coserver.cli.times import Moment
from coserver.client import JobQuery
from coserver.model.job import State

STATES = [state.name.lower() for state in State]


@dataclass(frozen=True, slots=True)
class Where:
    """Which jobs; nothing and None mean no restriction."""

    states: tuple[State, ...] = ()
    queue: str | None = None
    task: str | None = None
    tag: str | None = None
    error: str | None = None
    args: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def __bool__(self) -> bool:
        return self != Where()

    def query(self) -> JobQuery:
        """Return it as `Client.jobs` takes it."""
        return JobQuery(
            states=self.states,
            queue=self.queue,
            task=self.task,
            tag=self.tag,
            error=self.error,
            args=self.args,
            since=self.since,
            until=self.until,
        )

    def within(self, states: Sequence[State]) -> Where:
        """Return it, restricted to these states where none is asked for."""
        return self if self.states else replace(self, states=tuple(states))


_OPTIONS = (
    click.option("--queue", metavar="NAME", help="Only of this queue."),
    click.option("--task", metavar="NAME", help="Only of this task."),
    click.option("--tag", metavar="WORD", help="Only those with this tag."),
    click.option("--error", metavar="TEXT", help="Only those whose error holds this text."),
    click.option("--args", "args_part", metavar="TEXT", help="Only those whose arguments hold this text."),
    click.option(
        "--since",
        "--newer-than",
        "since",
        type=Moment(),
        metavar="TIME",
        help="Submitted since then: 2h ago as `2h`, or 2026-01-31T12:00.",
    ),
    click.option(
        "--until",
        "--older-than",
        "until",
        type=Moment(),
        metavar="TIME",
        help="Submitted until then: more than 7 days ago as `7d`.",
    ),
)


def filters(states: Sequence[State]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options that choose jobs; it gets them as one `where`. `states`: those that it is for."""
    named = ", ".join(state.name.lower() for state in states)
    by_state = click.option(
        "--state",
        "states",
        multiple=True,
        type=click.Choice(STATES),
        metavar="STATE",
        help=f"Only these; may be repeated: {named}.",
    )

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def chosen(
            *words: Any,
            states: tuple[str, ...],
            queue: str | None,
            task: str | None,
            tag: str | None,
            error: str | None,
            args_part: str | None,
            since: datetime | None,
            until: datetime | None,
            **others: Any,
        ) -> None:
            asked = tuple(dict.fromkeys(State[state.upper()] for state in states))
            where = Where(asked, queue, task, tag, error, args_part, since, until)
            command(*words, where=where, **others)

        for option in (*reversed(_OPTIONS), by_state):
            chosen = option(chosen)
        return chosen

    return decorate
