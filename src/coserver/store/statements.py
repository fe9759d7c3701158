"""The SQL, out of its files: one statement per file under `sql/DIALECT/`, the same names in both dialects.

A file begins with comment lines that say what the statement is for and why a dialect differs; they are cut off before
the text goes to the database. `@NAME` stands for the text of `parts/NAME.sql`: what several statements must say in the
same words, such as the conditions of an index. Migrations are numbered files of several statements,
`migrations/0001_jobs.sql`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

Dialect = Literal["sqlite", "postgres"]


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema: `version` is the number its file name starts with."""

    version: int
    name: str
    sql: str


@cache
def statement(dialect: Dialect, name: str) -> str:
    """Return the statement `name` without its comments, its parts filled in."""
    text = (files("coserver.store") / "sql" / dialect / f"{name}.sql").read_text("utf-8")
    bare = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--")).strip()
    return re.sub(r"@(\w+)", lambda found: statement(dialect, f"parts/{found[1]}"), bare)


@cache
def migrations(dialect: Dialect) -> tuple[Migration, ...]:
    """Return all migrations of a dialect in their order."""
    folder = files("coserver.store") / "sql" / dialect / "migrations"
    found = [
        Migration(
            int(entry.name.partition("_")[0]), entry.name.removesuffix(".sql"), entry.read_text("utf-8")
        )
        for entry in folder.iterdir()
        if entry.name.endswith(".sql")
    ]
    return tuple(sorted(found, key=lambda step: step.version))
