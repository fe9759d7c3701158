"""From a service's configuration to the one request that starts a process of it.

Read anew at each start: environment files and the user database. Everything else comes from the configuration.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from coserver.config import ServiceConfig, Site
from coserver.errors import CoserverError, Denied, UsageError
from coserver.host.keeper_link import OutputSpec, SpawnSpec
from coserver.host.users import Account, account
from coserver.model import envfile
from coserver.model.names import Run, parse_key
from coserver.runtime import spec as service_spec

NOT_FOR_CHILDREN = frozenset(
    {
        "COSERVER_KEEPER_FD",
        "COSERVER_LOCK_FD",
        "COSERVER_CONFIG",
        "COSERVER_PROFILE",
        "COSERVER_SPEC",
        "COSERVER_ISOLATED",
        "NOTIFY_SOCKET",
        "WATCHDOG_USEC",
        "WATCHDOG_PID",
        "LISTEN_FDS",
        "LISTEN_PID",
        "LISTEN_FDNAMES",
    }
)
STARTED = "started-"
MAX_ENVIRONMENT_FILE = 1 << 20


class CannotSpawn(CoserverError):
    """A process cannot even be asked for: its user or its environment files are wrong."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where a node keeps what its processes need (see `[node] state`)."""

    state: Path

    @property
    def bus(self) -> Path:
        """The socket of the bus and the bridge."""
        return self.state / "bus.sock"

    @property
    def children(self) -> Path:
        """The keeper's table of everything it ever started and that may still be there."""
        return self.state / "children"

    @property
    def node_db(self) -> Path:
        """The node's own memory."""
        return self.state / "node.db"

    @property
    def node_log(self) -> Path:
        """What the node says of itself."""
        return self.state / "log" / "coserver.log"

    def own(self, run: Run) -> Path:
        """The directory of a process's own small files; it belongs to the process's user."""
        return self.state / "process" / f"{run.service}-{run.index}"

    def log(self, service: str, index: int) -> Path:
        """The log file of a process; rotated ones lie beside it."""
        return self.state / "log" / service / f"{index}.log"

    def error_log(self, service: str, index: int) -> Path:
        """The file of a process's standard error, if that is separate."""
        return self.state / "log" / service / f"{index}.err.log"

    def started(self, run: Run) -> Path:
        """The file in which a worker notes the jobs that it has begun."""
        return self.own(run) / f"{STARTED}{run.run}"

    def left_started(self) -> Iterator[tuple[Run, Path]]:
        """Yield every such file that is there, with the run that wrote it."""
        for file in self.state.glob(f"process/*/{STARTED}*"):
            service, _, index = file.parent.name.rpartition("-")
            run = parse_key(f"{service}/{index}#{file.name.removeprefix(STARTED)}")
            if run is not None:
                yield run, file

    def make(self, *, others: bool = False) -> None:
        """Create the directories for this user alone; with `others`, processes of other users may pass through to
        what is theirs. Raises Denied when the state directory is somebody else's."""
        self.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = self.state.stat().st_uid
        if owner != os.geteuid():
            raise Denied(
                f"cannot use the state directory {self.state}: it belongs to user {owner}; "
                "start the site as that user, or name another place under `state` in [node]"
            )
        self.state.chmod(0o711 if others else 0o700)
        (self.state / "log").mkdir(mode=0o700, exist_ok=True)
        (self.state / "process").mkdir(mode=0o711, exist_ok=True)

    def make_own(self, run: Run, owner: Account | None) -> None:
        """Create a process's own directory, for its user. OSError when it cannot be."""
        place = self.own(run)
        place.mkdir(mode=0o711, exist_ok=True)
        if owner is not None:
            os.chown(place, owner.uid, owner.gid)


def mark(instance: str, run: Run) -> str:
    """Return the value of COSERVER_MARK: which site and which run a process belongs to."""
    return f"{instance}:{run.key}"


def spawn_spec(
    site: Site,
    config: ServiceConfig,
    run: Run,
    *,
    places: Places,
    instance: str,
    token: str,
    environ: Mapping[str, str],
    note: str,
) -> SpawnSpec:
    """Build the request. `environ` is the node's own environment. Raises CannotSpawn, naming cause and mend."""
    user = _account(config)
    if user is not None and os.geteuid() != 0 and user.uid != os.geteuid():
        raise CannotSpawn(
            f'cannot run {run.process} as "{config.user}": only root may choose another user; '
            f"start the site as root, or leave `service.{run.service}.user` out"
        )
    try:
        places.make_own(run, user)
    except OSError as error:
        raise CannotSpawn(
            f"cannot make the directory {places.own(run)} of {run.process}: {error.strerror}; mend its rights"
        ) from None
    env = base_environment(environ) | service_environment(config)
    env |= {
        "COSERVER_SITE": site.name,
        "COSERVER_SERVICE": run.service,
        "COSERVER_PROCESS": run.process,
        "COSERVER_RUN": str(run.run),
        "COSERVER_STORE": site.store,
        "COSERVER_BUS": str(places.bus),
        "COSERVER_TOKEN": token,
        "COSERVER_MARK": mark(instance, run),
    }
    if config.kind == "python":
        argv: tuple[str, ...] = (sys.executable, "-P", "-m", "coserver.runtime.process")
        env[service_spec.ENVIRONMENT] = service_spec.encode(
            _service_spec(site, config, run, places=places, token=token)
        )
        env.setdefault("PYTHONUNBUFFERED", "1")
    else:
        argv = config.command or ()
    limits = {name: (value, value) for name, value in config.limits.items()}
    if "address_space" in limits:
        limits["as"] = limits.pop("address_space")
    return SpawnSpec(
        key=run.key,
        argv=argv,
        env=env,
        cwd=str(config.cwd),
        mark=mark(instance, run),
        output=OutputSpec(
            path=str(places.log(run.service, run.index)),
            max_bytes=config.output.max_bytes,
            keep=config.output.keep,
            error_path=str(places.error_log(run.service, run.index))
            if config.output.stderr == "separate"
            else None,
        ),
        note=note,
        uid=user.uid if user else None,
        gid=user.gid if user else None,
        groups=user.groups if user else None,
        umask=config.umask,
        nice=config.nice,
        rlimits=limits,
    )


def base_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what children inherit of the node's environment: not what was meant for keeper and node alone.

    A program installed beside this interpreter is found before one of the same name elsewhere, as in an activated
    virtual environment.
    """
    env = {
        name: value
        for name, value in environ.items()
        if name not in NOT_FOR_CHILDREN and not name.startswith("COSERVER_CFG__")
    }
    env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), env.get("PATH", os.defpath)])
    return env


def service_environment(config: ServiceConfig) -> dict[str, str]:
    """Return what a service's own configuration puts into its environment. Raises CannotSpawn."""
    env: dict[str, str] = {}
    user = _account(config)
    if user is not None:
        env |= {"HOME": user.home, "USER": user.name, "LOGNAME": user.name, "SHELL": user.shell}
    for path in config.env_files:
        env |= _read_env_file(path)
    return env | dict(config.env)


def service_users(site: Site) -> frozenset[int]:
    """Return the ids of the users whom services name; those that this machine does not know are left out."""
    found = set()
    for config in site.services.values():
        try:
            user = _account(config)
        except CannotSpawn:
            continue
        if user is not None:
            found.add(user.uid)
    return frozenset(found)


def _account(config: ServiceConfig) -> Account | None:
    try:
        return account(config.user) if config.user is not None else None
    except UsageError as error:
        raise CannotSpawn(str(error)) from None


def _service_spec(
    site: Site, config: ServiceConfig, run: Run, *, places: Places, token: str
) -> service_spec.ServiceSpec:
    return service_spec.ServiceSpec(
        site=site.name,
        service=run.service,
        process=run.process,
        run=run.run,
        host=site.node.name,
        store=site.store,
        bus=str(places.bus),
        token=token,
        path=tuple(map(str, config.path)),
        setup=config.setup,
        # A web application that takes no queue does not work on the tasks that it inherits, but may submit them.
        tasks=config.tasks if config.works else (),
        queues=tuple(config.queues.items()),
        concurrency=config.concurrency,
        threads=config.threads,
        isolated=config.isolated,
        asgi=config.asgi,
        wsgi=config.wsgi,
        bind=str(config.bind).removeprefix("tcp:") if config.bind is not None else None,
        started=str(places.started(run)) if config.works else None,
        wake=str(places.own(run)) if config.works else None,
        stop_timeout=config.stop.timeout,
        max_jobs=config.max_jobs if config.recycles else None,
        max_age=config.max_age if config.recycles else None,
        max_memory=config.max_memory if config.recycles else None,
        log_format=config.log_format,
    )


def _read_env_file(path: Path) -> dict[str, str]:
    try:
        with path.open("rb") as file:
            text = file.read(MAX_ENVIRONMENT_FILE).decode()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise CannotSpawn(
            f"cannot read the environment file {path}: {error}; make it readable UTF-8"
        ) from None
    found, bad = envfile.parse(text)
    if bad:
        raise CannotSpawn(
            f"cannot use the environment file {path}: line {bad[0]} is no NAME=value; mend or remove it"
        )
    return found
