"""The report as tables: for a terminal, where they are cut to its width, and in Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench.report import Report, Span, shown
from bench.rows import (
    BARE,
    DRAIN,
    DRAIN_2,
    IDLE_CPU,
    MEMORY,
    MS,
    OURS,
    PERCENT,
    RATE,
    ROWS,
    SECONDS,
    START_P50,
    START_P99,
    SUBMIT,
    SUBMIT_MANY,
    TAKEOVER,
    Aim,
    Row,
)

_PEERS = (DRAIN, DRAIN_2, SUBMIT, SUBMIT_MANY, START_P50, START_P99, IDLE_CPU, MEMORY, TAKEOVER)


@dataclass(frozen=True, slots=True)
class Table:
    """The first column names the lines; the others are numbers."""

    title: str
    head: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]


def tables(report: Report) -> list[Table]:
    """Return the whole report: per database what is ours, then ratios, then the others' own figures, then notes."""
    made = [_ours(report, store) for store in report.stores()]
    made += [_ratios(report, store) for store in report.stores()]
    made.append(_others(report))
    return [table for table in map(_dense, made) if table.lines]


def remarks(report: Report) -> list[str]:
    """Return what is to be said beside the tables: aims that were not reached, and who was not measured and why."""
    missed = [
        f"Not reached on {store}: {row.name}: {shown(value, row.unit)} {row.unit}, "
        f"aim {'at most' if aim.most else 'at least'} {shown(aim.bound, row.unit)}."
        for store, row, value, aim in report.missed()
    ]
    return missed + [
        f"Not measured: {note.by} on {note.store}: {' '.join(note.text.split())}" for note in report.notes
    ]


def text(made: Sequence[Table], width: int) -> str:
    """Return the tables for a terminal; one that is too wide goes on below, with its first column again."""
    return "\n\n".join(
        "\n".join([part.title, *_lines(part)]) for table in made for part in _cut(table, width)
    )


def markdown(report: Report) -> str:
    """Return all of it as a part of a Markdown page."""
    parts = [f"### {table.title}\n\n" + "\n".join(_lines(table)) for table in tables(report)]
    return "\n\n".join([_list(facts(report)), *parts, _list(remarks(report))]) + "\n"


def _list(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def facts(report: Report) -> list[str]:
    """Return what the figures were measured on, a line for each thing."""
    return [
        f"{about}: " + "; ".join(f"{name} {value}" for name, value in values.items())
        for about, values in report.facts.items()
    ]


def replaced(page: str, part: str, *, begin: str, end: str) -> str:
    """Return the page with what stands between two of its lines replaced. ValueError when it has no such lines."""
    before, found, rest = page.partition(f"{begin}\n")
    _, found_too, after = rest.partition(f"{end}\n")
    if not (found and found_too):
        raise ValueError(
            f"cannot write the figures: there are no lines {begin!r} and {end!r}; put them there"
        )
    return f"{before}{begin}\n\n{part}\n{end}\n{after}"


# The tables -----------------------------------------------------------------------------------------------------


def _ours(report: Report, store: str) -> Table:
    lines = []
    for row in ROWS:
        if (span := report.span(OURS, store, row.name)) is None:
            continue
        aim = report.aim(row, store)
        by_hand = report.median(BARE, store, row.name)
        lines.append(
            (
                f"{row.name}, {row.unit}",
                _aim(aim, row),
                shown(span.median, row.unit) + ("" if aim is None or aim.met(span.median) else " ✗"),
                _range(span, row),
                "" if by_hand is None else shown(by_hand, row.unit),
            )
        )
    return Table(f"coserver on {store}", ("measured", "aim", "median", "range", BARE), tuple(lines))


def _ratios(report: Report, store: str) -> Table:
    rivals = [
        (by, where)
        for by, where in report.contestants()
        if by != OURS and (where == store or not by.startswith(BARE))
    ]
    rows = [row for row in ROWS if row.unit == RATE]
    lines = tuple(
        (_named(report, rival), *(_times(report.ratio(row, store, rival)) for row in rows))
        for rival in rivals
    )
    return Table(
        f"coserver on {store}: how many times the rate of", ("", *(row.short for row in rows)), lines
    )


def _others(report: Report) -> Table:
    lines = []
    for who in report.contestants():
        if who[0] != OURS:
            spans = [report.span(*who, row.name) for row in _PEERS]
            lines.append(
                (_named(report, who), *(_cell(span, row) for span, row in zip(spans, _PEERS, strict=True)))
            )
    head = tuple(row.short if row.unit == RATE else f"{row.short} {row.unit}" for row in _PEERS)
    return Table("the others' own figures", ("", *head), tuple(lines))


def _dense(table: Table) -> Table:
    """Return the table without lines and columns in which nothing stands."""
    lines = tuple(line for line in table.lines if any(line[1:]))
    kept = [column for column in range(1, len(table.head)) if any(line[column] for line in lines)]
    return _columns(Table(table.title, table.head, lines), kept)


def _named(report: Report, who: tuple[str, str]) -> str:
    name, store = who
    same = [where for by, where in report.contestants() if by == name]
    return f"{name} ({store})" if len(same) > 1 else name


def _aim(aim: Aim | None, row: Row) -> str:
    if aim is None:
        return ""
    digits = f"{aim.bound:,.0f}" if row.unit in (RATE, MS, PERCENT) and aim.bound >= 1 else f"{aim.bound:g}"
    return f"{'≤' if aim.most else '≥'} {digits}"


def _range(span: Span, row: Row) -> str:
    return "" if span.runs < 2 else f"{shown(span.least, row.unit)}–{shown(span.most, row.unit)}"


def _cell(span: Span | None, row: Row) -> str:
    if span is None:
        return ""
    if row.unit == SECONDS and not math.isinf(span.median):
        return f"{span.median:.1f}"
    return shown(span.median, row.unit)


def _times(ratio: float | None) -> str:
    if ratio is None:
        return ""
    return f"{ratio:,.0f}" if ratio >= 10 else f"{ratio:.1f}" if ratio >= 2 else f"{ratio:.2f}"


# Drawing --------------------------------------------------------------------------------------------------------


def _widths(table: Table) -> list[int]:
    return [
        max(len(line[column]) for line in (table.head, *table.lines)) for column in range(len(table.head))
    ]


def _cut(table: Table, width: int) -> Iterator[Table]:
    """Yield the table in parts that fit, as far as two columns do."""
    first, *others = _widths(table)
    part: list[int] = []
    room = width - first - 4
    for column, needed in enumerate(others, 1):
        if part and room < needed + 3:
            yield _dense(_columns(table, part))
            part, room = [], width - first - 4
        part.append(column)
        room -= needed + 3
    yield _dense(_columns(table, part))


def _columns(table: Table, kept: Sequence[int]) -> Table:
    def of(line: tuple[str, ...]) -> tuple[str, ...]:
        return (line[0], *(line[column] for column in kept))

    return Table(table.title, of(table.head), tuple(of(line) for line in table.lines))


def _lines(table: Table) -> Iterator[str]:
    widths = _widths(table)
    yield _line(table.head, widths)
    yield "|".join(["", *("-" * (width + 2) for width in widths), ""])
    for line in table.lines:
        yield _line(line, widths)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = [
        cell.rjust(width) if column else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "| " + " | ".join([first, *others]) + " |"
