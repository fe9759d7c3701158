"""The peers' virtual environments: made when they are needed, from the package registry, below `.bench/`."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

HOME = Path(__file__).parent.parent.parent / ".bench"


class Unavailable(Exception):
    """Why a peer cannot be measured here."""


def environment(name: str, requirements: Sequence[str], *, alone: bool = False) -> Path:
    """Return the directory of the virtual environment that holds exactly these versions, making it if need be.

    `alone`: without what they depend on. Raises `Unavailable`.
    """
    directory = HOME / name
    wanted = json.dumps([sys.version, *requirements])
    stamp = directory / "requirements.json"
    if stamp.exists() and stamp.read_text() == wanted:
        return directory
    shutil.rmtree(directory, ignore_errors=True)
    _run(sys.executable, "-m", "venv", str(directory))
    options = ["--no-deps"] if alone else []
    _run(str(directory / "bin" / "python"), "-m", "pip", "install", "--quiet", *options, *requirements)
    stamp.write_text(wanted)
    return directory


def _run(*argv: str) -> None:
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        said = [line for line in done.stdout.splitlines() if line.startswith("ERROR")] or [done.stdout]
        raise Unavailable(f"cannot install it: {said[-1].strip()[:300]}")
