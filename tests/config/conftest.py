from __future__ import annotations

from pathlib import Path

import pytest

from tests.config.sites import Desk


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    (tmp_path / ".git").mkdir()
    return Desk(tmp_path)
