"""`coserver db …`: the store's tables."""

from __future__ import annotations

import click

from coserver.cli.context import Surroundings, json_option, pass_surroundings, put_json, put_text
from coserver.errors import SchemaMismatch
from coserver.store import open_store


@click.group()
def db() -> None:
    """Look at the store's tables and bring them up to date."""


@db.command()
@json_option
@pass_surroundings
def status(surroundings: Surroundings, as_json: bool) -> None:
    """Show the version of the store's tables.

    Exit code 1 when they are newer than this coserver.
    """
    store = open_store(surroundings.site.store)
    try:
        found = store.schema()
    finally:
        store.close()
    if as_json:
        put_json(
            {
                "store": store.url,
                "version": found.version,
                "latest": found.latest,
                "pending": list(found.pending),
            }
        )
    else:
        put_text(f"{store.url}: version {found.version} of {found.latest}")
        for name in found.pending:
            click.echo(f"  to be applied: {name}")
    if found.version > found.latest:
        raise SchemaMismatch(
            f"cannot use the store: its schema is version {found.version}, newer than this coserver's {found.latest}; "
            "upgrade coserver"
        )


@db.command()
@pass_surroundings
def migrate(surroundings: Surroundings) -> None:
    """Apply what is pending. `up` does the same."""
    store = open_store(surroundings.site.store)
    try:
        applied = store.migrate()
    finally:
        store.close()
    for name in applied:
        click.echo(f"applied {name}")
    if not applied:
        click.echo("nothing to do")
