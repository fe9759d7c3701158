"""Where a value came from, what was wrong with it, and the one error that lists everything wrong at once."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from coserver.errors import UsageError

Kind = Literal["file", "profile", "node", "environment", "default"]

KeyPath = tuple[str | int, ...]
"""Names of tables and keys from the root, with integers for places in a list."""

_BARE = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


def dotted(path: KeyPath) -> str:
    """Write a key path as TOML would: `service.web.path[0]`, `service."odd name".command`."""
    written = ""
    for part in path:
        if isinstance(part, int):
            written += f"[{part}]"
        else:
            name = (
                part if _BARE.fullmatch(part) else '"' + part.replace("\\", "\\\\").replace('"', '\\"') + '"'
            )
            written += f".{name}" if written else name
    return written


@dataclass(frozen=True, slots=True)
class Origin:
    """The place that states a value.

    `name` is what people are shown: a file's path (relative to the working directory where that is shorter), or the
    environment variable that overrides the key. `line` and `column` count from 1; 0 is unknown. Relative paths in
    the value resolve against `base`. `via` names the environment variables whose text was substituted into the
    value, and `secret` the file that it was read from.
    """

    kind: Kind
    name: str
    base: Path
    line: int = 0
    column: int = 0
    via: tuple[str, ...] = ()
    secret: Path | None = None

    def at(self, line: int, column: int) -> Origin:
        """Return the same source at another line and column."""
        return replace(self, line=line, column=column)

    @property
    def place(self) -> str:
        """The source and line alone, as compilers print them: `coserver.toml:12`."""
        return f"{self.name}:{self.line}" if self.line else self.name

    def __str__(self) -> str:
        notes = [f"${{{name}}}" for name in self.via]
        if self.secret is not None:
            notes.append(f"file {self.secret}")
        return f"{self.place} via {', '.join(notes)}" if notes else self.place


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a configuration.

    `file` is the file (or environment variable) as people know it, empty if no single one is at fault; `line` and
    `column` count from 1 and are 0 where unknown; `key` is the dotted key path, empty for a whole file; `message`
    names the cause and ends with what mends it.
    """

    file: str
    line: int
    column: int
    key: str
    message: str

    @classmethod
    def of(cls, origin: Origin, key: str, message: str) -> Problem:
        return cls(origin.name, origin.line, origin.column, key, message)

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.file and self.line else self.file
        return ": ".join(part for part in (place, self.key, self.message) if part)


class ConfigError(UsageError):
    """The configuration cannot be used; `problems` lists every reason, in the order of files and lines."""

    code = "configuration"

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


class Problems:
    """Collects what is wrong until everything has been looked at."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, int, int, str], Problem] = {}
        self._spoiled: set[tuple[str, int, int]] = set()

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, origin: Origin, path: KeyPath, message: str) -> None:
        """Add a problem, unless the same place was already blamed for the same thing.

        A value stated in `[defaults.service]` is checked in every service that inherits it; it is one problem.
        """
        where = (origin.name, origin.line, origin.column)
        if where not in self._spoiled:
            self._found.setdefault((*where, message), Problem.of(origin, dotted(path), message))

    def spoil(self, origin: Origin) -> None:
        """Take no further problem at a place: what it means is unknown."""
        self._spoiled.add((origin.name, origin.line, origin.column))

    def take(self, error: ConfigError) -> None:
        """Add everything that another step has found."""
        for problem in error.problems:
            self._found.setdefault((problem.file, problem.line, problem.column, problem.message), problem)

    def raise_any(self) -> None:
        """Raise `ConfigError` if there is any problem, sorted by file and line."""
        if self._found:
            raise ConfigError(
                tuple(sorted(self._found.values(), key=lambda problem: (problem.file, problem.line)))
            )
