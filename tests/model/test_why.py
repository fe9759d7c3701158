"""Why a job is where it is: one cause for any evidence, and words that lead on."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import get_args

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coserver.cli.main import cli
from coserver.model import why as module
from coserver.model.job import Error, JobInfo, Priority, State
from coserver.model.why import (
    MANY,
    MANY_WAITING,
    Behind,
    Cause,
    DeadLease,
    Evidence,
    Finished,
    Held,
    Limited,
    NotDue,
    NoWorker,
    OtherQueues,
    Paused,
    Running,
    Standing,
    UnknownTask,
    UnreadQueue,
    Unserved,
    Waiting,
    WaitingFor,
    WorkerInfo,
    takers,
    unprovided,
    unserved,
    why,
)
from coserver.model.why_words import Why, mend, says, says_of_group, word

NOW = 1_000_000_000_000
MINUTE = 60_000_000
TASKS = ["shop.jobs:report", "shop.jobs:resize", "shop.jobs:send"]
QUEUES = ["default", "mail", "pdf"]


def job(state: State = State.QUEUED, **more: object) -> JobInfo:
    info = JobInfo(17, TASKS[0], "default", state, Priority.NORMAL, "[]", 0, 0, NOW - MINUTE)
    return replace(info, **more)  # type: ignore[arg-type]


def worker(id: int = 1, process: str = "images/1", **more: object) -> WorkerInfo:
    info = WorkerInfo(
        id,
        process,
        "web1",
        4711,
        frozenset({"default"}),
        frozenset({TASKS[0]}),
        parked=True,
        lease=30_000_000,
    )
    return replace(info, **more)  # type: ignore[arg-type]


def cause(info: JobInfo, *workers: WorkerInfo, **standing: object) -> Cause:
    return why(Evidence(info, workers, Standing(info.state, NOW, **standing)))  # type: ignore[arg-type]


# -- the rule ----------------------------------------------------------------------------------------------------------


def test_states_that_speak_for_themselves() -> None:
    anyone = worker()
    assert cause(job(State.HELD), anyone) == Held(17)
    assert cause(job(State.WAITING), anyone, parent=9) == WaitingFor(9)
    assert cause(job(State.LIMITED), anyone, limit="user:7") == Limited("user:7", "default")
    assert cause(job(State.LIMITED), limit="a", opens=NOW + MINUTE) == Limited("a", "default", MINUTE)
    assert cause(job(State.LIMITED), limit="a", opens=NOW - MINUTE) == Limited("a", "default", 0)
    failed = job(State.FAILED, error=Error("ValueError", "no\nmore"))
    assert why(Evidence(failed)) == Finished(17, State.FAILED, "ValueError: no")


def test_a_scheduled_job_waits_for_its_time_and_then_for_a_worker() -> None:
    later = job(State.SCHEDULED, run_at=NOW + MINUTE)
    assert cause(later) == NotDue(NOW + MINUTE, MINUTE, None)
    retried = replace(later, error=Error("TimeoutError", "slow"))
    assert cause(retried, worker()) == NotDue(NOW + MINUTE, MINUTE, "TimeoutError: slow")
    due = job(State.SCHEDULED, run_at=NOW)
    assert cause(due) == NoWorker()
    assert cause(due, worker()) == Behind(0, 1, 0, ("images",))


def test_a_running_job_is_its_workers_business_while_that_one_lives() -> None:
    runs = job(State.RUNNING, started_at=NOW - MINUTE, worker="images/1")
    assert cause(runs, worker(), worker=1) == Running(17, "images/1", "web1", 4711, MINUTE)
    other = worker(2, "images/2")
    assert cause(runs, other, worker=1) == DeadLease("images/1", 1)
    assert cause(runs, worker(lease=-1), other, worker=1) == DeadLease("images/1", 1)
    assert cause(runs, worker(lease=None), worker=1) == DeadLease("images/1", 0)


def test_without_a_live_worker_nothing_else_matters() -> None:
    dead = [worker(lease=None), worker(2, lease=-1)]
    assert cause(job()) == cause(job(), *dead) == cause(job(State.NEW, queue=None), *dead) == NoWorker()


def test_a_task_that_no_live_worker_has_is_unknown_with_a_name_that_is_near() -> None:
    mistyped = job(State.NEW, queue=None, task="shop.jobs:reprot")
    assert cause(mistyped, worker()) == UnknownTask("shop.jobs:reprot", TASKS[0], ("images",))
    far = job(State.NEW, queue=None, task="x:y")
    assert cause(far, worker(), worker(2, "mail/1", lease=None)) == UnknownTask("x:y", None, ("images",))
    assert cause(job(), worker(lease=None), worker(2, "mail/1", tasks=frozenset())) == UnknownTask(
        TASKS[0], None, ("mail",)
    )


def test_a_queue_that_nobody_reads_and_one_that_only_others_read() -> None:
    pdf = job(queue="pdf")
    able = worker()
    assert cause(pdf, able) == UnreadQueue("pdf", TASKS[0], None, ("images",), ("default",))
    reader = worker(2, "mail/1", queues=frozenset({"pdf"}), tasks=frozenset({TASKS[1]}))
    assert cause(pdf, able, reader) == OtherQueues("pdf", TASKS[0], ("images",), ("default",), ("mail",))
    near = job(queue="defualt")
    assert cause(near, able) == UnreadQueue("defualt", TASKS[0], "default", ("images",), ("default",))


def test_a_paused_queue_comes_before_the_question_who_reads_it() -> None:
    assert cause(job(), paused=True) == Paused("default")


def test_a_job_that_somebody_can_take_is_behind_others() -> None:
    able = [worker(), worker(2, "mail/1", parked=False), worker(3, tasks=frozenset())]
    assert cause(job(), *able, ahead=12) == Behind(12, 2, 1, ("images", "mail"))
    assert cause(job(State.NEW, queue=None), *able, ahead=3) == Behind(3, 2, 1, ("images", "mail"))


def test_the_group_that_waits_longest_comes_first() -> None:
    old, young, served = (
        Waiting(State.QUEUED, queue, TASKS[0], 1, oldest, since)
        for queue, oldest, since in (("pdf", 3, NOW - MINUTE), ("mail", 1, NOW), ("default", 2, NOW))
    )
    found = unserved([young, served, old], [worker()])
    assert [one.group for one in found] == [old, young]
    assert all(isinstance(one.cause, UnreadQueue) for one in found)


workers = st.builds(
    WorkerInfo,
    id=st.integers(1, 4),
    process=st.sampled_from(["images/1", "images/2", "mail/1", "lone"]),
    host=st.just("web1"),
    pid=st.just(1),
    queues=st.frozensets(st.sampled_from(QUEUES)),
    tasks=st.frozensets(st.sampled_from(TASKS)),
    parked=st.booleans(),
    lease=st.none() | st.integers(-2, 2),
)
evidence = st.builds(
    lambda info, found, standing, same: Evidence(
        info, found, replace(standing, state=info.state) if same else standing
    ),
    st.builds(
        JobInfo,
        id=st.integers(1, 9),
        task=st.sampled_from(TASKS),
        queue=st.none() | st.sampled_from(QUEUES),
        state=st.sampled_from(State),
        priority=st.just(Priority.NORMAL),
        args=st.just("[]"),
        attempt=st.just(0),
        crashes=st.just(0),
        created_at=st.just(0),
        run_at=st.none() | st.integers(-2, 2),
        started_at=st.none() | st.integers(-2, 2),
        error=st.none() | st.builds(Error, st.just("E"), st.sampled_from(["", "no", "a\nb"])),
    ),
    st.lists(workers, max_size=4),
    st.builds(
        Standing,
        state=st.sampled_from(State),
        now=st.just(0),
        ahead=st.integers(0, MANY + 1),
        worker=st.none() | st.integers(1, 4),
        paused=st.booleans(),
        parent=st.none() | st.integers(1, 9),
        limit=st.none() | st.just("user:7"),
        opens=st.none() | st.integers(-1, MINUTE),
    ),
    st.booleans(),
)


@given(evidence)
def test_any_evidence_has_one_cause_with_words(found: Evidence) -> None:
    """N18: one computed sentence for any job, and what mends it, or nothing where it passes by itself."""
    answer = Why(found.job, why(found))
    assert answer.says
    assert "\n" not in answer.says
    assert answer.mend is None or "`" in answer.mend
    assert word(answer.cause) == re.sub(r"(?<!^)(?=[A-Z])", "_", type(answer.cause).__name__).lower()


@given(evidence)
def test_a_job_is_behind_others_exactly_when_somebody_can_take_it(found: Evidence) -> None:
    able = takers(found.job, found.workers)
    nobody = unprovided(found.job.task, found.job.queue, found.workers)
    assert (nobody is None) == bool(able)
    if isinstance(why(found), Behind):
        assert able
    if isinstance(why(found), NoWorker | UnknownTask | UnreadQueue | OtherQueues):
        assert not able


@given(st.lists(workers, max_size=4), workers, st.sampled_from(TASKS), st.sampled_from(QUEUES))
def test_a_worker_that_is_not_live_changes_nothing(
    found: list[WorkerInfo], one: WorkerInfo, task: str, queue: str
) -> None:
    dead = replace(one, lease=None)
    assert unprovided(task, queue, [*found, dead]) == unprovided(task, queue, found)


# -- words -------------------------------------------------------------------------------------------------------------

SAID: list[tuple[Cause, str, str]] = [
    (Finished(7, State.SUCCEEDED, None), "it has ended: succeeded; `coserver jobs show 7` shows", ""),
    (Finished(7, State.FAILED, "E: no"), "it has ended: failed with E: no", "coserver jobs retry 7"),
    (Held(7), "it is held until somebody releases it", "coserver jobs release 7"),
    (WaitingFor(5), "job 5 has to end first", "coserver why 5"),
    (WaitingFor(None), "another job has to end first", ""),
    (
        Limited("user:7", "pdf"),
        'as many jobs run as the limit "user:7" allows',
        "`coserver jobs list --state running` shows who is before it; or raise `max_running` of [limit.user] in",
    ),
    (
        Limited("queue:my.pdf", "my.pdf"),
        'as many jobs run as the limit of the queue "my.pdf" allows',
        '--state running --queue my.pdf` shows who is before it; or raise `max_running` of [queue."my.pdf"]',
    ),
    (
        Limited("user:7", "pdf", 90 * MINUTE),
        'as many jobs have begun as the rate of the limit "user:7" allows; the next may in 1h30m',
        "raise `rate` of [limit.user] in coserver.toml",
    ),
    (
        Limited("queue:pdf", "pdf", 1),
        'as many jobs have begun as the rate of the limit of the queue "pdf" allows; the next may in 0.1 s',
        "[queue.pdf]",
    ),
    (Limited("user:7", "pdf", 0), 'it waits at the limit "user:7"; whoever looks next decides', ""),
    (
        Limited(None, None, MINUTE),
        "as many jobs have begun as the rate of its limit allows; the next may in 1m",
        "",
    ),
    (Limited(None, None), "as many jobs run as its limit allows", "coserver jobs list --state running"),
    (NotDue(NOW, 90 * MINUTE, None), "it is due in 1h30m", ""),
    (NotDue(NOW, MINUTE, "E: no"), "it is tried again in 1m; its last attempt failed with E: no", ""),
    (Paused("my pdf"), 'the queue "my pdf" is paused', "coserver queues resume 'my pdf'"),
    (NoWorker(), "no worker is live", "coserver up -d"),
    (UnknownTask("a:b", None, ("x", "y")), 'no live worker has the task "a:b"', "coserver restart x y"),
    (UnknownTask("a:b", "a:c", ("x",)), 'no live worker has the task "a:b"; one has "a:c"', "right name"),
    (
        UnreadQueue("pdf", "a:b", None, ("x",), ("default", "mail")),
        'nobody reads the queue "pdf"; the workers that have its task (x) read "default" and "mail"',
        'add "pdf" to `queues` of [service.x] in coserver.toml, then `coserver down` and `coserver up -d`',
    ),
    (
        UnreadQueue("a*b", "a:b", None, ("x",), ("pdf",)),
        "nobody reads",
        "no configuration can name that queue",
    ),
    (UnreadQueue("pfd", "a:b", "pdf", ("x",), ("pdf",)), "nobody reads", 'or submit the job to "pdf"'),
    (
        OtherQueues("pdf", "a:b", ("x",), ("a", "b", "c", "d"), ("y", "z")),
        'the workers that read the queue "pdf" (y and z) lack its task; those that have it (x) read "a", "b", "c" '
        "and 1 more",
        "[service.x]",
    ),
    (Behind(0, 1, 0, ("x",)), "it is next; a worker takes it at any moment", ""),
    (Behind(0, 1, 1, ("x",)), "it is next; the one worker that can take it is busy", ""),
    (Behind(0, 2, 2, ("x",)), "it is next; all 2 workers that can take it are busy", ""),
    (Behind(1, 2, 1, ("x",)), "1 job comes first; 1 of 2 workers that can take it are busy", "`processes`"),
    (Behind(MANY + 1, 2, 2, ("x",)), "more than 10,000 jobs come first; 2 of 2", "[service.x]"),
    (DeadLease("x/1", 0), "the worker that ran it, x/1, is dead", "coserver up -d"),
    (DeadLease(None, 2), "the worker that ran it is dead", ""),
    (
        Running(7, "x/1", "web1", 11, 41_000_000),
        "it runs since 41s on x/1 (process 11 on web1)",
        "coserver logs -f x/1",
    ),
]


@pytest.mark.parametrize(("found", "said", "mended"), SAID, ids=lambda one: str(one)[:40])
def test_each_cause_in_words(found: Cause, said: str, mended: str) -> None:
    assert says(found).startswith(said)
    if mended:
        assert mended in (mend(found) or "")
    else:
        assert mend(found) is None


def test_every_cause_is_told_above_and_has_a_word_of_its_own() -> None:
    kinds = {type(found) for found, _, _ in SAID}
    assert kinds == set(get_args(Cause))
    assert len({word(found) for found, _, _ in SAID}) == len(kinds)
    assert all(kind.__name__ in (module.__doc__ or "") for kind in kinds)


COMING = {"jobs release", "queues resume"}
"""Commands that belong to states which nothing can be in before they exist."""


@pytest.mark.parametrize("found", [found for found, _, _ in SAID], ids=lambda one: str(one)[:40])
def test_every_command_of_a_mend_exists(found: Cause) -> None:
    for command in re.findall(r"`coserver ([^`]+)`", mend(found) or ""):
        words = command.split()
        here: click.Command | None = cli
        for place, name in enumerate(words):
            if not isinstance(here, click.Group):
                break
            here = here.get_command(click.Context(here), name)
            assert here is not None or " ".join(words[: place + 1]) in COMING | {"queues"}, command
            if here is None:
                break


def test_a_group_is_told_with_number_place_age_and_cause() -> None:
    group = Waiting(State.QUEUED, "pdf", "a:b", 3, 17, NOW - 4 * MINUTE)
    assert says_of_group(Unserved(group, NoWorker()), NOW) == (
        '3 jobs of "a:b" wait in the queue "pdf", the oldest, 17, since 4m: no worker is live'
    )
    one = Waiting(State.NEW, None, "a:b", 1, 17, NOW + MINUTE)
    assert says_of_group(Unserved(one, NoWorker()), NOW) == (
        '1 job of "a:b" waits, job 17, since 0s: no worker is live'
    )
    many = replace(group, number=MANY_WAITING + 1)
    assert says_of_group(Unserved(many, NoWorker()), NOW).startswith("more than 1,000 jobs of")


def test_names_cannot_break_out_of_their_line() -> None:
    assert says(UnknownTask('a"\nweb/1 running\x1b[2J', None, ())) == (
        r'no live worker has the task "a\"\nweb/1 running\u001b[2J"'
    )
