"""Which file is found."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from coserver.config.discover import discover, overlay_path, profiles
from coserver.config.origin import ConfigError
from tests.config.sites import NOWHERE, Desk


def find(cwd: Path, path: str | None = None, variable: str | None = None, site_file: Path = NOWHERE) -> Path:
    environ = {"COSERVER_CONFIG": variable} if variable is not None else {}
    return discover(Path(path) if path else None, environ=environ, cwd=cwd, site_file=site_file)


def test_the_named_file_goes_before_the_variable_and_that_before_the_surroundings(desk: Desk) -> None:
    for name in ("coserver.toml", "one.toml", "two.toml"):
        desk.write("", name)
    here = desk.directory
    assert find(here, "one.toml", "two.toml") == here / "one.toml"
    assert find(here, None, "two.toml") == here / "two.toml"
    assert find(here, None, "") == here / "coserver.toml"
    assert find(here, str(here / "one.toml")) == here / "one.toml"


def test_the_way_leads_upward_to_the_root_of_the_repository(desk: Desk) -> None:
    inner = desk.directory / "project" / "src"
    inner.mkdir(parents=True)
    desk.write("")
    assert find(inner) == desk.directory / "coserver.toml"
    (desk.directory / "project" / ".git").mkdir()
    with pytest.raises(ConfigError, match="cannot find a configuration"):
        find(inner)
    desk.write("", "project/coserver.toml")
    assert find(inner) == desk.directory / "project" / "coserver.toml"


def test_a_pyproject_counts_only_with_a_table_of_ours(desk: Desk) -> None:
    inner = desk.directory / "inner"
    desk.write("[project]\nname = 'x'\n", "inner/pyproject.toml")
    desk.write("[tool.coserver.site]\nname = 'outer'\n", "pyproject.toml")
    assert find(inner) == desk.directory / "pyproject.toml"
    site = desk.load(cwd=inner)
    assert site.name == "outer"
    assert site.settings["site.name"].origin.line == 2


def test_a_broken_pyproject_of_somebody_else_is_passed_over(desk: Desk) -> None:
    desk.write("[broken", "inner/pyproject.toml")
    desk.write("")
    assert find(desk.directory / "inner") == desk.directory / "coserver.toml"


def test_problems_in_a_pyproject_have_its_own_lines_and_our_keys(desk: Desk) -> None:
    desk.write("[project]\nname = 'x'\n[tool.coserver.site]\nnam = 'y'\n", "pyproject.toml")
    assert desk.problems() == ['pyproject.toml:4: site.nam: unknown key; did you mean "name"?']


def test_a_named_pyproject_without_a_table_of_ours_is_refused(desk: Desk) -> None:
    path = desk.write("[project]\nname = 'x'\n", "pyproject.toml")
    assert desk.problems(path=path) == ["pyproject.toml: states no site: it has no table [tool.coserver]"]
    desk.write("[tool]\ncoserver = 3\n", "pyproject.toml")
    assert desk.problems(path=path) == ["pyproject.toml:2: tool.coserver: expected the table [tool.coserver]"]


def test_a_site_stated_in_both_files_is_an_error(desk: Desk) -> None:
    desk.write("[tool.coserver]\n", "pyproject.toml")
    desk.write("")
    with pytest.raises(ConfigError, match="stated twice"):
        find(desk.directory)


def test_the_machine_s_own_file_is_the_last_resort(desk: Desk) -> None:
    machine = desk.write("", "etc/coserver.toml")
    assert find(desk.directory, site_file=machine) == machine
    desk.write("")
    assert find(desk.directory, site_file=machine) == desk.directory / "coserver.toml"


def test_a_file_above_in_a_directory_that_everybody_may_write_is_passed(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    inner = shared / "inner"
    inner.mkdir(parents=True)
    (shared / "coserver.toml").write_text("")
    (tmp_path / "coserver.toml").write_text("")
    shared.chmod(0o1777)
    assert find(inner) == tmp_path / "coserver.toml"
    assert find(shared) == shared / "coserver.toml"


@pytest.mark.parametrize("variable", [False, True])
def test_a_named_file_that_is_missing_or_a_directory_is_an_error(desk: Desk, variable: bool) -> None:
    def look(name: str) -> str:
        with pytest.raises(ConfigError) as refused:
            find(desk.directory, None if variable else name, name if variable else None)
        return str(refused.value)

    who = "COSERVER_CONFIG: " if variable else ""
    assert look("none.toml") == f"{who}cannot read {desk.directory}/none.toml: no such file"
    assert "it is a directory; did you mean" in look(".")


def test_nothing_found_names_what_to_do(desk: Desk) -> None:
    with pytest.raises(ConfigError, match=r"-c FILE, or write a first one with `coserver init`"):
        find(desk.directory)


def test_a_link_in_the_path_stays_and_dots_do_not(desk: Desk) -> None:
    desk.write("", "releases/7/coserver.toml")
    (desk.directory / "current").symlink_to("releases/7")
    assert desk.load(path=Path("current/coserver.toml")).base_dir == desk.directory / "current"
    assert find(desk.directory / "releases", "../releases/7/coserver.toml") == (
        desk.directory.resolve() / "releases/7/coserver.toml"
    )


def test_overlays_stand_beside_the_main_file(desk: Desk) -> None:
    assert overlay_path(Path("/a/coserver.toml"), "prod") == Path("/a/coserver.prod.toml")
    assert overlay_path(Path("/a/pyproject.toml"), "prod") == Path("/a/coserver.prod.toml")
    assert overlay_path(Path("/a/site.toml"), "prod") == Path("/a/site.prod.toml")
    main = desk.write("")
    for name in ("coserver.prod.toml", "coserver.dev.toml", "coserver..toml", "other.x.toml"):
        desk.write("", name)
    assert profiles(main) == ["dev", "prod"]


def test_a_directory_above_that_may_not_be_looked_into_is_passed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plain user may work below a directory that only somebody else may enter."""
    closed = tmp_path / "closed"
    stat = Path.stat

    def guarded(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        if path.is_relative_to(closed):
            raise PermissionError(13, "Permission denied")
        return stat(path, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(Path, "stat", guarded)
    (tmp_path / ".git").mkdir()
    with pytest.raises(ConfigError, match="cannot find a configuration"):
        find(closed / "work")
    with pytest.raises(ConfigError, match=r"cannot read .*/closed/coserver\.toml: permission denied"):
        find(tmp_path, "closed/coserver.toml")
    (tmp_path / "coserver.toml").write_text("")
    assert find(closed / "work") == tmp_path / "coserver.toml"
