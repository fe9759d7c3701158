"""The reference page of every verb, made from the commands themselves; `docs/reference/cli.md` is its output.

python -m coserver.cli.reference > docs/reference/cli.md
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click

from coserver.cli.main import EXIT_INTERRUPTED, cli
from coserver.errors import (
    CoserverError,
    Denied,
    NodeUnreachable,
    NotRunning,
    TimedOut,
    UnknownName,
    UsageError,
)
from coserver.model.job import State

INTRODUCTION = """\
# Command line reference

<!-- Made from the commands by `python -m coserver.cli.reference`; do not edit. -->

Data goes to stdout, messages to stderr. `--json` prints one object (`logs --json`: one for each line); keys may be
added to it, none is renamed. Colour is used on a terminal only, never when `NO_COLOR` is set, always when `FORCE_COLOR`
is. What jobs and processes print reaches a terminal without control sequences, a pipe as it is. Which configuration
file is meant, [the configuration reference](configuration.md) tells. `COSERVER_DEBUG=1` adds tracebacks to errors.
"""


STATUS = {
    "site": "The site's name.",
    "node.name": "The host, as `node.name` of the configuration says.",
    "node.pid": "The node's process.",
    "node.keeper_pid": "The keeper's process; ending it ends the site.",
    "node.version": "The coserver that runs.",
    "state": "`starting`, `running` or `stopping`.",
    "healthy": "Whether everything runs that should, and the store can be used.",
    "services[].name": "The service.",
    "services[].kind": "`python` or `command`.",
    "services[].state": "The worst of its processes' states.",
    "services[].ready": "Whether all of its processes are.",
    "services[].url": "Where its web application answers, or null.",
    "services[].held_stopped[]": "What an operator stopped of it: `name`, `by` whom, `at` (µs since 1970 UTC).",
    "services[].processes[].name": "Such as `web/1`.",
    "services[].processes[].pid": "Its process, or null.",
    "services[].processes[].state": "`starting`, `running`, `stopping`, `stopped`, `backoff`, `exited` or `fatal`.",
    "services[].processes[].ready": "Whether it does its work.",
    "services[].processes[].healthy": "Whether it is as it should be.",
    "services[].processes[].why": "Why it is not, or null.",
    "services[].processes[].uptime_s": "Seconds since it runs, or null.",
    "services[].processes[].restarts": "How often it was started again since the site is up.",
    "services[].processes[].cpu_percent": "Of one CPU, lately.",
    "services[].processes[].rss_bytes": "Memory in RAM.",
    "services[].processes[].run": "The number of this run; it grows with every start.",
    "services[].processes[].busy": "Jobs that it runs just now, or null.",
    "jobs.STATE": "How many jobs are in that state: "
    + ", ".join(f"`{state.name.lower()}`" for state in State)
    + "; finished ones since the store was made. `jobs` is null while the store cannot be asked.",
    "unserved[]": "Waiting jobs that no live worker takes, by `state` (`new` or `queued`), `queue` (null for new ones) "
    "and `task`: their `number` (counted up to 1,001), the `oldest` and `since` when it waits (µs since 1970 UTC), the "
    "`cause` as in `why`, what that `says`, and the `mend`. Empty while the store cannot be asked.",
    "store.state": "`ok` or `unavailable`.",
    "store.trouble": "What is wrong with it, or null.",
}
"""The keys of `status --json`."""


def exit_codes() -> list[tuple[int, str]]:
    """Return each exit code with its meaning."""
    return [
        (0, "Done."),
        (CoserverError.exit_status, "Failed. `status`: something that should run does not."),
        (UsageError.exit_status, "The command line or the configuration is wrong."),
        (NotRunning.exit_status, "The site is not up."),
        (UnknownName.exit_status, "There is no service, process, job or task of that name."),
        (NodeUnreachable.exit_status, "The node does not answer, or the store cannot be reached."),
        (Denied.exit_status, "Not allowed."),
        (TimedOut.exit_status, "Not done in the time given."),
        (EXIT_INTERRUPTED, "Interrupted by Ctrl-C."),
    ]


def reference_markdown() -> str:
    """Return the page."""
    context = click.Context(cli, info_name="coserver")
    parts = [INTRODUCTION, _section(cli, context, "coserver [OPTIONS] VERB …")]
    parts += list(_commands(cli, context, "##"))
    keys = "\n".join(f"| `{key}` | {meaning} |" for key, meaning in STATUS.items())
    parts.append(f"## What `status --json` prints\n\n| Key | Meaning |\n|---|---|\n{keys}\n")
    rows = "\n".join(f"| {code} | {meaning} |" for code, meaning in exit_codes())
    parts.append(f"## Exit codes\n\n| Code | Meaning |\n|---|---|\n{rows}\n")
    parts.append("`run` passes the exit code of its command; 127 when there is no such program.\n")
    return "\n".join(parts)


def _commands(group: click.Group, context: click.Context, level: str) -> Iterator[str]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        inner = click.Context(command, info_name=name, parent=context)
        usage = " ".join([inner.command_path, *command.collect_usage_pieces(inner)])
        yield f"{level} `{inner.command_path}`\n\n{_section(command, inner, usage)}"
        if isinstance(command, click.Group):
            yield from _commands(command, inner, level + "#")


def _section(command: click.Command, context: click.Context, usage: str) -> str:
    text = "\n\n".join(_paragraphs(inspect.cleandoc(command.help or "")))
    options = [
        param
        for param in command.get_params(context)
        if isinstance(param, click.Option) and not param.hidden and "--help" not in param.opts
    ]
    table = ""
    if options:
        rows = "\n".join(f"| {_spelled(option)} | {_cell(option.help or '')} |" for option in options)
        table = f"\n| Option | Meaning |\n|---|---|\n{rows}\n"
    return f"    {usage}\n\n{text}\n{table}"


def _paragraphs(text: str) -> Iterator[str]:
    """Yield the paragraphs of a help text; what it sets apart is set apart here, too."""
    for paragraph in text.split("\n\n"):
        if paragraph.startswith("\b\n"):
            yield "\n".join(f"    {line.strip()}" for line in paragraph[2:].splitlines())
        else:
            yield " ".join(paragraph.split())


def _spelled(option: click.Option) -> str:
    forms = ", ".join(f"`{form}`" for form in [*option.opts, *option.secondary_opts])
    if option.is_flag or option.count:
        return forms
    if option.metavar:
        return f"{forms} {option.metavar}"
    if isinstance(option.type, click.Choice):
        return f"{forms} {_cell(', '.join(option.type.choices))}"
    return f"{forms} {option.type.name.split()[0].upper()}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    print(reference_markdown(), end="")
