"""The pages on submitting and testing: their code runs as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from coserver.tasks.registry import registry
from coserver.testing import Jobs, private_jobs

PAGES = Path(__file__).parent.parent / "docs" / "how-to"


def blocks(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", (PAGES / page).read_text("utf-8"), re.DOTALL | re.MULTILINE)


def write(block: str, directory: Path) -> Path:
    """Write a block that begins with the name of its file; return the file."""
    path = directory / block.splitlines()[0].removeprefix("# ")
    path.parent.mkdir(exist_ok=True)
    path.write_text(block)
    return path


def keep_draining(jobs: Jobs, stop: threading.Event) -> None:
    while not stop.wait(0.01):
        jobs.drain(raise_errors=False)


def test_the_page_on_submitting_says_what_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    before = dict(registry._by_name)
    declared, *steps = blocks("submit-jobs.md")
    write(declared, tmp_path)
    (tmp_path / "shop" / "__init__.py").touch()
    printed: list[str] = []
    names: dict[str, Any] = {"print": lambda value: printed.append(str(value))}
    stop = threading.Event()
    try:
        with private_jobs(tmp_path) as jobs:
            exec(steps[0], names)
            worker = threading.Thread(target=keep_draining, args=(jobs, stop))
            worker.start()
            try:
                for step in steps[1:]:
                    exec(step, names)
                    for code, said in re.findall(r'^(job\.result\(.*\)) +# (".*")$', step, re.MULTILINE):
                        assert eval(code, names) == eval(said)
            finally:
                stop.set()
                worker.join()
            delayed = jobs.submitted("shop.jobs:send")[0].job.info()
    finally:
        registry._by_name = before
        for name in [name for name in sys.modules if name.partition(".")[0] == "shop"]:
            del sys.modules[name]
    assert (delayed.state.name, delayed.priority.name, delayed.queue) == ("SCHEDULED", "HIGH", "mail")
    promised = re.findall(r"print\(error\)  # (.*)$", "\n".join(steps), re.MULTILINE)
    assert printed == promised != []


def test_the_page_on_testing_has_tests_that_pass(tmp_path: Path) -> None:
    for block in blocks("test-your-tasks.md"):
        write(block, tmp_path)
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    for command in (
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        [sys.executable, "other.py"],
    ):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=100)
        assert done.returncode == 0, done.stdout + done.stderr
