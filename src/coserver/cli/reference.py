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

INTRODUCTION = """\
# Command line reference

<!-- Made from the commands by `python -m coserver.cli.reference`; do not edit. -->

Data goes to stdout, messages to stderr. `--json` prints one object (`logs --json`: one for each line); keys may be
added to it, none is renamed. Colour is used on a terminal only, never when `NO_COLOR` is set, always when `FORCE_COLOR`
is. Which configuration file is meant, [the configuration reference](configuration.md) tells.
"""


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
