"""The documentation tells the truth: its links lead somewhere, its commands run, its files are those written."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from coserver.cli.starter import starter
from tests.site.live import LiveSite, living

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")])
RUN = ["README.md", "docs/tutorial.md"]
"""The pages whose commands are run here."""

PROVED_ELSEWHERE = {
    "make demo": "tests/site/test_librarian.py",
    "make test": "Makefile",
    "make install": "Makefile",
    ".venv/bin/coserver -c examples/librarian/coserver.toml status": "tests/site/test_librarian.py",
    ".venv/bin/coserver -c examples/librarian/coserver.toml jobs list --state failed": "tests/site/test_librarian.py",
}
ON_PATH = 'export PATH="$PWD/.venv/bin:$PATH"'


class Block(NamedTuple):
    language: str
    text: str


def blocks(page: Path) -> list[Block]:
    return [Block(*found) for found in re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), re.M | re.S)]


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_link_within_the_project_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if "://" not in target and not target.startswith("#"):
            assert (page.parent / target.partition("#")[0]).exists(), target


def test_what_the_readme_shows_is_what_init_writes() -> None:
    written = {file.name: file.text for file in starter()}
    shown = {block.language: block.text for block in blocks(ROOT / "README.md")}
    assert shown["python"].removeprefix("# tasks.py\n") == written["tasks.py"]
    lines = [line.partition("#")[0].rstrip() for line in written["coserver.toml"].splitlines()]
    assert shown["toml"].split() == " ".join(lines).split()


def script(page: Path) -> Iterator[str]:
    """Yield shell commands that do what the page says: its commands, and files that it shows by name."""
    for block in blocks(page):
        first, _, rest = block.text.partition("\n")
        if block.language == "sh":
            yield from (
                line for line in block.text.splitlines() if line != ON_PATH and line not in PROVED_ELSEWHERE
            )
        elif block.language == "toml" and first == "# coserver.toml, appended":
            yield f"cat >> coserver.toml <<'END'\n{rest}END"
        elif block.language == "python" and re.fullmatch(r"# \w+\.py", first):
            yield f"cat > {first[2:]} <<'END'\n{rest}END"


def test_the_commands_that_are_not_run_here_are_proved_where_it_says() -> None:
    said = {line for page in RUN for block in blocks(ROOT / page) for line in block.text.splitlines()}
    for line, proof in PROVED_ELSEWHERE.items():
        assert line in said, line
        assert (ROOT / proof).exists(), proof


@pytest.fixture
def hello(tmp_path: Path) -> Iterator[LiveSite]:
    """The site that the pages make, ended whatever happens."""
    directory = tmp_path / "hello"
    yield from living(directory)


@pytest.mark.parametrize("page", RUN)
def test_every_command_of_the_page_runs(page: str, hello: LiveSite, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    programs = tmp_path / "programs"
    programs.mkdir()
    if shutil.which("curl") is None:
        fetch = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1]).read().decode())"
        (programs / "curl").write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{fetch}" "$1"\n')
        (programs / "curl").chmod(0o755)
    commands = "\n".join(script(ROOT / page)).replace("127.0.0.1:8000", f"127.0.0.1:{port}")
    path = os.pathsep.join([str(Path(sys.executable).parent), str(programs), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-exuo", "pipefail", "-c", commands],
        cwd=tmp_path,
        env=hello.environment() | {"PATH": path, "PORT": str(port)},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=110,
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}\n{hello.node_log()[-2000:]}"
    assert "has counted 3 words" in done.stdout
    assert hello.store.exists()
