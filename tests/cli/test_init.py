"""`coserver init`: what it writes, and what it leaves alone."""

from __future__ import annotations

import os
import pty
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from coserver.cli.main import main
from coserver.config import Site, load
from tests.cli.test_detect import CASES, DJANGO, project


class Said(NamedTuple):
    code: int
    out: str
    err: str


class Init:
    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *words: str | Path) -> Said:
        with pytest.raises(SystemExit) as left:
            main(["init", *map(str, words)])
        said = self._capsys.readouterr()
        return Said(int(left.value.code or 0), said.out, said.err)


@pytest.fixture
def init(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Init:
    monkeypatch.delenv("COSERVER_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    return Init(capsys)


def checked(directory: Path) -> Site:
    nowhere = directory / "nowhere"
    return load(directory / "coserver.toml", environ={}, cwd=directory, node_file=nowhere, site_file=nowhere)


@pytest.mark.parametrize("case", CASES)
def test_what_is_written_for_an_application_is_a_valid_site(init: Init, tmp_path: Path, case: str) -> None:
    files, (_, interface, reference, root) = CASES[case]
    assert init(project(tmp_path, files)).code == 0
    site = checked(tmp_path)
    web = site.services["web"]
    assert (web.asgi or web.wsgi) == reference
    assert (web.asgi is not None) == (interface == "asgi")
    assert web.path == (tmp_path / root,)
    assert str(web.bind) == "tcp:127.0.0.1:8000"


def test_a_factory_gets_a_module_that_calls_it(init: Init, tmp_path: Path) -> None:
    source = "from flask import Flask\ndef create_app():\n    return Flask('x')\n"
    assert init(project(tmp_path, {"src/shop/__init__.py": source})).code == 0
    web = checked(tmp_path).services["web"]
    assert web.wsgi == "coserver_app:app"
    assert web.path == (tmp_path / "src", tmp_path)
    assert "from shop import create_app" in (tmp_path / "coserver_app.py").read_text()


def test_tasks_that_are_there_get_a_worker(init: Init, tmp_path: Path) -> None:
    files = DJANGO | {"jobs.py": "from coserver import task\n\n@task\ndef a() -> None: ...\n"}
    assert init(project(tmp_path, files)).code == 0
    site = checked(tmp_path)
    assert site.services["web"].wsgi == "shop.wsgi:application"
    assert site.services["worker"].tasks == ("jobs",)
    assert dict(site.services["worker"].queues) == {"default": 4}


def test_a_named_application_goes_before_what_is_found(init: Init, tmp_path: Path) -> None:
    project(
        tmp_path, {"main.py": "from flask import Flask\napp = Flask('x')\n", "src/shop/web.py": "site = 1\n"}
    )
    assert init("--asgi", "shop.web:site").code == 0
    web = checked(tmp_path).services["web"]
    assert (web.asgi, web.path) == ("shop.web:site", (tmp_path / "src",))


@pytest.mark.parametrize(
    "words", [["--asgi", "shop"], ["--wsgi", "a:b;c"], ["--asgi", "a:b", "--wsgi", "a:b"]]
)
def test_an_application_named_wrongly_is_refused(init: Init, tmp_path: Path, words: list[str]) -> None:
    said = init(*words)
    assert said.code == 2
    assert "cannot" in said.err
    assert list(tmp_path.iterdir()) == []


def test_an_empty_directory_gets_a_starter_site(init: Init, tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "README.md").write_text("mine")
    said = init()
    assert said.code == 0
    assert "coserver up" in said.err
    assert ".coserver/" in said.err  # what to keep out of version control
    site = checked(tmp_path)
    assert site.services["web"].asgi == "web:app"
    assert site.services["worker"].tasks == ("tasks",)
    assert (tmp_path / "README.md").read_text() == "mine"


def test_a_directory_that_does_not_exist_is_made(init: Init, tmp_path: Path) -> None:
    said = init("new/shop")
    assert said.code == 0
    assert "cd new/shop" in said.err
    assert list(checked(tmp_path / "new" / "shop").services) == ["web", "worker"]


def test_a_dry_run_shows_everything_and_writes_nothing(init: Init, tmp_path: Path) -> None:
    said = init("--dry-run", "new")
    assert said.code == 0
    assert "[service.web]" in said.out
    assert "def count_words" in said.out
    assert not (tmp_path / "new").exists()


def test_nothing_that_exists_is_overwritten(init: Init, tmp_path: Path) -> None:
    (tmp_path / "coserver.toml").write_text("# mine\n")
    said = init()
    assert said.code == 1
    assert "it exists" in said.err
    assert (tmp_path / "coserver.toml").read_text() == "# mine\n"
    (tmp_path / "coserver.toml").unlink()

    source = "from flask import Flask\ndef create_app():\n    return Flask('x')\n"
    project(tmp_path, {"shop.py": source, "coserver_app.py": "# mine\n"})
    said = init()
    assert said.code == 1
    assert "coserver_app.py: it exists" in said.err
    assert not (tmp_path / "coserver.toml").exists()


def test_a_site_in_pyproject_is_left_to_it(init: Init, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.coserver.site]\nname = "a"\n')
    said = init()
    assert said.code == 1
    assert "[tool.coserver]" in said.err


def test_without_an_application_it_says_how_to_name_one(init: Init, tmp_path: Path) -> None:
    (tmp_path / "notes.py").write_text("print('hello')\n")
    said = init()
    assert said.code == 1
    assert "--asgi" in said.err
    assert not (tmp_path / "coserver.toml").exists()


def test_a_file_instead_of_a_directory_is_refused(init: Init, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    said = init("file")
    assert said.code == 2
    assert "it is a file" in said.err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_that_may_not_be_written_is_said(init: Init, tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    said = init("closed")
    assert said.code == 6
    assert "Permission denied" in said.err


def test_a_foreign_environment_of_the_project_is_told(init: Init, tmp_path: Path) -> None:
    project(tmp_path, {"main.py": "from flask import Flask\napp = Flask('x')\n", ".venv/pyvenv.cfg": ""})
    assert f"{tmp_path}/.venv/bin/python -m pip install coserver" in init().err


@pytest.mark.parametrize(("answer", "code", "written"), [(b"n\n", 0, False), (b"y\n", 0, True)])
def test_in_a_terminal_it_asks_first(tmp_path: Path, answer: bytes, code: int, written: bool) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        os.execv(sys.executable, [sys.executable, "-m", "coserver", "init"])
    said = b""
    with os.fdopen(terminal, "r+b", buffering=0) as both:
        while b"[Y/n]" not in said:
            said += both.read(4096)
        both.write(answer)
        try:
            while more := both.read(4096):
                said += more
        except OSError:  # how Linux tells that the other side has gone
            pass
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == code
    assert (tmp_path / "coserver.toml").exists() == written
    assert (b"Nothing was written" in said) != written


def test_the_file_that_c_names_is_the_one_written(
    capsys: pytest.CaptureFixture[str], init: Init, tmp_path: Path
) -> None:
    def with_c(*words: str) -> Said:
        with pytest.raises(SystemExit) as left:
            main(["-c", *words])
        said = capsys.readouterr()
        return Said(int(left.value.code or 0), said.out, said.err)

    assert with_c("new/shop.toml", "init").code == 2
    assert with_c("new/coserver.toml", "init", "old").code == 2
    assert list(tmp_path.iterdir()) == []
    assert with_c("new/coserver.toml", "init", "new").code == 0
    (tmp_path / "new" / "coserver.toml").unlink()
    (tmp_path / "new" / "web.py").unlink()
    (tmp_path / "new" / "tasks.py").unlink()
    assert with_c("new/coserver.toml", "init").code == 0
    assert list(checked(tmp_path / "new").services) == ["web", "worker"]
    assert not (tmp_path / "coserver.toml").exists()


def test_a_variable_that_names_another_file_is_pointed_out(
    init: Init, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COSERVER_CONFIG", "/etc/shop.toml")
    said = init("site")
    assert said.code == 0
    assert "COSERVER_CONFIG names /etc/shop.toml, and other verbs use that." in said.err
    assert f"This writes {tmp_path}/site/coserver.toml" in said.err
    assert f"Wrote {tmp_path}/site/coserver.toml, " in said.err
    monkeypatch.setenv("COSERVER_CONFIG", "other/coserver.toml")
    assert "COSERVER_CONFIG" not in init("other").err
