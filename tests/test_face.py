"""`import coserver`: what it offers, and what it costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import coserver

HEAVY = (
    "apsw",
    "asyncio",
    "click",
    "msgspec",
    "psutil",
    "psycopg",
    "rich",
    "sqlite3",
    "starlette",
    "uvicorn",
)


def python(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    ).stdout


@pytest.mark.parametrize("name", coserver.__all__)
def test_every_public_name_is_there_and_comes_from_its_home(name: str) -> None:
    value = getattr(coserver, name)
    home = coserver._HOME_OF.get(name, "errors")
    if name != "__version__":
        assert value is getattr(import_module(f"coserver.{home}"), name)
    assert name in dir(coserver)


def test_checkers_see_the_same_names_as_the_interpreter() -> None:
    tree = ast.parse(Path(coserver.__file__ or "").read_text("utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        (node.module, alias.name)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    expected = {
        (f"coserver.{coserver._HOME_OF.get(name, 'errors')}", name)
        for name in coserver.__all__
        if name != "__version__"
    }
    assert seen == expected


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'coserver' has no attribute 'tusk'"):
        coserver.tusk  # type: ignore[attr-defined]  # noqa: B018


def test_importing_it_loads_nothing_heavy() -> None:
    loaded = python(f"import coserver, sys; print(*(name for name in {HEAVY} if name in sys.modules))")
    assert loaded.split() == []


def test_declaring_a_task_loads_no_store_no_web_and_no_console() -> None:
    beyond = [name for name in HEAVY if name not in ("asyncio", "msgspec")]
    beyond += ["coserver.client", "coserver.store", "coserver.config", "coserver.runtime"]
    code = f"""
import sys
from coserver import task
@task(name="t")
def t(a: int) -> int: return a
t.bind(1)
print(*(name for name in {beyond} if name in sys.modules))
"""
    assert python(code).split() == []


def test_importing_it_takes_less_than_80_milliseconds() -> None:
    # Time on the processor: what is measured is the import, not how busy the machine is.
    code = "import time; at = time.process_time(); import coserver; print(time.process_time() - at)"
    assert min(float(python(code)) for _ in range(3)) < 0.08


def test_types_are_published() -> None:
    assert (Path(coserver.__file__ or "").parent / "py.typed").exists()
