"""Which version of the tables fits this coserver: the same rule for both dialects.

The version is the number of the last migration applied, kept in `coserver_meta`; a database without that table has
version 0. Migrations only go up, so a store of a newer coserver is refused and left as it is.
"""

from __future__ import annotations

from coserver.errors import SchemaMismatch
from coserver.store.contract import SchemaStatus
from coserver.store.statements import Dialect, migrations


def latest(dialect: Dialect) -> int:
    """The version that this coserver brings."""
    return migrations(dialect)[-1].version


def check_version(url: str, version: int, dialect: Dialect, *, older: bool = False) -> None:
    """Raise SchemaMismatch unless the version is this coserver's (or, with `older`, at most that)."""
    ours = latest(dialect)
    if version > ours:
        raise SchemaMismatch(
            f"cannot use the store: its schema is version {version}, newer than this coserver's {ours}; "
            "upgrade coserver"
        )
    if older or version == ours:
        return
    if version == 0:
        raise SchemaMismatch(
            f"cannot use the store {url}: it has no tables of coserver yet; run `coserver db migrate`"
        )
    raise SchemaMismatch(
        f"cannot use the store: its schema is version {version}, older than this coserver's {ours}; "
        "run `coserver db migrate`"
    )


def schema_status(version: int, dialect: Dialect) -> SchemaStatus:
    """Say what is there and what is still to apply."""
    pending = [step.name for step in migrations(dialect) if step.version > version]
    return SchemaStatus(version, latest(dialect), pending)
