"""Finding the application's own modules, with errors for people.

Theory. A name in the configuration may be wrong, and the module behind it may be wrong; these are two mistakes of two
kinds. A module that is not there is one line: its name, where it was looked for, and what to correct. An exception
out of the module itself belongs to its author, who needs its traceback, but not the importing frames around it.

*Task plugins.* An installed package offers tasks under a name of its choice by an entry point of the group
`coserver.tasks`: the entry point's name is the plugin's, its value the module that declares the tasks (after a colon
may stand an object of it, which then has to be there). `@name` loads every plugin of that name; where there is none,
every entry point of a group that is called so. Nothing is loaded that was not named.
"""

from __future__ import annotations

import importlib
import re
import sys
import traceback
from collections.abc import Iterable
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from types import ModuleType, TracebackType
from typing import Any

from coserver.errors import CoserverError
from coserver.model.names import suggestion

PLUGINS = "coserver.tasks"
"""The entry-point group in which packages announce task plugins: name → module that declares the tasks."""

_EXTRA = re.compile(r"""(?P<name>[\w.-]+).*\bextra\s*==\s*["'](?P<extra>[\w.-]+)["']""")


class CannotLoad(CoserverError):
    """A module or an object of the application is not there, or its import failed. `report` is what its author needs
    beside the message: a traceback, or nothing."""

    code = "cannot-load"

    def __init__(self, message: str, report: str = "") -> None:
        super().__init__(message)
        self.report = report


def load_module(name: str, key: str) -> ModuleType:
    """Import a module that the configuration key `key` names. Raises `CannotLoad`."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            raise CannotLoad(
                f"cannot import {name}: no module {error.name} in {_searched()}; correct {key} = … or path = […]"
            ) from error
        raise _own_fault(f"import {name}", error) from error
    except Exception as error:
        raise _own_fault(f"import {name}", error) from error


def load_object(reference: str, key: str) -> Any:
    """Return what `module:attribute` names. Raises `CannotLoad`."""
    name, colon, path = reference.partition(":")
    if not (name and colon and path):
        raise CannotLoad(f'cannot use {key} = "{reference}": it names no object; write "module:attribute"')
    found: Any = load_module(name, key)
    for attribute in path.split("."):
        try:
            found = getattr(found, attribute)
        except AttributeError as error:
            raise CannotLoad(
                f"cannot find {reference}: {name} has no {attribute}; correct {key} = …, or define it there"
            ) from error
    return found


def load_tasks(sources: Iterable[str]) -> None:
    """Import modules, and task plugins given as `@name`, for the tasks that they declare. Raises `CannotLoad`."""
    for source in sources:
        if source.startswith("@"):
            _load_plugin(source[1:])
        else:
            load_module(source, "tasks")


def _load_plugin(name: str) -> None:
    known = entry_points(group=PLUGINS)
    found = known.select(name=name) or entry_points(group=name)
    if not found:
        raise CannotLoad(
            f"cannot load the task plugin @{name}: no installed package brings it"
            f"{suggestion(f'@{name}', [f'@{one}' for one in known.names])}; there are {_listed(known)}; "
            "install the package that brings it, or correct tasks = …"
        )
    for entry in found:
        _load_entry(entry)


def _load_entry(entry: EntryPoint) -> None:
    plugin = f"load the task plugin @{entry.name} of {_package(entry)}"
    try:
        found: Any = importlib.import_module(entry.module)
        for attribute in entry.attr.split(".") if entry.attr else ():
            found = getattr(found, attribute)
    except ModuleNotFoundError as error:
        missing = error.name or str(error)
        if entry.module == missing or entry.module.startswith(missing + "."):
            mend = f"the package names {entry.module} but does not hold it; install it anew"
        elif (extra := _extra_with(entry, missing)) is not None:
            mend = f"install it with pip install '{extra}'"
        else:
            mend = f"install what {_package(entry)} needs"
        raise CannotLoad(f"cannot {plugin}: no module {missing}; {mend}") from error
    except Exception as error:
        raise _own_fault(plugin, error) from error


def _listed(plugins: EntryPoints) -> str:
    """Say which plugins there are, by package: `@command, @http-call (coserver 0.1.0)`."""
    packages: dict[str, list[str]] = {}
    for entry in plugins:
        packages.setdefault(_package(entry), []).append(f"@{entry.name}")
    shown = [f"{', '.join(sorted(names))} ({package})" for package, names in sorted(packages.items())]
    return ", ".join(shown) or "none"


def _package(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else entry.module


def _extra_with(entry: EntryPoint, module: str) -> str | None:
    """Return `package[extra]` for the extra of the plugin's package that brings a missing module."""
    if entry.dist is None:
        return None
    for requirement in entry.dist.requires or ():
        found = _EXTRA.match(requirement)
        if found is not None and _plain(found["name"]) == _plain(module.partition(".")[0]):
            return f"{entry.dist.name}[{found['extra']}]"
    return None


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def run_setup(reference: str) -> None:
    """Import `module`, or call `module:function`, before anything else of the application. Raises `CannotLoad`."""
    if ":" not in reference:
        load_module(reference, "setup")
        return
    function = load_object(reference, "setup")
    if not callable(function):
        raise CannotLoad(f'cannot use setup = "{reference}": it is not callable; name a function')
    try:
        function()
    except Exception as error:
        raise _own_fault(f"run {reference}", error) from error


def _own_fault(doing: str, error: Exception) -> CannotLoad:
    trace = _theirs(error.__traceback__)
    report = "".join(traceback.format_exception(type(error), error, trace))
    said = str(error).partition("\n")[0]
    return CannotLoad(f"cannot {doing}: {type(error).__name__}: {said}{_place(error, trace)}", report)


def _place(error: Exception, trace: TracebackType | None) -> str:
    """Say where to mend it."""
    if isinstance(error, SyntaxError) and error.filename is not None:
        return f"; correct {error.filename}:{error.lineno}"
    frames = traceback.extract_tb(trace)
    return f"; see {frames[-1].filename}:{frames[-1].lineno}" if frames else "; correct it"


def _theirs(trace: TracebackType | None) -> TracebackType | None:
    """Leave out the frames of this file and of the import machinery at the beginning."""
    here = trace
    while here is not None and (
        here.tb_frame.f_code.co_filename == __file__
        or here.tb_frame.f_globals.get("__name__") == "importlib"
        or "importlib._bootstrap" in here.tb_frame.f_code.co_filename
    ):
        here = here.tb_next
    return here


def _searched() -> str:
    shown = [place or "." for place in sys.path[:3]]
    return (
        f"{', '.join(shown)} and {len(sys.path) - len(shown)} more places"
        if len(sys.path) > 3
        else ", ".join(shown)
    )
