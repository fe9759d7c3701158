"""The node: all policy of one host. It takes over what lives, brings up what is wanted, and answers for both.

Theory. A node owns nothing that lives. Processes, sockets and unacknowledged ends are the keeper's; what operators want
is in the node's own file; jobs are in the store. A node therefore starts in one way only: it reads what there is, makes
its services match, and then starts what is wanted and does not run. The first node of a site finds nothing; every later
one finds everything, and its services never notice.

The order at the start is: keeper's welcome, slots as the note of each child has them, ends and starts that happened
meanwhile, doors (bus and control, whose listening sockets the keeper holds), then what is wanted.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import os
import random
import signal
import socket
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, assert_never

from coserver.config import Site
from coserver.errors import CoserverError, UnknownName
from coserver.host import recorded
from coserver.host.keeper_link import (
    ChildRow,
    Exited,
    KeeperGone,
    KeeperLink,
    SpawnFailed,
    SpawnRefused,
    Started,
    Terminate,
)
from coserver.model import service as rules
from coserver.model.names import Run, Target, parse_key, resolve, suggestion
from coserver.model.service import Began, Emptied, End, Ended, NotBegun, Readiness, Rules, Slot
from coserver.model.takeover import towards
from coserver.runtime import printer, slots, unix, words
from coserver.runtime.clock import boot_now, monotonic_now, wall_now
from coserver.runtime.hub import Hub, Told
from coserver.runtime.printer import Printer, Show
from coserver.runtime.service import Arrival, Service, Timer
from coserver.runtime.spawning import CannotSpawn, Places, base_environment, service_users, spawn_spec
from coserver.runtime.sweeper import Sweeper
from coserver.runtime.upkeep import Death, Upkeep
from coserver.store.contract import Rescue
from coserver.store.local import Intent, LocalState, Wanted

log = logging.getLogger("coserver")

LOST_KEEPER_STATUS = 70


class Node:
    """One host's supervisor. Made by `boot`, run by `run`."""

    def __init__(
        self,
        site: Site,
        places: Places,
        link: KeeperLink,
        state: LocalState,
        make_upkeep: Callable[[Node], Upkeep],
        *,
        environ: Mapping[str, str],
        show: Sequence[str] | None = None,
    ) -> None:
        """`environ` is the node's own environment; `show` the command that shows the site on the terminal that the
        keeper was started on, None when there is none."""
        self.site = site
        self.places = places
        self.link = link
        self.state = state
        self.services: dict[str, Service] = {}
        self.phase = "starting"
        self._environ = environ
        self._show = show
        self._made = wall_now()
        self._printer = Printer(link)
        self._secret = state.secret()
        self._instance = hashlib.sha256(self._secret).hexdigest()[:12]
        self._pids: dict[str, tuple[int, int]] = {}
        """key → pid and kernel start time of the leaders that the keeper has confirmed"""
        self._tokens: dict[str, Run] = {}
        self._asked: set[str] = set()
        """keys of runs that the keeper was asked for"""
        self._told_to_end: set[str] = set()
        """keys of runs whose leader was sent the stop signal"""
        self._crashed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._status = 0
        self._leave = asyncio.Event()
        self._going_down: asyncio.Task[Any] | None = None
        self.sweeper = Sweeper(self._instance, keeper_pid=link.welcome.keeper_pid)
        self.hub = Hub(self._tokens.get, self._heard)
        self.upkeep = make_upkeep(self)
        for config in site.services.values():
            self.services[config.name] = Service(
                config.name,
                config.processes,
                Rules(
                    restart=config.restart,
                    stop_timeout=config.stop.timeout,
                    reports_ready=config.kind == "python",
                    ours=config.kind == "python",
                ),
                self,
                now=boot_now,
                chance=random.random,
            )

    # Running ------------------------------------------------------------------------------------------------

    async def run(self, serve_control: Callable[[socket.socket], asyncio.Task[None]]) -> int:
        """Take over, serve until asked to end, and return the exit status of the site.

        `serve_control` begins to answer on the control socket and returns the task that does.
        """
        welcome = self.link.welcome
        asyncio.get_running_loop().set_exception_handler(self._in_loop)
        self._take_over(welcome.children)
        self._watch(self.sweeper.start())
        # Whoever comes to the bus shows a token; users without a process here do not even come so far.
        users = service_users(self.site)
        others = users - {os.geteuid()}
        owner = next(iter(others)) if len(others) == 1 and os.geteuid() == 0 else None
        bus = self._door("bus", self.places.bus, mode=0o666 if len(others) > 1 else 0o600, owner=owner)
        await self.hub.serve(bus, users=users | {os.geteuid(), 0})
        control = serve_control(self._door("control", self.site.control.socket))
        self._bury_forgotten()
        self.upkeep.start()
        if welcome.generation == 1:
            log.info("%s is coming up on %s", self.site.name, self.site.node.name)
        else:
            log.warning("a new node has taken over %d processes", len(self._pids))
        self.phase = "running"
        if self._show is not None:
            env = base_environment(self._environ)
            show = Show(self._show, env, str(self.places.state), self._instance)
            self._printer.start(show, int(boot_now() * 1e6), since=self._made)
        if welcome.terminate is not None:
            self._terminate(welcome.terminate)
        else:
            self._make_it_so()
        self.link.notify("READY=1")
        news = self._own(self._hear_keeper(), "news")
        self._watch(control)
        leave = self._own(self._leave.wait(), "leave")
        await asyncio.wait([leave, self._crashed], return_when=asyncio.FIRST_COMPLETED)
        if self._crashed.done():
            self._crashed.result()
        for task in (news, control):
            task.cancel()
        await asyncio.gather(news, control, return_exceptions=True)
        for service in self.services.values():
            service.close()
        await self.hub.close()
        await self.sweeper.close()
        await self.upkeep.close()
        self.state.close()
        self.link.finish(self._status)
        self.link.close()
        return self._status

    def crash(self, error: BaseException) -> None:
        """Something happened that no rule foresaw. A node in doubt must not go on: it leaves, and the next one takes
        over what lives. `run` raises the error."""
        if not self._crashed.done():
            self._crashed.set_exception(error)

    def _own(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        task = asyncio.create_task(work, name=name)
        self._watch(task)
        return task

    def _watch(self, task: asyncio.Task[Any]) -> None:
        def ended(task: asyncio.Task[Any]) -> None:
            if not task.cancelled() and (error := task.exception()) is not None:
                self.crash(error)

        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(ended)

    def _in_loop(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Callbacks of the loop (timers, readers) have no task that could be watched."""
        error = context.get("exception")
        if isinstance(error, OSError):
            log.warning(
                "%s: %s", context.get("message"), error
            )  # a peer's connection; its owner sees it, too
        else:
            self.crash(error if isinstance(error, Exception) else RuntimeError(str(context.get("message"))))

    def _door(self, name: str, path: Path, *, mode: int = 0o600, owner: int | None = None) -> socket.socket:
        """Return a listening socket that the keeper holds, so that whoever knocks between two nodes waits."""
        held = self.link.welcome.held.get(name)
        if held is not None:
            listener = socket.socket(fileno=held)
            listener.setblocking(False)
            return listener
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            listener = unix.listen(path, mode=mode)
            if owner is not None:
                os.chown(path, owner, -1)
        except OSError as error:
            raise CoserverError(
                f"cannot listen at {path}: {error.strerror}; mend the rights of its directory, or name another place"
            ) from error
        self.link.hold(name, listener.fileno())
        return listener

    # Taking over --------------------------------------------------------------------------------------------

    def _take_over(self, rows: tuple[ChildRow, ...]) -> None:
        for process, (newest, rest) in self.state.slots().items():
            name, _, index = process.rpartition("/")
            if name in self.services and int(index) in self.services[name].slots:
                # Under a new keeper everything begins anew; only the numbers of runs go on.
                slot = Slot()
                if rest is not None and self.link.welcome.generation > 1:
                    slot = slots.load(rest)
                self.services[name].restore(int(index), replace(slot, run=newest))
        for row in rows:
            if row.key.startswith(printer.KEY):
                self._printer.take_over(row)
            run = parse_key(row.key)
            if run is None or run.service not in self.services:
                continue
            self._tokens[self._token(run)] = run
            self._asked.add(row.key)
            if row.pid:
                self._pids[row.key] = (row.pid, row.start_time)
                self.sweeper.leader(run, row.pid, row.start_time)
            service = self.services[run.service]
            service.restore(run.index, self._slot_of(run, row))
            self._catch_up(service, run, row)

    def _slot_of(self, run: Run, row: ChildRow) -> Slot:
        try:
            return slots.load(row.note)
        except ValueError:
            # Written by another version. What certainly is so: the keeper has a process of this run.
            log.warning("%s: the note of the node before cannot be read", run.process)
            return Slot(rules.Running(run.run, row.pid, boot_now(), ready=True), run.run)

    def _catch_up(self, service: Service, run: Run, row: ChildRow) -> None:
        """Tell a slot what happened while there was no node, and repeat what only a node does."""
        state = service.slots[run.index].state
        unconfirmed = isinstance(state, rules.Starting) or (
            isinstance(state, rules.Stopping) and state.pid is None
        )
        if unconfirmed and row.pid and not row.starting and row.ended is None:
            service.tell(run.index, Began(run.run, row.pid))
        if isinstance(state, rules.Clearing):
            self._remember_adopted(run, row.ended)
            self.clear(run.process, run.run)
        if isinstance(state, rules.Clearing | rules.Stopping) and state.deadline is None:
            self.kill(run.process, run.run)
        if row.ended is not None:
            self._hear(row.ended)

    def _make_it_so(self) -> None:
        """Turn every process towards what is wanted of it (see `model.takeover`)."""
        for name, service in self.services.items():
            for index, slot in service.slots.items():
                command = towards(slot.state, self.wanted(Target(name, index)))
                if command is not None:
                    service.tell(index, command)

    # What operators want ------------------------------------------------------------------------------------

    def wanted(self, target: Target) -> Wanted:
        """Return what is wanted of a process: the operator's word for it, for its service, or the configuration's."""
        intents = self.state.intents()
        for name in (target.name, target.service):
            if name in intents:
                return intents[name].wanted
        return "running" if self.site.services[target.service].autostart else "stopped"

    def targets(self, patterns: list[str]) -> list[Target]:
        """Return what the patterns name. Raises UnknownName for the first that names nothing."""
        known = {name: sorted(service.slots) for name, service in self.services.items()}
        found, unknown = resolve(patterns, known)
        if unknown:
            hint = suggestion(unknown[0], [*known, *(f"{s}/{i}" for s in known for i in known[s])])
            raise UnknownName(
                f'cannot find a service or process "{unknown[0]}"{hint or "; `coserver status` lists them"}'
            )
        return found

    async def order(self, verb: str, target: Target, *, by: str, wait: float | None) -> Arrival | None:
        """Start, stop or restart; remember it as the operator's intent; wait up to `wait` seconds for it to be done.

        Returns None when the time ran out, or when `wait` is None.
        """
        service = self.services[target.service]
        intent = Intent("stopped" if verb == "stop" else "running", by, wall_now())
        if target.index is None:
            for index in service.slots:
                self.state.drop_intent(f"{target.service}/{index}")
        self.state.intend(target.name, intent)
        log.info("%s %s, asked by %s", verb, target.name, by)
        match verb:
            case "start":
                service.start(target.index)
            case "stop":
                service.stop(only=target.index)
            case _:
                service.restart(target.index)
        if wait is None:
            return None
        try:
            async with asyncio.timeout(wait):
                return await service.arrive("down" if verb == "stop" else "up", target.index)
        except TimeoutError:
            return None

    def forget_intents(self) -> list[str]:
        """Forget what operators said and start what the configuration wants; return the processes that begin."""
        self.state.forget_intents()
        stopped = [
            name
            for service in self.services.values()
            for name, slot in service.processes()
            if isinstance(slot.state, rules.Stopped)
        ]
        self._make_it_so()
        return [
            name
            for service in self.services.values()
            for name, slot in service.processes()
            if name in stopped and not isinstance(slot.state, rules.Stopped)
        ]

    # Ending -------------------------------------------------------------------------------------------------

    def ask_keeper_to_end(self) -> None:
        """Have the keeper ask for the end, as a signal from outside would: so it knows, and a node that takes over in
        the middle goes on going down."""
        os.kill(self.link.welcome.keeper_pid, signal.SIGTERM)

    def go_down(self, *, at_once: bool = False) -> None:
        """Stop everything in order and leave; intents stay as they are. Called again with `at_once`, hurry."""
        if self._going_down is None:
            log.info("going down")
            self.phase = "stopping"
            self._going_down = self._own(self._go_down(at_once), "going down")
        elif at_once:
            log.warning("going down at once")
            for service in self.services.values():
                service.stop(now=True)

    async def _go_down(self, at_once: bool) -> None:
        self.link.notify("STOPPING=1")
        while True:
            for service in self.services.values():
                service.stop(now=at_once)
            arrivals = await asyncio.gather(*(service.arrive("down") for service in self.services.values()))
            if all(arrival.how == "arrived" for arrival in arrivals):
                break
        await self._end_unowned()
        log.info("everything has stopped")
        await self._printer.stop()
        self._leave.set()

    async def _end_unowned(self) -> None:
        """End the orphans that no run claims; they would outlive the site."""
        strays = await self.unowned()
        for pid, _ in strays:
            log.warning("ending process %d, which no service owns", pid)
        if strays:
            await self.sweeper.end(strays)

    async def unowned(self) -> frozenset[tuple[int, int]]:
        """Return (pid, kernel start time) of orphans that no run claims."""
        adoptees = [(adoptee.pid, adoptee.start_time) for adoptee in await self.link.adoptees()]
        return await self.sweeper.unclaimed(adoptees) if adoptees else frozenset()

    async def _lost_keeper(self, reason: str) -> None:
        """Without a keeper nothing can be started or learnt: stop what lives, record that nobody saw it end."""
        log.critical("the keeper is gone (%s); stopping everything", reason)
        self.phase = "stopping"
        configs = self.site.services.values()
        # Not from this node's memory: what the keeper began last may never have been told.
        await asyncio.to_thread(
            recorded.end_all,
            self.places.children,
            spare=frozenset({self.link.welcome.keeper_pid}),
            signals={config.name: signal_number(config.stop.signal) for config in configs},
            grace={config.name: config.stop.timeout for config in configs},
        )
        log.info("everything has stopped")
        if self._printer.process is not None:
            await self.sweeper.end([self._printer.process], grace=printer.PATIENCE)
        for name, service in self.services.items():
            for index, slot in service.slots.items():
                run = rules.run_of(slot.state)
                if run is not None:
                    which = Run(name, index, run)
                    end = End(at=wall_now(), reason="the keeper died before it could tell")
                    self.state.ended(which.process, run, end)
                    self.state.rest(which.process, run, slots.dump(replace(slot, state=rules.Stopped())))
                    self._bury(which)
        self._status = LOST_KEEPER_STATUS
        self._leave.set()

    def _terminate(self, asked: Terminate) -> None:
        log.info("asked to end by %s", signal.Signals(asked.signal).name)
        if asked.count > 1:
            self.go_down()
        self.go_down(at_once=asked.count > 1)

    # News ---------------------------------------------------------------------------------------------------

    async def _hear_keeper(self) -> None:
        while True:
            event = await self.link.events.get()
            match event:
                case Terminate():
                    self._terminate(event)
                case KeeperGone():
                    await self._lost_keeper(event.reason)
                    return
                case Started() | SpawnFailed() | SpawnRefused() | Exited():
                    self._hear(event)
                case _:
                    assert_never(event)

    def _hear(self, event: Started | SpawnFailed | SpawnRefused | Exited) -> None:
        if event.key.startswith(printer.KEY):
            self._printer.hear(event)
            return
        run = parse_key(event.key)
        if run is None or run.service not in self.services:
            return
        service = self.services[run.service]
        match event:
            case Started():
                self._pids[event.key] = (event.pid, event.start_time)
                self.sweeper.leader(run, event.pid, event.start_time)
                service.tell(run.index, Began(run.run, event.pid))
            case SpawnFailed():
                end = End(at=wall_now(), reason=words.why_not_begun(self.site.services[run.service], event))
                self.state.ended(run.process, run.run, end)
                service.tell(run.index, NotBegun(run.run, end))
            case SpawnRefused():
                self._asked.discard(event.key)
                end = End(at=wall_now(), reason=f"the keeper refused it: {event.reason}")
                service.tell(run.index, NotBegun(run.run, end))
            case Exited():
                # It may have ended long before somebody was there to hear of it.
                ago = max(0.0, monotonic_now() - event.at_monotonic_us / 1e6)
                end = End(at=wall_now() - int(ago * 1e6), status=event.code, signal=event.signal)
                self.state.ended(run.process, run.run, end)
                self._remember_adopted(run, event)
                service.tell(run.index, Ended(run.run, end, at=boot_now() - ago))
            case _:
                assert_never(event)

    def _remember_adopted(self, run: Run, ended: Exited | SpawnFailed | None) -> None:
        if isinstance(ended, Exited):
            self.sweeper.adopted(run, frozenset((a.pid, a.start_time) for a in ended.adopted))

    def _heard(self, run: Run, told: Told | None) -> None:
        # A process that only lost its connection is as ready as it was: it comes back with its state.
        if told is not None:
            self.services[run.service].tell(run.index, Readiness(run.run, told.ready))

    # Hands (see runtime.service.Hands) ----------------------------------------------------------------------

    def spawn(self, process: str, run: int) -> None:
        """Ask the keeper for a process."""
        which = self._run(process, run)
        self.state.begin(process, run)
        token = self._token(which)
        self._tokens[token] = which
        slot = self.services[which.service].slots[which.index]
        try:
            request = spawn_spec(
                self.site,
                self.site.services[which.service],
                which,
                places=self.places,
                instance=self._instance,
                token=token,
                environ=self._environ,
                note=slots.dump(slot),
            )
        except CannotSpawn as error:
            end = End(at=wall_now(), reason=str(error))
            self.state.ended(process, run, end)
            self.services[which.service].tell(which.index, NotBegun(run, end))
            return
        self._asked.add(which.key)
        self.link.spawn(request)

    def ask_to_end(self, process: str, run: int) -> None:
        """Signal the leader, after a look at who belongs to it."""
        which = self._run(process, run)
        number = signal_number(self.site.services[which.service].stop.signal)
        self.sweeper.look(which, then=lambda: self._send_stop(which, number))

    def _send_stop(self, run: Run, number: int) -> None:
        """Signal, and only then leave a note of it: a node that takes over before the note finds the process running
        and, by the operator's intent, stops it; one that takes over after it must not signal a second time."""
        self._signal(run.key, number)
        self._told_to_end.add(run.key)
        slot = self.services[run.service].slots[run.index]
        if rules.run_of(slot.state) == run.run:
            self.link.note(run.key, slots.dump(slot))

    def kill(self, process: str, run: int) -> None:
        """Kill everybody who belongs, after a look at who does: a death takes evidence with it."""
        which = self._run(process, run)
        self.sweeper.look(which, then=lambda: self._send_kill(which))

    def _send_kill(self, run: Run) -> None:
        self._signal(run.key, signal.SIGKILL, group=True)
        self.sweeper.kill(run)

    def _signal(self, key: str, number: int, *, group: bool = False) -> None:
        self._own(self.link.signal(key, number, group=group), "signal")

    def clear(self, process: str, run: int) -> None:
        """End what is left."""
        which = self._run(process, run)
        self.sweeper.clear(which, emptied=lambda: self._emptied(which))

    def _emptied(self, run: Run) -> None:
        self._bury(run)
        self.services[run.service].tell(run.index, Emptied(run.run))

    def forget(self, process: str, run: int) -> None:
        """Let the keeper reap the leader."""
        which = self._run(process, run)
        self._tokens.pop(self._token(which), None)
        self._pids.pop(which.key, None)
        self._told_to_end.discard(which.key)
        self.sweeper.forget(which)
        if which.key in self._asked:
            self._asked.remove(which.key)
            self.link.ack(which.key)

    def changed(self, process: str, before: Slot, after: Slot) -> None:
        """Leave the slot's state where the next node will find it, and say what changed."""
        run = rules.run_of(after.state)
        if run is None:
            self.state.rest(process, after.run, slots.dump(after))
        elif rules.run_of(before.state) == run:
            key = self._run(process, run).key
            if not isinstance(after.state, rules.Stopping) or key in self._told_to_end:
                self.link.note(key, slots.dump(after))
        config = self.site.services[process.rpartition("/")[0]]
        for level, sentence in words.news(process, before, after, config, boot_now()):
            log.log(level, "%s", sentence)

    def timer(self, delay: float, due: Callable[[], None]) -> Timer:
        """Set a timer on the loop."""
        return asyncio.get_running_loop().call_later(delay, due)

    # Workers ------------------------------------------------------------------------------------------------

    def living_workers(self) -> frozenset[str]:
        """Return the tokens of the processes that may hold a worker and are alive as far as the kernel has told."""
        return frozenset(
            token
            for token, run in list(self._tokens.items())
            if self.site.services[run.service].works and run.key in self._pids
        )

    def _bury(self, run: Run) -> None:
        if not self.site.services[run.service].works:
            return
        ended = self.services[run.service].slots[run.index].state
        note = rules.describe(ended.end) if isinstance(ended, rules.Clearing) else "ended"
        self.upkeep.bury(Death(self._token(run), run.process, note, self.places.started(run)))

    def _bury_forgotten(self) -> None:
        """Bury the workers whose ends no node lived to tell the store: their notes of begun jobs are still there."""
        for run, file in self.places.left_started():
            if self._token(run) not in self._tokens:
                self.upkeep.bury(
                    Death(self._token(run), run.process, "it ended while there was no node", file)
                )

    def rescued(self, death: Death, rescue: Rescue) -> None:
        """Say what became of a dead worker's jobs."""
        back = len(rescue.uncharged) + len(rescue.crashed)
        if back or rescue.lost:
            log.warning(
                "%s left %d jobs behind: %d begun ones and %d others are back in their queues, %d are lost",
                death.process,
                back + len(rescue.lost),
                len(rescue.crashed),
                len(rescue.uncharged),
                len(rescue.lost),
            )

    # Small things -------------------------------------------------------------------------------------------

    def _run(self, process: str, run: int) -> Run:
        service, _, index = process.rpartition("/")
        return Run(service, int(index), run)

    def _token(self, run: Run) -> str:
        return hmac.new(self._secret, run.key.encode(), hashlib.sha256).hexdigest()[:32]


def signal_number(name: str) -> int:
    """Return the number of a signal by its name, with or without "SIG"."""
    return signal.Signals[f"SIG{name.removeprefix('SIG')}"]
