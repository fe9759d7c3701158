"""`make bench`, or `python -m bench [--quick] [--only NAME,…] [--no-peers] [--markdown PAGE]`.

Names are those of contestants (coserver, bare, pgqueuer, huey-sqlite, huey-redis, dramatiq, celery, procrastinate, rq),
of databases (sqlite, postgresql) and of groups (drain, submit, start, idle, crash).
"""

from __future__ import annotations

import argparse
import math
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from bench import bare, machine, ours, runner
from bench.databases import Database, Postgres, SQLite
from bench.peers import contestant as peers
from bench.peers.catalogue import PEERS, Peer
from bench.report import Report
from bench.scenario import FULL, GROUPS, QUICK, Contestant, Sizes
from bench.tables import facts, markdown, remarks, replaced, tables, text

BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
DATABASES = ("sqlite", "postgresql")
US = ("coserver", "bare")
BELOW = 100
"""Columns of a terminal that does not say how wide it is."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What is measured: databases and contestants of our own, peers, groups."""

    databases: tuple[str, ...]
    us: tuple[str, ...]
    peers: tuple[Peer, ...]
    groups: tuple[str, ...]


def choose(only: Sequence[str], *, with_peers: bool) -> Choice:
    """Return what `--only` means: of each kind all, unless names of that kind are given. ValueError for others."""
    known = {peer.key: peer for peer in PEERS}
    for name in only:
        if name not in (*DATABASES, *US, *known, *GROUPS):
            raise ValueError(
                f"cannot measure {name!r}: known are {', '.join((*DATABASES, *US, *known, *GROUPS))}"
            )
    whom = [name for name in only if name in (*US, *known)]
    return Choice(
        tuple(name for name in DATABASES if name in only) or DATABASES,
        tuple(name for name in US if name in whom or not whom),
        tuple(peer for key, peer in known.items() if with_peers and (key in whom or not whom)),
        tuple(name for name in GROUPS if name in only) or GROUPS,
    )


def main() -> int:
    """Measure and print; return the exit status."""
    given = _parser().parse_args()
    if given.read is not None:
        with given.read.open() as file:
            report = Report.read(file)
        return _show(report, given.markdown)
    try:
        choice = choose(given.only, with_peers=not given.no_peers)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    sizes = (QUICK if given.quick else FULL).scaled(given.scale)
    sizes = replace(sizes, runs=given.runs or sizes.runs)
    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM)
    )  # so that all that was started ends
    with ExitStack() as stack:
        report = Report(stack.enter_context(given.out.open("w")) if given.out else None)
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="coserver-bench-")))
        report.tell("machine", machine.describe(directory))
        contestants = _contestants(stack, directory, report, choice, sizes)
        runner.measure(report, contestants, choice.groups, sizes.runs, say=_say)
    return _show(report, given.markdown)


def _parser() -> argparse.ArgumentParser:
    summary, _, names = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(prog="python -m bench", description=summary, epilog=names)
    parser.add_argument("--quick", action="store_true", help="one run of fewer jobs: a first impression")
    parser.add_argument("--runs", type=int, help=f"how often each figure is measured (default {FULL.runs})")
    parser.add_argument(
        "--scale", type=float, default=1.0, help="the part of the jobs and times that is measured"
    )
    parser.add_argument(
        "--only", type=lambda names: names.split(","), default=[], metavar="NAME,…", help="measure only these"
    )
    parser.add_argument("--no-peers", action="store_true", help="coserver and the hand-written loops alone")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="write every figure to this file, as JSON lines"
    )
    parser.add_argument(
        "--read", type=Path, metavar="FILE", help="show what --out wrote, and measure nothing"
    )
    parser.add_argument("--markdown", type=Path, metavar="PAGE", help="put the tables into this page as well")
    return parser


def _contestants(
    stack: ExitStack, directory: Path, report: Report, choice: Choice, sizes: Sizes
) -> list[Contestant]:
    """Start what is needed, tell the report of it, and return who can be measured."""
    made: list[Contestant] = []
    databases: list[Database] = []
    if "sqlite" in choice.databases:
        databases.append(SQLite(directory))
    if "postgresql" in choice.databases:
        databases.append(Postgres())
    for database in databases:
        stack.callback(database.close)
        report.tell(database.name, database.settings(database.fresh()))
        if "coserver" in choice.us:
            made.append(ours.contestant(database, sizes))
        if "bare" in choice.us:
            made += bare.contestants(database, sizes)
    chosen = [
        peer for peer in choice.peers if peer.store == "Redis" or peer.store.lower() in choice.databases
    ]
    return made + peers.contestants(stack, directory, report, chosen, databases, sizes, say=_say)


def _show(report: Report, page: Path | None) -> int:
    print("\n".join(facts(report)), end="\n\n")
    print(text(tables(report), shutil.get_terminal_size((BELOW, 24)).columns), end="\n\n")
    print("\n".join(remarks(report)))
    if page is not None:
        page.write_text(replaced(page.read_text(), markdown(report), begin=BEGIN, end=END))
    return 0


def _say(text: str) -> None:
    print(f"{math.floor(time.monotonic() - _BEGUN):5} s  {text}", file=sys.stderr, flush=True)


_BEGUN = time.monotonic()

if __name__ == "__main__":
    sys.exit(main())
