"""Connections of callers, of every kind that a store takes, behind one face for the tests."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import apsw
import psycopg
import sqlalchemy as sa
from psycopg.rows import dict_row, namedtuple_row
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from coserver.store.url import parse_url


@dataclass
class Caller:
    """`given` is what is handed in; the rest is what the caller does itself. `alone`: its connection commits every
    statement outside of a transaction."""

    given: Any
    execute: Callable[[str], Any]
    begin: Callable[[], Any]
    commit: Callable[[], Any]
    rollback: Callable[[], Any]
    alone: bool = False


def path_of(url: str) -> str:
    where = parse_url(url)
    return where.path  # type: ignore[union-attr]


def nothing() -> None:
    pass


@contextmanager
def sqlite3_default(url: str) -> Iterator[Caller]:
    connection = sqlite3.connect(path_of(url))
    try:
        yield Caller(connection, connection.execute, nothing, connection.commit, connection.rollback)
    finally:
        connection.close()


@contextmanager
def sqlite3_odd(url: str) -> Iterator[Caller]:
    """Rows as dictionaries, texts as bytes, cursors of a class of its own."""

    class Odd(sqlite3.Connection):
        def cursor(self, factory: Any = sqlite3.Cursor) -> Any:
            raise AssertionError("the store makes its own cursors")

    connection = sqlite3.connect(path_of(url), factory=Odd)
    connection.row_factory = sqlite3.Row
    connection.text_factory = bytes
    try:
        yield Caller(connection, connection.execute, nothing, connection.commit, connection.rollback)
        assert connection.row_factory is sqlite3.Row and connection.text_factory is bytes
    finally:
        connection.close()


@contextmanager
def sqlite3_autocommit(url: str) -> Iterator[Caller]:
    connection = sqlite3.connect(path_of(url), isolation_level=None)
    run = connection.execute
    try:
        yield Caller(
            connection,
            run,
            lambda: run("BEGIN"),
            lambda: run("COMMIT"),
            lambda: run("ROLLBACK"),
            alone=True,
        )
    finally:
        connection.close()


@contextmanager
def sqlite3_cursor(url: str) -> Iterator[Caller]:
    connection = sqlite3.connect(path_of(url))
    try:
        yield Caller(connection.cursor(), connection.execute, nothing, connection.commit, connection.rollback)
    finally:
        connection.close()


@contextmanager
def apsw_connection(url: str) -> Iterator[Caller]:
    connection = apsw.Connection(path_of(url))
    connection.set_row_trace(lambda cursor, row: {"row": row})
    run = connection.execute
    try:
        yield Caller(
            connection,
            run,
            lambda: run("BEGIN"),
            lambda: run("COMMIT"),
            lambda: run("ROLLBACK"),
            alone=True,
        )
    finally:
        connection.close()


@contextmanager
def psycopg_connection(url: str, **settings: Any) -> Iterator[Caller]:
    with psycopg.connect(url, **settings) as connection:
        yield Caller(connection, connection.execute, nothing, connection.commit, connection.rollback)
        connection.rollback()


def psycopg_dicts(url: str) -> Any:
    return psycopg_connection(url, row_factory=dict_row, cursor_factory=psycopg.ClientCursor)


def psycopg_raw(url: str) -> Any:
    return psycopg_connection(url, row_factory=namedtuple_row, cursor_factory=psycopg.RawCursor)


@contextmanager
def psycopg_autocommit(url: str) -> Iterator[Caller]:
    with psycopg.connect(url, autocommit=True) as connection:
        run = connection.execute
        yield Caller(
            connection,
            run,
            lambda: run("BEGIN"),
            lambda: run("COMMIT"),
            lambda: run("ROLLBACK"),
            alone=True,
        )


@contextmanager
def psycopg_cursor(url: str) -> Iterator[Caller]:
    with psycopg.connect(url) as connection:
        cursor = connection.cursor(row_factory=dict_row)
        yield Caller(cursor, connection.execute, nothing, connection.commit, connection.rollback)
        connection.rollback()


@contextmanager
def psycopg_serializable(url: str) -> Iterator[Caller]:
    with psycopg.connect(url) as connection:
        connection.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
        yield Caller(connection, connection.execute, nothing, connection.commit, connection.rollback)
        connection.rollback()


def _engine(url: str) -> sa.Engine:
    if url.startswith("sqlite:"):
        return sa.create_engine(f"sqlite:///{path_of(url)}")
    return sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))


@contextmanager
def alchemy_connection(url: str) -> Iterator[Caller]:
    engine = _engine(url)
    try:
        with engine.connect() as connection:
            yield Caller(
                connection,
                lambda sql: connection.execute(sa.text(sql)),
                nothing,
                connection.commit,
                connection.rollback,
            )
    finally:
        engine.dispose()


@contextmanager
def alchemy_session(url: str) -> Iterator[Caller]:
    engine = _engine(url)
    try:
        with Session(engine) as session:
            yield Caller(
                session, lambda sql: session.execute(sa.text(sql)), nothing, session.commit, session.rollback
            )
    finally:
        engine.dispose()


@contextmanager
def alchemy_scoped_session(url: str) -> Iterator[Caller]:
    engine = _engine(url)
    session = scoped_session(sessionmaker(engine))
    try:
        yield Caller(
            session, lambda sql: session.execute(sa.text(sql)), nothing, session.commit, session.rollback
        )
    finally:
        session.remove()
        engine.dispose()


SQLITE3 = [
    sqlite3_default,
    sqlite3_odd,
    sqlite3_autocommit,
    sqlite3_cursor,
    alchemy_connection,
    alchemy_session,
    alchemy_scoped_session,
]
APSW = [apsw_connection]
POSTGRES = [
    psycopg_connection,
    psycopg_dicts,
    psycopg_raw,
    psycopg_autocommit,
    psycopg_cursor,
    psycopg_serializable,
    alchemy_connection,
    alchemy_session,
    alchemy_scoped_session,
]
KINDS = [
    *[("sqlite3", kind) for kind in SQLITE3],
    *[("apsw", kind) for kind in APSW],
    *[("postgres", kind) for kind in POSTGRES],
]
