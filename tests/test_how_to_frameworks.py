"""The pages on frameworks and transactions: their code is what runs here, with the real frameworks."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.site.live import COSERVER, LiveSite, living
from tests.test_docs import ROOT, blocks
from tests.test_how_to_generic import free_ports

PAGES = ROOT / "docs" / "how-to"
CURL = """#!{python}
import sys, urllib.request
words, data, headers = sys.argv[1:], None, {{}}
while len(words) > 1:
    word = words.pop(0)
    if word == "-d":
        data = words.pop(0).encode()
    elif word == "-H":
        name, _, value = words.pop(0).partition(": ")
        headers[name] = value
print(urllib.request.urlopen(urllib.request.Request(words[0], data, headers), timeout=30).read().decode())
"""


@pytest.fixture
def page_site(tmp_path: Path) -> Iterator[LiveSite]:
    for site in living(tmp_path / "site"):
        site.directory.mkdir()
        yield site


def write_files(page: str, directory: Path) -> None:
    """Write the files that the page shows by name."""
    for block in blocks(PAGES / page):
        first, _, rest = block.text.partition("\n")
        found = re.fullmatch(r"# ([\w/]+\.(?:py|toml))(, appended)?", first)
        if found is not None:
            path = directory / found[1]
            path.parent.mkdir(exist_ok=True)
            path.write_text((path.read_text() if found[2] else "") + rest)


def run_commands(page: str, site: LiveSite) -> None:
    """Run the page's commands one by one; what stands behind one as a comment is what it prints."""
    (port,) = free_ports(1)
    programs = site.directory.parent / "programs"
    programs.mkdir()
    (programs / "curl").write_text(CURL.format(python=sys.executable))
    (programs / "curl").chmod(0o755)
    path = f"{programs}:{Path(sys.executable).parent}:{site.environment()['PATH']}"
    toml = site.directory / "coserver.toml"
    toml.write_text(toml.read_text().replace(":8000", f":{port}"))
    lines = [
        line for block in blocks(PAGES / page) if block.language == "sh" for line in block.text.splitlines()
    ]
    assert lines
    for line in lines:
        command, _, said = line.partition("   # ")
        done = subprocess.run(
            ["bash", "-euc", command.replace(":8000", f":{port}")],
            cwd=site.directory,
            env=site.environment() | {"PATH": path},
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=100,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}\n{site.node_log()[-2000:]}"
        if said:
            assert done.stdout.strip() == said, line


@pytest.mark.parametrize("page", ["fastapi.md", "flask.md"])
def test_the_site_of_the_page_works(page: str, page_site: LiveSite) -> None:
    if page == "flask.md":
        pytest.importorskip("a2wsgi")
    write_files(page, page_site.directory)
    run_commands(page, page_site)


def test_the_django_site_of_the_page_works(page_site: LiveSite) -> None:
    pytest.importorskip("a2wsgi")
    for words in (["startproject", "shop", "."], ["startapp", "photos"]):
        subprocess.run(
            [sys.executable, "-m", "django", *words], cwd=page_site.directory, check=True, timeout=60
        )
    shutil.rmtree(page_site.directory / "photos" / "migrations")
    write_files("django.md", page_site.directory)
    page_site.command = [sys.executable, str(page_site.directory / "manage.py"), "coserver"]
    try:
        run_commands("django.md", page_site)
    finally:
        page_site.command = COSERVER


def test_the_page_on_transactions_says_what_happens(tmp_path: Path) -> None:
    write_files("transactions.md", tmp_path)
    steps = [
        block.text
        for block in blocks(PAGES / "transactions.md")
        if block.language == "python" and not block.text.startswith("# ")
    ]
    url = "sqlite:shop.db?driver=sqlite3"
    worker = (
        "import threading\nfrom tests.how_to_worker import work\nstop = threading.Event()\n"
        f"worker = threading.Thread(target=work, args=({url!r}, stop))\n"
    )
    # As the page says, the tables are there before the first transaction.
    begin = f"from coserver import Client\nwith Client({url!r}) as client:\n    client.counts()\n"
    code = "\n".join(
        [
            begin,
            *steps[:-1],
            worker,
            "worker.start()",
            steps[-1],
            "stop.set()",
            "worker.join()",
            "connection.close(); client.close(); engine.dispose()",
        ]
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": f"{tmp_path}:{ROOT}", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    promised = re.findall(r"^print\(.*\)  # (.*)$", "\n".join(steps), re.MULTILINE)
    assert done.stdout.splitlines() == promised != []
