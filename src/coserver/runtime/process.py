"""A Python service process: `python -m coserver.runtime.process`, started by a node with a specification.

Theory. One process, one event loop, and in it any of a web application and a job worker. What it is to be stands in
the specification (`runtime.spec`); it reads no configuration file. It opens the bridge first, so that the node sees
it from the beginning, then imports the application, and reports ready when the web application accepts and the worker
has registered.

TERM or INT asks it to leave: it is no longer ready, the web server accepts no more, the worker hands back what has
not begun; what runs may finish within the stop timeout less a margin. A second signal cuts that short. If anything
still holds the process then, a thread of the application perhaps, it ends all the same: it does not wait to be
killed.

A mistake of the user's is one line on stderr and exit status 1. A process that is worn (`runtime.wear`) leaves by
itself, in order, with the status RECYCLED; one that is too old for the tables of its store says so and leaves with
UNFIT (`model.statuses`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from coserver import logs
from coserver.errors import CoserverError, TooOld
from coserver.model.address import parse_address
from coserver.model.job import DEFAULT_QUEUE
from coserver.model.statuses import RECYCLED, UNFIT
from coserver.runtime import spec as specs
from coserver.runtime.bridge import Bridge, Calls
from coserver.runtime.isolated import Isolation
from coserver.runtime.loading import CannotLoad, load_object, load_tasks, run_setup
from coserver.runtime.spec import ServiceSpec
from coserver.runtime.wear import Wear, resident
from coserver.runtime.web import CannotServe, Web, listen
from coserver.runtime.worker import DEFAULT_CONCURRENCY, Worker, WorkerSettings
from coserver.store import open_store
from coserver.store.contract import Store
from coserver.tasks.registry import registry
from coserver.wire.bridge import State

log = logging.getLogger("coserver")

LANES = 2
"""Batches in flight on a store that takes several connections."""
DRAIN = 0.85
"""Part of the stop timeout that what runs may take; the rest is for recording it and for leaving."""
LOOK = 1.0
"""Seconds between looks at how worn the process is."""
LAST = 0.97
"""Part of the stop timeout after which the process ends whatever still holds it."""


def main() -> int:
    """Run the process that the environment specifies; return its exit status."""
    text = os.environ.pop(specs.ENVIRONMENT, None)
    if text is None:
        return _refuse(f"cannot start: {specs.ENVIRONMENT} is not set; a node starts this, by `coserver up`")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave_at_once)
    try:
        spec = specs.decode(text)
        logs.configure(spec.log_format)
        return Process(spec).run()
    except CannotLoad as error:
        sys.stderr.write(error.report)
        return _refuse(str(error))
    except TooOld as error:
        _refuse(str(error))
        return UNFIT
    except (CoserverError, ValueError) as error:
        return _refuse(str(error))


def _leave_at_once(_signal: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(0)  # nothing has begun yet that would have to be finished


def _refuse(message: str) -> int:
    print(message, file=sys.stderr, flush=True)
    return 1


class Process:
    """One service process, from its specification to its end."""

    def __init__(self, spec: ServiceSpec) -> None:
        self._spec = spec
        self._ready = False
        self._worker: Worker | None = None
        self._bridge: Bridge | None = None
        self._last: threading.Timer | None = None

    def run(self) -> int:
        """Be the process; return its exit status. Raises `CoserverError` when it cannot start."""
        spec = self._spec
        if spec.bus is not None and spec.token is not None:
            calls = Calls(
                self._state,
                wake=self._tell(Worker.wake),
                pause=self._tell(Worker.pause),
                resume=self._tell(Worker.resume),
            )
            self._bridge = Bridge(Path(spec.bus), spec.token, calls)
            self._bridge.start()
        listener = store = None
        try:
            if spec.bind is not None:
                listener = listen(parse_address(spec.bind))
            # Before the loop runs, because some libraries refuse to be set up inside of one.
            app = self._load()
            store = self._open_store()
            return _run(self._serve(app, listener, store))
        finally:
            if listener is not None:
                listener.close()
            if store is not None:
                store.close()
            if self._bridge is not None:
                self._bridge.close()

    # Making ---------------------------------------------------------------------------------------------------

    def _load(self) -> Any:
        """Import the application; return its web application, if it has one."""
        spec = self._spec
        sys.path[:0] = [place for place in spec.path if place not in sys.path]
        if spec.setup is not None:
            run_setup(spec.setup)
        load_tasks(spec.tasks)
        if spec.tasks and not registry.names():
            raise CannotLoad(
                f"cannot start {spec.process}: {', '.join(spec.tasks)} declare no task; put @task before a function"
            )
        if spec.asgi is not None:
            return load_object(spec.asgi, "asgi")
        if spec.wsgi is not None:
            return load_object(spec.wsgi, "wsgi")
        return None

    def _open_store(self) -> Store | None:
        spec = self._spec
        if not (spec.tasks or spec.queues):
            return None
        if spec.store is None:
            raise CannotServe(
                f"cannot start {spec.process}: it has tasks but no store; set store = … under [site]"
            )
        return open_store(spec.store)

    def _make_worker(self, store: Store) -> Worker:
        spec = self._spec
        local = spec.store is not None and spec.store.startswith("sqlite:")
        queues = dict(spec.queues) or dict.fromkeys(
            sorted({task.queue or DEFAULT_QUEUE for task in registry.tasks()}),
            spec.concurrency or DEFAULT_CONCURRENCY,
        )
        wake = None
        if local and spec.wake is not None:
            wake = _wake_socket(Path(spec.wake), spec.process, spec.run)
        bridge = self._bridge
        try:
            return Worker(
                store,
                WorkerSettings(
                    process=spec.process,
                    queues=queues,
                    host=spec.host,
                    concurrency=spec.concurrency,
                    threads=spec.threads,
                    token=spec.token,
                    started=None if spec.started is None else Path(spec.started),
                    wake=wake,
                    lanes=1 if local else LANES,
                    listen=not local and bridge is None,
                    probe=True,
                    isolation=self._isolation(queues),
                    tasks={
                        name: task for name in registry.names() if (task := registry.get(name)) is not None
                    },
                ),
                tended=(lambda: bridge.connected) if bridge is not None else (lambda: False),
                registered=self._changed,
            )
        except OSError as error:
            raise CannotServe(
                f"cannot start {spec.process}: {error}; mend the state directory of the node"
            ) from error

    def _isolation(self, queues: Mapping[str, int]) -> Isolation | None:
        """How isolated jobs run; None where no task asks for it. Raises `CannotServe` where they cannot."""
        isolated = [task.name for task in registry.tasks() if task.isolate]
        if not isolated:
            return None
        if not hasattr(os, "killpg"):
            raise CannotServe(
                f"cannot run {isolated[0]} isolated: this system has no process groups; leave isolate=True out here"
            )
        spec = self._spec
        most = min(spec.concurrency or sum(queues.values()), os.cpu_count() or 1)
        count = spec.isolated if spec.isolated is not None else most
        return Isolation(
            count, spec.setup, spec.tasks, max_memory=spec.max_memory, log_format=spec.log_format
        )

    # Running --------------------------------------------------------------------------------------------------

    async def _serve(self, app: Any, listener: socket.socket | None, store: Store | None) -> int:
        loop = asyncio.get_running_loop()
        stop, hurry = asyncio.Event(), asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._leave, stop, hurry)
        if self._bridge is not None:
            self._bridge.attach(loop)
        spec = self._spec
        web = None
        if app is not None and listener is not None and spec.bind is not None:
            address = parse_address(spec.bind)
            web = Web(app, listener, address, wsgi=spec.wsgi is not None, threads=spec.threads)
        if store is not None:
            self._worker = self._make_worker(store)
            self._worker.start()
        parts: list[asyncio.Task[Any]] = []
        status = 0
        try:
            if web is not None:
                await web.start()
                parts.append(asyncio.create_task(web.ended(), name="web"))
            if self._worker is not None:
                parts.append(asyncio.create_task(self._worker.gone(), name="worker"))
            self._ready = True
            self._changed()
            stopping = asyncio.create_task(stop.wait(), name="stop")
            parts.append(stopping)
            worn = self._worn()
            if worn is not None:
                parts.append(worn)
            await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            if worn is not None and worn.done() and not stop.is_set():
                status = await self._retire(worn.result(), stopping)
            else:
                status = 0 if stop.is_set() else self._fail(parts)
        except CannotServe as error:
            status = _refuse(str(error))
        finally:
            self._ready = False
            self._changed()
            await self._drain(web, hurry)
            for part in parts:
                part.cancel()
            await asyncio.gather(*parts, return_exceptions=True)
        return status

    def _worn(self) -> asyncio.Task[str] | None:
        """Begin to watch how worn this process is; None when that is without limits."""
        spec, worker = self._spec, self._worker
        wear = Wear(spec.max_jobs, spec.max_age, spec.max_memory).drawn(random.random)
        if not wear or worker is None:
            return None
        return asyncio.create_task(_wear_out(wear, worker), name="wear")

    async def _retire(self, why: str, stopping: asyncio.Task[Any]) -> int:
        """Work off what runs, for as long as that takes or until we are asked to end; return the exit status."""
        log.info("%s %s; a fresh process takes over", self._spec.process, why)
        self._ready = False
        self._changed()
        worker = self._worker
        assert worker is not None
        worker.retire()
        gone = asyncio.create_task(worker.gone())
        try:
            await asyncio.wait([gone, stopping], return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            await asyncio.gather(gone, return_exceptions=True)
        if stopping.done():
            return 0
        self._end_in_time(RECYCLED)  # a thread may hang in a function whose time was over
        return RECYCLED

    def _fail(self, parts: list[asyncio.Task[Any]]) -> int:
        """A part ended that nobody asked to end: say why."""
        for part in parts:
            if part.done() and not part.cancelled() and (error := part.exception()) is not None:
                return _refuse(
                    f"cannot go on: the {part.get_name()} part ended with {type(error).__name__}: {error}"
                )
        if self._worker is not None and self._worker.failure is not None:
            _refuse(str(self._worker.failure))
            return UNFIT if isinstance(self._worker.failure, TooOld) else 1
        ended = ", ".join(part.get_name() for part in parts if part.done())
        return _refuse(f"cannot go on: the {ended} part ended by itself; see the lines above")

    async def _drain(self, web: Web | None, hurry: asyncio.Event) -> None:
        timeout = self._spec.stop_timeout * DRAIN
        async with asyncio.TaskGroup() as group:
            if web is not None:
                group.create_task(web.stop(timeout, hurry=hurry))
            if self._worker is not None:
                group.create_task(self._worker.drain(timeout, hurry=hurry))

    def _leave(self, stop: asyncio.Event, hurry: asyncio.Event) -> None:
        if stop.is_set():
            hurry.set()
            return
        stop.set()
        if self._last is None:
            self._end_in_time(0)

    def _end_in_time(self, status: int) -> None:
        """Whatever holds this process, it ends with this status when its time to stop is over."""
        self._last = threading.Timer(self._spec.stop_timeout * LAST, _end, [status])
        self._last.daemon = True
        self._last.start()

    # The bridge's view ----------------------------------------------------------------------------------------

    def _state(self) -> State:
        worker = self._worker
        if worker is None:
            return State(ready=self._ready)
        figures = worker.figures()
        return State(
            ready=self._ready and worker.incarnation is not None,
            busy=figures.busy,
            free=figures.free,
            worker=worker.incarnation,
        )

    def _changed(self) -> None:
        if self._bridge is not None:
            self._bridge.changed()

    def _tell(self, call: Callable[[Worker], None]) -> Callable[[], None]:
        def tell() -> None:
            if self._worker is not None:
                call(self._worker)

        return tell


def _run(main: Coroutine[Any, Any, int]) -> int:
    """As `asyncio.run`, but what ends the loop from inside one of the application's own asyncio tasks ends that task
    alone: asyncio hands `SystemExit` and `KeyboardInterrupt` to whoever awaits the task, and stops the loop besides."""
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        task = loop.create_task(main)
        while True:
            try:
                return loop.run_until_complete(task)
            except (SystemExit, KeyboardInterrupt) as error:
                if task.done():
                    raise
                log.error(
                    "%s was raised in an asyncio task or callback; the process goes on", type(error).__name__
                )


async def _wear_out(wear: Wear, worker: Worker) -> str:
    """Return, in words, which limit is reached, when one is."""
    began = time.monotonic()
    enough = asyncio.Event()
    if wear.jobs is not None:
        worker.at(wear.jobs, enough.set)
    while True:
        age = time.monotonic() - began
        memory = None if wear.memory is None else resident()
        why = wear.reached(jobs=worker.ended, age=age, memory=memory)
        if why is not None:
            return why
        try:
            async with asyncio.timeout(LOOK if wear.age is None else max(0.0, min(LOOK, wear.age - age))):
                await enough.wait()
        except TimeoutError:
            pass


def _wake_socket(directory: Path, process: str, run: int) -> Path:
    """Return the path of a run's own socket; what earlier runs of the process left behind when killed is removed."""
    name = process.replace("/", ".")
    for left in directory.glob(f"{name}.*"):
        number = left.name.removeprefix(f"{name}.")
        if number.isdecimal() and int(number) < run:
            left.unlink(missing_ok=True)
    return directory / f"{name}.{run}"


def _end(status: int) -> None:
    log.warning("something still holds this process at the end of its time to stop; it ends now")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    sys.exit(main())
