"""Fixtures of the machine's floor."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.host.keeping import Site


@pytest.fixture
def make_site(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """Makes real keepers in directories of their own, and leaves nothing of them behind."""
    made: list[Site] = []

    def make(**settings: float) -> Site:
        directory = tmp_path / f"site{len(made)}"
        directory.mkdir()
        made.append(Site(directory, **settings))
        return made[-1]

    yield make
    for site in made:
        site.clear()


@pytest.fixture
def site(make_site: Callable[..., Site]) -> Site:
    """One keeper with short times."""
    return make_site()
