"""Finding the application's own modules, with errors for people.

Theory. A name in the configuration may be wrong, and the module behind it may be wrong; these are two mistakes of two
kinds. A module that is not there is one line: its name, where it was looked for, and what to correct. An exception
out of the module itself belongs to its author, who needs its traceback, but not the importing frames around it.
"""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Iterable
from importlib.metadata import entry_points
from types import ModuleType, TracebackType
from typing import Any

from coserver.errors import CoserverError


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
    """Import modules, or all modules of an entry-point group given as `@group`, for the tasks that they declare.
    Raises `CannotLoad`."""
    for source in sources:
        if not source.startswith("@"):
            load_module(source, "tasks")
            continue
        found = entry_points(group=source[1:])
        if not found:
            raise CannotLoad(
                f"cannot use tasks = [{source!r}]: no installed package has entry points in group {source[1:]}; "
                "install one, or correct the name"
            )
        for entry in found:
            load_module(entry.module, "tasks")


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
    report = "".join(traceback.format_exception(type(error), error, _theirs(error.__traceback__)))
    said = str(error).partition("\n")[0]
    return CannotLoad(f"cannot {doing}: {type(error).__name__}: {said}; see the traceback above", report)


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
