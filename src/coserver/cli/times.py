"""Spans and moments as people write them on the command line."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import click

from coserver.model import units


class Duration(click.ParamType[float]):
    """A duration such as `30s` on the command line, in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read it, or fail naming the form that works."""
        if isinstance(value, float):
            return value
        try:
            return units.seconds(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Moment(click.ParamType[datetime]):
    """A point in time: a span before now such as `10m`, or local time such as `2026-01-31T12:00`.

    With `ahead` a span counts from now on.
    """

    name = "time"

    def __init__(self, *, ahead: bool = False) -> None:
        self._ahead = ahead

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Read it, or fail naming the forms that work."""
        if isinstance(value, datetime):
            return value
        now = datetime.now().astimezone()
        try:
            span = timedelta(seconds=units.seconds(value))
            return now + span if self._ahead else now - span
        except (ValueError, OverflowError):
            pass
        try:
            return datetime.fromisoformat(value).astimezone()
        except (ValueError, OverflowError):
            span_says = "from now on" if self._ahead else "ago"
            self.fail(
                f'cannot read "{value}" as a time; write 2026-01-31T12:00, or 10m for ten minutes {span_says}',
                param,
                ctx,
            )
