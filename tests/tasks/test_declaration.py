"""`@task`, and the calls of what it makes."""

from __future__ import annotations

import asyncio
import functools
import inspect
import pickle
from datetime import UTC, datetime
from typing import Any

import pytest

from coserver.errors import InvalidArguments, UnknownTask, UsageError
from coserver.model.job import NewJob, Priority
from coserver.model.retry import RetryPolicy
from coserver.tasks.binding import using
from coserver.tasks.by_name import job_by_name
from coserver.tasks.declaration import AsyncTask, Task, task
from coserver.tasks.options import options
from coserver.tasks.registry import registry
from coserver.tasks.retry import Retry
from tests.tasks.conftest import Kept


@task
def at_module_level(path: str, size: int = 200) -> str:
    """Make it smaller."""
    return f"{path}:{size}"


class Images:
    @staticmethod
    @task
    def crop(path: str) -> str:
        return path


MODULE = __name__


@pytest.fixture
def resize(kept: Kept) -> Any:
    with using(kept):
        yield at_module_level


def test_a_task_stays_the_function_it_was() -> None:
    assert at_module_level("a", size=3) == "a:3"
    assert at_module_level.__name__ == "at_module_level"
    assert at_module_level.__doc__ == "Make it smaller."
    assert str(inspect.signature(at_module_level)).startswith("(path: 'str'")


def test_an_async_task_stays_a_coroutine_function() -> None:
    @task(name="double")
    async def double(number: int) -> int:
        return 2 * number

    assert isinstance(double, AsyncTask)
    assert double.is_async
    assert asyncio.run(double(4)) == 8


def test_a_task_is_named_after_its_place() -> None:
    assert at_module_level.name == f"{MODULE}:at_module_level"
    assert Images.crop.name == f"{MODULE}:Images.crop"
    assert registry.get(f"{MODULE}:at_module_level") is at_module_level


def test_a_task_is_pickled_by_its_place() -> None:
    assert pickle.loads(pickle.dumps(at_module_level)) is at_module_level
    assert pickle.loads(pickle.dumps(Images.crop)) is Images.crop


def test_submit_hands_over_the_job_as_the_task_says(kept: Kept) -> None:
    @task(name="mail", queue="mail", priority="low", on_lost="fail")
    def mail(to: str) -> None: ...

    with using(kept):
        job = mail.submit("a@b")
    assert (job.id, job.created) == (1, True)
    assert kept.jobs == [NewJob("mail", '["a@b"]', "mail", Priority.LOW, max_crashes=1, checked=True)]


def test_delay_is_submit(resize: Task[..., str], kept: Kept) -> None:
    resize.delay("a")
    resize.submit("a")
    assert kept.jobs[0] == kept.jobs[1]


def test_options_go_before_what_the_task_says(resize: Task[..., str], kept: Kept) -> None:
    resize.options(priority="high", delay="10m", queue="fast", retries=5).submit("a", size=9)
    assert kept.jobs == [
        NewJob(
            f"{MODULE}:at_module_level",
            '{"*":["a"],"size":9}',
            "fast",
            Priority.HIGH,
            None,
            600_000_000,
            3,
            '{"retries":5}',
            checked=True,
        )
    ]


def test_many_bound_calls_are_submitted_at_once_and_in_order(resize: Task[..., str], kept: Kept) -> None:
    jobs = resize.options(queue="slow", priority="low").submit_many(
        [resize.bind("a"), resize.options(priority="high").bind("b", size=1)]
    )
    assert [job.id for job in jobs] == [1, 2]
    assert [(job.args, job.queue, job.priority) for job in kept.jobs] == [
        ('["a"]', "slow", Priority.LOW),
        ('{"*":["b"],"size":1}', "slow", Priority.HIGH),
    ]


def test_submitting_no_calls_touches_no_store() -> None:
    class Untouchable(Kept):
        def enqueue(self, jobs: Any, *, connection: Any = None) -> list[int]:
            raise AssertionError("was touched")

    with using(Untouchable()):
        assert at_module_level.submit_many([]) == []


def test_a_bound_call_can_be_submitted_by_itself(resize: Task[..., str], kept: Kept) -> None:
    assert resize.options(delay=5).bind("a").submit().id == 1
    assert kept.jobs[0].delay == 5_000_000


def test_calls_of_another_task_are_not_taken(resize: Task[..., str], kept: Kept) -> None:
    with pytest.raises(InvalidArguments, match="is no call of it; make each one with its bind"):
        resize.submit_many([resize.bind("a"), Images.crop.bind("a")])
    assert kept.jobs == []


def test_every_submit_has_a_twin_for_coroutines(resize: Task[..., str], kept: Kept) -> None:
    async def submit_all() -> list[int]:
        one = await resize.asubmit("a")
        two = await resize.options(priority="high").asubmit("b")
        three = await resize.bind("c").asubmit()
        four = await resize.asubmit_many([resize.bind("d")])
        return [one.id, two.id, three.id, four[0].id]

    assert asyncio.run(submit_all()) == [1, 2, 3, 4]
    assert [job.args for job in kept.jobs] == ['["a"]', '["b"]', '["c"]', '["d"]']


def test_a_bad_call_is_refused_before_any_store_is_looked_for() -> None:
    # Without a binding a good call raises NotConfigured, so the arguments were looked at first.
    for submit in (at_module_level.submit, at_module_level.bind, at_module_level.options(delay=1).submit):
        with pytest.raises(InvalidArguments, match="argument `path` is missing"):
            submit()  # type: ignore[call-arg]


def test_retries_become_a_policy() -> None:
    @task(name="three", retries=3)
    def three() -> None: ...

    @task(name="ever", retries=Retry(None, backoff="2s..8s", on=OSError, never=(FileNotFoundError,)))
    def ever() -> None: ...

    assert three.policy(None) == RetryPolicy(3)
    assert ever.policy(None) == RetryPolicy(None, 2.0, 8.0, (OSError,), (FileNotFoundError,))
    assert ever.policy('{"retries":1}') == RetryPolicy(1, 2.0, 8.0, (OSError,), (FileNotFoundError,))


def test_a_timeout_is_the_tasks_own_unless_the_job_says_another() -> None:
    @task(name="slow", timeout="2m", isolate=True)
    def slow() -> None: ...

    assert slow.isolate
    assert slow.timeout(None) == slow.timeout('{"retries":1}') == 120.0
    assert slow.timeout(options(timeout=5, retries=2).text()) == 5.0
    assert slow.policy(options(timeout=5, retries=2).text()) == RetryPolicy(2)
    assert slow.timeout("not JSON") == 120.0
    assert at_module_level.timeout(None) is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"timeout": "soon"}, "(timeout of a job)"),
        ({"timeout": 0}, "cannot use 0 as the timeout of a job: it is over at once"),
        ({"on_lost": "ignore"}, 'on_lost is \'ignore\'; write "retry" or "fail"'),
        ({"priority": "urgent"}, 'write "high", "normal" or "low"'),
        ({"retries": -1}, "cannot use -1 as a number of retries"),
        ({"retries": True}, "cannot use True as a number of retries"),
        ({"queue": " "}, "cannot use ' ' as a queue"),
        ({"aliases": "old"}, "write aliases=['old']"),
        ({"name": ""}, "'' is no name"),
        ({"name": "a\nb"}, "'a\\nb' is no name"),
        ({"name": 5}, "5 is no name"),
        ({"aliases": 5}, "aliases must be a list; write aliases=[5]"),
        ({"aliases": ["was", 5]}, "its alias 5 is no name"),
        ({"queue": "a*b"}, "cannot use 'a*b' as a queue: its name holds letters"),
        ({"queue": 5}, "cannot use 5 as a queue"),
        ({"isolate": "no"}, "cannot use 'no' as isolate; write True or False"),
        ({"limit": 5}, "cannot use 5 as a limit key"),
        ({"begin_by": -1}, "(begin_by of a job)"),
        ({"unique": 1}, "cannot use 1 as a unique key"),
    ],
)
def test_what_a_declaration_cannot_mean_is_refused(arguments: dict[str, Any], said: str) -> None:
    before = registry.names()
    with pytest.raises(UsageError) as caught:
        task(**{"name": "odd", **arguments})(lambda: None)
    assert said in str(caught.value)
    assert registry.names() == before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"unique": ""}, "cannot use '' as a unique key"),
        ({"unique_until": "later"}, "unique_until"),
        ({"limit": "queue:mail"}, "it is that of a queue, whose limit is stated at [queue.NAME]"),
        ({"limit": "queue"}, "it is that of a queue"),
        ({"limit": ":"}, "it has no name before its colon"),
        ({"limit": ":a"}, "it has no name before its colon"),
        ({"limit": " :a"}, 'write one, such as "user:7"'),
        ({"unique_until": "started"}, "cannot use unique_until= without unique="),
        ({"unique_until": "finished", "unique": False}, "cannot use unique_until= without unique="),
        ({"when": "end"}, "cannot use when= without after="),
        ({"hold": "no"}, "cannot use 'no' as hold; write True or False"),
        ({"queue": "Ünï code"}, "cannot use 'Ünï code' as a queue"),
        ({"queue": "q" * 64}, "at most 63 characters"),
        ({"tags": 5}, "it is no list"),
        ({"at": "2026-01-31T12:00+00:00"}, "it is no datetime; give one that says its time zone"),
        ({"after": 5}, "cannot wait for 5: it is no job; give what a submit returned, or client.job(NUMBER)"),
        ({"after": "17"}, "cannot wait for '17': it is no job"),
        ({"tags": "blue"}, "write tags=['blue']"),
        ({"tags": ["a", "b\n"]}, "as a tag"),
        ({"at": datetime(2026, 1, 1)}, "it says no time zone"),
        ({"at": datetime.now(UTC), "delay": 3}, "cannot use delay= and at= together"),
        ({"after": [3]}, "cannot wait for 3: it is no job"),
        ({"after": [], "when": "never"}, 'write "success", "failure" or "end"'),
        ({"delay": "soon"}, "(delay of a job)"),
        ({"delay": -1}, "negative"),
        ({"priority": 0}, "cannot use 0 as a priority"),
        ({"retries": Retry(3, on=(OSError,))}, "cannot send on= or never= of a Retry with a job"),
    ],
)
def test_what_options_cannot_mean_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        at_module_level.options(**options)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "said",
    [{"unique": "k" * 100_000}, {"tags": ["t" * 100_000]}, {"limit": "l" * 100_000}, {"queue": "q" * 100_000},
     {"tags": "t" * 100_000}, {"after": ["a" * 100_000]}, {"at": "a" * 100_000}, {"priority": "p" * 100_000},
     {"when": "w" * 100_000, "after": []}, {"unique": "a", "unique_until": "u" * 100_000}, {"hold": "h" * 100_000},
     {"delay": "d" * 100_000}, {"timeout": "d" * 100_000}, {"retries": "r" * 100_000}],
)  # fmt: skip
def test_what_is_huge_is_cut_in_the_message_that_refuses_it(said: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        at_module_level.options(**said)
    assert len(str(caught.value)) < 500


def test_an_option_may_lean_on_what_its_task_says(kept: Kept) -> None:
    @task(name="once", unique=True)
    def once(number: int) -> None: ...

    with using(kept):
        once.options(unique_until="started").submit(1)
        with pytest.raises(UsageError, match="cannot use unique_until= without unique="):
            once.options(unique_until="started", unique=False)
        with pytest.raises(TypeError, match="no such option of a submit: foo"):
            once.options(foo=1)  # type: ignore[call-arg]
    [job] = kept.jobs
    assert job.until_started


def test_a_call_of_another_task_is_named_in_short(resize: Any, kept: Kept) -> None:
    @task(name="other")
    def other(text: str) -> None: ...

    with pytest.raises(
        InvalidArguments, match=r"<<Task other> called with .*is no call of it.*group\(…\)"
    ) as caught:
        resize.submit_many([other.bind("x" * 100_000)])
    assert len(str(caught.value)) < 500
    assert kept.jobs == []


def test_of_many_tasks_that_there_are_some_are_named_and_the_rest_is_said_to_be_left_out() -> None:
    for number in range(7):
        task(name=f"many:task_{number}")(lambda: None)
    with pytest.raises(UnknownTask, match=r"declares no such task; it has many:task_0, .*many:task_4, …$"):
        job_by_name("many:unlike", [], {}, options())


def test_a_function_that_no_import_can_reach_needs_a_name() -> None:
    def inner() -> None: ...

    with pytest.raises(
        UsageError, match=r"inside a function, where a worker cannot find it; .*give it a name"
    ):
        task(inner)
    inner.__module__, inner.__qualname__ = "__main__", "inner"
    with pytest.raises(UsageError, match="in __main__, which a worker knows under another name"):
        task(inner)
    assert task(name="inner")(inner).name == "inner"


def test_things_that_are_no_functions_are_refused() -> None:
    class Thing:
        def method(self) -> None: ...

        def __call__(self) -> None: ...

    def generator() -> Any:
        yield 1

    async def agenerator() -> Any:
        yield 1

    for odd, said in [
        (Thing, "it is a class"),
        (Thing(), "it is a Thing"),
        (functools.partial(generator), "it is a partial"),
        (staticmethod(generator), "it is a staticmethod"),
        (Thing.method, "it is a method, and no object would come with a job"),
        (generator, "it is a generator, which has no single result"),
        (agenerator, "it is a generator"),
    ]:
        with pytest.raises(UsageError) as caught:
            task(name="odd")(odd)  # type: ignore[call-overload]
        assert said in str(caught.value)


def test_annotations_may_name_what_comes_after_the_task() -> None:
    assert uses_later.decode_args('[{"number":3}]') == ((LaterDefined(3),), {})


@task
def uses_later(order: LaterDefined) -> None: ...


import dataclasses  # noqa: E402


@dataclasses.dataclass
class LaterDefined:
    number: int
