"""The page on generic tasks: its site comes up, its commands run, and they return what it says."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.site.live import LiveSite, living
from tests.test_docs import ROOT, blocks

PAGE = ROOT / "docs" / "how-to" / "generic-tasks.md"
# `up` waits until a foreign program runs, not until it listens.
WAIT = """python -c '
import socket, sys, time
for port in map(int, sys.argv[1:]):
    for _ in range(3000):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.01)
' 8642 8643"""


@pytest.fixture
def page_site(tmp_path: Path) -> Iterator[LiveSite]:
    yield from living(tmp_path / "site")


def free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def test_j4_every_command_of_the_page_runs(page_site: LiveSite) -> None:
    """J4."""
    page_site.directory.mkdir()
    lines: list[str] = []
    replaced = dict(zip(("8642", "8643"), map(str, free_ports(2)), strict=True))

    def own(text: str) -> str:
        for port, ours in replaced.items():
            text = text.replace(port, ours)
        return text

    for block in blocks(PAGE):
        first = block.text.partition("\n")[0].removeprefix("# ")
        if block.language == "sh":
            lines += block.text.splitlines()
        elif first.endswith((".py", ".toml")):
            (page_site.directory / first).write_text(own(block.text))
    lines.insert(lines.index("coserver up -d") + 1, WAIT)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", own("\n".join(lines))],
        cwd=page_site.directory,
        env=page_site.environment() | {"PATH": path, "NO_PROXY": "*"},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=110,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{page_site.node_log()[-2000:]}"
    for part in (
        '"status": 200',
        "from xmlrpc.server import",
        "it answers 200",
        "\n42\n",
        r'"stdout": "3\n"',
        '"tea"',
    ):
        assert part in done.stdout, f"{part}: {done.stdout}"
