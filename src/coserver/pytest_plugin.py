"""The pytest plugin: the fixture `coserver_jobs`, and a guard for everything outside of it.

The guard: code under test may submit jobs, and its settings may well name a real store. So in a test run every submit
is refused unless the test asked for it, by this fixture or by `coserver.using(client)`. The ini option
`coserver_guard = false` switches that off.

pytest loads this module at every start, so it imports next to nothing until the fixture is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from coserver.tasks import binding

if TYPE_CHECKING:
    from coserver.testing import Jobs

REFUSAL = (
    "cannot submit in a test: it would reach the store that the application is configured for; use the coserver_jobs "
    "fixture, or bind a store of the test's own by `with coserver.using(client):`"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the ini option."""
    parser.addini(
        "coserver_guard",
        "refuse submits of jobs that a test did not ask for (default: true)",
        type="bool",
        default=True,
    )


def pytest_configure(config: pytest.Config) -> None:
    """Set the guard for the whole run, imports of test modules included."""
    if config.getini("coserver_guard"):
        guard = ExitStack()
        guard.enter_context(binding.refuse(REFUSAL))
        config.add_cleanup(guard.close)


@pytest.fixture
def coserver_jobs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jobs]:
    """The jobs that the test submits, in a store of its own: `assert_submitted`, `submitted`, `drain`."""
    from coserver.testing import private_jobs

    with private_jobs(tmp_path_factory.mktemp("coserver-jobs")) as jobs:
        yield jobs
