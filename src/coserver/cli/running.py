"""The site that runs, when its configuration does not load any more.

Somebody edits the file of a site that is up, and it does not load: just then one wants to see, stop or read what runs.
The keeper tells: its command line names the file that it was started with, and it holds that configuration in memory
for the next node (`runtime.handover`). Only a keeper of the asking user is believed, since that memory is a pickle.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from coserver.config import Site
from coserver.host import keeper
from coserver.runtime import handover


def running_site(file: Path, profile: str | None) -> Site | None:
    """Return the configuration that the running site of this file and profile was started with, None when there is
    none that we may ask."""
    for pid in _keepers(file, profile):
        site = _memory(pid)
        if site is not None:
            return site
    return None


def _keepers(file: Path, profile: str | None) -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            words = [os.fsdecode(word) for word in (entry / "cmdline").read_bytes().split(b"\0")]
            ours = entry.stat().st_uid == os.geteuid()
        except OSError:
            continue
        if ours and str(keeper.__file__) in words[:4] and "--" in words:
            node = words[words.index("--") + 1 :]
            if _option(node, "--config") == str(file) and _option(node, "--profile") == profile:
                yield int(entry.name)


def _option(words: list[str], name: str) -> str | None:
    return words[words.index(name) + 1] if name in words[:-1] else None


def _memory(pid: int) -> Site | None:
    try:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            try:
                if not str(link.readlink()).startswith(f"/memfd:{handover.MEMORY}"):
                    continue
                fd = os.open(link, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                continue  # closed meanwhile
            try:
                return handover.find(fd)
            finally:
                os.close(fd)
    except OSError:
        pass  # it ended
    return None
