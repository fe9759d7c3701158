"""Where a process's store is, when the code that submits does not say: the nearest configuration file."""

from __future__ import annotations

import os
from pathlib import Path

from coserver.client import Client
from coserver.config import ConfigError, load
from coserver.config.discover import discover
from coserver.config.load import SITE_FILE
from coserver.errors import NotConfigured


def client_for(url: str) -> Client:
    """Return a client for a store's URL; nothing is opened yet."""
    return Client(url)


def configured_store() -> str | None:
    """Return the URL of the store in the configuration found from the working directory, None if there is none.

    Raises `NotConfigured` when there is one that cannot be read.
    """
    environ, cwd = os.environ, Path.cwd()
    try:
        discover(None, environ=environ, cwd=cwd, site_file=SITE_FILE)
    except ConfigError as error:
        # Nothing is named and nothing was found, or else the problem says where it is.
        if not error.problems[0].file:
            return None
    try:
        return load(environ=environ, cwd=cwd).store
    except ConfigError as error:
        raise NotConfigured(
            f"cannot submit a job: the configuration that should name its store is not usable\n{error}"
        ) from error
