"""`@task`: a function that can be called here, or submitted to run elsewhere.

Theory. A task stays the function it was: calling it calls it. Beside that it has a name under which jobs find it in
another process, and `submit`, typed as the function itself. Everything that may be wrong about a call is found when it
is submitted, before any store is touched; so a job that is in the store can be run.

A task's name is where its function stands, `shop.jobs:resize`, because the worker that imports `shop.jobs` then knows
it under the same name. A function that no import can reach, inside another one or in `__main__`, must be given a name.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, Generic, Literal, ParamSpec, Protocol, TypeGuard, TypeVar, Unpack, cast, overload

import msgspec

from coserver.errors import InvalidArguments, UsageError
from coserver.model import units
from coserver.model.job import DEFAULT_MAX_CRASHES, DEFAULT_QUEUE, NewJob, Priority
from coserver.model.names import shown
from coserver.model.retry import RetryPolicy
from coserver.tasks import binding
from coserver.tasks.arguments import Parameters, ResultReader, result_text
from coserver.tasks.handle import Job
from coserver.tasks.options import (
    UNSET,
    Options,
    PriorityName,
    SubmitOptions,
    UniqueUntil,
    begin_within_of,
    flag_of,
    limit_of,
    options,
    policy_over,
    priority_named,
    queue_named,
    refuse_idle,
    retry,
    timeout_of,
    timeout_over,
    unique_of,
    until_started_of,
)
from coserver.tasks.registry import place, registry
from coserver.tasks.retry import Retry

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

OnLost = Literal["retry", "fail"]


class Bound(msgspec.Struct, Generic[R_co], frozen=True, gc=False):
    """A call of a task that was checked but not submitted: what `bind` returns and `submit_many` takes."""

    task: Task[..., R_co]
    args: str
    options: Options

    def __repr__(self) -> str:
        return f"<{self.task!r} called with {self.args}>"

    def submit(self) -> Job[R_co]:
        """Submit this call as a job."""
        return submit([self._job()], self.options.connection)[0]

    async def asubmit(self) -> Job[R_co]:
        """As `submit`, without blocking the event loop."""
        return (await asubmit([self._job()], self.options.connection))[0]

    def _job(self) -> NewJob:
        return self.task._new_job(self.args, self.options)


class _Submittable(Generic[P, R_co]):
    """The calls that a task and a task with options share."""

    __slots__ = ()

    def _task(self) -> Task[P, R_co]:
        raise NotImplementedError

    def _options(self) -> Options:
        raise NotImplementedError

    def submit(self, *args: P.args, **kwargs: P.kwargs) -> Job[R_co]:
        """Store a job that calls the function with these arguments, and return its handle.

        Raises `InvalidArguments` before anything is stored, `NotConfigured` when no store is known, and
        `StoreUnavailable`.
        """
        task, said = self._task(), self._options()
        return submit([task._new_job(task.parameters.encode(args, kwargs), said)], said.connection)[0]

    async def asubmit(self, *args: P.args, **kwargs: P.kwargs) -> Job[R_co]:
        """As `submit`, without blocking the event loop."""
        task, said = self._task(), self._options()
        return (await asubmit([task._new_job(task.parameters.encode(args, kwargs), said)], said.connection))[
            0
        ]

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> Job[R_co]:
        """The same as `submit`."""
        return self.submit(*args, **kwargs)

    def bind(self, *args: P.args, **kwargs: P.kwargs) -> Bound[R_co]:
        """Check a call and keep it for `submit_many`. Raises `InvalidArguments`."""
        task = self._task()
        return Bound(task, task.parameters.encode(args, kwargs), self._options())

    def submit_many(self, calls: Iterable[Bound[R_co]]) -> list[Job[R_co]]:
        """Store many bound calls of this task in one transaction, all or none, and return their handles in order.

        A call's own options go before those stated here.
        """
        return submit(self._jobs(calls), self._options().connection)

    async def asubmit_many(self, calls: Iterable[Bound[R_co]]) -> list[Job[R_co]]:
        """As `submit_many`, without blocking the event loop."""
        return await asubmit(self._jobs(calls), self._options().connection)

    def _jobs(self, calls: Iterable[Bound[R_co]]) -> list[NewJob]:
        task, under = self._task(), self._options()
        jobs = []
        for call in calls:
            if getattr(call, "task", None) is not task:
                raise InvalidArguments(
                    f"cannot submit {task.name}: {shown(call)} is no call of it; make each one with its bind(…), or "
                    "submit calls of several tasks by group(…)"
                )
            jobs.append(task._new_job(call.args, call.options.over(under)))
        return jobs


class Task(_Submittable[P, R_co]):
    """A declared task: `P` are the parameters of its function, `R` is what its job's result is.

    Made by `@task`, never directly. `name` is what jobs carry, `aliases` are former names, `queue` and `priority` where
    its jobs go unless the submit says otherwise, `function` is what was declared, `isolate` says whether it runs in a
    process of its own.
    """

    is_async: bool
    __name__: str
    __qualname__: str

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str,
        aliases: tuple[str, ...],
        queue: str | None,
        priority: Priority,
        policy: RetryPolicy,
        max_crashes: int,
        timeout: float | None,
        isolate: bool,
        said: Options = UNSET,
    ) -> None:
        functools.update_wrapper(cast(Any, self), function)
        self.function = function
        self.name = name
        self.aliases = aliases
        self.queue = queue
        self.priority = priority
        self.max_crashes = max_crashes
        self.isolate = isolate
        self._policy = policy
        self._timeout = timeout
        self._said = said  # for the store: what its submits leave open

    def __repr__(self) -> str:
        return f"<Task {self.name}>"

    def __reduce__(self) -> str:
        # Found by its place in its module, like the function itself.
        return self.function.__qualname__

    @functools.cached_property
    def parameters(self) -> Parameters:
        """The codec of its arguments. Made at first use, when every name in the annotations exists."""
        return Parameters(self.name, self.function)

    @functools.cached_property
    def _results(self) -> ResultReader:
        return ResultReader(self.function)

    def options(self, **said: Unpack[SubmitOptions]) -> TaskWithOptions[P, R_co]:
        """Return the task with other options for its submits: `resize.options(priority="high").submit("a.png")`.

        - `delay`: at the earliest this long after the submit ("10m", a timedelta or seconds); `at`: not before this
          time, an aware datetime.
        - `retries`: instead of the task's own; `timeout`: how long an attempt may take.
        - `hold`: wait until somebody releases it (`job.release()`).
        - `begin_by`: expire if it has not begun this long after it was due.
        - `unique`: a key, or True for the arguments: while a job of this task with that key lives, no other is made,
          and the submit returns that one, with `created` False. `unique_until="started"`: only until it starts.
        - `limit`: a limit key such as "api" or "user:7": of its jobs only so many run at once as `[limit.api]` or
          `[limit.user]` says, one where nothing is said.
        - `tags`: words to find the job by.
        - `after`: jobs that have to end first; `when`: in "success" (else this job is cancelled), "failure" or any
          "end".
        - `connection`: your own database connection, in whose transaction the job is stored (see `Client.submit`).

        Raises `UsageError`.
        """
        checked = options(**said)
        refuse_idle(checked, self._said)
        return TaskWithOptions(self, checked)

    # For the worker -----------------------------------------------------------------------------------------

    def decode_args(self, text: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return a job's arguments as its function takes them. Raises `InvalidArguments`."""
        return self.parameters.decode(text)

    def encode_result(self, value: Any) -> str | None:
        """Return a result as JSON text, None for None. Raises `TypeError` for what JSON cannot hold."""
        return None if value is None else result_text(value)

    def decode_result(self, text: str | None) -> Any:
        """Return the result that JSON text stands for, as the return annotation says."""
        return self._results.read(text)

    def policy(self, options: str | None) -> RetryPolicy:
        """Return when a job with these options (JSON text) is tried again."""
        return self._policy if options is None else policy_over(self._policy, options)

    def timeout(self, options: str | None) -> float | None:
        """Return how long an attempt of a job with these options (JSON text) may take, in seconds; None: no limit."""
        return self._timeout if options is None else timeout_over(self._timeout, options)

    # For the calls above ------------------------------------------------------------------------------------

    def _task(self) -> Task[P, R_co]:
        return self

    def _options(self) -> Options:
        return UNSET

    def _new_job(self, args: str, said: Options) -> NewJob:
        if said is UNSET and self._said is UNSET:
            queue = self.queue or DEFAULT_QUEUE
            return NewJob(self.name, args, queue, self.priority, None, None, self.max_crashes, checked=True)
        said = said.over(self._said)
        return NewJob(
            self.name,
            args,
            said.queue or self.queue or DEFAULT_QUEUE,
            self.priority if said.priority is None else said.priority,
            said.run_at,
            said.delay,
            self.max_crashes,
            said.text(),
            bool(said.held),
            said.begin_within,
            None,
            said.key(self.name, self.parameters.canonical(args) if said.unique is True else args),
            bool(said.until_started),
            said.limit,
            said.tags or (),
            said.after or (),
            checked=True,
        )


def submit(jobs: Sequence[NewJob], connection: Any = None) -> list[Job[Any]]:
    """Store jobs where submits of this context go, all or none; return their handles in order."""
    submitter = binding.current()
    ids = submitter.enqueue(jobs, connection=connection) if jobs else []
    return [Job(abs(number), submitter, created=number > 0) for number in ids]


async def asubmit(jobs: Sequence[NewJob], connection: Any = None) -> list[Job[Any]]:
    """As `submit`, without blocking the event loop."""
    submitter = binding.current()
    ids = await submitter.aenqueue(jobs, connection=connection) if jobs else []
    return [Job(abs(number), submitter, created=number > 0) for number in ids]


class PlainTask(Task[P, R_co]):
    """A task whose function is plain: it runs in a thread, and calling it here returns its value."""

    is_async = False

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Call the function here and now; nothing is submitted."""
        result: R_co = self.function(*args, **kwargs)
        return result


class AsyncTask(Task[P, R_co]):
    """A task whose function is a coroutine function: it runs in the loop, and calling it here returns a coroutine."""

    is_async = True

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R_co]:
        """Call the function here and now; nothing is submitted."""
        coroutine: Coroutine[Any, Any, R_co] = self.function(*args, **kwargs)
        return coroutine


class TaskWithOptions(_Submittable[P, R_co]):
    """A task and the options that its submits get."""

    __slots__ = ("_said", "task")

    def __init__(self, task: Task[P, R_co], said: Options) -> None:
        self.task = task
        self._said = said

    def __repr__(self) -> str:
        return f"<{self.task!r} with {self._said}>"

    def _task(self) -> Task[P, R_co]:
        return self.task

    def _options(self) -> Options:
        return self._said


# A coroutine function is also a function that returns something, so the two overloads overlap; checkers take the first
# that fits, which is what is meant.


class Declare(Protocol):
    """What `@task(…)` with arguments is: a decorator."""

    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> AsyncTask[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> PlainTask[P, R]: ...


@overload
def task(  # type: ignore[overload-overlap]
    function: Callable[P, Coroutine[Any, Any, R]], /
) -> AsyncTask[P, R]: ...
@overload
def task(function: Callable[P, R], /) -> PlainTask[P, R]: ...
@overload
def task(
    *,
    name: str | None = None,
    aliases: Sequence[str] = (),
    queue: str | None = None,
    priority: PriorityName = "normal",
    retries: int | Retry = 0,
    on_lost: OnLost = "retry",
    timeout: units.Duration | None = None,
    isolate: bool = False,
    begin_by: units.Duration | None = None,
    unique: bool = False,
    unique_until: UniqueUntil = "finished",
    limit: str | None = None,
) -> Declare: ...
def task(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    aliases: Sequence[str] = (),
    queue: str | None = None,
    priority: PriorityName = "normal",
    retries: int | Retry = 0,
    on_lost: OnLost = "retry",
    timeout: units.Duration | None = None,
    isolate: bool = False,
    begin_by: units.Duration | None = None,
    unique: bool = False,
    unique_until: UniqueUntil = "finished",
    limit: str | None = None,
) -> Any:
    """Declare a function as a task: `@task`, or `@task(queue="mail", retries=3)`.

    `name`: what jobs carry, by default `module:function`. `aliases`: former names, under which queued jobs still find
    it. `queue`, `priority`: where its jobs go. `retries`: how many attempts follow a failed first one, or a `Retry`.
    `on_lost`: what happens when a worker dies while running it, or has to stop before it ends: "retry" (so write it
    idempotent; three deaths are the end) or "fail", which never begins it twice. `timeout`: how long an attempt may
    take ("2m", a timedelta or seconds); then it counts as failed.
    `begin_by`, `unique` (by the arguments), `unique_until`, `limit`: for all of its jobs, as in `Task.options`.

    An `async def` runs in the worker's loop, a plain `def` in a thread. With `isolate` either runs in a process beside
    the worker, which can be killed: for what hogs the interpreter, may crash it, or must end at its timeout whatever
    it does. Raises `UsageError`.
    """

    stated = Options(
        begin_within=None if begin_by is None else begin_within_of(begin_by),
        unique=unique_of(unique) or None,
        until_started=until_started_of(unique_until) or None,
        limit=None if limit is None else limit_of(limit),
    )
    said = UNSET if stated == UNSET else stated

    def declare(function: Callable[..., Any]) -> Task[..., Any]:
        _refuse_odd(function)
        found: object = name if name is not None else _name_of(function)
        if not _is_name(found):
            raise UsageError(
                f"cannot declare {place(function)} as a task: {shown(found)} is no name; write one such as "
                "'shop:resize'"
            )
        former: object = aliases
        if not isinstance(former, Iterable) or isinstance(former, str):
            raise UsageError(
                f"cannot declare task {found}: aliases must be a list; write aliases=[{shown(aliases)}]"
            )
        for alias in aliases:
            if not _is_name(alias):
                raise UsageError(f"cannot declare task {found}: its alias {shown(alias)} is no name")
        if on_lost not in ("retry", "fail"):
            raise UsageError(
                f'cannot declare task {found}: on_lost is {shown(on_lost)}; write "retry" or "fail"'
            )
        kind: type[Task[..., Any]] = AsyncTask if inspect.iscoroutinefunction(function) else PlainTask
        made = kind(
            function,
            name=found,
            aliases=tuple(aliases),
            queue=None if queue is None else queue_named(queue),
            priority=priority_named(priority),
            policy=retry(retries).policy(),
            max_crashes=DEFAULT_MAX_CRASHES if on_lost == "retry" else 1,
            timeout=None if timeout is None else timeout_of(timeout),
            isolate=flag_of("isolate", isolate),
            said=said,
        )
        registry.add(made)
        return made

    return declare if function is None else declare(function)


def _is_name(name: object) -> TypeGuard[str]:
    return isinstance(name, str) and bool(name.strip()) and name.isprintable()


def _refuse_odd(function: Any) -> None:
    if isinstance(function, (staticmethod, classmethod)) or not inspect.isroutine(function):
        shown = getattr(function, "__qualname__", None) or repr(function)
        raise UsageError(
            f"cannot declare {shown} as a task: it is {_kind(function)}; put @task next to a plain or async function"
        )
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise UsageError(
            f"cannot declare {place(function)} as a task: it is a generator, which has no single result; return a list"
        )
    first = next(iter(inspect.signature(function).parameters), None)
    if first in ("self", "cls") and "." in function.__qualname__.rpartition("<locals>.")[2]:
        raise UsageError(
            f"cannot declare {place(function)} as a task: it is a method, and no object would come with a job; move "
            "it out of its class, or make it a @staticmethod (written above @task)"
        )


def _name_of(function: Callable[..., Any]) -> str:
    if function.__module__ == "__main__":
        where = "in __main__, which a worker knows under another name"
    elif "<" in function.__qualname__:
        where = "inside a function, where a worker cannot find it"
    else:
        return f"{function.__module__}:{function.__qualname__}"
    raise UsageError(
        f"cannot declare {place(function)} as a task: it stands {where}; move it to a module, or give it a name with "
        '@task(name="…")'
    )


def _kind(thing: object) -> str:
    if inspect.isclass(thing):
        return "a class"
    name = type(thing).__name__
    return f"{'an' if name[:1] in 'AEIOUaeiou' else 'a'} {name}"
