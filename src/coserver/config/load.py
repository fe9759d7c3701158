"""From a path, or from nothing, to a checked `Site`.

Theory. One way, each step pure but for the reading of files, and every problem of every step in one `ConfigError`:

    discover → read → join the included → overlay profile, host, environment → substitute → inherit → check

The layers from the weakest to the strongest: defaults, `[app]`, `[defaults.service]`, the site's files, the profile's
overlay, the host's `/etc/coserver/node.toml`, the environment.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from coserver.config.check import Ledger, check_names, read_table, read_value
from coserver.config.discover import discover
from coserver.config.environment import override
from coserver.config.include import Sources
from coserver.config.keys import keys_of
from coserver.config.limits import read_limits
from coserver.config.origin import Problems
from coserver.config.records import (
    AppConfig,
    ControlConfig,
    Document,
    NodeConfig,
    RetentionConfig,
    Site,
    SiteConfig,
)
from coserver.config.service import check_defaults, read_services
from coserver.config.substitute import read_secret, substitute
from coserver.config.tree import Table
from coserver.config.values import check_host, check_name

NODE_FILE = Path("/etc/coserver/node.toml")
SITE_FILE = Path("/etc/coserver/coserver.toml")
DEFAULT_STORE = "COSERVER_DEFAULT_STORE"
"""The variable by which a framework's own command names the store of a site whose files name none."""
DJANGO = "coserver.contrib.django:setup"
"""The setup by which the store of a site whose files name none is Django's database."""


def load(
    path: Path | None = None,
    *,
    profile: str | None = None,
    environ: Mapping[str, str],
    cwd: Path,
    node_file: Path = NODE_FILE,
    site_file: Path = SITE_FILE,
) -> Site:
    """Find, read, merge, substitute and check a configuration.

    `path` is the main file, relative to `cwd`; None looks for it (`discover`). `profile` names an overlay beside it.
    `node_file` and `site_file` are the machine's own places. Raises `ConfigError` with every problem at once.
    """
    main = discover(path, environ=environ, cwd=cwd, site_file=site_file)
    problems = Problems()
    sources = Sources(cwd, problems)
    table = sources.site(main, environ)
    if profile is not None:
        table = sources.with_profile(table, main, profile)
    table = sources.with_node(table, node_file)
    # A file that cannot be read makes every further finding doubtful.
    problems.raise_any()
    table = override(table, environ, main.parent, problems)
    table = substitute(table, environ, read_secret, problems)
    site = _check(table, main, tuple(sources.files), environ.get(DEFAULT_STORE), problems)
    problems.raise_any()
    return site


def _check(
    table: Table, main: Path, files: tuple[Path, ...], default_store: str | None, problems: Problems
) -> Site:
    base_dir = main.parent
    ledger = Ledger(problems)
    check_names(Document, table, (), ledger)
    read_value(keys_of(Document)["include"], table.get("include"), ("include",), ledger)
    site = read_table(SiteConfig, table.get("site"), ("site",), ledger)
    site.fill("name", _site_name(base_dir))
    site.fill("store", default_store or f"sqlite:{base_dir / 'site.db'}")
    node = read_table(NodeConfig, table.get("node"), ("node",), ledger)
    node.fill("name", _host_name())
    node.fill("state", base_dir / ".coserver")
    app = read_table(AppConfig, table.get("app"), ("app",), ledger)
    if app.found["setup"] == DJANGO and "store" not in site.stated and default_store is None:
        app.complain(
            "setup",
            "the site keeps its jobs in Django's database, which only Django's settings name; run `python manage.py "
            "coserver …` instead of `coserver …`, or state store = … under [site]",
        )
    control = read_table(ControlConfig, table.get("control"), ("control",), ledger)
    control.fill("socket", node.found["state"] / "control.sock")
    retention = read_table(RetentionConfig, table.get("retention"), ("retention",), ledger)
    check_defaults(table, ledger)
    services = read_services(table, ledger, base_dir=base_dir)
    limits = read_limits(table, ledger)
    return Site(
        **site.found,
        node=NodeConfig(**node.found),
        app=AppConfig(**app.found),
        control=ControlConfig(**control.found),
        retention=RetentionConfig(**retention.found),
        services=services,
        file=main,
        base_dir=base_dir,
        files=files,
        settings=MappingProxyType(ledger.settings),
        limits=limits,
    )


def _site_name(base_dir: Path) -> str:
    """Make a name of a directory's."""
    words = re.findall(r"[A-Za-z0-9]+", base_dir.name)
    name = "-".join(words)[:40].rstrip("-")
    try:
        return check_name(name)
    except ValueError:
        return "site"


def _host_name() -> str:
    try:
        return check_host(platform.node())
    except ValueError:
        return "localhost"
