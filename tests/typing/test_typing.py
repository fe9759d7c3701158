"""The public types, on code as users write it: mypy strict and pyright strict."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

CODE = Path(__file__).with_name("user_code.py")


def checked(*command: str, cwd: Path) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", *command], capture_output=True, text=True, check=False, cwd=cwd
    )
    return done.returncode, done.stdout + done.stderr


def test_user_code_passes_mypy_strict(tmp_path: Path) -> None:
    status, said = checked(
        "mypy", "--strict", "--config-file=", f"--cache-dir={tmp_path}", str(CODE), cwd=tmp_path
    )
    assert status == 0, said


@pytest.mark.timeout(300)
def test_user_code_passes_pyright_strict(tmp_path: Path) -> None:
    rules = {
        "typeCheckingMode": "strict",
        "enableTypeIgnoreComments": False,
        "reportUnnecessaryTypeIgnoreComment": "error",
    }
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(rules))
    (tmp_path / CODE.name).write_text(CODE.read_text("utf-8"))
    status, said = checked("pyright", f"--pythonpath={sys.executable}", CODE.name, cwd=tmp_path)
    assert status == 0, said
