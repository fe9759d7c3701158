"""Lines of one job among those of others."""

from __future__ import annotations

import json
from typing import Any

import pytest

from coserver.host.log_jobs import OfJob
from coserver.host.logs import Record


def line(data: bytes, **more: Any) -> Record:
    return Record(None, "mail/1", "out", data, **more)


@pytest.mark.parametrize(
    "data",
    [
        b"job=7 INFO shop: sent",
        b"job=7",
        b"job=007",
        b"2026-01-31 12:00 WARNING job=7 wrong",
        b'{"message": "sent", "job": 7}',
        b'{"job_id":7}',
        b'{"job_id": "7", "message": "by somebody else\'s formatter"}',
    ],
)
def test_a_line_that_names_the_job_is_its_line(data: bytes) -> None:
    assert OfJob(7)(line(data))


@pytest.mark.parametrize(
    "data",
    [
        b"job=70 INFO shop: sent",
        b"job=5 INFO shop: after job=7",
        b"INFO shop: prejob=7",
        b"job=7-b",
        b"",
        b"{",
        b'{"message": "job=7"}',
        b'{"message": "\\"job\\": 7"}',
        b'{"context": {"job": 7}}',
        b'{"job": 5, "job_id": 7}',
        b'{"job": "seven"}',
        b"job=" + b"7" * 5000,
        b'{"job": ' + b"7" * 5000,
        b'{"job": ' + b"7" * 5000 + b"}",
        b'{"job": 5, "of": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_a_line_that_speaks_of_something_else_is_not(data: bytes) -> None:
    assert not OfJob(7)(line(data))


def test_pieces_of_a_long_line_go_with_its_beginning() -> None:
    of_job = OfJob(7)
    text = json.dumps({"job": 7, "message": "x" * 50}).encode()
    assert of_job(line(text[:20], ends=False))
    assert not of_job(Record(None, "mail/2", "out", b"rest", begins=False))
    assert of_job(line(text[20:40], begins=False, ends=False))
    assert of_job(line(text[40:], begins=False))
    assert not of_job(line(b"another one"))
