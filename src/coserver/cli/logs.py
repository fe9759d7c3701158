"""`coserver logs`."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime
from typing import TYPE_CHECKING

import click

from coserver.cli.context import Surroundings, pass_surroundings
from coserver.cli.table import colourful
from coserver.cli.times import Moment
from coserver.errors import UnknownName, UsageError
from coserver.model.names import resolve, suggestion

if TYPE_CHECKING:
    from coserver.host.logs import LogReader, Record, Source

NODE = "coserver"


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]…")
@click.option("-f", "--follow", is_flag=True, help="Go on as lines come, until Ctrl-C.")
@click.option(
    "-n", "--lines", type=click.IntRange(0), default=None, metavar="LINES", help="So many last lines (50)."
)
@click.option(
    "--since", type=Moment(), metavar="TIME", help="Lines since then: 10m ago as `10m`, or 2026-01-31T12:00."
)
@click.option("--grep", metavar="PATTERN", help="Only lines that match a regular expression.")
@click.option(
    "--job",
    type=click.IntRange(1),
    metavar="ID",
    help="Only what was logged by one job, from all that is kept, or the last LINES of it.",
)
@click.option("--times", is_flag=True, help="Put the time before each line.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each line.")
@click.option("--attached", type=int, hidden=True, help="Be the printer of an `up` of that time (µs).")
@pass_surroundings
def logs(
    surroundings: Surroundings,
    names: tuple[str, ...],
    follow: bool,
    lines: int | None,
    since: datetime | None,
    grep: str | None,
    job: int | None,
    times: bool,
    as_json: bool,
    attached: int | None,
) -> None:
    """Show what processes have printed, all of them or those named.

    NAME is a service, a process as NAME/2, a glob, or `coserver` for what the node itself has to say. Works whether the
    site is up or not.

    With --job, the lines of one job, whichever processes ran it: what it said through `logging`, and what its worker
    said about it. What a job prints by other means does not say which job it is of.
    """
    from coserver.host.log_jobs import OfJob
    from coserver.host.log_text import Renderer, Style
    from coserver.host.logs import LogReader, finished
    from coserver.host.logs import follow as follow_all
    from coserver.runtime.printer import TERMINAL_GONE

    if lines is not None and since is not None:
        raise UsageError("cannot take both --lines and --since; leave one out")
    if job is not None and lines is not None and follow:
        raise UsageError("cannot follow the last lines of a job; leave out --lines, or --follow")
    pattern = _pattern(grep)
    chosen = _sources(surroundings, names)
    stop = _Stop()
    if attached is not None:
        # The terminal's Ctrl-C is the keeper's; this process ends when the node says so.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    if follow:
        signal.signal(signal.SIGTERM, stop.ask)
    with ExitStack() as stack:
        readers = [stack.enter_context(LogReader(source)) for source in chosen]
        _place(readers, lines, since, attached, everything=job is not None)
        style = Style(
            names=len({source.process for source in chosen}) > 1 or attached is not None,
            width=max((len(source.process) for source in chosen), default=0),
            times=times,
            terminal=sys.stdout.isatty(),
            colour=colourful(sys.stdout),
            as_json=as_json,
        )
        renderer = Renderer(style)
        records: Iterator[Record] = follow_all(readers, stop) if follow else finished(readers)
        if job is not None:
            records = filter(OfJob(job), records)
            if lines is not None and not follow:
                records = iter(deque(records, lines))
        out = sys.stdout.buffer
        try:
            for record in records:
                if pattern is None or pattern.search(record.data):
                    out.write(renderer.render(record))
                    if follow:
                        out.flush()
            out.write(renderer.finish())
            out.flush()
        except KeyboardInterrupt:
            out.write(renderer.finish())
            out.flush()
            raise
        except OSError:
            # The terminal is gone; so is whoever read this.
            os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
            if attached is not None:
                sys.exit(TERMINAL_GONE)
    if stop() and attached is None:
        sys.exit(128 + signal.SIGTERM)


class _Stop:
    """Turns true when asked."""

    def __init__(self) -> None:
        self._asked = False

    def ask(self, *_: object) -> None:
        self._asked = True

    def __call__(self) -> bool:
        return self._asked


def _sources(surroundings: Surroundings, names: tuple[str, ...]) -> list[Source]:
    from coserver.host.logs import Source, log_path, sources

    places = surroundings.places
    root = places.node_log.parent
    known = {
        name: list(range(1, service.processes + 1)) for name, service in surroundings.running.services.items()
    }
    # Logs of processes that the configuration no longer has are still there to be read.
    found = sources(root)
    for source in found:
        service, _, index = source.process.rpartition("/")
        if int(index) not in known.setdefault(service, []):
            known[service].append(int(index))
    wanted = [name for name in names if name != NODE]
    targets, unknown = resolve(wanted or ([] if names else ["*"]), known)
    if unknown and not (not names and unknown == ["*"]):
        hint = suggestion(unknown[0], [*known, NODE])
        raise UnknownName(
            f'cannot find logs of "{unknown[0]}"{hint or "; `coserver status` lists processes"}'
        )
    chosen = []
    for target in targets:
        indexes = known[target.service] if target.index is None else [target.index]
        for number in indexes:
            process = f"{target.service}/{number}"
            chosen.append(Source(process, log_path(root, process)))
            errors = log_path(root, process, "err")
            if errors.exists():
                chosen.append(Source(process, errors, "err"))
    if not names or NODE in names:
        chosen.append(Source(NODE, places.node_log))
    return list(dict.fromkeys(chosen))


def _place(
    readers: list[LogReader],
    lines: int | None,
    since: datetime | None,
    attached: int | None,
    *,
    everything: bool,
) -> None:
    for reader in readers:
        if attached is not None:
            reader.from_time(attached)
        elif since is not None:
            reader.from_time(int(since.timestamp() * 1e6))
        elif everything:
            reader.from_start()
        else:
            reader.from_last(50 if lines is None else lines)


def _pattern(text: str | None) -> re.Pattern[bytes] | None:
    if text is None:
        return None
    try:
        return re.compile(text.encode())
    except re.error as error:
        raise UsageError(f'cannot read "{text}" as a regular expression: {error}') from None
