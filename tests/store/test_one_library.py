"""Two SQLite libraries never have one file open in one process. Each case runs in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from coserver.store import open_store

BEGIN = """
import gc, os, sqlite3, subprocess, sys
import apsw
from pathlib import Path
from coserver.errors import UsageError
from coserver.model.job import NewJob
from coserver.store import open_store

path = sys.argv[1]
by_apsw, by_sqlite3 = f"sqlite:{path}", f"sqlite:{path}?driver=sqlite3"
jobs = [NewJob("shop:send", queue="mail")]

def refused(call, *args, **named):
    try:
        call(*args, **named)
    except UsageError as error:
        said = str(error)
        assert "cannot open" in said and "?driver=sqlite3" in said and "by apsw everywhere" in said, said
        return True
    return False

def locks(file):
    inode = str(os.stat(file).st_ino)
    lines = Path("/proc/locks").read_text().splitlines()
    return [line for line in lines if f" {os.getpid()} " in line and line.split()[5].endswith(":" + inode)]
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    store = open_store(f"sqlite:{tmp_path / 'site.db'}")
    store.migrate()
    store.close()
    return tmp_path / "site.db"


def run(path: Path, body: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + textwrap.dedent(body), str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=path.parent,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_sqlite3_is_refused_while_apsw_has_the_store_open(path: Path) -> None:
    run(
        path,
        """
        store = open_store(by_apsw)
        store.submit(jobs)
        os.symlink(path, "link.db")
        for name in (path, Path(path), path.encode(), "site.db", "./link.db"):
            assert refused(sqlite3.connect, name), name
        assert refused(sqlite3.connect, f"file:{path}?mode=ro", uri=True)
        sqlite3.connect("other.db").close()
        sqlite3.connect(":memory:").close()
        store.submit(jobs)
        store.close()
        sqlite3.connect(path).close()
        """,
    )


def test_apsw_is_refused_while_sqlite3_has_the_store_open_and_its_lock_stays(path: Path) -> None:
    run(
        path,
        """
        store = open_store(by_sqlite3)
        store.submit(jobs)
        before = locks(path)
        assert before
        for name in (path, "site.db", f"file:{path}"):
            assert refused(apsw.Connection, name, flags=apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_URI), name
            gc.collect()
            assert len(locks(path)) == len(before), (before, locks(path))
        apsw.Connection("other.db").close()
        store.submit(jobs)
        store.close()
        assert not locks(path)
        apsw.Connection(path).close()
        """,
    )


def test_a_store_is_refused_that_the_application_has_open_by_the_other_library(path: Path) -> None:
    run(
        path,
        """
        mine = sqlite3.connect(path)
        mine.execute("SELECT * FROM coserver_meta").fetchall()
        assert refused(open_store(by_apsw).submit, jobs)
        store = open_store(by_sqlite3)
        store.submit(jobs)
        store.close()
        mine.close()
        store = open_store(by_apsw)
        store.submit(jobs)
        store.close()
        mine = apsw.Connection(path)
        assert refused(open_store(by_sqlite3).submit, jobs)
        store = open_store(by_apsw)
        store.submit(jobs)
        store.close()
        mine.close()
        store = open_store(by_sqlite3)
        store.submit(jobs)
        store.close()
        """,
    )


def test_two_stores_on_one_file_are_of_one_library(path: Path) -> None:
    run(
        path,
        """
        first = open_store(by_apsw)
        first.submit(jobs)
        assert refused(open_store(by_sqlite3).submit, jobs)
        second = open_store(by_apsw)
        second.submit(jobs)
        first.close()
        assert refused(open_store(by_sqlite3).submit, jobs)
        second.close()
        open_store(by_sqlite3).submit(jobs)
        assert refused(open_store(by_apsw).submit, jobs)
        """,
    )


def test_another_process_may_use_the_other_library(path: Path) -> None:
    run(
        path,
        """
        store = open_store(by_apsw)
        store.submit(jobs)
        sql = "SELECT count(*) FROM coserver_job"
        code = f"import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute('{sql}').fetchone()[0])"
        told = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
        assert told.stdout == "1\\n"
        """,
    )


def test_a_fork_begins_anew(path: Path) -> None:
    run(
        path,
        """
        store = open_store(by_apsw)
        store.submit(jobs)
        child = os.fork()
        if child == 0:
            store.submit(jobs)
            os._exit(0 if refused(sqlite3.connect, path) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert store.counts().by_state
        """,
    )


IN_USE = """
    import threading, time

    class Use:
        '''A connection of the application's that one of its threads is using.'''

        def __init__(self, name):
            self.connection = apsw.Connection(name)
            inside, self.done = threading.Event(), threading.Event()
            self.connection.create_scalar_function("linger", lambda: (inside.set(), self.done.wait(60)) and 1)
            linger = lambda: self.connection.execute("SELECT linger()").fetchall()
            self.thread = threading.Thread(target=linger, daemon=True)
            self.thread.start()
            assert inside.wait(60)

        def end(self):
            self.done.set()
            self.thread.join()
"""


def test_a_connection_that_a_thread_is_using_is_in_nobodys_way(path: Path) -> None:
    """apsw's connections tell nothing while they are used; what is not known is no reason to refuse."""
    run(
        path,
        textwrap.dedent(IN_USE)
        + textwrap.dedent("""
        import coserver.store.one_library as guard

        guard.PATIENCE = 0.2
        beside, same = Use("other.db"), Use(path)
        for mine in (None, sqlite3.connect("third.db")):
            store = open_store(by_apsw)
            store.submit(jobs)
            store.close()
        same.end()
        assert refused(open_store(by_sqlite3).submit, jobs)
        same.connection.close()
        store = open_store(by_sqlite3)
        store.submit(jobs)
        store.close()
        beside.end()
        """),
    )


def test_a_connection_in_use_is_asked_again_until_it_answers(path: Path) -> None:
    run(
        path,
        textwrap.dedent(IN_USE)
        + textwrap.dedent("""
        same = Use(path)
        threading.Timer(0.3, same.end).start()
        assert refused(open_store(by_sqlite3).submit, jobs)
        """),
    )


def test_threads_that_open_one_store_at_once_do_not_take_each_other_for_strangers(path: Path) -> None:
    run(
        path,
        """
        from concurrent.futures import ThreadPoolExecutor
        from threading import Barrier

        mine = sqlite3.connect("other.db")
        for url in (by_apsw, by_sqlite3):
            for _ in range(30):
                stores, together = [open_store(url) for _ in range(8)], Barrier(8)
                with ThreadPoolExecutor(8) as threads:
                    list(threads.map(lambda store: (together.wait(), store.submit(jobs)), stores))
                for store in stores:
                    store.close()
        """,
    )
