"""Finding the store of a process in the configuration around it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from coserver.client.connect import client_for, configured_store
from coserver.config import load
from coserver.errors import NotConfigured


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".git").mkdir()  # where looking upward ends
    (tmp_path / "inner").mkdir()
    monkeypatch.chdir(tmp_path / "inner")
    monkeypatch.delenv("COSERVER_CONFIG", raising=False)
    monkeypatch.delenv("COSERVER_STORE", raising=False)


def test_without_a_configuration_there_is_none() -> None:
    assert configured_store() is None


def test_the_store_of_the_nearest_configuration_is_found(tmp_path: Path) -> None:
    (tmp_path / "coserver.toml").write_text('[site]\nstore = "sqlite:data.db"\n')
    found = configured_store()
    assert found == load(environ={}, cwd=tmp_path).store
    assert found is not None
    client = client_for(found)
    client.submit("add", queue="default")
    client.close()
    assert (tmp_path / "data.db").exists()


def test_a_configuration_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "coserver.toml").write_text("[site]\nstroe = 3\n")
    with pytest.raises(NotConfigured, match=r"(?s)cannot submit a job: .*coserver\.toml:2.*stroe"):
        configured_store()


def test_a_named_configuration_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COSERVER_CONFIG", "missing.toml")
    with pytest.raises(NotConfigured, match=r"missing\.toml"):
        configured_store()


def test_an_application_submits_to_the_store_of_its_directory_without_a_word(tmp_path: Path) -> None:
    (tmp_path / "coserver.toml").write_text('[site]\nstore = "sqlite:data.db"\n')
    (tmp_path / "inner" / "shop.py").write_text(
        "from coserver import task\n@task\ndef report(day: str) -> None: ...\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", "import shop; print(shop.report.submit('monday').info().args)"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ('["monday"]\n', "")
    assert (tmp_path / "data.db").exists()
