"""`coserver db …`: the store's tables, and copies of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from coserver.cli.context import Surroundings, json_option, pass_surroundings, put_json, put_text
from coserver.cli.table import size
from coserver.errors import SchemaMismatch, UsageError
from coserver.store import open_store

if TYPE_CHECKING:
    from coserver.config import Site


@click.group()
def db() -> None:
    """Look at the store's tables, bring them up to date, copy them."""


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


@db.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace FILE when there is one (never the store).")
@json_option
@pass_surroundings
def backup(surroundings: Surroundings, file: Path, force: bool, as_json: bool) -> None:
    """Copy the whole store into FILE while it is in use, and check the copy.

    \b
      coserver db backup /backups/site-$(date +%F).db

    The copy is of one moment. On SQLite it is a store itself: to go back to it, put it in the place of the store's
    file (and its -wal and -shm away) while the site is down. On PostgreSQL it is an archive of pg_dump with coserver's
    tables, which pg_restore reads.
    """
    from coserver.store.backup import backup as copy

    _refuse_own(surroundings.site, file)
    made = copy(surroundings.site.store, file, force=force)
    if as_json:
        put_json(
            {"store": made.store, "file": str(file), "bytes": made.size, "seconds": round(made.seconds, 3)}
        )
    else:
        put_text(f"{made.store} is backed up to {file}: {size(made.size)}, checked, in {made.seconds:.1f} s")


def _refuse_own(site: Site, file: Path) -> None:
    """Refuse what the site itself reads or keeps."""
    to = file.resolve()
    if to.is_relative_to(site.node.state.resolve()):
        raise UsageError(
            f"cannot back up to {file}: the node keeps files of its own in {site.node.state}; name a file elsewhere"
        )
    if to in {read.resolve() for read in site.files}:
        raise UsageError(f"cannot back up to {file}: it is the site's configuration; name another file")
