"""The files of one site: the main file with what it includes, the profile's overlay, and the host's own settings.

Included files are the main file's equals: what two of them both state is an error that names both places. An overlay
and the host's settings are layers above: they replace.
"""

from __future__ import annotations

import glob
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from coserver.config.discover import PYPROJECT, overlay_path, profiles
from coserver.config.origin import ConfigError, Kind, Origin, Problems
from coserver.config.read import parse, read_text
from coserver.config.substitute import expand
from coserver.config.tree import Items, Leaf, Table, join, overlay


@dataclass(slots=True)
class Sources:
    """Reads the files of one load and remembers which."""

    cwd: Path
    problems: Problems
    files: list[Path] = field(default_factory=list)

    def read(self, path: Path, kind: Kind = "file") -> Table:
        """Return a file's tree; an unreadable one is a problem and reads as empty."""
        origin = Origin(kind, shown(path, self.cwd), path.parent)
        self.files.append(path)
        try:
            return parse(
                read_text(path, origin), origin, ("tool", "coserver") if path.name == PYPROJECT else ()
            )
        except ConfigError as error:
            self.problems.take(error)
            return Table({}, origin)

    def site(self, main: Path, environ: Mapping[str, str]) -> Table:
        """Return the main file joined with every file that it includes."""
        table = self.read(main)
        for path in self._included(main, table, environ):
            below = self.read(path)
            if "include" in below.entries:
                origin = below.entries["include"].origin
                self.problems.add(
                    origin, ("include",), "an included file cannot include others; name them in the main file"
                )
                below = below.without("include")
            joined = join(table, below)
            for conflict in joined.conflicts:
                message = f"stated twice: {conflict.first.place} states it too; remove one of them"
                self.problems.add(conflict.second, conflict.path, message)
            table = joined.table
        return table

    def with_profile(self, table: Table, main: Path, profile: str) -> Table:
        """Lay a profile's overlay over the site's table."""
        known = profiles(main)
        if profile not in known:
            example = overlay_path(main, "NAME").name
            mend = (
                f"known here: {', '.join(known)}"
                if known
                else f"a profile NAME is a file {example} beside {main.name}"
            )
            self.problems.add(Origin("profile", "", main.parent), (), f'no profile "{profile}"; {mend}')
            return table
        above = self.read(overlay_path(main, profile), "profile")
        if "include" in above.entries:
            origin = above.entries["include"].origin
            self.problems.add(
                origin, ("include",), "an overlay cannot include files; name them in the main file"
            )
            above = above.without("include")
        return Table(overlay(table, above).entries, table.origin)

    def with_node(self, table: Table, path: Path) -> Table:
        """Lay the host's own settings over the site's table, if the host has any."""
        try:
            path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return table
        except OSError:
            pass  # it is there: reading it tells why it cannot be read
        above = self.read(path, "node")
        for name, node in above.entries.items():
            if name != "node":
                self.problems.add(
                    node.origin, (name,), "does not belong here; a host's own file holds only [node]"
                )
        return Table(overlay(table, above.only("node")).entries, table.origin)

    def _included(self, main: Path, table: Table, environ: Mapping[str, str]) -> list[Path]:
        stated = table.entries.get("include")
        found: dict[Path, None] = {}
        overlays = {overlay_path(main, name) for name in profiles(main)}
        # Anything but a list of texts is refused by the check of the key itself.
        for item in stated.items if isinstance(stated, Items) else ():
            if not isinstance(item, Leaf) or not isinstance(item.value, str):
                continue
            try:
                pattern = str(main.parent / expand(item.value, environ).text)
            except ValueError:
                continue
            matches = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 (pathlib refuses absolute patterns)
            if not matches and not glob.has_magic(pattern):
                self.problems.add(item.origin, ("include",), f"cannot read {pattern}: no such file")
            for match in matches:
                path = Path(match)
                if path != main and path not in overlays:
                    found[path] = None
        return list(found)


def shown(path: Path, cwd: Path) -> str:
    """Return a path as people at `cwd` know it."""
    return str(path.relative_to(cwd)) if path.is_relative_to(cwd) else str(path)
