"""Fixtures for tests with real sites."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.site.live import LiveSite, living


@pytest.fixture
def site(tmp_path: Path) -> Iterator[LiveSite]:
    """A real site in a fresh directory."""
    yield from living(tmp_path)
