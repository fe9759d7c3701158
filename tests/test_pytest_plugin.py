"""The pytest plugin, as a user's test run sees it: in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Run pytest over some files and return what it printed and how it ended."""
    monkeypatch.setenv("COSERVER_STORE", f"sqlite:{tmp_path / 'production.db'}")

    def run(*options: str, **files: str) -> tuple[int, str]:
        for name, text in files.items():
            (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
        (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--strict-config", *options],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
        return done.returncode, done.stdout + done.stderr

    return run


SHOP = """
import coserver
from coserver import task

@task
def resize(path: str, size: int = 200) -> str:
    return f"{path}@{size}"

def upload() -> None:
    resize.submit("a.png")
"""


def test_the_fixture_gives_a_test_its_own_store(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    status, said = run(
        shop=SHOP,
        test_shop="""
            import shop

            def test_upload(coserver_jobs):
                shop.upload()
                job = coserver_jobs.assert_submitted(shop.resize, "a.png")
                assert coserver_jobs.drain() == 1
                assert job.result() == "a.png@200"

            def test_another(coserver_jobs):
                assert coserver_jobs.submitted() == []
        """,
    )
    assert (status, "2 passed" in said) == (0, True), said
    assert not (tmp_path / "production.db").exists()


def test_outside_the_fixture_no_store_is_touched_unasked(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    status, said = run(
        shop=SHOP + "\ncoserver.configure(store='sqlite:configured.db')\n",
        test_shop="""
            import threading
            import coserver, pytest, shop

            def test_upload():
                with pytest.raises(coserver.NotConfigured, match="cannot submit in a test: .*coserver_jobs fixture"):
                    shop.upload()

            def test_upload_in_a_thread():
                raised = []
                def call():
                    try:
                        shop.upload()
                    except coserver.NotConfigured as error:
                        raised.append(error)
                thread = threading.Thread(target=call)
                thread.start()
                thread.join()
                assert raised

            def test_own_store(tmp_path):
                with coserver.Client(f"sqlite:{tmp_path / 'own.db'}") as client, coserver.using(client):
                    shop.upload()
                    assert len(client.jobs()) == 1
        """,
    )
    assert (status, "3 passed" in said) == (0, True), said
    assert not (tmp_path / "production.db").exists()
    assert not (tmp_path / "configured.db").exists()


def test_the_guard_can_be_switched_off(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    status, said = run(
        "-o",
        "coserver_guard=false",
        shop=SHOP,
        test_shop="""
            import shop

            def test_upload():
                shop.upload()
        """,
    )
    assert (status, "1 passed" in said) == (0, True), said
    assert (tmp_path / "production.db").exists()


def test_starting_pytest_imports_nothing_heavy(run) -> None:  # type: ignore[no-untyped-def]
    status, said = run(
        test_light="""
            import sys

            def test_light():
                heavy = ("apsw", "msgspec", "psycopg", "coserver.client", "coserver.store", "coserver.testing")
                assert [name for name in heavy if name in sys.modules] == []
        """
    )
    assert status == 0, said


def test_the_fixture_is_documented(run) -> None:  # type: ignore[no-untyped-def]
    _, said = run("--fixtures", test_none="")
    assert "coserver_jobs" in said
    assert "The jobs that the test submits" in said
