"""A real site with the tasks that are measured, started and ended as a user does it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.marks import Marks
from bench.ours.workers import ROOT

_SITE = """
[site]
name = "bench"
store = "{url}"
[app]
path = ["{root}"]
tasks = ["bench.jobs"]
[defaults.service]
env = {{ {variable} = "{marks}" }}
"""


@contextmanager
def site(url: str, marks: Marks, services: str) -> Iterator[Path]:
    """A site with these services (in the words of its configuration) for the block; gives its directory."""
    ((variable, path),) = marks.environment.items()
    with tempfile.TemporaryDirectory(prefix="coserver-bench-") as home:
        directory = Path(home)
        common = _SITE.format(url=url, root=ROOT, variable=variable, marks=path)
        (directory / "coserver.toml").write_text(common + services)
        _coserver(directory, "up", "-d")
        try:
            yield directory
        finally:
            _coserver(directory, "down")


def _coserver(directory: Path, *words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "coserver", *words],
        cwd=directory,
        env={name: value for name, value in os.environ.items() if not name.startswith("COSERVER_")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"coserver {' '.join(words)} said: {done.stdout}")
