"""The benchmark runs, and its report says what follows from its figures; what it measures here is nobody's business."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from bench import rows
from bench.__main__ import choose
from bench.marks import Mark, Marks, rate
from bench.ours.drain import smaller_share
from bench.peers.catalogue import PEERS
from bench.report import Figure, Note, Report
from bench.runner import measure
from bench.scenario import Contestant, Scenario, Sizes
from bench.tables import Table, markdown, remarks, replaced, tables, text

ROOT = Path(__file__).parent.parent


def test_the_benchmark_measures_both_databases_beside_the_hand_written_loops(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--scale", "0.004", "--runs", "1", "--no-peers", "--out", str(out)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with out.open() as file:
        report = Report.read(file)
    assert not report.notes
    assert {"processor", "cores", "fdatasync", "python"} <= report.facts["machine"].keys()
    assert report.facts["SQLite"]["synchronous"].startswith("FULL")
    durable = report.facts["PostgreSQL"]
    assert (durable["fsync"], durable["synchronous_commit"]) == ("on", "on")
    for store in ("SQLite", "PostgreSQL"):
        for row in rows.ROWS:
            median = report.median(rows.OURS, store, row.name)
            assert median is not None and median >= 0, row
            assert row.unit != rows.RATE or median > 0, row
        for row in (rows.DRAIN, rows.SUBMIT, rows.SUBMIT_MANY, rows.START_P50):
            assert report.median(rows.BARE, store, row.name), row
    assert "coserver on SQLite: how many times the rate of" in done.stdout
    assert "run 1 of 1: drain, 1 process: coserver, PostgreSQL" in done.stderr


# The report -----------------------------------------------------------------------------------------------------


def report_of(*figures: tuple[str, str, rows.Row, list[float]]) -> Report:
    report = Report()
    for by, store, row, values in figures:
        for run, value in enumerate(values, 1):
            report.add(Figure(by, store, row.name, run, value, row.unit))
    return report


def test_the_report_computes_medians_ratios_and_aims() -> None:
    report = report_of(
        (rows.OURS, "SQLite", rows.DRAIN, [50_000, 70_000, 60_001]),
        (rows.OURS, "SQLite", rows.THREADS, [30_000]),
        (rows.OURS, "SQLite", rows.AMONG_QUEUED, [47_000]),
        (rows.BARE, "SQLite", rows.DRAIN, [120_002]),
        ("PgQueuer", "PostgreSQL", rows.DRAIN, [10_000, 20_000]),
    )
    span = report.span(rows.OURS, "SQLite", rows.DRAIN.name)
    assert span is not None and (span.median, span.least, span.most, span.runs) == (60_001, 50_000, 70_000, 3)
    pgqueuer = ("PgQueuer", "PostgreSQL")
    assert report.ratio(rows.DRAIN, "SQLite", (rows.BARE, "SQLite")) == 0.5
    assert report.ratio(rows.DRAIN, "SQLite", pgqueuer) == 60_001 / 15_000
    assert report.ratio(rows.THREADS, "SQLite", pgqueuer) == 2.0, "compared with the peer's drain"
    assert report.ratio(rows.SUBMIT, "SQLite", pgqueuer) is None
    assert [(row, aim.bound) for _, row, _, aim in report.missed()] == [(rows.AMONG_QUEUED, 0.8 * 60_001)]
    assert remarks(report) == [
        "Not reached on SQLite: drain, many more queued: 47,000 jobs/s, aim at least 48,001."
    ]


@pytest.mark.parametrize(("commits", "bound"), [(5_000.0, 10_000), (1_000.0, 6_400)])
def test_what_eight_threads_shall_reach_depends_on_what_a_commit_costs(commits: float, bound: float) -> None:
    report = report_of(
        (rows.BARE, "SQLite", rows.SUBMIT, [commits]), (rows.OURS, "SQLite", rows.SUBMIT_THREADS, [bound])
    )
    aim = report.aim(rows.SUBMIT_THREADS, "SQLite")
    assert aim is not None and aim.bound == bound and aim.met(bound) and not aim.met(bound - 1)


def test_a_report_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with path.open("w") as file:
        written = Report(file)
        written.tell("machine", {"cores": "2"})
        written.add(Figure("RQ", "Redis", rows.TAKEOVER.name, 1, math.inf, rows.SECONDS))
        written.note(Note("Celery", "Redis", "cannot install it"))
        written.note(Note("Celery", "Redis", "cannot install it"))
    assert all(json.loads(line) for line in path.read_text().splitlines())
    read = Report.read(path.read_text().splitlines())
    assert (read.facts, read.figures, read.notes) == (written.facts, written.figures, written.notes)
    assert len(read.notes) == 1


def test_tables_fit_the_terminal_and_lose_nothing() -> None:
    wide = Table(
        "wide", ("", *(f"column {n}" for n in range(9))), (("a line", *("1" * (n + 1) for n in range(9))),)
    )
    shown = text([wide], 60)
    assert max(map(len, shown.splitlines())) <= 60
    assert all(f"column {n}" in shown for n in range(9)) and shown.count("a line") == shown.count("wide") > 1
    assert text([wide], 1000).count("a line") == 1


def test_the_page_gets_the_figures_between_its_marks() -> None:
    report = report_of((rows.OURS, "SQLite", rows.DRAIN, [1.0]), ("RQ", "Redis", rows.TAKEOVER, [math.inf]))
    page = replaced("before\nBEGIN\nold\nEND\nafter\n", markdown(report), begin="BEGIN", end="END")
    assert page.startswith("before\nBEGIN\n") and page.endswith("END\nafter\n") and "old" not in page
    assert "### coserver on SQLite" in page and "never" in page
    assert all(len(table.head) == len(line) for table in tables(report) for line in table.lines)
    with pytest.raises(ValueError, match="put them there"):
        replaced("before\n", "figures", begin="BEGIN", end="END")


# Who is measured, and how -----------------------------------------------------------------------------------------


def test_contestants_alternate_and_who_fails_does_not_stop_the_others() -> None:
    seen: list[str] = []

    def scenario(who: str, *, once: bool = False, group: str = "drain") -> Scenario:
        def value() -> list[float]:
            seen.append(who)
            if who == "b1":
                raise RuntimeError("no")
            return [1.0]

        return Scenario(group, (rows.DRAIN,), value, once=once, together=once)

    contestants = [
        Contestant("a", "SQLite", (scenario("a1"), scenario("a2"), scenario("a3", once=True, group="idle"))),
        Contestant("b", "Redis", (scenario("b1"), scenario("b2"))),
        Contestant("c", "Redis", (scenario("left out", group="crash"),)),
    ]
    report = Report()
    measure(report, contestants, ("drain", "idle"), 2, say=lambda _text: None)
    assert seen == ["a1", "b1", "a2", "b2", "a3", "a1", "b1", "a2", "b2"]
    assert report.notes == [Note("b", "Redis", "cannot measure drain, 1 process: RuntimeError: no")]
    assert len(report.figures) == 7


def test_only_chooses_databases_contestants_and_groups_each_on_its_own() -> None:
    everything = choose([], with_peers=True)
    assert everything.peers == PEERS and everything.us == ("coserver", "bare")
    assert choose([], with_peers=False).peers == ()
    some = choose(["postgresql", "pgqueuer", "coserver", "drain"], with_peers=True)
    assert (some.databases, some.us, some.groups) == (("postgresql",), ("coserver",), ("drain",))
    assert [peer.key for peer in some.peers] == ["pgqueuer"]
    with pytest.raises(ValueError, match="known are"):
        choose(["nobody"], with_peers=True)


def test_every_peer_has_an_adapter_and_exact_versions() -> None:
    for peer in PEERS:
        assert (ROOT / "bench" / "peers" / f"{peer.adapter}.py").exists()
        assert all("==" in requirement for requirement in peer.requirements)
    assert len({peer.key for peer in PEERS}) == len(PEERS)


def test_sizes_shrink_but_never_to_nothing() -> None:
    tiny = Sizes().scaled(1e-9)
    assert min(tiny.jobs, tiny.backlog, tiny.submits, tiny.waits, tiny.idle, tiny.takeover) >= 1


# Marks ------------------------------------------------------------------------------------------------------------


def test_marks_written_by_another_process_are_seen() -> None:
    code = "from bench.marks import *; mark(0); begin(2); begin(2); end(2)"
    with Marks(3) as marks:
        assert not marks.begun(1)
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=marks.environment, check=True)
        assert marks.begun(1) and not marks.begun(3)
        plain, twice = marks.all()
    assert (plain.number, plain.again, plain.ended) == (0, 0, 0)
    assert twice.number == 2 and twice.began < twice.again < twice.ended and twice.process == plain.process
    assert not marks.path.exists()


def test_rates_and_shares_follow_from_marks() -> None:
    def began(number: int, milliseconds: int, process: int) -> Mark:
        return Mark(number, milliseconds * 1_000_000, process, 0, 0)

    made = [
        began(0, 0, 1),
        began(1, 10, 1),
        began(2, 20, 2),
        began(3, 20, 1),
        began(4, 30, 1),
        began(5, 40, 1),
    ]
    assert rate(made) == 5 / 0.04
    assert smaller_share(made) == 25.0, "of the four that began once both were at work"
    assert smaller_share(made[:2]) == 0.0
