"""`coserver doctor`: what it finds, without a site that is up and with a node of fixed answers."""

from __future__ import annotations

import json
import socket
import sqlite3
from pathlib import Path

import apsw
import pytest

from coserver.cli.doctor import _has_wal_race
from tests.cli.conftest import Console, FixedNode, Terminal, process, status


def findings(console: Console) -> dict[str, tuple[str, str]]:
    """Return verdict and words by what they are about."""
    found = json.loads(console("doctor", "--json").out)["findings"]
    return {one["about"]: (one["verdict"], one["says"]) for one in found}


def test_a_site_that_is_not_up_is_no_fault(console: Console, site: Path) -> None:
    said = console("doctor")
    assert (said.code, said.err) == (0, "")
    assert f"ok    configuration: {site}/coserver.toml, 2 services\n" in said.out
    assert "ok    node: the site is not up\n" in said.out
    assert findings(console)["store"] == ("ok", f"{site}/site.db is not there yet; `up` makes it")


def test_a_broken_configuration_is_a_finding(console: Console, here: Path) -> None:
    (here / "coserver.toml").write_text("[servce.a]\n")
    assert console("doctor").code == 1
    verdict, says = findings(console)["configuration"]
    assert verdict == "bad"
    assert "servce" in says


def test_what_services_lack_is_found(console: Console, here: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (here / "coserver.toml").write_text(
            '[service.a]\ncommand = "no-such-program"\n[service.b]\ncommand = "true"\ncwd = "nowhere"\n'
            f'[service.c]\nasgi = "page:app"\nbind = "127.0.0.1:{port}"\n'
            '[service.d]\ncommand = "true"\nuser = "no-such-user"\n'
        )
        assert console("doctor").code == 1
        found = findings(console)
    assert found["a"] == ("bad", 'no program "no-such-program"; install it or correct `command`')
    assert found["b"] == ("bad", f"no directory {here}/nowhere; create it or correct `cwd`")
    assert "in use" in found["c"][1]
    assert "no-such-user" in found["d"][1]


def test_the_store_is_looked_at(console: Console, site: Path) -> None:
    store = site / "site.db"
    store.touch()
    assert "pending" in findings(console)["store"][1]
    console("db", "migrate")
    assert findings(console)["store"][0] == "ok"
    connection = sqlite3.connect(store)
    with connection:
        connection.execute("UPDATE coserver_meta SET value = 9999 WHERE key = 'schema'")
    connection.close()
    assert findings(console)["store"][0] == "bad"


def test_processes_that_are_not_well_are_found_and_their_words_made_harmless(
    console: Console, node: FixedNode, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = status()
    answer["services"][1]["processes"] = [process("mail/1", "fatal", why="no\x1b[2J")]
    node.says("/api/v1/status", answer)
    assert findings(console)["mail/1"] == ("bad", "fatal: no\x1b[2J")
    monkeypatch.setenv("NO_COLOR", "1")
    terminal(80)
    said = console("doctor")
    assert said.code == 1
    assert "bad   mail/1: fatal: no\\x1b[2J\n" in said.out
    assert "ok    node: process 11 under keeper 10\n" in said.out


@pytest.mark.parametrize(
    ("version", "race"),
    [
        ((3, 40, 1), True),
        ((3, 44, 5), True),
        ((3, 44, 6), False),
        ((3, 50, 6), True),
        ((3, 50, 7), False),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((3, 52, 0), False),
    ],
)
def test_sqlite_versions_with_the_race_are_known(version: tuple[int, ...], race: bool) -> None:
    assert _has_wal_race(version) == race


@pytest.mark.parametrize(("version", "told"), [("3.40.1", True), ("3.51.3", False)])
def test_a_store_that_is_opened_by_a_library_with_the_race_is_named(
    console: Console, node: FixedNode, monkeypatch: pytest.MonkeyPatch, version: str, told: bool
) -> None:
    node.says("/api/v1/status", status())
    for driver, about in (("sqlite3", "Python's sqlite3"), ("apsw", "apsw")):
        monkeypatch.setattr(sqlite3, "sqlite_version", version)
        monkeypatch.setattr(apsw, "sqlite_lib_version", lambda: version)
        monkeypatch.setenv("COSERVER_CFG__SITE__STORE", f"sqlite:site.db?driver={driver}")
        said = console("doctor").out
        assert (f"it is opened by {about} with SQLite {version}" in said) is told
