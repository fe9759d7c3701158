"""Task plugins: which package brings which, and what is said when one cannot be had."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from coserver.runtime.loading import CannotLoad, load_tasks
from coserver.tasks.registry import registry

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install a package that announces plugins: its name, its entry points by group, its modules, its requirements."""
    monkeypatch.syspath_prepend(tmp_path)
    before, modules = dict(registry._by_name), set(sys.modules)

    def made(
        name: str, points: dict[str, dict[str, str]], requires: tuple[str, ...] = (), **files: str
    ) -> None:
        info = tmp_path / f"{name}-2.1.dist-info"
        info.mkdir()
        needs = "".join(f"Requires-Dist: {one}\n" for one in requires)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.1\n{needs}")
        (info / "entry_points.txt").write_text(
            "".join(
                f"[{group}]\n" + "".join(f"{plugin} = {value}\n" for plugin, value in entries.items())
                for group, entries in points.items()
            )
        )
        for module, source in files.items():
            (tmp_path / f"{module}.py").write_text(source)

    yield made
    registry._by_name = before
    for module in set(sys.modules) - modules:
        if module.startswith("acme"):
            del sys.modules[module]


def declaring(name: str) -> str:
    return f"from coserver import task\n\n@task(name={name!r})\ndef work() -> int:\n    return 1\n"


def refused(source: str) -> CannotLoad:
    with pytest.raises(CannotLoad) as caught:
        load_tasks([source])
    return caught.value


def test_j2_a_plugin_of_another_package_is_loaded_by_its_name(install: Install) -> None:
    """J2."""
    plugins = {"acme-mail": "acme_mail", "acme-print": "acme_print"}
    install("acme", {"coserver.tasks": plugins}, acme_mail=declaring("mail"), acme_print=declaring("print"))
    load_tasks(["@acme-mail"])
    assert registry.get("mail") is not None
    assert registry.get("print") is None  # nobody named it


def test_a_plugin_may_name_an_object_that_must_be_there(install: Install) -> None:
    plugins = {"acme": "acme_mail:work", "acme-gone": "acme_mail:rest"}
    install("acme", {"coserver.tasks": plugins}, acme_mail=declaring("mail"))
    load_tasks(["@acme"])
    assert registry.get("mail") is not None
    assert "cannot load the task plugin @acme-gone of acme 2.1: AttributeError" in str(refused("@acme-gone"))


def test_two_packages_may_add_to_one_plugin(install: Install) -> None:
    install("acme", {"coserver.tasks": {"both": "acme_mail"}}, acme_mail=declaring("mail"))
    install("acme_more", {"coserver.tasks": {"both": "acme_print"}}, acme_print=declaring("print"))
    load_tasks(["@both"])
    assert {"mail", "print"} <= set(registry.names())


def test_a_group_of_ones_own_is_loaded_whole(install: Install) -> None:
    install(
        "acme",
        {"acme.tasks": {"a": "acme_mail", "b": "acme_print"}},
        acme_mail=declaring("mail"),
        acme_print=declaring("print"),
    )
    load_tasks(["@acme.tasks"])
    assert {"mail", "print"} <= set(registry.names())


def test_a_plugin_that_nobody_brings_is_told_with_those_there_are(install: Install) -> None:
    install("acme", {"coserver.tasks": {"acme-mail": "acme_mail"}})
    said = str(refused("@acme-mial"))
    assert (
        'cannot load the task plugin @acme-mial: no installed package brings it; did you mean "@acme-mail"?'
        in said
    )
    assert "@acme-mail (acme 2.1)" in said
    assert "@http-call" in said
    assert "did you mean" not in str(refused("@zzz"))


def test_a_plugin_that_fails_names_its_package_and_its_line(install: Install) -> None:
    install("acme", {"coserver.tasks": {"acme": "acme_mail"}}, acme_mail="x = 1\n1 / 0\n")
    error = refused("@acme")
    assert "cannot load the task plugin @acme of acme 2.1: ZeroDivisionError: division by zero" in str(error)
    assert 'acme_mail.py", line 2' in error.report
    assert "importlib" not in error.report


@pytest.mark.parametrize(
    ("module", "requires", "mend"),
    [
        ("acme_soap.client", ("acme_soap>=2; extra == 'soap'",), "install it with pip install 'acme[soap]'"),
        ("acme_soap", ('Acme.Soap ; python_version > "3" and extra == "all"',), "pip install 'acme[all]'"),
        ("acme_soap", ("acme-other; extra == 'soap'",), "install what acme 2.1 needs"),
        ("acme_soap", (), "install what acme 2.1 needs"),
    ],
)
def test_a_missing_library_is_told_with_the_extra_that_brings_it(
    install: Install, module: str, requires: tuple[str, ...], mend: str
) -> None:
    install("acme", {"coserver.tasks": {"acme": "acme_mail"}}, requires, acme_mail=f"import {module}\n")
    said = str(refused("@acme"))
    assert said.startswith("cannot load the task plugin @acme of acme 2.1: no module acme_soap")
    assert said.endswith(mend)


def test_a_package_that_lacks_what_it_announces_is_to_be_installed_anew(install: Install) -> None:
    install("acme", {"coserver.tasks": {"acme": "acme_mail.tasks"}})
    assert "no module acme_mail; the package names acme_mail.tasks but does not hold it" in str(
        refused("@acme")
    )


@pytest.mark.parametrize(
    ("plugin", "library", "extra"), [("@http-call", "httpx2", "http"), ("@zodb-call", "ZODB.DB", "zodb")]
)
def test_our_own_plugins_name_the_extra_that_they_need(
    monkeypatch: pytest.MonkeyPatch, plugin: str, library: str, extra: str
) -> None:
    for module in [name for name in sys.modules if name.startswith("coserver.contrib.generic")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, library, None)
    assert f"no module {library}; install it with pip install 'coserver[{extra}]'" in str(refused(plugin))


def test_generic_is_every_task_that_can_run_here() -> None:
    before = dict(registry._by_name)
    load_tasks(["@generic"])
    names = set(registry.names())
    registry._by_name = before
    assert {"http-call", "xmlrpc-call", "command", "zodb-call"} <= names
