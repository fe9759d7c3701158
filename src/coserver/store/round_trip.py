"""Several statements of ours in one round trip, each a transaction of its own.

Theory. A single submit is little work, and what the driver does around a statement (a cursor, the adaption of its
parameters, a pipeline with a wait at each step) costs four times as much. So this speaks to the library under the
driver: everything is sent at once, and one wait receives all answers, whose values stay the text that the server wrote.
All other statements go the driver's way (`pool.run`).
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

import psycopg
from psycopg import errors
from psycopg.pq import ConnStatus, ExecStatus
from psycopg.pq.abc import PGconn, PGresult
from psycopg.waiting import Ready, Wait

from coserver.store.pool import PatientConnection, compiled

Texts = tuple[bytes | None, ...]


def round_trip(
    connection: PatientConnection, *statements: tuple[str, Mapping[str, Any]]
) -> list[list[Texts]]:
    """Run statements, by name and with parameters, each in a transaction of its own; return the rows of each.

    Raises what the driver would raise for the first that failed; those after it have been run all the same.
    """
    calls = []
    for name, params in statements:
        sql, names = compiled(name)
        calls.append((name.encode(), sql, [_sent(params[one]) for one in names]))
    pgconn = connection.pgconn
    pgconn.enter_pipeline_mode()
    preparing: list[bytes | None] = []  # for each answer that will come: the statement that it is to prepare
    for key, sql, values in calls:
        if key not in connection.prepared and key not in preparing:
            pgconn.send_prepare(key, sql)
            preparing.append(key)
        pgconn.send_query_prepared(key, values)
        preparing.append(None)
        pgconn.pipeline_sync()
    answers = connection.wait(_answers(pgconn, len(calls)))
    pgconn.exit_pipeline_mode()
    rows: list[list[Texts]] = []
    failed: PGresult | None = None
    for prepared, answer in zip(preparing, answers, strict=True):
        match answer.status:
            case ExecStatus.COMMAND_OK if prepared is not None:
                connection.prepared.add(prepared)
            case ExecStatus.TUPLES_OK | ExecStatus.COMMAND_OK:
                rows.append(_rows(answer))
            case _:
                failed = failed or answer
    if failed is not None:
        raise errors.error_from_result(failed)
    return rows


def _sent(value: str | int | None) -> bytes | None:
    """A parameter in text format, whose type the statement says."""
    if value is None:
        return None
    text = str(value).encode()
    if b"\0" in text:
        raise psycopg.DataError("text in PostgreSQL cannot hold NUL")
    return text


def _answers(pgconn: PGconn, syncs: int) -> Generator[Wait, Ready | int, list[PGresult]]:
    """Send what is left and receive all up to the last of so many syncs, in the form that the driver waits for."""
    while pgconn.flush():
        if (yield Wait.RW) & Ready.R:
            pgconn.consume_input()
    answers: list[PGresult] = []
    while True:
        while pgconn.is_busy():
            if (yield Wait.R):
                pgconn.consume_input()
        answer = pgconn.get_result()
        if answer is None:  # the end of one statement's answer
            if pgconn.status == ConnStatus.BAD:
                raise psycopg.OperationalError(pgconn.get_error_message())
            continue
        if answer.status == ExecStatus.PIPELINE_SYNC:
            syncs -= 1
            if not syncs:
                return answers
        else:
            answers.append(answer)


def _rows(answer: PGresult) -> list[Texts]:
    columns = range(answer.nfields)
    value = answer.get_value
    return [tuple([value(row, column) for column in columns]) for row in range(answer.ntuples)]
