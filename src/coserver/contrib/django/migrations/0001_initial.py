"""The store's tables."""

from __future__ import annotations

from typing import Any

from django.db import migrations

from coserver.store import migrate_on


def make_tables(_apps: Any, schema_editor: Any) -> None:
    """Bring the store's tables up to date, unless somebody else did. Elsewhere than where jobs can be kept, nothing."""
    connection = schema_editor.connection
    if connection.vendor == "sqlite":
        # Not possible in a transaction, and later the first submit may come in one.
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA journal_mode = WAL")
    if connection.vendor in ("sqlite", "postgresql"):
        migrate_on(connection)


class Migration(migrations.Migration):
    """Runs the store's own migrations. There is no way back: the tables hold jobs."""

    initial = True
    atomic = False  # each of the store's migrations has a transaction
    operations = [migrations.RunPython(make_tables)]  # noqa: RUF012 - Django's own way
