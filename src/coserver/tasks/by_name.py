"""Submitting by a task's name, where its function may not be known.

Theory. A name that this process does not know may be the name of another program's task, so it is stored, and waits
for a worker that provides it. But of a module that has declared tasks here all names are known: `shop.jobs:reprot` is
a slip when `shop.jobs:report` is there, and is refused at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from coserver.errors import UnknownTask, UsageError
from coserver.model.job import NewJob, Priority
from coserver.model.names import shown, task_suggestion
from coserver.tasks.arguments import Parameters
from coserver.tasks.options import Options, refuse_idle
from coserver.tasks.registry import registry


def job_by_name(name: str, args: Sequence[Any], kwargs: Mapping[str, Any], said: Options) -> NewJob:
    """Return the job that calls a task by its name.

    Raises `InvalidArguments`, `UnknownTask` when its module is known here and declares no such task, and `UsageError`
    for no name at all.

    A registered task is checked against its signature and gives its defaults. Of any other one only JSON's own types
    are accepted, and what is left open (queue, crashes) its workers decide.
    """
    checked: object = name
    if not isinstance(checked, str) or not checked.strip() or not checked.isprintable():
        raise UsageError(
            f"cannot submit {shown(name)}: it is no name of a task; write one such as 'shop.jobs:report'"
        )
    for what, given in (("args", args), ("kwargs", kwargs)):
        if isinstance(given, str) or not isinstance(given, Sequence if what == "args" else Mapping):
            raise UsageError(
                f"cannot submit {name}: {what} is {shown(given)}; write {'[…]' if what == 'args' else '{…}'}"
            )
    task = registry.get(name)
    if task is not None:
        refuse_idle(said, task._said)
        return task._new_job(task.parameters.encode(args, kwargs), said)
    _refuse_slip(name)
    refuse_idle(said)
    priority = Priority.NORMAL if said.priority is None else said.priority
    text = Parameters(name, _anything).encode(args, kwargs)
    return NewJob(
        name,
        text,
        said.queue,
        priority,
        said.run_at,
        said.delay,
        None,
        said.text(),
        bool(said.held),
        said.begin_within,
        None,
        said.key(name, text),
        bool(said.until_started),
        said.limit,
        said.tags or (),
        said.after or (),
        checked=True,
    )


def _refuse_slip(name: str) -> None:
    module, colon, _ = name.partition(":")
    if not colon:
        return
    declared = [known for known in registry.names() if known.startswith(f"{module}:")]
    # An alias may name a module that is no more, and others of its tasks may have gone elsewhere.
    if any(task.name in declared for known in declared if (task := registry.get(known)) is not None):
        hint = task_suggestion(name, declared)
        raise UnknownTask(
            f"cannot submit {name}: {module} is imported here and declares no such task{hint}; it has "
            f"{', '.join([*declared[:5], *(['…'] if len(declared) > 5 else [])])}"
        )


def _anything(*args, **kwargs):  # type: ignore[no-untyped-def]  # its annotations would be the task's
    """Stand for the signature of a task that is not known here."""
