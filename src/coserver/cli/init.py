"""`coserver init`."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from coserver.cli.context import say
from coserver.errors import CoserverError, Denied, UsageError

if TYPE_CHECKING:
    from coserver.cli import starter
    from coserver.cli.detect import Application, Interface

HARMLESS = frozenset({"readme", "license", "licence", "changelog", "makefile", "dockerfile", "procfile"})


class Exists(CoserverError):
    """What would have to be written is there already."""

    code = "exists"


@click.command()
@click.argument("directory", type=click.Path(path_type=Path), default=Path())
@click.option("--asgi", metavar="MODULE:NAME", help="Serve this ASGI application, whatever else is found.")
@click.option("--wsgi", metavar="MODULE:NAME", help="Serve this WSGI application, whatever else is found.")
@click.option("-n", "--dry-run", is_flag=True, help="Show what would be written; write nothing.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.pass_context
def init(
    context: click.Context, directory: Path, asgi: str | None, wsgi: str | None, dry_run: bool, yes: bool
) -> None:
    """Write a working coserver.toml for the project in DIRECTORY (here).

    \b
      coserver init                           what is found here: FastAPI, Flask, Django …
      coserver init --asgi shop.web:app       this application
      coserver init new-site                  a small starter site in a new directory

    The project is read, never run; nothing that exists is overwritten. An empty directory gets a starter site: a page,
    and a task that a worker runs for it.
    """
    from coserver.cli import starter

    directory = _place(context, directory).absolute()
    _refuse_stated(directory)
    _warn_of_another(directory)
    files = _files(directory, asgi, wsgi)
    there = [file.name for file in files if (directory / file.name).exists()]
    if there:
        raise Exists(
            f"cannot write {directory / there[0]}: it exists; move it away, or start in another directory"
        )
    for file in files:
        say(f"{file.name}:" if len(files) > 1 else f"{directory / file.name}:")
        click.echo(file.text)
    if dry_run:
        say("Nothing was written.")
        return
    if sys.stdin.isatty() and not yes and not click.confirm("Write this?", default=True, err=True):
        say("Nothing was written.")
        return
    _write(directory, files)
    say(f"Wrote {', '.join(str(directory / file.name) for file in files)}.")
    _tell_next(directory, files, starter.PORT)


def _place(context: click.Context, directory: Path) -> Path:
    """Return where to write: DIRECTORY, or that of the file which `-c` names."""
    from coserver.config.discover import FILE

    named: Path | None = context.find_root().params.get("config_path")
    if named is None:
        return directory
    if named.name != FILE:
        raise UsageError(
            f"cannot write {named}: what init writes is called {FILE}; name that, or a directory"
        )
    stated = context.get_parameter_source("directory") is not ParameterSource.DEFAULT
    if stated and directory.absolute() != named.parent.absolute():
        raise UsageError(f"cannot write both into {directory} and as {named}; leave one out")
    return named.parent


def _refuse_stated(directory: Path) -> None:
    from coserver.config.discover import FILE, PYPROJECT, states_site

    if directory.exists() and not directory.is_dir():
        raise UsageError(f"cannot write into {directory}: it is a file; name a directory")
    if (directory / FILE).exists():
        raise Exists(
            f"cannot write {directory / FILE}: it exists; `coserver config check` looks at it, `coserver up` starts it"
        )
    if states_site(directory / PYPROJECT):
        raise Exists(
            f"cannot write {directory / FILE}: {PYPROJECT} states the site in [tool.coserver]; edit that"
        )


def _warn_of_another(directory: Path) -> None:
    """Other verbs obey COSERVER_CONFIG, and so would not use what is written here."""
    from coserver.config.discover import FILE, VARIABLE

    named = os.environ.get(VARIABLE)
    if named and Path(named).absolute() != directory / FILE:
        say(
            f"Note: {VARIABLE} names {named}, and other verbs use that. This writes {directory / FILE}: "
            f"unset {VARIABLE} to use it, or name it with -c"
        )


def _files(directory: Path, asgi: str | None, wsgi: str | None) -> list[starter.NewFile]:
    from coserver.cli import starter
    from coserver.cli.detect import look_at

    project = look_at(directory)
    if asgi is not None or wsgi is not None:
        return starter.for_application(_named(directory, asgi, wsgi), project)
    if project.applications:
        first, *others = project.applications
        what = "factory" if first.factory else "application"
        say(f"Found a {first.framework} {what}: {first.reference} ({first.file})")
        for other in others[:5]:
            say(f"  another one, not used: {other.reference} ({other.file})")
        return starter.for_application(first, project)
    if project.has_python or not _empty(directory):
        raise CoserverError(
            f"cannot find a web application in {directory}: no module makes one that coserver knows; name it with "
            "--asgi MODULE:NAME or --wsgi MODULE:NAME, or start in an empty directory"
        )
    say(f"{directory} is empty: it gets a starter site.")
    return starter.starter()


def _named(directory: Path, asgi: str | None, wsgi: str | None) -> Application:
    from coserver.cli.detect import Application

    if asgi is not None and wsgi is not None:
        raise UsageError("cannot take both --asgi and --wsgi; leave one out")
    reference = asgi or wsgi or ""
    dotted = r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*"
    if not re.fullmatch(f"{dotted}:{dotted}", reference):
        raise UsageError(f'cannot use "{reference}": it names no object of a module; write "shop.web:app"')
    top = reference.partition(":")[0].split(".")[0]
    in_src = any((directory / "src" / name).exists() for name in (top, f"{top}.py"))
    root = Path("src") if in_src else Path()
    interface: Interface = "asgi" if asgi is not None else "wsgi"
    return Application(interface.upper(), interface, reference, root, Path())


def _empty(directory: Path) -> bool:
    """Tell whether there is no project yet: nothing but hidden files and what a new repository holds."""
    if not directory.exists():
        return True
    return all(
        entry.name.startswith(".") or entry.stem.lower() in HARMLESS or (entry / "pyvenv.cfg").exists()
        for entry in directory.iterdir()
    )


def _write(directory: Path, files: list[starter.NewFile]) -> None:
    written: list[Path] = []
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for file in files:
            with (directory / file.name).open("x", encoding="utf-8") as out:
                written.append(directory / file.name)
                out.write(file.text)
    except OSError as error:
        for path in written:
            path.unlink(missing_ok=True)
        kind = Denied if isinstance(error, PermissionError) else CoserverError
        raise kind(f"cannot write {error.filename}: {error.strerror}; nothing was left there") from None


def _tell_next(directory: Path, files: list[starter.NewFile], port: int) -> None:
    wsgi = "\nwsgi = " in files[0].text
    if wsgi and importlib.util.find_spec("a2wsgi") is None:
        say("A WSGI application needs a2wsgi, which is not installed here: pip install a2wsgi")
    own = _environments(directory)
    if own and Path(sys.prefix).resolve() not in own:
        say(
            f"The project has an environment of its own, {own[0]}, but services run in that of coserver. "
            f"To have both in one: {own[0]}/bin/python -m pip install coserver"
        )
    if not _ignores(directory):
        say("Keep out of version control: .coserver/ site.db*")
    change = "" if directory == Path.cwd() else f"  cd {os.path.relpath(directory)}\n"
    say(
        f"Next:\n{change}  coserver up          start the site, then http://127.0.0.1:{port}\n"
        "  coserver status      how it is, from another terminal"
    )


def _environments(directory: Path) -> list[Path]:
    if not directory.is_dir():
        return []
    return [entry.resolve() for entry in sorted(directory.iterdir()) if (entry / "pyvenv.cfg").exists()]


def _ignores(directory: Path) -> bool:
    try:
        return ".coserver" in (directory / ".gitignore").read_text("utf-8", errors="replace")
    except OSError:
        return not (directory / ".git").exists()
