"""Which file: the one that was named, else the one of the project around, else the one of the machine.

The order is: the path given (`-c`), the variable `COSERVER_CONFIG`, then upward from the working directory the first
`coserver.toml` or `pyproject.toml` with a `[tool.coserver]` table, then `/etc/coserver/coserver.toml`. The way up
ends at the root of the repository. Outside of any repository it goes on to the root of the file system, but passes
directories into which everybody may write, such as `/tmp`: a stranger's file there must not decide what runs.
"""

from __future__ import annotations

import stat
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

from coserver.config.origin import ConfigError, Problem
from coserver.config.read import cause

FILE = "coserver.toml"
PYPROJECT = "pyproject.toml"
VARIABLE = "COSERVER_CONFIG"
_ROOTS = (".git", ".hg", ".svn", ".jj")


def discover(path: Path | None, *, environ: Mapping[str, str], cwd: Path, site_file: Path) -> Path:
    """Return the main file's absolute path; raises `ConfigError` if there is none."""
    if path is not None:
        return _named(cwd / path, "")
    if environ.get(VARIABLE):
        return _named(cwd / environ[VARIABLE], VARIABLE)
    for directory in _upward(cwd):
        found = _within(directory)
        if found is not None:
            return found
    if exists(site_file):
        return site_file
    message = (
        f"cannot find a configuration: no {FILE} and no {PYPROJECT} with [tool.coserver] in {cwd} or above it, and no "
        f"{site_file}; name one with -c FILE, or write a first one with `coserver init`"
    )
    raise ConfigError((Problem("", 0, 0, "", message),))


def _named(path: Path, variable: str) -> Path:
    try:
        directory = stat.S_ISDIR(path.stat().st_mode)
    except OSError as error:
        raise ConfigError((Problem(variable, 0, 0, "", f"cannot read {path}: {cause(error)}"),)) from None
    if directory:
        message = f"cannot read {path}: it is a directory; did you mean {path / FILE}?"
        raise ConfigError((Problem(variable, 0, 0, "", message),))
    # Only "..": a deployment's link such as `current` is part of the name and stays.
    return path.parent.resolve() / path.name if ".." in path.parts else path


def _upward(cwd: Path) -> Iterator[Path]:
    for directory in (cwd, *cwd.parents):
        if directory == cwd or not _open_to_all(directory):
            yield directory
        if any(exists(directory / name) for name in _ROOTS):
            return


def exists(path: Path) -> bool:
    """Tell whether there is such a file; one that may not be looked at counts as absent."""
    try:
        path.stat()
    except OSError:
        return False
    return True


def _open_to_all(directory: Path) -> bool:
    try:
        return bool(directory.stat().st_mode & stat.S_IWOTH)
    except OSError:
        return True


def _within(directory: Path) -> Path | None:
    own, project = directory / FILE, directory / PYPROJECT
    in_project = states_site(project)
    if exists(own):
        if in_project:
            message = (
                f"the site is stated twice: here and in [tool.coserver] of {PYPROJECT}; remove one of them"
            )
            raise ConfigError((Problem(str(own), 0, 0, "", message),))
        return own
    return project if in_project else None


def states_site(project: Path) -> bool:
    """Tell whether a pyproject.toml has a `[tool.coserver]` table; one that cannot be read has none."""
    try:
        document = tomllib.loads(project.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    tool = document.get("tool")
    return isinstance(tool, dict) and "coserver" in tool


def overlay_path(main: Path, profile: str) -> Path:
    """Return the path of a profile's overlay beside the main file: `coserver.PROFILE.toml`."""
    stem = FILE.removesuffix(".toml") if main.name == PYPROJECT else main.name.removesuffix(".toml")
    return main.with_name(f"{stem}.{profile}.toml")


def profiles(main: Path) -> list[str]:
    """Return the names of the profiles that have an overlay beside the main file, sorted."""
    prefix, suffix = overlay_path(main, "\0").name.split("\0")
    names = (entry.name for entry in main.parent.glob("*.toml"))
    found = (
        name[len(prefix) : -len(suffix)]
        for name in names
        if name.startswith(prefix) and name.endswith(suffix)
    )
    return sorted(name for name in found if name)
