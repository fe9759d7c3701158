"""`coserver db`, on a real SQLite file."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from tests.cli.conftest import Console


@pytest.fixture(autouse=True)
def config(here: Path) -> None:
    (here / "coserver.toml").write_text('[site]\nname = "shop"\nstore = "sqlite:site.db"\n')


def test_tables_are_made_once_and_their_version_is_shown(console: Console, here: Path) -> None:
    before = json.loads(console("db", "status", "--json").out)
    assert (before["store"], before["version"]) == (f"sqlite:{here}/site.db", 0)
    assert before["pending"]
    assert f"to be applied: {before['pending'][0]}" in console("db", "status").out

    assert console("db", "migrate").out == "".join(f"applied {name}\n" for name in before["pending"])
    assert console("db", "migrate") == (0, "nothing to do\n", "")
    after = json.loads(console("db", "status", "--json").out)
    assert (after["version"], after["pending"]) == (after["latest"], [])
    assert (
        console("db", "status").out
        == f"sqlite:{here}/site.db: version {after['version']} of {after['latest']}\n"
    )


def test_a_file_that_is_no_database_is_code_5(console: Console, here: Path) -> None:
    (here / "site.db").write_text("this is no database" * 1000)
    said = console("db", "status")
    assert said.code == 5
    assert "site.db" in said.err


def test_tables_that_are_too_new_are_shown_and_code_1(console: Console, here: Path) -> None:
    console("db", "migrate")
    connection = sqlite3.connect(here / "site.db")
    with connection:
        connection.execute("UPDATE coserver_meta SET value = '9999' WHERE key = 'schema'")
    connection.close()
    said = console("db", "status")
    assert said.code == 1
    assert f"sqlite:{here}/site.db: version 9999 of " in said.out
    assert "its schema is version 9999, newer than this coserver's" in said.err
    assert said.err.endswith("; upgrade coserver\n")
    said = console("db", "status", "--json")
    assert (said.code, json.loads(said.out)["version"]) == (1, 9999)


def test_a_store_is_backed_up_and_no_file_is_lost_by_it(console: Console, here: Path) -> None:
    console("db", "migrate")
    number = json.loads(console("jobs", "submit", "a:b", "--json").out)["id"]
    said = console("db", "backup", "copy.db")
    assert said.code == 0
    assert said.out.startswith(f"sqlite:{here}/site.db is backed up to copy.db: ")
    said = console("db", "backup", "copy.db", "--json")
    assert (said.code, said.out) == (2, "")
    assert "it exists; name another file, or say --force to replace it" in said.err
    made = json.loads(console("db", "backup", "copy.db", "--force", "--json").out)
    assert (made["file"], made["bytes"]) == ("copy.db", (here / "copy.db").stat().st_size)
    (here / "coserver.toml").write_text('[site]\nname = "shop"\nstore = "sqlite:copy.db"\n')
    assert json.loads(console("jobs", "show", number, "--json").out)["task"] == "a:b"
    assert console("db", "backup", "no/copy.db").code == 1


def test_a_backup_replaces_nothing_that_is_the_sites_own(console: Console, here: Path) -> None:
    console("db", "migrate")
    written = (here / "coserver.toml").read_text()
    for name, cause in {
        "site.db": "that is the store itself",
        "./site.db-wal": "that is the store itself, or belongs to it",
        ".coserver/node.db": "the node keeps files of its own",
        "coserver.toml": "it is the site's configuration",
    }.items():
        said = console("db", "backup", name, "--force")
        assert (said.code, said.out) == (2, "")
        assert "cannot back up to " in said.err
        assert cause in said.err
    assert console("db", "status").code == 0
    assert (here / "coserver.toml").read_text() == written
