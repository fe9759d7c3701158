from __future__ import annotations

import pytest

from tests.runtime import jobs


@pytest.fixture(autouse=True)
def _clean_slate() -> None:
    jobs.reset()
