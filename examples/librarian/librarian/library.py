"""Which files make up the library."""

import os
import sysconfig
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
STDLIB = Path(sysconfig.get_path("stdlib"))
INSTALLED = Path(sysconfig.get_path("purelib"))
SKIPPED = {"site-packages", "dist-packages", "__pycache__", ".coserver"}


def _shelves() -> list[Path]:
    """Return the directories whose modules are indexed, the innermost first.

    They are the standard library and this package itself. Some distributions keep the standard library's own tests,
    more than half of its files, in a package apart; what is installed beside the librarian makes up for them.
    """
    complete = (STDLIB / "test" / "test_heapq.py").exists()
    shelves = [STDLIB, HERE.parent] if complete else [STDLIB, HERE.parent, INSTALLED]
    return sorted(shelves, key=lambda shelf: len(shelf.parts), reverse=True)


SHELVES = _shelves()


def files() -> list[Path]:
    """Return every Python file of the library: its modules first, then their tests."""
    found = {path for shelf in SHELVES for path in _below(shelf)}
    return sorted(found, key=lambda path: ("test" in module(path), path))


def module(path: Path) -> str:
    """Return the name by which a file is imported: `asyncio.events` for …/asyncio/events.py."""
    for shelf in SHELVES:
        if path.is_relative_to(shelf):
            parts = path.relative_to(shelf).with_suffix("").parts
            return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
    return path.stem


def _below(shelf: Path) -> Iterator[Path]:
    for directory, subdirectories, names in os.walk(shelf):
        subdirectories[:] = [name for name in subdirectories if name not in SKIPPED]
        for name in names:
            path = Path(directory, name)
            if path.suffix == ".py" and path.is_file():
                yield path
