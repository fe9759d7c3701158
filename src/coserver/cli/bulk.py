"""`coserver jobs cancel|retry|discard|release`: one job or very many.

Theory. Jobs are named by their numbers, or chosen by filters. What filters choose is gathered first, page by page, so
that it is frozen: jobs submitted meanwhile are not touched, the count that a person confirms is the count that is
acted on, and what goes back into queues keeps its order. Then the change goes through it in pages, each of which is
one transaction. Ctrl-C lets the page under way end, so that what is reported is what was done; a second one does not
wait. A job that is not fit for the change any more when its turn comes is left alone.

Numbers are an explicit wish and are done at once; what filters choose is shown and asked about, or, where nobody can be
asked, refused without `--yes`.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import click

from coserver.cli.choosing import Where, filters
from coserver.cli.context import Surroundings, json_option, pass_surroundings, put_json, put_text, say
from coserver.cli.job_text import COLUMNS, row
from coserver.cli.table import colourful, table, terminal_width
from coserver.client import Client
from coserver.errors import CoserverError, UnknownName, UsageError
from coserver.model.job import JobInfo, State

PAGE = 500
"""Jobs of one transaction."""
SHOWN = 5
"""Jobs that are shown before a person is asked."""
NAMED = 1000
"""Jobs that an answer names, at most."""
EXIT_INTERRUPTED = 130

ALIVE = tuple(state for state in State if not state.final)
FINAL = tuple(state for state in State if state.final)
WAITING = tuple(state for state in ALIVE if state is not State.RUNNING)


@dataclass(frozen=True, slots=True)
class Change:
    """A change of jobs: what it is called, which states it is for, and which of them it means unless told.

    `act` does it to some jobs; it returns those that it took, and whether each of them still runs. `done` says it in
    words of what was done, `left` of those it is not for. `oldest_first`: in which order it goes.
    """

    verb: str
    done: str
    left: str
    states: tuple[State, ...]
    usual: tuple[State, ...]
    act: Callable[[Client, Sequence[int]], dict[int, bool]]
    oldest_first: bool = True


CANCEL = Change(
    "cancel",
    "cancelled",
    "since they have ended",
    ALIVE,
    ALIVE,
    lambda client, ids: {job: state is State.RUNNING for job, state in client.cancel(ids).items()},
    oldest_first=False,  # what waits for others goes before them, and is counted so
)
RETRY = Change(
    "retry",
    "put back into their queues",
    "since they have not failed, their unique key is taken, or what they wait for ended otherwise (put that back, too)",
    tuple(state for state in FINAL if state is not State.SUCCEEDED),
    (State.FAILED, State.LOST),
    lambda client, ids: dict.fromkeys(client.retry(ids), False),
)
DISCARD = Change(
    "discard",
    "discarded",
    "since they have not ended",
    FINAL,
    FINAL,
    lambda client, ids: dict.fromkeys(client.discard(ids), False),
)
RELEASE = Change(
    "release",
    "released",
    "since they are not held",
    (State.HELD,),
    (State.HELD,),
    lambda client, ids: dict.fromkeys(client.release(ids), False),
)


@dataclass(slots=True)
class Tally:
    """What has been done so far."""

    matched: int = 0
    done: int = 0
    asked: int = 0
    left: list[int] = field(default_factory=list)
    interrupted: bool = False


class Patience:
    """While it is open, the first Ctrl-C only asks to stop; the second one ends the command at once."""

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> Patience:
        self._mine = threading.current_thread() is threading.main_thread()
        if self._mine:
            self._before = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        if self._mine:
            signal.signal(signal.SIGINT, self._before)

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


class Meter:
    """Tells on stderr how far long work is: on a terminal in one line that changes, elsewhere now and then."""

    FIRST = 1.0
    """Seconds that pass in silence."""

    def __init__(self, what: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._what = what
        self._clock = clock
        self._terminal = sys.stderr.isatty()
        self._next = clock() + self.FIRST
        self._open = False

    def tell(self, done: int, of: int | None = None) -> None:
        """Say how many are done."""
        now = self._clock()
        if now < self._next:
            return
        self._next = now + (0.2 if self._terminal else 10.0)
        text = f"{self._what} {done:,}" + (f" of {of:,}" if of is not None else "") + " …"
        if self._terminal:
            click.echo(f"\r{text}\x1b[K", nl=False, err=True, color=True)
            self._open = True
        else:
            say(text)

    def end(self) -> None:
        """Leave the line to others."""
        if self._open:
            click.echo("\r\x1b[K", nl=False, err=True, color=True)
            self._open = False


def jobs_in_words(number: int) -> str:
    """Return `1 job`, `2,000 jobs`."""
    return f"{number:,} job" + ("" if number == 1 else "s")


def gather(client: Client, choices: Iterable[Where], patience: Patience) -> tuple[list[int], list[JobInfo]]:
    """Return the numbers of all jobs that are chosen, newest first, and the first few whole."""
    ids: dict[int, None] = {}
    first: list[JobInfo] = []
    meter = Meter("found")
    for where in choices:
        before: int | None = None
        while not patience.asked:
            page = client.jobs(limit=PAGE, before=before, **where.query())
            ids.update(dict.fromkeys(info.id for info in page))
            first = sorted([*first, *page], key=lambda info: -info.id)[:SHOWN]
            if len(page) < PAGE:
                break
            before = page[-1].id
            meter.tell(len(ids))
    meter.end()
    return sorted(ids, reverse=True), first


def pages(ids: Sequence[int]) -> Iterator[Sequence[int]]:
    """Yield them in pieces of one transaction each."""
    for start in range(0, len(ids), PAGE):
        yield ids[start : start + PAGE]


def go_through(client: Client, change: Change, ids: Sequence[int], patience: Patience, tally: Tally) -> None:
    """Change these jobs, page by page, until done or asked to stop."""
    meter = Meter(change.done)
    try:
        for page in pages(ids):
            if patience.asked:
                tally.interrupted = True
                return
            done = change.act(client, page)
            tally.done += len(done)
            tally.asked += sum(done.values())
            tally.left += [job for job in page if job not in done]
            meter.tell(tally.done, len(ids))
    except KeyboardInterrupt:
        tally.interrupted = True
    except CoserverError:
        meter.end()
        if tally.done:
            say(f"{jobs_in_words(tally.done)} of {tally.matched:,} had been {change.done} before this:")
        raise
    finally:
        meter.end()


def change_chosen(
    client: Client, change: Change, choices: Sequence[Where], *, yes: bool, dry_run: bool, as_json: bool
) -> None:
    """Change what filters choose: gather, show, ask, do, report. Leaves with the exit code unless all went well."""
    if not yes and not dry_run and not can_ask():
        raise UsageError(
            f"cannot {change.verb} jobs by a filter without being sure: there is no terminal to ask at; look with "
            "--dry-run, then say --yes"
        )
    tally = Tally()
    with Patience() as patience:
        ids, first = gather(client, choices, patience)
        tally.matched = len(ids)
        if patience.asked:
            tally.interrupted = True
        elif dry_run or (ids and not yes):
            _show(first, len(ids))
    if ids and not (tally.interrupted or dry_run or yes) and not _sure(change, ids):
        say("nothing was changed")
        sys.exit(1)
    if not dry_run and not tally.interrupted:
        if change.oldest_first:
            ids.reverse()
        with Patience() as patience:
            go_through(client, change, ids, patience, tally)
    _report(change, tally, [], dry_run=dry_run, as_json=as_json)


def _change_named(
    client: Client, change: Change, ids: Sequence[int], *, dry_run: bool, as_json: bool
) -> None:
    """Change jobs that are named by number. Raises UnknownName when one is not there."""
    ids = list(dict.fromkeys(ids))
    tally = Tally(len(ids))
    if dry_run:
        fits = {job for job in ids if (info := client.look(job)) is not None and info.state in change.states}
        tally.matched, tally.left = len(fits), [job for job in ids if job not in fits]
    else:
        with Patience() as patience:
            go_through(client, change, ids, patience, tally)
    unknown = [job for job in tally.left if client.look(job) is None]
    tally.left = [job for job in tally.left if job not in set(unknown)]
    _report(change, tally, unknown, dry_run=dry_run, as_json=as_json)
    if unknown:
        others = "" if len(unknown) == 1 else f" (nor {len(unknown) - 1:,} others)"
        raise UnknownName(f"cannot find job {unknown[0]}{others}; see `coserver jobs list`")
    if tally.left:
        sys.exit(1)


def _show(first: Sequence[JobInfo], number: int) -> None:
    put_text(f"{jobs_in_words(number)} match{'es' if number == 1 else ''}", err=True)
    if not first:
        return
    lines = table(
        COLUMNS, [row(info) for info in first], width=terminal_width(sys.stderr), colour=colourful(sys.stderr)
    )
    for line in lines:
        click.echo(line, err=True, color=True)
    if number > len(first):
        put_text(f"… and {jobs_in_words(number - len(first))} more, all of them older", err=True)


def can_ask() -> bool:
    """Whether somebody is there to be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def _sure(change: Change, ids: Sequence[int]) -> bool:
    return click.confirm(f"{change.verb.capitalize()} {jobs_in_words(len(ids))}?", err=True)


def _report(change: Change, tally: Tally, unknown: Sequence[int], *, dry_run: bool, as_json: bool) -> None:
    """Print what was done; leave when it was interrupted."""
    if as_json:
        put_json(
            {
                "verb": change.verb,
                "matched": tally.matched,
                "done": tally.done,
                "asked_to_stop": tally.asked,
                "left": tally.left[:NAMED],
                "unknown": list(unknown[:NAMED]),
                "dry_run": dry_run,
                "interrupted": tally.interrupted,
            }
        )
    elif dry_run:
        click.echo(f"{jobs_in_words(tally.matched)} would be {change.done}")
    else:
        ended = tally.done - tally.asked
        parts = [f"{jobs_in_words(ended)} {change.done}"] if ended or not tally.asked else []
        parts += [f"{jobs_in_words(tally.asked)} running and asked to stop"] if tally.asked else []
        click.echo(", ".join(parts))
    if tally.left:
        named = ", ".join(map(str, tally.left[:SHOWN])) + (" …" if len(tally.left) > SHOWN else "")
        say(f"{jobs_in_words(len(tally.left))} left alone, {change.left}: {named}")
    if tally.interrupted:
        rest = tally.matched - tally.done - len(tally.left)
        say(f"interrupted; {jobs_in_words(rest)} not reached, the same command goes on")
        sys.exit(EXIT_INTERRUPTED)


def _command(change: Change, help_text: str) -> click.Command:
    @click.command(change.verb, help=help_text)
    @click.argument("ids", nargs=-1, type=int, metavar="[ID]…")
    @filters(change.states)
    @click.option("--all", "everything", is_flag=True, help="All that this is for, instead of a filter.")
    @click.option("-y", "--yes", is_flag=True, help="Do not ask.")
    @click.option("--dry-run", is_flag=True, help="Only say which and how many they are.")
    @json_option
    @pass_surroundings
    def command(
        surroundings: Surroundings,
        ids: tuple[int, ...],
        where: Where,
        everything: bool,
        yes: bool,
        dry_run: bool,
        as_json: bool,
    ) -> None:
        if bool(ids) + bool(where) + everything != 1:
            raise UsageError(
                f"cannot tell which jobs to {change.verb}; give either their IDs, or filters such as "
                "--task shop:report, or --all"
            )
        unfit = [state for state in where.states if state not in change.states]
        if unfit:
            raise UsageError(
                f"cannot {change.verb} jobs that are {unfit[0].name.lower()}; this is for "
                f"{', '.join(state.name.lower() for state in change.states)} ones"
            )
        with Client(surroundings.site.store) as client:
            if ids:
                _change_named(client, change, ids, dry_run=dry_run, as_json=as_json)
            else:
                chosen = [where.within(change.usual)]
                change_chosen(client, change, chosen, yes=yes, dry_run=dry_run, as_json=as_json)

    return command


BY_FILTER = """

\b
  coserver jobs {verb} 17 18
  coserver jobs {verb} {example} --dry-run

Jobs that filters choose are shown and asked about; --yes goes ahead, and without a terminal it must be said. Ctrl-C
lets the page of 500 jobs under way end, and says what was done.
"""

cancel: Any = _command(
    CANCEL,
    "Cancel jobs that have not ended."
    "\n\nWhat has not begun ends as cancelled, and so does what waits for its success. What runs is asked to stop: a "
    "coroutine is cancelled, an isolated function ended; a plain function may go on."
    + BY_FILTER.format(verb="cancel", example="--queue mail --older-than 1d"),
)
retry: Any = _command(
    RETRY,
    "Put jobs that did not succeed back into their queues, with a fresh budget of retries."
    "\n\nFilters and --all mean failed and lost ones; cancelled and expired ones by --state."
    + BY_FILTER.format(verb="retry", example="--task shop:report --error Timeout --newer-than 1d"),
)
discard: Any = _command(
    DISCARD,
    "Forget finished jobs at once, with their results, before their retention is over."
    + BY_FILTER.format(verb="discard", example="--state failed --older-than 7d"),
)
release: Any = _command(
    RELEASE,
    "Let held jobs go." + BY_FILTER.format(verb="release", example="--tag campaign"),
)
