"""Several jobs in one submit: chains, groups, and what follows from a job.

Theory. A flow is a graph of calls in which every call names calls before it; so it has no circle, and one transaction
stores all of it or nothing. What makes the order is in the store, not in any process: when a job ends, the transaction
that records its end lets its children go. A call becomes ready when all that it follows ended as it asks; if one ended
otherwise, it is cancelled, and so is what follows it.

A *bare task* in a flow is called with what it follows returned: the result of one job, or the list of results when it
follows a group; after a failure with a `Failure`. A *bound call* (`task.bind(…)`) gets exactly its own arguments.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from coserver.errors import UsageError
from coserver.model.job import Edge, NewJob, On
from coserver.model.names import shown
from coserver.tasks.declaration import Bound, Task, TaskWithOptions, asubmit, submit
from coserver.tasks.options import UNSET, Options, Takes

if TYPE_CHECKING:
    from coserver.tasks.handle import Job

Call = Task[..., Any] | TaskWithOptions[..., Any] | Bound[Any]
"""What can stand in a flow: a bare task, with or without options, or a bound call."""


@dataclass(frozen=True, slots=True)
class _Step:
    """A call, the positions of those that it follows, on which end, and whether they were a group."""

    call: Call
    after: tuple[int, ...] = ()
    on: On = On.SUCCESS
    many: bool = False


@dataclass(frozen=True, slots=True)
class Flow:
    """Calls and what follows what. Made by `chain` and `group`; a flow never changes, its methods return new ones."""

    _steps: tuple[_Step, ...]
    _ends: tuple[int, ...]
    _many: bool

    def then(self, call: Call | Flow) -> Flow:
        """Return this flow with `call` after its end: after the last of a chain, after all of a group."""
        return _append(self, call)

    def submit(self, *, connection: Any = None) -> list[Job[Any]]:
        """Store all jobs in one transaction; return their handles in the order in which the calls were mentioned, so
        that the last of them is the end of a chain. Raises as `Task.submit` does.
        """
        return submit(self._jobs(), connection)

    async def asubmit(self, *, connection: Any = None) -> list[Job[Any]]:
        """As `submit`, without blocking the event loop."""
        return await asubmit(self._jobs(), connection)

    def _jobs(self) -> list[NewJob]:
        return [
            new_job(
                step.call,
                tuple(Edge(place, step.on, here=True) for place in step.after),
                ("results" if step.many else "result") if step.after else None,
            )
            for step in self._steps
        ]


def chain(*calls: Call | Flow) -> Flow:
    """Return the flow that runs one call after the other: `chain(fetch.bind(url), resize, publish).submit()`.

    A bare task gets the result of what stands before it. An element may be a flow itself. Raises `UsageError`.
    """
    if not calls:
        raise UsageError("cannot make a chain of nothing; name its calls")
    made = _flow(calls[0])
    for call in calls[1:]:
        made = _append(made, call)
    return made


def group(*calls: Call | Flow) -> Flow:
    """Return the flow that runs calls side by side: `group(*[resize.bind(f) for f in files]).then(pack).submit()`.

    A bare task that follows gets the list of their results in this order. Raises `UsageError`.
    """
    if not calls:
        raise UsageError("cannot make a group of nothing; name its calls")
    steps: list[_Step] = []
    ends: list[int] = []
    for call in calls:
        part = _flow(call)
        ends += [end + len(steps) for end in part._ends]
        steps += _moved(part._steps, len(steps))
    return Flow(tuple(steps), tuple(ends), True)


def new_job(call: Call, after: tuple[Edge, ...], takes: Takes | None) -> NewJob:
    """Return the job of one call of a flow, behind `after`. `takes` is what a bare task gets for its arguments.

    Raises `InvalidArguments` when a task cannot be called so.
    """
    args: str | None = None
    match call:
        case Bound():
            task, said, args = call.task, call.options, call.args
        case TaskWithOptions():
            task, said = call.task, call._options()
        case _:
            task, said = call, UNSET
    also = Options(after=(*after, *(said.after or ())) or None)
    if args is None and takes is not None:
        task.parameters.check_one()
        also, args = replace(also, takes=takes), "[]"
    elif args is None:
        args = task.parameters.encode((), {})
    return task._new_job(args, also.over(said))


def _flow(call: Call | Flow) -> Flow:
    return call if isinstance(call, Flow) else Flow((_Step(_checked(call)),), (0,), False)


def _append(flow: Flow, call: Call | Flow) -> Flow:
    first = len(flow._steps)
    part = _flow(call)
    steps = [
        replace(step, after=flow._ends, many=flow._many) if not step.after else one
        for step, one in zip(part._steps, _moved(part._steps, first), strict=True)
    ]
    return Flow((*flow._steps, *steps), tuple(end + first for end in part._ends), part._many)


def _moved(steps: Sequence[_Step], by: int) -> list[_Step]:
    return [replace(step, after=tuple(place + by for place in step.after)) for step in steps]


def _checked(call: object) -> Call:
    if isinstance(call, Task | TaskWithOptions | Bound):
        return call
    raise UsageError(
        f"cannot put {shown(call)} into a flow: it is no call of a task; write task.bind(…), or the task alone "
        "to call it with the result before it"
    )
