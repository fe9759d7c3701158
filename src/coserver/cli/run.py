"""`coserver run`."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import click

from coserver.cli.context import Surroundings, pass_surroundings
from coserver.errors import Denied, UnknownName, UsageError
from coserver.model.names import suggestion


# What follows the command is the command's own, `--help` and `--service` included.
@click.command(context_settings={"allow_interspersed_args": False})
@click.option(
    "--service", metavar="NAME", help="In the environment, directory and as the user of this service."
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@pass_surroundings
def run(surroundings: Surroundings, service: str | None, command: tuple[str, ...]) -> None:
    """Run a command in the environment of the site, in this terminal.

    \b
      coserver run python manage.py shell
      coserver run --service web -- env

    The site need not be up. The exit code is the command's own; 127 when there is no such program.
    """
    from coserver.runtime.spawning import base_environment, service_environment

    site = surroundings.site
    env = base_environment(os.environ)
    env |= {"COSERVER_SITE": site.name, "COSERVER_STORE": site.store}
    if service is not None:
        if service not in site.services:
            hint = suggestion(service, site.services)
            raise UnknownName(f'cannot find a service "{service}"{hint or ""}')
        config = site.services[service]
        env |= service_environment(config)
        _enter(service, config.cwd)
        if config.umask is not None:
            os.umask(config.umask)
        _become(config.user)
    paths = [str(path) for path in (site.services[service].path if service else site.app.path)]
    if paths:
        env["PYTHONPATH"] = os.pathsep.join([*paths, *filter(None, [env.get("PYTHONPATH", "")])])
    program = shutil.which(command[0], path=env["PATH"])
    if program is None:
        click.echo(f'coserver: cannot run "{command[0]}": no such program; see the PATH', err=True)
        sys.exit(127)
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execve(program, list(command), env)
    except OSError as error:
        raise UsageError(f'cannot run "{command[0]}": {error.strerror}; see that it is a program') from None


def _enter(service: str, directory: Path) -> None:
    try:
        os.chdir(directory)
    except OSError as error:
        if isinstance(error, PermissionError):
            raise Denied(
                f"cannot run in {directory}: {error.strerror}; ask as its owner or as root"
            ) from None
        raise UsageError(
            f"cannot run in {directory}: {error.strerror}; create it, or correct `cwd` of service.{service}"
        ) from None


def _become(user: str | None) -> None:
    if user is None:
        return
    from coserver.host.users import account

    found = account(user)
    if os.geteuid() != 0:
        if found.uid != os.geteuid():
            raise UsageError(f'cannot run as "{user}": only root may choose another user; ask as root')
        return
    os.setgroups(found.groups)
    os.setgid(found.gid)
    os.setuid(found.uid)
