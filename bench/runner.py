"""The loop over runs, groups and contestants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from bench.report import Figure, Note, Report
from bench.scenario import GROUPS, Contestant, Scenario


def measure(
    report: Report,
    contestants: Sequence[Contestant],
    groups: Sequence[str],
    runs: int,
    *,
    say: Callable[[str], None],
) -> None:
    """Measure everything into the report. Who fails in a scenario gets a note, and the others go on."""
    for run in range(1, runs + 1):
        for group in (group for group in GROUPS if group in groups):
            alone, together = _parted(contestants, group, run)
            for contestant, scenario in alone:
                say(f"run {run} of {runs}: {_what(scenario)}: {contestant.name}, {contestant.store}")
                _measure(report, contestant, scenario, run)
            if together:
                names = ", ".join(contestant.name for contestant, _ in together)
                say(f"run {run} of {runs}: {_what(together[0][1])}, all together: {names}")
                with ThreadPoolExecutor(len(together)) as pool:
                    for contestant, scenario in together:
                        pool.submit(_measure, report, contestant, scenario, run)


Turn = tuple[Contestant, Scenario]


def _parted(contestants: Sequence[Contestant], group: str, run: int) -> tuple[list[Turn], list[Turn]]:
    """Return a group's turns, those alone and those together. Scenarios alternate: everybody's first, then everybody's
    second, and so on, so that those who are compared are measured close to each other."""
    turns = [
        (place, contestant, scenario)
        for contestant in contestants
        for place, scenario in enumerate(one for one in contestant.scenarios if one.group == group)
        if run == 1 or not scenario.once
    ]
    turns.sort(key=lambda turn: turn[0])
    alone = [(contestant, scenario) for _, contestant, scenario in turns if not scenario.together]
    together = [(contestant, scenario) for _, contestant, scenario in turns if scenario.together]
    return alone, together


def _measure(report: Report, contestant: Contestant, scenario: Scenario, run: int) -> None:
    try:
        values = scenario.measure()
    except Exception as error:
        failed = f"{type(error).__name__}: {error}".strip()
        report.note(Note(contestant.name, contestant.store, f"cannot measure {_what(scenario)}: {failed}"))
        return
    for row, value in zip(scenario.rows, values, strict=True):
        report.add(Figure(contestant.name, contestant.store, row.name, run, value, row.unit))


def _what(scenario: Scenario) -> str:
    return scenario.rows[0].name
