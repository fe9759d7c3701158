"""`coserver run`: the environment, directory and exit code of a command, which replaces the process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Console

CONFIG = """\
[site]
name = "shop"
store = "sqlite:site.db"
[app]
path = ["lib"]
[service.web]
command = "sleep 1000"
cwd = "data"
env = { GREETING = "hello" }
[service.lost]
command = "sleep 1000"
cwd = "nowhere"
"""


@pytest.fixture(autouse=True)
def config(here: Path) -> None:
    (here / "coserver.toml").write_text(CONFIG)
    (here / "data").mkdir()
    (here / "lib").mkdir()


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "coserver", "run", *words],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"COSERVER_CFG__NODE__NAME": "n", "NOTIFY_SOCKET": "/nowhere"},
    )


def test_a_command_has_the_environment_of_the_site(here: Path) -> None:
    done = run(
        "sh", "-c", 'echo "$COSERVER_SITE|$COSERVER_STORE|$PYTHONPATH|$NOTIFY_SOCKET|$GREETING"; pwd; exit 7'
    )
    assert done.returncode == 7
    first, directory = done.stdout.splitlines()
    site, store, path, *others = first.split("|")
    assert (site, store, others) == ("shop", f"sqlite:{here}/site.db", ["", ""])
    assert path.split(":")[0] == f"{here}/lib"
    assert directory == str(here)


def test_with_a_service_it_has_its_environment_and_directory(here: Path) -> None:
    done = run("--service", "web", "--", "sh", "-c", 'echo "$GREETING"; pwd')
    assert (done.returncode, done.stdout) == (0, f"hello\n{here}/data\n")


def test_options_of_the_command_are_its_own() -> None:
    assert run("echo", "-n", "--service", "x", "--help").stdout == "--service x --help"


def test_an_option_that_run_does_not_have_is_code_2(console: Console) -> None:
    assert console("run", "--sevrice", "web", "true").code == 2


def test_a_directory_that_is_not_there_is_one_line_with_the_mend(console: Console, here: Path) -> None:
    said = console("run", "--service", "lost", "true")
    assert said == (
        2,
        "",
        f"coserver: cannot run in {here}/nowhere: No such file or directory; create it, or correct `cwd` of "
        "service.lost\n",
    )


def test_a_service_that_is_not_there_is_code_4(console: Console) -> None:
    said = console("run", "--service", "wbe", "true")
    assert said.code == 4
    assert 'did you mean "web"' in said.err


def test_a_program_that_is_not_there_is_code_127(console: Console) -> None:
    said = console("run", "no-such-program")
    assert said.code == 127
    assert 'cannot run "no-such-program": no such program' in said.err


def test_a_file_that_is_no_program_is_said(here: Path) -> None:
    (here / "thing").write_text("\x00\x01\x02")
    (here / "thing").chmod(0o755)
    done = run("./thing")
    assert done.returncode == 2
    assert "Exec format error" in done.stderr
    assert "Traceback" not in done.stderr
