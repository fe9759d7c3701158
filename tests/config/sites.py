"""Writing and loading configurations in tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent

from coserver.config import ConfigError, Site, load

NOWHERE = Path("/nonexistent/coserver")


class Desk:
    """A directory to write configuration files into, isolated from the machine's own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environ: dict[str, str] = {}

    def write(self, text: str, name: str = "coserver.toml") -> Path:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text).lstrip("\n"))
        return path

    def load(
        self,
        text: str | None = None,
        *,
        path: Path | None = None,
        profile: str | None = None,
        environ: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        node_file: Path = NOWHERE,
        site_file: Path = NOWHERE,
    ) -> Site:
        if text is not None:
            path = self.write(text)
        return load(
            path,
            profile=profile,
            environ=self.environ if environ is None else environ,
            cwd=cwd or self.directory,
            node_file=node_file,
            site_file=site_file,
        )

    def problems(self, text: str | None = None, **arguments: object) -> list[str]:
        """Load what must be refused, and return the problems as people see them."""
        try:
            site = self.load(text, **arguments)  # type: ignore[arg-type]
        except ConfigError as error:
            assert str(error) == "\n".join(map(str, error.problems))
            return [str(problem) for problem in error.problems]
        raise AssertionError(f"nothing was refused: {site}")
