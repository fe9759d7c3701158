"""What every command needs to know of its surroundings, found only when asked for."""

from __future__ import annotations

import getpass
import os
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

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
    def places(self) -> Places:
        """Where this site's node keeps things."""
        from coserver.runtime.spawning import Places

        return Places(self.site.node.state)

    @cached_property
    def node(self) -> ControlClient:
        """The way to ask the node."""
        from coserver.control.client import ControlClient

        return ControlClient(self.site.control.socket, site=f'site "{self.site.name}"')


pass_surroundings = click.make_pass_decorator(Surroundings)


def user_name() -> str:
    """Return who asks, for the record."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def say(message: str) -> None:
    """Tell the person something that is not the data asked for."""
    click.echo(message, err=True)


def put_json(value: Any) -> None:
    """Print data as one JSON object."""
    import json

    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
