"""From a path, or from nothing, to a checked `Site`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from coserver.config.records import Site


def load(
    path: Path | None = None,
    *,
    profile: str | None = None,
    environ: Mapping[str, str],
    cwd: Path,
    node_file: Path = Path("/etc/coserver/node.toml"),
    site_file: Path = Path("/etc/coserver/coserver.toml"),
) -> Site:
    """Find, read, merge, substitute and check a configuration; raises `ConfigError` with every problem."""
    raise NotImplementedError
