"""The SQL in its files."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from coserver.store.statements import Dialect, statement

ONLY = {
    "sqlite": {
        # one statement of PostgreSQL in several steps, see `exchange`, `retry`, `insert`, `route`, `register`
        *(
            "finish",
            "finish_remove",
            "finish_count",
            "fits",
            "retry_later",
            "retry_now",
            "look",
            "best",
            "suspect",
        ),
        *(
            "claim",
            "claimed",
            "forget_unique",
            "unpark",
            "parked",
            "wakes",
            "insert_blob",
            "route_blob",
            "route_strip",
        ),
        *(
            "due",
            "best_in_time",
            "count_fold",
            "count_clear",
            "register_queue",
            "register_task",
            "incarnation",
        ),
    },
    "postgres": {
        *(
            "exchange",
            "claim_suspect",
            "vacuum",
            "vacuum_due",
            "retry",
            "notify",
            "notify_cancel",
            "clock",
            "snapshot",
        ),
        *("notify_within", "whereabouts", "call", "await_ends"),
        *("insert_one", "fresh_ids", "count_gather", "impatient", "in_hands"),
    },
}


def names(dialect: Dialect) -> set[str]:
    folder = files("coserver.store") / "sql" / dialect
    return {entry.name.removesuffix(".sql") for entry in folder.iterdir() if entry.name.endswith(".sql")}


def test_statements_have_the_same_names_in_both_dialects_but_for_those_named_here() -> None:
    assert names("sqlite") - names("postgres") == ONLY["sqlite"]
    assert names("postgres") - names("sqlite") == ONLY["postgres"]


@pytest.mark.parametrize("dialect", ["sqlite", "postgres"])
def test_every_file_is_one_statement_that_begins_with_its_purpose(dialect: Dialect) -> None:
    for name in sorted(names(dialect)):
        text = (files("coserver.store") / "sql" / dialect / f"{name}.sql").read_text("utf-8")
        assert text.startswith("-- "), name
        assert statement(dialect, name), name
        assert ";" not in re.sub("'[^']*'", "''", statement(dialect, name)), name


def test_every_statement_is_used() -> None:
    for dialect in ("sqlite", "postgres"):
        others = {"sqlite": ("postgres", "pool"), "postgres": ("sqlite", "sqlite_file")}[dialect]
        modules = [
            entry.read_text("utf-8")
            for entry in files("coserver.store").iterdir()
            if entry.name.endswith(".py") and entry.name.removesuffix(".py") not in others
        ]
        source = "".join(modules)
        unused = {name for name in names(dialect) if f'"{name}"' not in source}  # type: ignore[arg-type]
        assert unused == set(), dialect


@pytest.mark.parametrize("dialect", ["sqlite", "postgres"])
def test_every_part_says_what_it_is_for_and_is_used_by_several_statements(dialect: Dialect) -> None:
    folder = files("coserver.store") / "sql" / dialect
    texts = [(folder / f"{name}.sql").read_text("utf-8") for name in names(dialect)]
    for part in (folder / "parts").iterdir():
        assert part.read_text("utf-8").startswith("-- "), part.name
        used = sum(f"@{part.name.removesuffix('.sql')}" in text for text in texts)
        assert used > 1, part.name
