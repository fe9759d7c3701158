"""`coserver config check | show | schema`: what the configuration says, and what is wrong with it."""

from __future__ import annotations

import fnmatch
import json
import os
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import NoReturn, Protocol

import click

from coserver.config import ConfigError, Site, load
from coserver.config.schema import schema
from coserver.config.show import as_json, as_text
from coserver.errors import UnknownName


class Settings(Protocol):
    """What the command line's root leaves in the context object."""

    @property
    def config_path(self) -> Path | None:
        """The file that -c names."""

    @property
    def profile(self) -> str | None:
        """The profile that --profile names."""


@click.group(name="config")
def config() -> None:
    """Check, show and describe the configuration.

    \b
    coserver config check                     tell everything that is wrong
    coserver config show 'service.web.*'      each value and where it came from
    coserver config schema > schema.json      for your editor
    """


@config.command()
@click.option(
    "--json", "as_object", is_flag=True, help='Print one object: {"ok", "file", "files", "problems"}.'
)
@click.pass_context
def check(context: click.Context, as_object: bool) -> None:
    """Tell everything that is wrong with the configuration; start nothing."""
    try:
        site = _load(context.obj)
    except ConfigError as error:
        if as_object:
            problems = [
                {
                    "file": one.file,
                    "line": one.line,
                    "column": one.column,
                    "key": one.key,
                    "message": one.message,
                }
                for one in error.problems
            ]
            click.echo(json.dumps({"ok": False, "file": None, "files": [], "problems": problems}, indent=2))
            context.exit(error.exit_status)
        _fail(context, error)
    if as_object:
        files = [str(path) for path in site.files]
        click.echo(json.dumps({"ok": True, "file": str(site.file), "files": files, "problems": []}, indent=2))
        return
    services = ", ".join(site.services) or "none"
    read = f"{len(site.files)} files" if len(site.files) > 1 else str(site.file)
    click.echo(f"No problems in {read}. Site {site.name}; services: {services}.")


@config.command()
@click.argument("keys", nargs=-1)
@click.option("--stated", is_flag=True, help="Leave out what is not stated anywhere.")
@click.option("--json", "as_object", is_flag=True, help='Print one object: {"file", "files", "settings"}.')
@click.pass_context
def show(context: click.Context, keys: tuple[str, ...], stated: bool, as_object: bool) -> None:
    """Print every key with its value and where that came from; secrets are hidden.

    KEYS choose by path or pattern: site.store, service.web, 'service.*.processes'.
    """
    try:
        site = _select(_load(context.obj), keys)
    except ConfigError as error:
        _fail(context, error)
    if as_object:
        click.echo(json.dumps(as_json(site, stated=stated), indent=2, ensure_ascii=False))
    else:
        click.echo(as_text(site, stated=stated))


@config.command(name="schema")
def print_schema() -> None:
    """Print the JSON Schema of coserver.toml."""
    click.echo(json.dumps(schema(), indent=2, ensure_ascii=False))


def _load(settings: Settings) -> Site:
    return load(settings.config_path, profile=settings.profile, environ=os.environ, cwd=Path.cwd())


def _select(site: Site, patterns: tuple[str, ...]) -> Site:
    if not patterns:
        return site
    chosen = {
        key: setting
        for key, setting in site.settings.items()
        if any(key.startswith(f"{pattern}.") or fnmatch.fnmatchcase(key, pattern) for pattern in patterns)
    }
    if not chosen:
        raise UnknownName(f"cannot show {' '.join(patterns)}: no such key; `coserver config show` lists all")
    return replace(site, settings=MappingProxyType(chosen))


def _fail(context: click.Context, error: ConfigError) -> NoReturn:
    click.echo(str(error), err=True)
    context.exit(error.exit_status)
