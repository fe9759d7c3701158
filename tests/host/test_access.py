"""What another user may do is what the kernel says of that user."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from coserver.host.access import may
from coserver.host.users import Account, account


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that everybody may enter."""
    place = Path(tempfile.mkdtemp())
    place.chmod(0o755)
    yield place
    shutil.rmtree(place)


def myself() -> Account:
    return account(str(os.geteuid()))


def test_what_we_may_ourselves(place: Path) -> None:
    (place / "file").touch(mode=0o600)
    assert may(myself(), "read", place / "file") is True
    assert may(myself(), "execute", place / "file") is False
    assert may(myself(), "enter", place) is True
    assert may(myself(), "write", place / "absent") is False


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
def test_owner_groups_and_every_directory_above_count(place: Path) -> None:
    nobody = account("nobody")
    file = place / "file"
    file.touch(mode=0o600)
    assert may(nobody, "read", file) is False
    os.chown(file, nobody.uid, -1)
    assert may(nobody, "read", file) is True
    os.chown(file, 0, 4)
    file.chmod(0o640)
    assert may(nobody, "read", file) is False
    assert may(replace(nobody, groups=(4,)), "read", file) is True
    assert may(replace(nobody, groups=(4,)), "write", file) is False
    place.chmod(0o700)
    assert may(replace(nobody, groups=(4,)), "read", file) is False


def test_what_cannot_be_found_out_is_none(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    assert may(account("root"), "read", place) is None
