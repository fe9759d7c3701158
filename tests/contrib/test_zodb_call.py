"""`zodb-call` on a real FileStorage: transactions, conflicts, and a file that is free between calls."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import transaction
from zc.lockfile import LockError
from ZODB.DB import DB
from ZODB.FileStorage import FileStorage

from coserver.contrib.generic.zodb_call import ATTEMPTS, ZodbRefused, _databases, zodb_call
from coserver.testing import Jobs
from tests.contrib import shelves

SHELVES = "tests.contrib.shelves:"


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return f"file://{tmp_path / 'data.fs'}"


def call(uri: str, function: str, *args: Any) -> Any:
    return zodb_call(uri, SHELVES + function, list(args))


def test_j4_a_job_runs_a_function_in_a_transaction(uri: str, tmp_path: Path, coserver_jobs: Jobs) -> None:
    """J4."""
    client = coserver_jobs.client
    first = client.submit("zodb-call", [uri, SHELVES + "put", ["tea", {"grams": 100}]])
    second = client.submit("zodb-call", [uri, "tests.contrib.shelves.get", ["tea"]])
    assert coserver_jobs.drain() == 2
    assert (first.result(), second.result()) == (1, {"grams": 100})
    # Another program sees it, for the file was closed.
    database = DB(FileStorage(str(tmp_path / "data.fs")))
    with database.transaction() as connection:
        assert dict(connection.root()["shelf"]) == {"tea": {"grams": 100}}
    database.close()


def test_what_a_function_raises_undoes_its_changes(uri: str) -> None:
    call(uri, "put", "tea", 1)
    with pytest.raises(LookupError, match="milk"):
        call(uri, "put_and_fail", "milk")
    assert call(uri, "put", "coffee", 1) == 2


def test_a_result_that_cannot_be_kept_undoes_the_changes(uri: str) -> None:
    with pytest.raises(TypeError, match="cannot keep the result"):
        call(uri, "put_and_return_it", "tea")
    assert call(uri, "put", "coffee", 1) == 1


def test_conflicts_are_tried_again_on_fresh_objects(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelves, "barrier", threading.Barrier(2))
    monkeypatch.setattr(shelves, "starts", [])
    with ThreadPoolExecutor(2) as threads:
        found = sorted(threads.map(lambda _: call(uri, "meet"), range(2)))
    assert found == [1, 2]
    assert len(shelves.starts) == 3
    assert call(uri, "count") == 3


def test_many_at_once_share_the_database_and_lose_nothing(uri: str) -> None:
    with ThreadPoolExecutor(3) as threads:
        done = list(threads.map(lambda name: call(uri, "put", f"n{name}", name), range(30)))
    assert len(done) == 30
    assert call(uri, "put", "last", 1) == 31
    assert _databases._open == {}


def test_conflicts_without_end_are_an_error(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelves, "starts", [])
    with pytest.raises(transaction.interfaces.TransientError):
        call(uri, "always_in_conflict")
    assert len(shelves.starts) == ATTEMPTS


def test_a_file_that_another_holds_is_worth_another_attempt(
    uri: str, tmp_path: Path, coserver_jobs: Jobs
) -> None:
    job = coserver_jobs.client.submit("zodb-call", [uri, SHELVES + "put", ["a", 1]], retries=1)
    holder = FileStorage(str(tmp_path / "data.fs"))
    try:
        assert coserver_jobs.drain(raise_errors=False) == 1
    finally:
        holder.close()
    assert coserver_jobs.drain(advance="10m") == 1
    assert job.result() == 1
    with pytest.raises(LockError):
        holder = FileStorage(str(tmp_path / "data.fs"))
        try:
            call(uri, "count")
        finally:
            holder.close()


@pytest.mark.parametrize(
    ("function", "part"),
    [
        ("no_such_module:put", "No module named 'no_such_module'"),
        ("tests.contrib.shelves:no_such", "has no attribute 'no_such'"),
        ("tests.contrib.shelves:not_callable", "it is no function"),
        ("not a name", "write module:function"),
        ("", "write module:function"),
    ],
)
def test_a_function_that_is_not_there_is_refused_for_good(
    uri: str, coserver_jobs: Jobs, function: str, part: str
) -> None:
    job = coserver_jobs.client.submit("zodb-call", [uri, function], retries=5)
    assert coserver_jobs.drain(raise_errors=False, advance="1d") == 1
    error = job.info().error
    assert error is not None
    assert error.type.endswith("ZodbRefused")
    assert part in error.message


@pytest.mark.parametrize("wrong", ["", "data.fs", "mongo://x", "file:///tmp/x.fs?no_such=1"])
def test_a_uri_that_is_none_is_refused(wrong: str) -> None:
    with pytest.raises(ZodbRefused, match="cannot open the ZODB"):
        call(wrong, "count")
