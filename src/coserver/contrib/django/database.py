"""Which store a Django project's jobs are kept in, and submits that take part in Django's transactions."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from django.conf import settings
from django.db import connections

from coserver.client import Client
from coserver.config import ConfigError, load
from coserver.config.discover import discover
from coserver.config.load import DEFAULT_STORE, SITE_FILE
from coserver.errors import NotConfigured
from coserver.model.job import NewJob
from coserver.store import open_store
from coserver.store.contract import Store
from coserver.store.foreign import OtherDatabase
from coserver.tasks.binding import configure

_LIBPQ = frozenset(
    {
        *("channel_binding", "connect_timeout", "gssencmode", "gsslib", "keepalives", "keepalives_count"),
        *(
            "keepalives_idle",
            "keepalives_interval",
            "krbsrvname",
            "load_balance_hosts",
            "options",
            "passfile",
        ),
        *("require_auth", "service", "ssl_max_protocol_version", "ssl_min_protocol_version", "sslcert"),
        *("sslcertmode", "sslcrl", "sslcrldir", "sslkey", "sslmode", "sslnegotiation", "sslpassword"),
        *("sslrootcert", "sslsni", "target_session_attrs", "tcp_user_timeout"),
    }
)
"""Which OPTIONS of a PostgreSQL database are libpq's own; the others are Django's."""

_KINDS = {"sqlite": ("sqlite:",), "postgresql": ("postgresql:", "postgres:")}
"""How URLs of stores begin that may mean a database of this vendor."""


def alias() -> str:
    """Return the alias of the database that may be the store."""
    return str(getattr(settings, "COSERVER_DATABASE", "default"))


def database_url() -> str:
    """Return Django's database as a store's URL. Raises `NotConfigured` when jobs cannot be kept in it."""
    wrapper = connections[alias()]
    said = wrapper.settings_dict
    match wrapper.vendor:
        case "sqlite":
            name = str(said["NAME"])
            if wrapper.is_in_memory_db():
                raise _unfit(
                    "it is SQLite in memory, which other processes do not see; give it a file (in tests: "
                    "TEST = {'NAME': …}), or submit within the fixture coserver_jobs"
                )
            return f"sqlite:{quote(str(Path(name).absolute()))}?driver=sqlite3"
        case "postgresql":
            given = {key: str(value) for key, value in said["OPTIONS"].items() if key in _LIBPQ}
            for key, of in (("host", "HOST"), ("port", "PORT"), ("user", "USER"), ("password", "PASSWORD")):
                if said[of]:
                    given[key] = str(said[of])
            query = urlencode(given, quote_via=quote)
            return f"postgresql:///{quote(str(said['NAME'] or ''), safe='')}{'?' if query else ''}{query}"
        case vendor:
            raise _unfit(
                f"jobs are not kept in {vendor}; name a store in COSERVER_STORE, or in coserver.toml"
            )


def store_url() -> str:
    """Return the URL of the store: COSERVER_STORE, that which the site's files state, or Django's database.

    Raises `NotConfigured`.
    """
    named = os.environ.get("COSERVER_STORE")
    if named:
        return named
    stated = _stated()
    return database_url() if stated is None else stated


def _stated() -> str | None:
    """Return the store that the site's files name, None when there are none or they name none."""
    base = Path(getattr(settings, "BASE_DIR", None) or Path.cwd())
    nobody = "sqlite:of-nobody"
    environ = {**os.environ, DEFAULT_STORE: nobody}
    try:
        discover(None, environ=environ, cwd=base, site_file=SITE_FILE)
    except ConfigError as error:
        if not error.problems[0].file:  # nothing is named and nothing was found
            return None
    try:
        store = load(environ=environ, cwd=base).store
    except ConfigError as error:
        raise NotConfigured(
            f"cannot tell where jobs are kept: the site's configuration is not usable\n{error}"
        ) from error
    return None if store == nobody else store


def _unfit(why: str) -> NotConfigured:
    return NotConfigured(f"cannot keep jobs in Django's database {alias()!r}: {why}")


def bind() -> None:
    """Have submits of this process go to the store, those inside of `atomic()` with its transaction."""
    configure(store=DjangoClient())


class DjangoClient(Client):
    """A client whose store is looked for at its first use, and whose submits take part in Django's transactions."""

    def __init__(self) -> None:
        super().__init__("", opener=self._open_it)
        self._ours: bool | None = None

    def _open_it(self, _url: str) -> Store:
        url = store_url()
        # Whether another name may mean Django's database as well is known by the first submit in a transaction.
        self._ours = None if url.startswith(_KINDS.get(connections[alias()].vendor, ("none:",))) else False
        return open_store(url)

    def enqueue(self, jobs: Sequence[NewJob], *, connection: Any = None) -> list[int]:
        """As `Client.enqueue`; inside of Django's transaction in that."""
        if connection is not None:
            return super().enqueue(jobs, connection=connection)
        wrapper = connections[alias()]
        if not _in_transaction(wrapper):
            return super().enqueue(jobs)
        self._opened()
        if self._ours is not False:
            try:
                return super().enqueue(jobs, connection=wrapper)
            except OtherDatabase:
                self._ours = False
        return super().enqueue(jobs)


def _in_transaction(wrapper: Any) -> bool:
    return bool(wrapper.in_atomic_block or (wrapper.connection is not None and not wrapper.autocommit))
