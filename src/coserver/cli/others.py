"""What the users of services are not allowed and would need: said by `doctor`, and by `up` before anything starts."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import coserver
from coserver.config import ServiceConfig, Site
from coserver.errors import CoserverError
from coserver.host.access import may
from coserver.host.users import Account, account
from coserver.store.url import SQLiteUrl, parse_url


def obstacles(site: Site, service: ServiceConfig) -> Iterator[str]:
    """Yield what keeps a service's user from running it, each with its mend. A user that does not exist, or that we
    may not become, is not looked at."""
    if service.user is None:
        return
    try:
        user = account(service.user)
    except CoserverError:
        return
    if service.cwd.is_dir() and may(user, "enter", service.cwd) is False:
        yield f'user "{user.name}" may not enter {service.cwd}; allow it, or set `cwd`'
    if service.kind != "python":
        return
    package = Path(coserver.__file__)
    if may(user, "execute", Path(sys.executable)) is False or may(user, "read", package) is False:
        yield (
            f'user "{user.name}" may not run the Python environment ({sys.executable}, {package.parent}); install '
            "coserver where every user may read it"
        )
    for path in service.path:
        if path.exists() and may(user, "read", path) is False:
            yield f'user "{user.name}" may not read {path}; allow it, or correct `path`'
    if service.works:
        yield from _store(site, user)


def dangers(site: Site, service: ServiceConfig) -> Iterator[str]:
    """Yield what a service's user may do, and had better not."""
    if service.user is None or os.geteuid() != 0:
        return
    try:
        user = account(service.user)
    except CoserverError:
        return
    for place in (site.file, site.file.parent, site.node.state.parent):
        if user.uid != 0 and may(user, "write", place) is True:
            yield (
                f'user "{user.name}" may change {place}, and so decide what root runs; let it belong to root, and '
                "keep the store and the application's data in a directory of their own"
            )
            return


def _store(site: Site, user: Account) -> Iterator[str]:
    try:
        where = parse_url(site.store)
    except CoserverError:
        return
    if not isinstance(where, SQLiteUrl):
        return
    file = Path(where.path)
    folder = file.parent
    own = folder if folder.name == "data" else folder / "data"
    mend = (
        f"let both belong to {user.name} or a group of it, for example with a directory of its own: "
        f'`install -d -o {user.name} {own}` and store = "sqlite:{own / file.name}"'
    )
    if file.exists() and may(user, "write", file) is False:
        yield f'user "{user.name}" may not write the store {file}; {mend}'
    elif may(user, "write", folder) is False:
        yield (
            f'user "{user.name}" may not write into {folder}, where SQLite keeps files beside the store '
            f"{file.name}; {mend}"
        )
