"""`coserver config …` on real files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from coserver.cli.config import config
from coserver.config.schema import schema
from coserver.errors import UnknownName


@dataclass
class Root:
    config_path: Path | None
    profile: str | None = None


GOOD = '[site]\nname = "shop"\n[service.a]\ncommand = "a --password s3cret"\n[service.b]\ncommand = "b"\n'
BAD = "[sit]\n[service.a]\ncommand = 3\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".git").mkdir()
    return tmp_path


def run(*arguments: str, file: str | None = None, profile: str | None = None) -> Result:
    return CliRunner().invoke(config, arguments, obj=Root(Path(file) if file else None, profile))


def test_check_of_a_good_file_says_what_is_in_it(here: Path) -> None:
    (here / "coserver.toml").write_text(GOOD)
    result = run("check")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"No problems in {here}/coserver.toml. Site shop; services: a, b.\n"


def test_check_tells_every_problem_on_stderr_and_leaves_with_2(here: Path) -> None:
    (here / "other.toml").write_text(BAD)
    result = run("check", file="other.toml")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.splitlines() == [
        'other.toml:1: sit: unknown key; did you mean "site"?',
        'other.toml:3: service.a.command: expected a command such as "redis-server --port 6400" or '
        '["redis-server", "--port", "6400"], found the number 3',
    ]


def test_check_as_json_is_one_object_in_both_cases(here: Path) -> None:
    (here / "coserver.toml").write_text(GOOD)
    assert json.loads(run("check", "--json").stdout) == {
        "ok": True,
        "file": f"{here}/coserver.toml",
        "files": [f"{here}/coserver.toml"],
        "problems": [],
    }
    (here / "coserver.toml").write_text(BAD)
    result = run("check", "--json")
    assert result.exit_code == 2
    told = json.loads(result.stdout)
    assert told["ok"] is False
    assert told["problems"][0] == {
        "file": "coserver.toml",
        "line": 1,
        "column": 1,
        "key": "sit",
        "message": 'unknown key; did you mean "site"?',
    }


def test_a_missing_file_is_a_message_and_no_traceback(here: Path) -> None:
    result = run("check", file="none.toml")
    assert (result.exit_code, result.stderr) == (2, f"cannot read {here}/none.toml: no such file\n")
    result = run("show")
    assert result.exit_code == 2
    assert result.stderr.startswith("cannot find a configuration: ")


def test_show_prints_values_with_origins_and_no_secret(here: Path) -> None:
    (here / "coserver.toml").write_text(GOOD)
    result = run("show")
    assert result.exit_code == 0
    assert 'command = ["a", "--password", "***"]' in result.stdout
    assert "# coserver.toml:4" in result.stdout
    assert "s3cret" not in result.stdout


def test_show_chooses_keys_by_path_and_pattern(here: Path) -> None:
    (here / "coserver.toml").write_text(GOOD)
    shown = json.loads(run("show", "--json", "service.a.stop", "service.*.nice", "site.name").stdout)
    assert list(shown["settings"]) == [
        "site.name",
        "service.a.nice",
        "service.a.stop.signal",
        "service.a.stop.timeout",
        "service.b.nice",
    ]
    assert list(json.loads(run("show", "--json", "--stated").stdout)["settings"]) == [
        "site.name",
        "service.a.command",
        "service.b.command",
    ]
    assert isinstance(run("show", "service.c").exception, UnknownName)


def test_show_follows_the_profile_and_the_environment(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "coserver.toml").write_text(GOOD)
    (here / "coserver.prod.toml").write_text('[site]\nname = "prod"\n')
    monkeypatch.setenv("COSERVER_CFG__SERVICE__A__NICE", "7")
    result = run("show", "--stated", profile="prod")
    assert "coserver.prod.toml:2" in result.stdout
    assert "COSERVER_CFG__SERVICE__A__NICE" in result.stdout


def test_schema_prints_the_schema(here: Path) -> None:
    assert json.loads(run("schema").stdout) == schema()
