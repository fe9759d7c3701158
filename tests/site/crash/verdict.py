"""What must be true after all that was killed, when everything has come to rest.

The witnesses: the store, the ledger of the producers (`produce`), and the file of effects, in which every run of a job
says when it begins and ends (`work`) and the killers say whom they are about to kill. All times are of one monotonic
clock, so what a run did at the same time as another is certain: from its begin to its end, or, if it came to none, to
the moment at which its process was about to be killed.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coserver.model.job import On, State
from tests.site.crash.base import Base

LIMITS = {"solo": 1, "pair": 2, "unique": 1, "queue": 3}
"""How many may run at once, by the part of the key before the colon."""
PROGRAM = "tests.site.crash.work:"
MAY_FAIL = {f"{PROGRAM}shaky"}
TAKES = {f"{PROGRAM}{name}" for name in ("after", "collect", "alert")}
EXACT = f"{PROGRAM}exact"
FORGETS = 1_000_000_000
"""For so long (ns) before its crash a server may have forgotten claims that are not on its disk: three times its
`wal_writer_delay`, and more where the machine is busy; a job may begin that much later than it was claimed, too."""
CRASHES = 3
DONE = """
SELECT d.*, (SELECT substr(b.data, 1, 100) FROM coserver_blob b WHERE b.job = d.id AND b.kind = 0) AS large
  FROM coserver_done d
"""


@dataclass(slots=True)
class Run:
    """One run of a job. `end` None: it came to none. `until`: so long it ran for certain."""

    id: str
    job: int
    claim: int
    pid: int
    parent: int
    token: str
    keys: list[str]
    begin: int
    end: int | None = None
    until: int = 0


@dataclass(slots=True)
class Effects:
    """The file of effects. `crashes`: when the database was about to be killed."""

    runs: dict[str, Run] = field(default_factory=dict)
    kills: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    crashes: list[int] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> Effects:
        found = cls()
        for line in path.read_text().splitlines():
            match line.split(" "):
                case ["begin", at, run, job, claim, pid, parent, token, keys]:
                    named = [] if keys == "-" else keys.split(",")
                    found.runs[run] = Run(
                        run, int(job), int(claim), int(pid), int(parent), token, named, int(at)
                    )
                case ["end", at, run]:
                    found.runs[run].end = int(at)
                case ["kill", at, pid]:
                    found.kills[int(pid)].append(int(at))
                case ["asked", *_]:
                    pass  # may go on for a while
                case ["crash", at]:
                    found.crashes.append(int(at))
                case other:
                    raise AssertionError(f"a line of effects is broken: {other}")
        for one in found.runs.values():
            killed = [at for pid in (one.pid, one.parent) for at in found.kills[pid] if at > one.begin]
            one.until = one.end if one.end is not None else min(killed, default=one.begin)
        return found

    def of(self, job: int) -> list[Run]:
        return [one for one in self.runs.values() if one.job == job]


@dataclass(slots=True)
class Ledger:
    """What the producers wrote down."""

    tries: dict[str, dict[str, Any]] = field(default_factory=dict)
    sure: dict[str, list[int]] = field(default_factory=dict)
    back: set[str] = field(default_factory=set)
    cancelled: set[int] = field(default_factory=set)
    retried: set[int] = field(default_factory=set)

    @classmethod
    def read(cls, paths: Iterable[Path]) -> Ledger:
        found = cls()
        for path in paths:
            for line in path.read_text().splitlines():
                match json.loads(line):
                    case {"try": token, **more}:
                        found.tries[token] = more
                    case {"sure": token, "ids": ids}:
                        found.sure[token] = ids
                    case {"back": token}:
                        found.back.add(token)
                    case {"ask": "cancel", "ids": ids}:
                        found.cancelled.update(ids)
                    case {"ask": "retry", "ids": ids}:
                        found.retried.update(ids)
                    case {"unsure": _}:
                        pass
                    case other:
                        raise AssertionError(f"a line of a ledger is strange: {other}")
        return found


def check(base: Base, ledger: Ledger, effects: Effects) -> list[str]:
    """Return all that is wrong, in words."""
    done = {row["id"]: row for row in base.rows(DONE)}
    edges = base.rows("SELECT child, place, parent, on_end, state FROM coserver_dep")
    return [
        *_nothing_is_half_done(base),
        *_counters_tell_the_rows(base, done),
        *_what_was_promised_is_there(base, ledger, done),
        *_ends_are_explained(ledger, done, edges, effects),
        *_children_came_after(done, edges, effects),
        *_limits_held(effects),
        *_claims_are_numbered(effects, done),
    ]


def _nothing_is_half_done(base: Base) -> Iterator[str]:
    queries = {
        "living jobs": "SELECT id, state, task, queue, blocked_on, flags, waits FROM coserver_job",
        "slots of no job": "SELECT * FROM coserver_slot WHERE job IS NOT NULL",
        "starts kept for no rate": "SELECT * FROM coserver_slot WHERE job IS NULL AND key NOT LIKE 'rated:%'",
        "edges without a child": "SELECT * FROM coserver_dep WHERE child NOT IN (SELECT id FROM coserver_done)",
        "edges whose parent has ended unseen": "SELECT * FROM coserver_dep WHERE state IS NULL",
        "tags of no job": "SELECT * FROM coserver_tag WHERE job NOT IN (SELECT id FROM coserver_done)",
        "progress of no job": "SELECT * FROM coserver_progress WHERE job NOT IN (SELECT id FROM coserver_done)",
        "large values of no job": "SELECT job, kind FROM coserver_blob WHERE job NOT IN (SELECT id FROM coserver_done)",
        "large arguments that are gone": "SELECT id, task FROM coserver_done d WHERE args IS NULL AND NOT EXISTS "
        "(SELECT 1 FROM coserver_blob b WHERE b.job = d.id AND b.kind = 0)",
        "gates that are open": "SELECT * FROM coserver_gate WHERE at = 0",
    }
    for what, query in queries.items():
        if rows := base.rows(query):
            yield f"{len(rows)} {what}: {rows[:5]}"
    if wrong := base.damage():
        yield f"the database is damaged: {wrong}"


def _counters_tell_the_rows(base: Base, done: dict[int, dict[str, Any]]) -> Iterator[str]:
    told = {
        (row["queue"], row["state"]): int(row["n"])
        for row in base.rows(
            "SELECT queue, state, sum(n) AS n FROM coserver_count WHERE state > 0 GROUP BY queue, state"
        )
        if row["n"]
    }
    counted = Counter((row["queue"] or "", row["state"]) for row in done.values())
    if told != counted:
        yield f"the counters say {told}, there are {dict(counted)}"


def _what_was_promised_is_there(base: Base, ledger: Ledger, done: dict[int, dict[str, Any]]) -> Iterator[str]:
    by_token: dict[str, list[int]] = defaultdict(list)
    for row in done.values():
        if (token := _token(row)) is not None:
            by_token[token].append(row["id"])
    own = Counter(row["token"] for row in base.rows("SELECT token FROM crash_ledger WHERE what = 'own'"))
    for token, tried in ledger.tries.items():
        marks = [mark for mark in tried["marks"] if mark is not None]
        there = [len(by_token[mark]) for mark in marks]
        if max(there, default=0) > 1:
            yield f"{token} ({tried['kind']}) was stored more than once: {marks} {there}"
        if len(set(there)) > 1:
            yield f"{token} ({tried['kind']}) was stored in part: {marks} {there}"
        if tried.get("own") and [own[mark] for mark in marks] != there:
            yield f"{token}: the caller's rows and its jobs are not one transaction: {there}"
        if token in ledger.back and any(there):
            yield f"{token} ({tried['kind']}) was rolled back and is there"
        if token not in ledger.sure:
            continue
        for mark, number in zip(tried["marks"], ledger.sure[token], strict=False):
            if abs(number) not in done:
                yield f"job {number} of {token} ({tried['kind']}) was acknowledged and is lost"
            elif mark is not None and number > 0 and by_token[mark] != [number]:
                yield f"job {number} of {token} was acknowledged, stored are {by_token[mark]}"
            elif mark is not None and number < 0 and by_token[mark]:
                yield f"{token} was told that job {-number} has its key, and was stored besides"
    exact = Counter(row["token"] for row in base.rows("SELECT token FROM crash_ledger WHERE what = 'exact'"))
    for row in done.values():
        if row["task"] == EXACT:
            n = exact.pop(str(_token(row)), 0)
            if n != (row["state"] == State.SUCCEEDED) and row["id"] not in ledger.retried:
                yield f"job {row['id']}, done exactly once, is {_name(row)} and was done {n} times"
    if exact:
        yield f"done exactly once by no job: {exact}"


def _ends_are_explained(
    ledger: Ledger, done: dict[int, dict[str, Any]], edges: list[dict[str, Any]], effects: Effects
) -> Iterator[str]:
    expires = {
        number
        for token, tried in ledger.tries.items()
        if tried.get("expires")
        for number in ledger.sure.get(token, [])
    }
    parents: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for edge in edges:
        parents[edge["child"]].append(edge)
    runs: dict[int, list[Run]] = defaultdict(list)
    for run in effects.runs.values():
        runs[run.job].append(run)
    for number, row in done.items():
        told = f"job {number} ({row['task'].removeprefix(PROGRAM)}) is {_name(row)}, and"
        unfit = any(not _fits(edge) for edge in parents[number])
        match State(row["state"]):
            case State.SUCCEEDED:
                if not _result_is_right(row):
                    yield f"{told} its result is {str(row['result'])[:80]}"
                finished = [
                    one
                    for one in runs[number]
                    # What ends by a commit of its own may have been killed right after that.
                    if (one.end is not None or row["task"] == EXACT) and one.claim in (0, row["claim"])
                ]
                if not finished:
                    yield f"{told} no run of it under claim {row['claim']} came to its end: {runs[number]}"
                if unfit and number not in ledger.retried:
                    yield f"{told} its parents ended otherwise: {parents[number]}"
            case State.FAILED:
                # Who is put back waits for nobody any more, and runs without what it was to take.
                put_back = number in ledger.retried and row["task"] in TAKES
                if row["task"] not in MAY_FAIL and not put_back:
                    yield f"{told} nothing in it fails: {row['error']}"
            case State.CANCELLED:
                if number not in ledger.cancelled and not unfit and not _inner(row):
                    yield f"{told} nobody asked for that: {row['error']} {parents[number]}"
            case State.EXPIRED:
                if number not in expires and _token(row) not in {
                    mark for tried in ledger.tries.values() if tried.get("expires") for mark in tried["marks"]
                }:
                    yield f"{told} has no time to begin by"
                if runs[number] and number not in ledger.retried:
                    yield f"{told} had begun: {runs[number]}"
            case State.LOST:
                taken_over = any(edge["on_end"] == On.TAKE_OVER for edge in parents[number])
                if row["crashes"] < CRASHES and not taken_over:
                    yield f"{told} died only {row['crashes']} times"
            case other:
                yield f"{told} that is no end: {other}"
        if row["crashes"] > len(runs[number]) and number not in ledger.retried:
            yield f"{told} was charged {row['crashes']} crashes, and began {len(runs[number])} times"


def _children_came_after(
    done: dict[int, dict[str, Any]], edges: list[dict[str, Any]], effects: Effects
) -> Iterator[str]:
    began: dict[int, int] = {}
    ended: dict[int, int] = {}
    for run in effects.runs.values():
        began[run.job] = min(run.begin, began.get(run.job, run.begin))
        end = run.begin if done.get(run.job, {}).get("task") == EXACT else run.end
        if end is not None:
            ended[run.job] = min(end, ended.get(run.job, end))
    for edge in edges:
        child, parent = edge["child"], edge["parent"]
        if edge["on_end"] == On.TAKE_OVER or child not in began or edge["state"] != State.SUCCEEDED:
            continue
        if _taken_over(parent, edges):
            continue
        if parent not in ended or ended[parent] > began[child]:
            yield f"job {child} began before its parent {parent} had ended: {began[child]} {ended.get(parent)}"
        if done[parent]["state"] != edge["state"]:
            yield f"job {child} was told that {parent} ended otherwise than it did: {edge} {_name(done[parent])}"


def _taken_over(job: int, edges: list[dict[str, Any]]) -> bool:
    return any(edge["child"] == job and edge["on_end"] == On.TAKE_OVER for edge in edges)


def _limits_held(effects: Effects) -> Iterator[str]:
    """No more at once than may be. One job that runs twice at once counts twice, too: the second run has to wait."""
    by_key: dict[str, list[Run]] = defaultdict(list)
    for run in effects.runs.values():
        for key in run.keys:
            by_key[key].append(run)
    for key, runs in by_key.items():
        most = LIMITS.get(key.partition(":")[0])
        if most is None:
            continue
        now: list[Run] = []
        for run in sorted(runs, key=lambda one: one.begin):
            now = [one for one in now if one.until > run.begin]
            now.append(run)
            if len(now) > most:
                yield f"{len(now)} at once of {key}, of which {most} may run: {now}"


def _claims_are_numbered(effects: Effects, done: dict[int, dict[str, Any]]) -> Iterator[str]:
    """Each run has a claim of its own, and the last one is that of the end.

    But for a database that crashed: it may have forgotten a claim that was not on its disk yet, which costs nothing but
    a second run. So two runs may have the same number if it crashed between them, or just when the first began.
    """
    numbers: dict[tuple[int, int], Run] = {}
    for run in sorted(effects.runs.values(), key=lambda one: one.begin):
        if run.claim == 0:
            continue
        if run.job not in done:
            yield f"job {run.job} ran and is not there: {run}"
            continue
        if run.claim > done[run.job]["claim"]:
            yield f"job {run.job} ran under claim {run.claim} and ended under {done[run.job]['claim']}"
        before = numbers.get((run.job, run.claim))
        if before is not None and not any(before.begin - FORGETS < at < run.begin for at in effects.crashes):
            yield f"job {run.job} ran twice under claim {run.claim}: {before} {run}"
        numbers[run.job, run.claim] = run


def _token(row: dict[str, Any]) -> str | None:
    """The token among the arguments of a finished job."""
    if row["args"] is None:
        return None if row["large"] is None else str(row["large"]).split('"')[1]
    args = json.loads(row["args"])
    return str(args[0]) if args else None


def _inner(row: dict[str, Any]) -> bool:
    """Whether somebody may have cancelled it whose handle leads to it: what another job ends as."""
    return str(_token(row)).endswith("/inner")


def _fits(edge: dict[str, Any]) -> bool:
    match On(edge["on_end"]):
        case On.SUCCESS:
            return bool(edge["state"] == State.SUCCEEDED)
        case On.FAILURE:
            return bool(edge["state"] != State.SUCCEEDED)
        case On.END:
            return True
        case On.TAKE_OVER:
            return bool(edge["state"] == State.SUCCEEDED)  # it ends as that one, and so may be anything else


def _result_is_right(row: dict[str, Any]) -> bool:
    result = None if row["result"] is None else json.loads(row["result"])
    match row["task"].removeprefix(PROGRAM):
        case "nap" | "busy" | "apart" | "shaky" | "exact":
            return bool(result == _token(row))
        case "over":
            return bool(result == f"{_token(row)}/inner")
        case "after":
            return str(result).startswith("after ")
        case "alert":
            return str(result).startswith("alert ")
        case _:
            return True


def _name(row: dict[str, Any]) -> str:
    return State(row["state"]).name.lower()
