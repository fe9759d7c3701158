"""Which version of the tables fits this coserver: the same rule for both dialects.

The version is the number of the last migration applied, kept in `coserver_meta`; a database without that table has
version 0. Migrations only go up. A store of a newer coserver is refused and left as it is, unless it says by
`min_protocol` that it works with older ones: then both go on side by side, and the older one applies nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from coserver.errors import SchemaMismatch, TooOld
from coserver.store.contract import PROTOCOL, SchemaStatus
from coserver.store.statements import Dialect, migrations

MIN_PROTOCOL = "min_protocol"
"""The key in `coserver_meta` of the lowest worker protocol that the store works with; without it, any."""


def check_protocol(rows: Sequence[Sequence[Any]]) -> None:
    """Raise SchemaMismatch if the store asks for a newer worker than this one; `rows` of `meta_get`."""
    least = int(rows[0][0]) if rows else 0
    if least > PROTOCOL:
        raise TooOld(
            f"cannot work on the store: it asks for workers of protocol {least}, newer than this coserver's "
            f"{PROTOCOL}; upgrade coserver"
        )


def latest(dialect: Dialect) -> int:
    """The version that this coserver brings."""
    return migrations(dialect)[-1].version


def least_of(rows: Sequence[Sequence[Any]]) -> int | None:
    """What a store says of the lowest protocol that it works with, None when it says nothing; `rows` of `meta_get`."""
    return int(rows[0][0]) if rows else None


def check_version(
    url: str, version: int, dialect: Dialect, *, older: bool = False, least: int | None = None
) -> None:
    """Raise SchemaMismatch unless the version is this coserver's (or, with `older`, at most that). A newer one will do
    if the store says that it works with our protocol."""
    ours = latest(dialect)
    if version > ours:
        if least is not None and least <= PROTOCOL:
            return
        raise TooOld(
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
