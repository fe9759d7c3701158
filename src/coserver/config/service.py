"""One service: what it inherits, what kind it is, what follows from what it states, and what cannot be together.

Theory. A service states little and inherits the rest: `[service.NAME]` lies over `[defaults.service]`, which lies over
`[app]`; a value replaces, a table merges key by key. Inheritance happens between stated values, before any default is
known. A service with a `command` is a foreign program and inherits nothing that only Python services have.

A Python service works on jobs if it states `queues`, or if it has no web application: then it takes the queue
`default`. A web application that should also work on jobs says so by stating `queues`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from coserver.config.check import Ledger, Values, as_table, check_names, read_table
from coserver.config.keys import keys_of
from coserver.config.origin import KeyPath, Origin
from coserver.config.records import AppConfig, DefaultsConfig, ServiceConfig
from coserver.config.tree import Table, overlay
from coserver.config.values import check_name
from coserver.model.address import Address, TcpAddress

DEFAULT_QUEUE = "default"
DEFAULT_CONCURRENCY = 10
_WILDCARDS = ("0.0.0.0", "::", "*")
_PYTHON = tuple(name for name, declared in keys_of(ServiceConfig).items() if declared.kind == "python")
_RECYCLING = ("max_jobs", "max_age", "max_memory")
_INHERITED = tuple(name for name, declared in keys_of(ServiceConfig).items() if declared.inherited)


def inherit(app: Table | None, defaults: Table | None, own: Table) -> Table:
    """Lay a service's own table over what it inherits."""
    inherited = Table({}, own.origin)
    if app is not None:
        inherited = overlay(inherited, app.only(*keys_of(AppConfig)))
    if defaults is not None:
        inherited = overlay(inherited, defaults.only(*_INHERITED))
    if "command" in own.entries:
        inherited = inherited.without(*_PYTHON)
    return Table(overlay(inherited, own).entries, own.origin)


def read_service(name: str, table: Table, own: Table, ledger: Ledger, *, base_dir: Path) -> ServiceConfig:
    """Check one service; `own` is what it states itself, `table` that over what it inherits."""
    path: KeyPath = ("service", name)
    try:
        check_name(name)
    except ValueError as error:
        ledger.problems.add(own.origin, path, str(error))
    values = read_table(ServiceConfig, table, path, ledger)
    _check_kind(values, own)
    _complete(values, base_dir)
    if "command" in values.stated:
        values.hide(*_PYTHON)
        return ServiceConfig(name=name, kind="command", **values.found)
    values.hide("command")
    return ServiceConfig(name=name, kind="python", **values.found)


def read_services(table: Table, ledger: Ledger, *, base_dir: Path) -> Mapping[str, ServiceConfig]:
    """Check `[service.*]` with what it inherits from `[app]` and `[defaults.service]`."""
    app = table.table("app")
    defaults = table.table("defaults", "service")
    services, origins = {}, {}
    for name, node in as_table(
        table.get("service"), ("service",), ledger, "[service.NAME] tables"
    ).entries.items():
        own = as_table(node, ("service", name), ledger, f"a table, [service.{name}]")
        if isinstance(node, Table):
            services[name] = read_service(name, inherit(app, defaults, own), own, ledger, base_dir=base_dir)
            origins[name] = own.origin
    check_together(services, origins, ledger)
    return MappingProxyType(services)


def check_defaults(table: Table, ledger: Ledger) -> None:
    """Check `[defaults]` on its own, so that its mistakes are told once and also where no service inherits them."""
    defaults = as_table(table.get("defaults"), ("defaults",), ledger, "[defaults.service]")
    check_names(DefaultsConfig, defaults, ("defaults",), ledger)
    read_table(
        ServiceConfig,
        defaults.get("service"),
        ("defaults", "service"),
        Ledger(ledger.problems),
        only=lambda declared: declared.inherited,
    )


def check_together(
    services: Mapping[str, ServiceConfig], origins: Mapping[str, Origin], ledger: Ledger
) -> None:
    """Check what only shows between services; `origins` says where each is stated."""
    spelled: dict[str, str] = {}
    listening: dict[str, Address] = {}
    for name, service in services.items():
        twin = spelled.setdefault(name.lower().replace("-", "_"), name)
        if twin != name:
            message = f"its name differs from service.{twin} only in case or in - and _; rename one"
            ledger.problems.add(origins[name], ("service", name), message)
        if service.bind is None:
            continue
        for other, address in listening.items():
            if _collide(service.bind, address):
                origin = ledger.settings[f"service.{name}.bind"].origin
                message = f"service.{other} listens at {address} already; choose another port"
                ledger.problems.add(origin, ("service", name, "bind"), message)
        listening[name] = service.bind


def _check_kind(values: Values, own: Table) -> None:
    stated, path, problems = values.stated, values.path, values.ledger.problems
    if "command" in stated:
        for name in _PYTHON:
            if name in stated:
                values.complain(
                    name, "belongs to a Python service, but this one has a command; remove one of them"
                )
        return
    web = [name for name in ("asgi", "wsgi") if name in stated]
    if len(web) == 2:
        values.complain(
            "wsgi", "a service has one application, but this one states asgi too; remove one of them"
        )
    if web and "bind" not in stated:
        values.complain(web[0], 'the application has no address; add bind = "127.0.0.1:8000"')
    for name in _RECYCLING if web else ():
        if name in own.entries:
            values.complain(
                name,
                "between two processes the application's address would be closed; put its jobs into a service of their "
                "own and state it there",
            )
    if not web and "bind" in stated:
        values.complain("bind", "nothing would listen there; state asgi or wsgi too, or remove it")
    # A setup may declare tasks, as that of Django does for all installed apps.
    if "queues" in stated and "tasks" not in stated and "setup" not in stated:
        values.complain("queues", 'no task is known to work on; add tasks = ["shop.tasks"]')
    understood = own.entries.keys() <= keys_of(ServiceConfig).keys()  # else a slip may be what says it
    if not web and "tasks" not in stated and "queues" not in stated and understood:
        problems.add(own.origin, path, "it says nothing to run; state command, asgi, wsgi or tasks")


def _complete(values: Values, base_dir: Path) -> None:
    """Fill what follows from the rest."""
    found, stated = values.found, values.stated
    works = not {"command", "asgi", "wsgi"} & stated.keys()
    queues = {DEFAULT_QUEUE: found["concurrency"] or DEFAULT_CONCURRENCY} if works else {}
    values.fill("queues", MappingProxyType(queues))
    values.fill("threads", found["concurrency"] or sum(found["queues"].values()) or DEFAULT_CONCURRENCY)
    values.fill("cwd", base_dir)
    policy = found["restart"]
    if policy.backoff_first == 0 < policy.backoff_max:
        origin = values.ledger.settings[f"service.{values.path[1]}.restart.backoff"].origin
        message = 'a delay that begins with 0s never grows; write "100ms..60s", or "0s..0s" for none'
        values.ledger.problems.add(origin, (*values.path, "restart", "backoff"), message)


def _collide(first: Address, second: Address) -> bool:
    if not isinstance(first, TcpAddress) or not isinstance(second, TcpAddress):
        return first == second
    if first.port != second.port or first.port == 0:
        return False
    return first.host == second.host or first.host in _WILDCARDS or second.host in _WILDCARDS
