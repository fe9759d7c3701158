"""Names of tasks."""

from __future__ import annotations

import importlib
import sys
import textwrap
from pathlib import Path
from types import ModuleType

import pytest

from coserver.errors import UsageError
from coserver.tasks.declaration import task
from coserver.tasks.registry import registry


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(name: str, text: str) -> None:
        (tmp_path / f"{name}.py").write_text(
            "from coserver.tasks.declaration import task\n" + textwrap.dedent(text)
        )
        monkeypatch.delitem(sys.modules, name, raising=False)
        importlib.invalidate_caches()

    return write


def imported(name: str) -> ModuleType:
    return importlib.import_module(name)


def test_a_name_belongs_to_one_function() -> None:
    @task(name="report")
    def first() -> None: ...

    with pytest.raises(UsageError) as caught:

        @task(name="report")
        def second() -> None: ...

    assert "cannot declare task 'report' at" in str(caught.value)
    assert "first" in str(caught.value)
    assert "give one of them another" in str(caught.value)
    assert registry.get("report") is first


def test_an_alias_may_not_be_anothers_name() -> None:
    @task(name="old")
    def first() -> None: ...

    with pytest.raises(UsageError, match="has that name already"):

        @task(name="new", aliases=["old"])
        def second() -> None: ...

    assert registry.get("new") is None


def test_a_task_is_found_by_its_aliases() -> None:
    @task(name="new", aliases=["old", "older"])
    def report() -> None: ...

    assert registry.get("old") is registry.get("older") is registry.get("new") is report
    assert {"old", "older", "new"} <= set(registry.names())
    assert registry.tasks().count(report) == 1
    assert registry.get("nothing") is None


def test_a_reloaded_module_declares_its_tasks_anew(write) -> None:  # type: ignore[no-untyped-def]
    write("shop_a", "@task(aliases=['gone'])\ndef report(): return 1\n")
    module = imported("shop_a")
    write("shop_a", "\n\n@task\ndef report(): return 22\n")
    again = imported("shop_a")
    assert again.report is not module.report
    assert registry.get("shop_a:report") is again.report
    assert registry.get("gone") is None


def test_a_file_that_is_also_run_as_main_declares_its_tasks_once(write) -> None:  # type: ignore[no-untyped-def]
    write("shop_b", "@task(name='report')\ndef report(): return 1\n")
    first = imported("shop_b")
    first.report.function.__module__ = "__main__"  # as if `python -m shop_b` had run it
    sys.modules.pop("shop_b")
    again = imported("shop_b")
    assert registry.get("report") is again.report is not first.report
