"""The configuration as frozen records, which are at the same time the table of its keys.

Every duration is a float of seconds, every size an int of bytes, every path absolute. A field declared by `key` or
`computed` is a key of the file; the few others are derived. `Site` is what `load` returns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal

from coserver.config.keys import Named, Section, computed, key, later, record
from coserver.config.origin import Origin
from coserver.config.shapes import Choice, Command, FilePath, Flag, Integer, Json, Listing, Mapped, Off
from coserver.config.values import (
    BACKOFF,
    DURATION,
    ENVIRONMENT,
    FILES,
    GIVE_UP,
    HOST,
    LABELS,
    LIMIT,
    MODULES,
    NAME_TEXT,
    OBJECT,
    PACE,
    PATHS,
    PATTERNS,
    SIGNAL,
    SIZE,
    USER,
    Listen,
    ResourceLimit,
    StoreUrl,
    Umask,
    check_queue,
)
from coserver.model.address import Address
from coserver.model.job import Limit, State
from coserver.model.names import QUEUE_NAME
from coserver.model.restart import RestartPolicy, When

_NONE: Mapping[str, str] = MappingProxyType({})
_POLICY = RestartPolicy()
LOG_FORMAT = Choice[Literal["text", "json"]]("text", "json")


@record
class SiteConfig:
    """`[site]`: what is the same on every host."""

    name: str = computed(
        NAME_TEXT, "What the site is called.", default_text="the name of the file's directory", restart="site"
    )
    store: str = computed(
        StoreUrl(),
        "Where jobs are kept: `sqlite:PATH` (options `?driver=apsw` or `sqlite3`, `&synchronous=FULL` or `NORMAL`) "
        "or `postgresql://…`.",
        default_text='"sqlite:site.db"',
        example='"${DATABASE_URL:-sqlite:site.db}"',
        restart="site",
        also=("database", "database_url", "broker", "backend", "dsn", "url"),
    )
    LATER: ClassVar = later(store_direct="an address of the database behind a pooler")


@record
class NodeConfig:
    """`[node]`: this host. May also stand in `/etc/coserver/node.toml`, which is then the stronger one."""

    name: str = computed(HOST, "What this host is called.", default_text="the host name", restart="site")
    labels: tuple[str, ...] = key(LABELS, "Words that say what this host is for.", default=(), restart="site")
    state: Path = computed(
        FilePath(example=".coserver"),
        "The directory for what the node keeps: its lock, sockets, logs and intents.",
        default_text='".coserver"',
        restart="site",
        also=("state_dir", "directory", "run_dir"),
    )


@record
class AppConfig:
    """`[app]`: what every Python service inherits unless it says otherwise."""

    path: tuple[Path, ...] = key(
        PATHS, "Directories put before `sys.path`.", default=(), also=("pythonpath",)
    )
    tasks: tuple[str, ...] = key(
        MODULES,
        "Modules that define tasks, and task plugins such as `@http-call`.",
        default=(),
        also=("imports",),
    )
    setup: str | None = key(
        OBJECT, "A function called once in each process before anything else.", default=None
    )
    log_format: Literal["text", "json"] = key(
        LOG_FORMAT,
        "How log records are written: as lines of text, or each as one JSON object. Either names the job that a record "
        "belongs to.",
        default="text",
        also=("logging", "logger", "formatter"),
    )


@record
class ControlConfig:
    """`[control]`: how the node is reached."""

    socket: Path = computed(
        FilePath(example="run/control.sock"),
        "The Unix socket of the node's own interface.",
        default_text="`control.sock` in `node.state`",
        restart="site",
    )
    console: bool = key(Off(), "The web console.", default=False, restart="nothing")
    LATER: ClassVar = later(
        tokens="access by token",
        tls="encrypted access",
        sign_in="signing in",
        roles="roles",
        public_url="the console",
    )


@record
class RestartKeys:
    """`[service.NAME.restart]`: what happens when a process ends that nobody stopped."""

    when: When = key(
        Choice[When]("always", "on-failure", "never"),
        "Whether a process that ended by itself is started again.",
        default=_POLICY.when,
        restart="nothing",
        also=("autorestart", "policy", "respawn"),
    )
    backoff: tuple[float, float] = key(
        BACKOFF,
        "The first and the longest delay before a repeated start; it doubles in between, with jitter. The first "
        "failure after a stable run restarts at once.",
        default=(_POLICY.backoff_first, _POLICY.backoff_max),
        restart="nothing",
        also=("delay", "restart_delay", "interval"),
    )
    give_up: tuple[int, float] | None = key(
        GIVE_UP,
        'After how many ends within which time the service is declared fatal; "never" to try for ever.',
        default=_POLICY.give_up,
        restart="nothing",
        also=("retries", "startretries", "max_retry", "max_restarts"),
    )
    expected: tuple[int, ...] = key(
        Listing(Integer(0, 255, example=0), example="[0, 2]"),
        "Exit codes that are no failure.",
        default=tuple(sorted(_POLICY.expected)),
        restart="nothing",
        also=("exitcodes", "exit_codes"),
    )
    LATER: ClassVar = later(reset_after="the uptime after which earlier ends are forgotten")

    @classmethod
    def policy(cls, **stated: Any) -> RestartPolicy:
        """Return the rule that these keys state."""
        keys = cls(**stated)
        return RestartPolicy(
            when=keys.when,
            backoff_first=keys.backoff[0],
            backoff_max=keys.backoff[1],
            give_up=keys.give_up,
            expected=frozenset(keys.expected),
        )


@record
class StopPolicy:
    """`[service.NAME.stop]`: how a process is asked to end."""

    signal: str = key(
        SIGNAL,
        'The signal that asks a process to stop, without "SIG".',
        default="TERM",
        restart="nothing",
        also=("stopsignal", "stop_signal", "kill_signal"),
    )
    timeout: float = key(
        DURATION,
        "How long a process may take before all that is left of it is killed.",
        default=10.0,
        restart="nothing",
        also=("stopwaitsecs", "graceful_timeout", "grace", "kill_timeout"),
    )


@record
class OutputPolicy:
    """`[service.NAME.output]`: what becomes of the lines a process prints."""

    max_bytes: int = key(
        SIZE,
        "The size at which a log file is rotated.",
        default=20 << 20,
        also=("maxbytes", "stdout_logfile_maxbytes", "max_size"),
    )
    keep: int = key(
        Integer(0, 10_000, example=5),
        "How many rotated files are kept beside the current one.",
        default=5,
        also=("backups", "backup_count", "stdout_logfile_backups"),
    )
    stderr: Literal["joined", "separate"] = key(
        Choice[Literal["joined", "separate"]]("joined", "separate"),
        "Whether standard error goes into the same file or into one of its own.",
        default="joined",
        also=("redirect_stderr",),
    )
    LATER: ClassVar = later(
        rotate_every="rotation by time", total="a cap over all files", syslog="syslog", journald="the journal"
    )


@record
class LimitKeys:
    """`[service.NAME.limits]`: what the kernel lets each process have; soft and hard limit alike."""

    nofile: int | None = key(
        ResourceLimit(sized=False),
        "Open files.",
        default=None,
        default_text="inherited",
        also=("minfds", "rlimit_nofile"),
    )
    nproc: int | None = key(
        ResourceLimit(sized=False),
        "Processes and threads of its user.",
        default=None,
        default_text="inherited",
        also=("minprocs",),
    )
    core: int | None = key(
        ResourceLimit(sized=True), "The size of a core file.", default=None, default_text="inherited"
    )
    fsize: int | None = key(
        ResourceLimit(sized=True), "The size of a file it writes.", default=None, default_text="inherited"
    )
    stack: int | None = key(
        ResourceLimit(sized=True), "The size of a thread's stack.", default=None, default_text="inherited"
    )
    memlock: int | None = key(
        ResourceLimit(sized=True), "Memory locked into RAM.", default=None, default_text="inherited"
    )
    data: int | None = key(
        ResourceLimit(sized=True), "Private writable memory.", default=None, default_text="inherited"
    )
    address_space: int | None = key(
        ResourceLimit(sized=True),
        "Virtual memory (`RLIMIT_AS`).",
        default=None,
        default_text="inherited",
        also=("as", "rlimit_as"),
    )
    LATER: ClassVar = later(
        memory="a memory limit by cgroup", cpu="a CPU limit by cgroup", pids="a limit by cgroup"
    )

    @classmethod
    def limits(cls, **stated: int | None) -> Mapping[str, int]:
        """Return the limits that are set, by name; -1 is unlimited."""
        return MappingProxyType({name: value for name, value in stated.items() if value is not None})


@record
class ServiceConfig:
    """`[service.NAME]`: one kind of process and how many of it each node runs.

    `kind` is "command" for a foreign program, "python" for a process of coserver's own: web application (`asgi` or
    `wsgi`), job worker (`queues`), or both. For "command", `asgi`, `wsgi`, `bind`, `path`, `tasks`, `setup` and
    `queues` are empty.
    """

    name: str
    kind: Literal["python", "command"]
    command: tuple[str, ...] | None = key(
        Command(),
        "The program and its arguments; text is split as a shell would, but no shell runs.",
        default=None,
        example='"redis-server --port 6400"',
        inherited=False,
        also=("cmd", "exec", "run", "program", "script", "args"),
    )
    asgi: str | None = key(
        OBJECT, "The ASGI application to serve.", default=None, kind="python", inherited=False, also=("app",)
    )
    wsgi: str | None = key(
        OBJECT,
        "The WSGI application to serve.",
        default=None,
        kind="python",
        inherited=False,
        also=("module", "application"),
    )
    bind: Address | None = key(
        Listen(),
        "The address that the application is served at.",
        default=None,
        example='"127.0.0.1:8000"',
        kind="python",
        inherited=False,
        also=("listen", "address", "host", "port"),
    )
    path: tuple[Path, ...] = key(
        PATHS,
        "Directories put before `sys.path`.",
        default=(),
        default_text="`app.path`",
        kind="python",
        also=("pythonpath",),
    )
    tasks: tuple[str, ...] = key(
        MODULES,
        "Modules that define the tasks it works on, and task plugins such as `@http-call`.",
        default=(),
        default_text="`app.tasks`",
        kind="python",
        also=("imports", "modules"),
    )
    setup: str | None = key(
        OBJECT,
        "A function called once in each process before anything else.",
        default=None,
        default_text="`app.setup`",
        kind="python",
    )
    log_format: Literal["text", "json"] = key(
        LOG_FORMAT,
        "How log records are written: as lines of text, or each as one JSON object.",
        default="text",
        default_text="`app.log_format`",
        kind="python",
        also=("formatter",),
    )
    queues: Mapping[str, int] = computed(
        Mapped(Integer(1, 100_000, example=4, unit="jobs"), check_queue, example="{ default = 4 }"),
        "The queues it takes jobs from, and how many of each at once in one process.",
        default_text="`{ default = 10 }` (or `concurrency`) where there is no `asgi` or `wsgi`, else none",
        example="{ images = 2, mail = 8 }",
        kind="python",
        inherited=False,
        also=("queue",),
    )
    concurrency: int | None = key(
        Integer(1, 100_000, example=10, unit="jobs"),
        "How many jobs one process runs at once, over all its queues.",
        default=None,
        default_text="the sum over `queues`",
        kind="python",
    )
    threads: int = computed(
        Integer(1, 10_000, example=10),
        "How many threads one process has for plain functions and WSGI requests.",
        default_text="`concurrency`, else the sum over `queues`; 10 where there are none",
        kind="python",
    )
    isolated: int | None = key(
        Integer(1, 1_000, example=2),
        "How many processes beside it one process has for tasks declared with `isolate=True`. They are started when "
        "needed, and stay.",
        default=None,
        default_text="the number of processors, at most `concurrency`",
        kind="python",
    )
    max_jobs: int | None = key(
        Integer(1, 1_000_000_000, example=10_000, unit="jobs"),
        "After how many jobs a process leaves and a fresh one takes over. Each draws its own number at its start, up "
        "to a tenth more or less. What runs may finish; nothing new begins meanwhile in that process. Not for web "
        "applications.",
        default=None,
        default_text="no limit",
        kind="python",
        also=("max_tasks_per_child", "maxtasksperchild", "max_tasks"),
    )
    max_age: float | None = key(
        DURATION,
        "After which time a process leaves, as for `max_jobs`.",
        default=None,
        default_text="no limit",
        kind="python",
        also=("max_lifetime", "lifetime"),
    )
    max_memory: int | None = key(
        SIZE,
        "How much memory a process may take (resident; looked at every second, once it has run a job) before it "
        "leaves, as for `max_jobs`. Processes for isolated jobs are measured each for itself.",
        default=None,
        default_text="no limit",
        kind="python",
        also=("max_memory_per_child", "max_rss"),
    )
    processes: int = key(
        Integer(0, 10_000, example=2),
        "How many processes each node runs.",
        default=1,
        restart="nothing",
        also=("numprocs", "numprocesses", "instances", "workers", "replicas", "count"),
    )
    autostart: bool = key(
        Flag(),
        "Whether it starts with the site; false leaves it to `coserver start`.",
        default=True,
        restart="nothing",
        also=("auto_start", "enabled"),
    )
    cwd: Path = computed(
        FilePath(example="."),
        "The working directory.",
        default_text="the directory of the configuration file",
        also=("directory", "working_dir", "chdir", "workdir", "dir"),
    )
    user: str | None = key(
        USER,
        "The user it runs as, by name or number; its groups follow. Needs root. What that user must be allowed, "
        "`coserver doctor` says (see the how-to on services of other users).",
        default=None,
        default_text="the user who runs coserver",
        also=("uid", "username", "run_as"),
    )
    umask: int | None = key(
        Umask(), "The file mode mask.", default=None, default_text="inherited", example='"022"'
    )
    nice: int | None = key(
        Integer(-20, 19, example=5),
        "The scheduling priority; higher is nicer.",
        default=None,
        default_text="inherited",
    )
    limits: Mapping[str, int] = key(
        Section(LimitKeys, LimitKeys.limits, example="{ nofile = 1024 }"),
        "What the kernel lets each process have.",
        default=MappingProxyType[str, int]({}),
        also=("rlimits", "ulimits"),
    )
    env: Mapping[str, str] = key(
        ENVIRONMENT,
        "Environment variables, over those of coserver and of `env_files`.",
        default=_NONE,
        also=("environment", "environ", "variables"),
    )
    env_files: tuple[Path, ...] = key(
        FILES,
        "Files of `NAME=value` lines, read at each start; a later one wins; a missing one is passed over.",
        default=(),
        also=("env_file", "envfile", "dotenv", "environment_file"),
    )
    restart: RestartPolicy = key(
        Section(RestartKeys, RestartKeys.policy, example='{ when = "on-failure" }'),
        "What happens when a process ends that nobody stopped.",
        default=_POLICY,
        restart="nothing",
        also=("autorestart", "respawn"),
    )
    stop: StopPolicy = key(
        Section(StopPolicy, StopPolicy, example='{ signal = "TERM", timeout = "30s" }'),
        "How a process is asked to end.",
        default=StopPolicy(),
        restart="nothing",
        also=("stopsignal", "stopwaitsecs", "kill"),
    )
    output: OutputPolicy = key(
        Section(OutputPolicy, OutputPolicy, example='{ max_bytes = "20M", keep = 5 }'),
        "What becomes of the lines a process prints.",
        default=OutputPolicy(),
        also=("log", "logs", "logging", "stdout", "logfile"),
    )
    LATER: ClassVar = later(
        ready="readiness checks",
        live="liveness checks",
        needs="dependencies between services",
        sockets="shared listening sockets",
        on="placing services by node label",
        essential="services whose end ends the site",
        oneshot="services that run to completion",
        max_requests="recycling processes",
        reload="rolling reload",
        hooks="hooks around start and stop",
        stdin="what a process reads from",
        on_demand="starting at the first connection",
        min="scaling by load",
        max="scaling by load",
        venv="a virtual environment for each service",
        group="groups other than the user's own",
        groups="groups other than the user's own",
        stall="killing a process whose event loop hangs",
        daemon="daemons",
        stay_alive_for="processes that leave when idle",
        shutdown_after="processes that leave when idle",
        shutdown_if_idle="processes that leave when idle",
        idle_timeout="processes that leave when idle",
    )

    @property
    def recycles(self) -> bool:
        """Whether `max_jobs` and its like apply: its address would be closed between two processes."""
        return self.works and self.asgi is None and self.wsgi is None

    @property
    def works(self) -> bool:
        """Whether it takes jobs."""
        return bool(self.queues)


@record
class DefaultsConfig:
    """`[defaults]`: values for whatever does not say otherwise."""

    service: ServiceConfig = computed(
        Section(ServiceConfig, ServiceConfig, example="[defaults.service]"),
        "Values for every service; tables are merged key by key.",
        default_text="",
    )


@record
class RetentionConfig:
    """`[retention]`: how long finished jobs are kept, by state; `None` keeps them for ever."""

    succeeded: float | None = key(
        DURATION, "Jobs that succeeded.", default=None, default_text="kept for ever", restart="site"
    )
    failed: float | None = key(
        DURATION, "Jobs that failed.", default=None, default_text="kept for ever", restart="site"
    )
    lost: float | None = key(
        DURATION,
        "Jobs whose workers died too often.",
        default=None,
        default_text="kept for ever",
        restart="site",
    )
    cancelled: float | None = key(
        DURATION,
        "Jobs that were cancelled, by somebody or since a job failed that they waited for.",
        default=None,
        default_text="kept for ever",
        restart="site",
    )
    expired: float | None = key(
        DURATION,
        "Jobs that had not begun in time.",
        default=None,
        default_text="kept for ever",
        restart="site",
    )

    def seconds(self) -> dict[State, float]:
        """Return those that are not kept for ever."""
        stated = {state: getattr(self, state.name.lower()) for state in State if state.final}
        return {state: kept for state, kept in stated.items() if kept is not None}


@record
class LimitConfig:
    """`[queue.NAME]` and `[limit.NAME]`: how many jobs run at once and begin in a time, over the whole site."""

    max_running: int | None = key(
        Integer(1, 2**31 - 1, example=1, unit="jobs"),
        "How many of these jobs run at once, over all hosts.",
        default=None,
        default_text="any number",
        restart="site",
        also=("concurrency", "max_concurrency", "concurrency_limit", "limit"),
    )
    rate: tuple[int, float] | None = key(
        PACE,
        "How many of these jobs begin at most in any such time, over all hosts.",
        default=None,
        default_text="any number",
        restart="site",
        also=("rate_limit", "throttle"),
    )


@record
class Document:
    """The whole file."""

    include: tuple[str, ...] = key(
        PATTERNS,
        "Further files, as patterns relative to this one; what two files both state is an error.",
        default=(),
        example='["conf.d/*.toml"]',
        restart="site",
    )
    site: SiteConfig = computed(
        Section(SiteConfig, SiteConfig, example="[site]"), "The site.", default_text="", also=("project",)
    )
    node: NodeConfig = computed(
        Section(NodeConfig, NodeConfig, example="[node]"), "This host.", default_text=""
    )
    app: AppConfig = computed(
        Section(AppConfig, AppConfig, example="[app]"), "What Python services inherit.", default_text=""
    )
    defaults: DefaultsConfig = computed(
        Section(DefaultsConfig, DefaultsConfig, example="[defaults.service]"),
        "Values for whatever does not say.",
        default_text="",
    )
    control: ControlConfig = computed(
        Section(ControlConfig, ControlConfig, example="[control]"),
        "How the node is reached.",
        default_text="",
    )
    service: Mapping[str, ServiceConfig] = computed(
        Named(ServiceConfig, what="service", example="[service.web]"),
        "The services.",
        default_text="",
        also=("services", "program", "process", "watcher"),
    )
    queue: Mapping[str, LimitConfig] = computed(
        Named(LimitConfig, what="queue", example="[queue.mail]", pattern=QUEUE_NAME),
        "Limits of a queue's jobs, site-wide. They are written to the store by the first `up` that finds these very "
        "declarations in the file.",
        default_text="",
        also=("queues",),
    )
    limit: Mapping[str, LimitConfig] = computed(
        Named(LimitConfig, what="limit", example="[limit.user]", pattern=LIMIT),
        "Limits of the jobs that ask for a limit key: NAME is the part of the key before its first colon, and each key "
        "is counted by itself. A key without a limit of its own runs one job at a time. Written like those of queues.",
        default_text="",
        also=("limits",),
    )
    retention: RetentionConfig = computed(
        Section(RetentionConfig, RetentionConfig, example="[retention]"),
        "How long finished jobs are kept.",
        default_text="",
    )
    LATER: ClassVar = later(
        socket="shared listening sockets",
        calendar="calendars",
        schedule="schedules",
        bus="the bus between hosts",
        plugin="plugins",
    )


@dataclass(frozen=True, slots=True)
class Setting:
    """One key of the effective configuration: its value as JSON knows it (None is unset) and where that came from.

    `default` says in words what holds where the key is unset. `named` says that the user chose the last name of its
    path, as that of an environment variable.
    """

    value: Json
    origin: Origin
    default: str = ""
    named: bool = False


@dataclass(frozen=True, slots=True)
class Site:
    """A checked configuration.

    `file` is the main file, `base_dir` its directory, `files` every file that was read, the main one first.
    `settings` holds every key, set or not, with its origin, by dotted path ("service.web.processes"); values there
    are unmasked: `coserver.config.show` prints them safely.
    """

    name: str
    store: str
    node: NodeConfig
    app: AppConfig
    control: ControlConfig
    retention: RetentionConfig
    services: Mapping[str, ServiceConfig]
    file: Path
    base_dir: Path
    files: tuple[Path, ...]
    settings: Mapping[str, Setting] = field(repr=False)
    limits: tuple[Limit, ...] = ()
