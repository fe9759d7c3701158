"""The command `coserver`: options, verbs by name, and errors as one line and an exit code."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

import click

from coserver.cli.context import Surroundings, say
from coserver.errors import CoserverError, Denied, NotRunning, UsageError
from coserver.model.names import suggestion

# verb → (module of the command, its attribute, what it does). A module is imported when its verb is used.
VERBS: dict[str, tuple[str, str, str]] = {
    "init": ("init", "init", "Write a working coserver.toml for the project here."),
    "up": ("up", "up", "Start the site."),
    "down": ("up", "down", "Stop the whole site; what operators want is kept."),
    "status": ("status", "status", "Show services, processes and jobs."),
    "start": ("services", "start", "Start services or processes."),
    "stop": ("services", "stop", "Stop services or processes, and remember it."),
    "restart": ("services", "restart", "Give services or processes a new run."),
    "logs": ("logs", "logs", "Show what processes have printed."),
    "run": ("run", "run", "Run a command in the environment of the site."),
    "jobs": ("jobs", "jobs", "Submit, list, show, cancel and retry jobs."),
    "queues": ("queues", "queues", "List, pause, resume and purge queues."),
    "why": ("why", "why", "Say why a job waits, and what mends it."),
    "metrics": ("metrics", "metrics", "Print figures for Prometheus."),
    "config": ("config", "config", "Check and show the configuration."),
    "db": ("db", "db", "Look at the store's tables, bring them up to date, copy them."),
    "doctor": ("doctor", "doctor", "Look for what is wrong with site and machine."),
}
EXIT_INTERRUPTED = 130
EPILOG = """
Exit codes: 0 done, 1 failed, 2 usage or configuration, 3 not running, 4 unknown name, 5 cannot reach node or store,
6 denied, 124 timed out, 130 interrupted; `run` passes its command's own.
"""


class Verbs(click.Group):
    """A group that imports a verb only when it is used, and suggests one for a typo."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        module, attribute, _ = VERBS[cmd_name]
        command = getattr(importlib.import_module(f"coserver.cli.{module}"), attribute)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            hint = suggestion(args[0], VERBS)
            ctx.fail(f'no verb "{args[0]}"{hint or "; `coserver --help` lists them"}')
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb. A reader of our output that leaves, as `head` does, is no failure."""
        try:
            try:
                return super().invoke(ctx)
            finally:
                sys.stdout.flush()
        except BrokenPipeError:
            # Python would complain once more at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(0)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl([(name, summary) for name, (_, _, summary) in VERBS.items()])


@click.group(cls=Verbs, invoke_without_command=True, epilog=EPILOG)
@click.option(
    "-c",
    "--config",
    "config_path",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The configuration; else COSERVER_CONFIG, else coserver.toml here or above.",
)
@click.option("--profile", metavar="NAME", help="Lay coserver.NAME.toml over it.")
@click.version_option(package_name="coserver", message="coserver %(version)s")
@click.pass_context
def cli(ctx: click.Context, config_path: Path | None, profile: str | None) -> None:
    """Everything that runs beside your web application, run and seen as one site.

    \b
      coserver init            a working coserver.toml
      coserver up              start the site here
      coserver status          how it is
      coserver logs -f web     what it says
    """
    if config_path is None and os.environ.get("COSERVER_CONFIG"):
        config_path = Path(os.environ["COSERVER_CONFIG"])
    ctx.obj = Surroundings(config_path, profile or os.environ.get("COSERVER_PROFILE"))
    if ctx.invoked_subcommand is None:
        _greet(ctx)


def _greet(ctx: click.Context) -> None:
    """Without a verb: the status of a site that is up here, else the three next commands."""
    from coserver.cli.status import status
    from coserver.config import ConfigError

    surroundings: Surroundings = ctx.obj
    try:
        described = surroundings.running is not None
    except ConfigError as error:
        if error.problems[0].file:
            raise
        described = False  # nothing was found, so nothing is wrong
    if described:
        try:
            ctx.invoke(status)
            return
        except NotRunning:
            pass
    click.echo("No site is up here. Next:\n")
    click.echo("  coserver init      write a working coserver.toml")
    click.echo("  coserver up        start the site")
    click.echo("  coserver --help    all verbs")


def main(argv: list[str] | None = None) -> None:
    """Run the command line and exit. Whatever goes wrong is one message and an exit code."""
    try:
        sys.exit(cli.main(argv, prog_name="coserver", standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.exceptions.Abort, KeyboardInterrupt):
        sys.exit(EXIT_INTERRUPTED)
    except Exception as error:
        if os.environ.get("COSERVER_DEBUG"):
            import traceback

            traceback.print_exc()
        message, status = explained(error)
        say(message)
        sys.exit(status)


def explained(error: Exception) -> tuple[str, int]:
    """Return what an error says to a person, and its exit code."""
    match error:
        case UsageError() if "\n" in str(error):
            return str(error), error.exit_status  # a list of problems, each with its place
        case CoserverError():
            return f"coserver: {error}", error.exit_status
        case PermissionError():
            return f"coserver: cannot {_at(error)}; ask as its owner or as root", Denied.exit_status
        case OSError():
            return f"coserver: cannot {_at(error)}", CoserverError.exit_status
        case _:
            kind = type(error).__qualname__
            return (
                f"coserver: cannot go on: {kind}: {error}; that is a defect of coserver, please report it with what "
                "COSERVER_DEBUG=1 shows",
                CoserverError.exit_status,
            )


def _at(error: OSError) -> str:
    if error.filename is None:
        return f"go on: {error.strerror or error}"
    if isinstance(error, NotADirectoryError):
        path = Path(os.fsdecode(error.filename))
        file = next((above for above in path.parents if above.is_file()), None)
        if file is not None:
            return f"use {path}: {file} is a file, not a directory; move it away"
    return f"use {error.filename}: {error.strerror or error}"


if __name__ == "__main__":
    main()
