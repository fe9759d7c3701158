"""What every command needs to know of its surroundings, found only when asked for."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from coserver.cli.table import Colour, Column, colourful, inert, paint, table, terminal_width

if TYPE_CHECKING:
    from coserver.config import Site
    from coserver.control.client import ControlClient
    from coserver.runtime.spawning import Places


@dataclass
class Surroundings:
    """The options that stand before a verb, and what follows from them."""

    config_path: Path | None
    profile: str | None

    @cached_property
    def site(self) -> Site:
        """The checked configuration. Raises ConfigError."""
        from coserver.config import load

        return load(self.config_path, profile=self.profile, environ=os.environ, cwd=Path.cwd())

    @cached_property
    def running(self) -> Site:
        """The configuration, for verbs about what runs: when it does not load any more, that with which the site was
        started, and a word on stderr. Raises ConfigError when there is neither."""
        from coserver.config import ConfigError

        try:
            return self.site
        except ConfigError as error:
            found = self._started()
            if found is None:
                raise
            say(f"{error}\nuntil that is mended, this is about {found.name} as it was started")
            return found

    def _started(self) -> Site | None:
        from coserver.cli.running import running_site
        from coserver.config import ConfigError
        from coserver.config.discover import discover
        from coserver.config.load import SITE_FILE

        try:
            file = discover(self.config_path, environ=os.environ, cwd=Path.cwd(), site_file=SITE_FILE)
        except ConfigError:
            return None
        return running_site(file, self.profile)

    @cached_property
    def places(self) -> Places:
        """Where this site's node keeps things."""
        from coserver.runtime.spawning import Places

        return Places(self.running.node.state)

    @cached_property
    def node(self) -> ControlClient:
        """The way to ask the node."""
        from coserver.cli.asking import AskingClient

        return AskingClient(self.running.control.socket, site=f'site "{self.running.name}"')


pass_surroundings = click.make_pass_decorator(Surroundings)


def user_name() -> str:
    """Return who asks, for the record."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def put_text(text: str, *, colour: Colour | None = None, err: bool = False) -> None:
    """Print lines for a person; what a terminal would obey in them is shown instead.

    `colour` paints all of it where colours are wanted. `err` is for what is not the data asked for.
    """
    stream = sys.stderr if err else sys.stdout
    if stream.isatty():
        text = "\n".join(inert(line) for line in text.split("\n"))
    painted = colourful(stream)
    click.echo(
        paint(text, colour, painted), err=err, color=True
    )  # click would take sequences out of a pipe's text


def put_table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """Print a table as it suits the terminal, or whole where there is none."""
    for line in table(columns, rows, width=terminal_width(), colour=colourful(sys.stdout)):
        click.echo(line, color=True)


def say(message: str) -> None:
    """Tell the person something that is not the data asked for."""
    put_text(message, err=True)


def put_json(value: Any) -> None:
    """Print data as one JSON object, in which a terminal finds nothing to obey."""
    import json

    from coserver.host.log_text import UNSAFE_IN_JSON

    text = json.dumps(value, indent=2, ensure_ascii=False)
    sys.stdout.write(UNSAFE_IN_JSON.sub(lambda match: f"\\u{ord(match[0]):04x}", text) + "\n")


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
