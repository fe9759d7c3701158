"""What a node remembers by itself."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from coserver.errors import StoreUnavailable
from coserver.model.service import End
from coserver.store.local import ENDS_KEPT, Intent, LocalState


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "node.db"


def reopened(path: Path, state: LocalState) -> LocalState:
    state.close()
    return LocalState(path)


def test_intents_outlive_the_node_and_the_last_one_holds(path: Path) -> None:
    state = LocalState(path)
    state.intend("web", Intent("stopped", "ann", 5))
    state.intend("mail/2", Intent("stopped", "ann", 6))
    state.intend("web", Intent("running", "bob", 7))
    state = reopened(path, state)
    assert state.intents() == {"web": Intent("running", "bob", 7), "mail/2": Intent("stopped", "ann", 6)}
    state.drop_intent("mail/2")
    assert set(state.intents()) == {"web"}
    state.forget_intents()
    assert state.intents() == {}
    state.close()


def test_run_numbers_and_states_of_rest_outlive_the_node(path: Path) -> None:
    state = LocalState(path)
    state.begin("web/1", 1)
    state.rest("web/1", 1, "asleep")
    state.begin("web/2", 9)
    state = reopened(path, state)
    assert state.slots() == {"web/1": (1, "asleep"), "web/2": (9, None)}
    state.begin("web/1", 2)
    assert state.slots()["web/1"] == (2, None)
    state.close()


def test_an_end_that_is_told_twice_is_recorded_once_and_only_the_last_are_kept(path: Path) -> None:
    state = LocalState(path)
    for run in range(1, ENDS_KEPT + 10):
        state.ended("web/1", run, End(at=run, status=3))
        state.ended("web/1", run, End(at=run + 1, status=4))
    ends = list(state.ends("web/1"))
    assert len(ends) == ENDS_KEPT
    assert ends[0] == (ENDS_KEPT + 9, End(at=ENDS_KEPT + 9, status=3))
    state.close()


def test_a_write_does_not_wait_for_the_disk(path: Path) -> None:
    state = LocalState(path)
    assert (state._db.pragma("journal_mode"), state._db.pragma("synchronous")) == ("wal", 1)
    state.close()


def test_the_secret_is_made_once(path: Path) -> None:
    state = LocalState(path)
    secret = state.secret()
    state = reopened(path, state)
    assert state.secret() == secret and len(secret) == 32
    state.close()


def test_a_file_that_is_no_database_is_said(path: Path) -> None:
    path.write_text("no database at all, but long enough to be taken for one" * 50)
    with pytest.raises(StoreUnavailable, match="cannot open the node's own state"):
        LocalState(path)


def test_nobody_else_may_read_it_whatever_the_umask_is_or_was(path: Path) -> None:
    before = os.umask(0)
    try:
        for _ in range(2):
            state = LocalState(path)
            state.secret()
            files = sorted(path.parent.iterdir())
            assert [(file.name, file.stat().st_mode & 0o777) for file in files] == [
                (name, 0o600) for name in ("node.db", "node.db-shm", "node.db-wal")
            ]
            state.close()
            path.chmod(0o644)
    finally:
        os.umask(before)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_may_not_be_written_is_named_with_the_mend(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StoreUnavailable, match="make its directory writable"):
        LocalState(tmp_path / "node.db")
    tmp_path.chmod(0o700)
