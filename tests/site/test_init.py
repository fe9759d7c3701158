"""What `coserver init` writes runs: the starter site, and projects of the frameworks that people use."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.site.live import COSERVER, LiveSite

FASTAPI = """
from fastapi import FastAPI

app = FastAPI()

@app.get("/")
async def home() -> dict[str, str]:
    return {"hello": "from FastAPI"}
"""
FLASK = """
from flask import Flask

def create_app(config: str | None = None) -> Flask:
    app = Flask(__name__)

    @app.get("/")
    def home() -> str:
        return "hello from Flask"

    return app
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def served(site: LiveSite, monkeypatch: pytest.MonkeyPatch, path: str = "/") -> str:
    """Write the site, start it on a port of its own, and return one of its pages."""
    env = site.environment()
    subprocess.run([*COSERVER, "init", str(site.directory)], check=True, env=env, capture_output=True)
    port = free_port()
    monkeypatch.setenv("PORT", str(port))
    site.up()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
        page: str = answer.read().decode()
    site.down()
    return page


def test_the_starter_site_serves_a_page_and_runs_its_task(
    site: LiveSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = served(site, monkeypatch, "/?text=three+small+%3Cwords%3E")
    assert "has counted 3 words" in page
    assert "small &lt;words&gt;" in page


def test_a_fastapi_project_runs(site: LiveSite, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fastapi")
    package = site.directory / "src" / "shop"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "main.py").write_text(FASTAPI)
    assert "hello" in served(site, monkeypatch)


def test_a_flask_project_with_a_factory_runs(site: LiveSite, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("flask")
    package = site.directory / "shop"
    package.mkdir()
    (package / "__init__.py").write_text(FLASK)
    assert served(site, monkeypatch) == "hello from Flask"


def test_a_django_project_runs(site: LiveSite, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("django")
    start = [sys.executable, "-m", "django", "startproject", "shop", str(site.directory)]
    subprocess.run(start, check=True, env=os.environ | {"PYTHONPATH": ""})
    assert (site.directory / "manage.py").exists()
    assert "The install worked successfully" in served(site, monkeypatch)
    assert Path(site.directory / "site.db").exists()
