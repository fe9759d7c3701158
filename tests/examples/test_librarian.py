"""The librarian's own parts: reading, index, pages. The whole of it runs in tests/site/test_librarian.py."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

LIBRARIAN = Path(__file__).parents[2] / "examples" / "librarian"
SOURCE = '''\
"""A module."""
import heapq

class Shelf:
    """Holds books."""

    size = 3

    @property
    def books(self):
        """Those on it."""
        def inner(): return heapq
        return inner()

def lend(book): return book
'''


@pytest.fixture(scope="module")
def librarian(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The example's modules, with an index of their own."""
    with pytest.MonkeyPatch.context() as patch:
        state = tmp_path_factory.mktemp("librarian")
        patch.syspath_prepend(str(LIBRARIAN))
        patch.setenv("LIBRARIAN_STATE", str(state))
        from librarian import index, library, pages, reading, tasks  # type: ignore[import-not-found]

        index.prepare()
        index.prepare()  # every process does
        yield SimpleNamespace(
            index=index, library=library, pages=pages, reading=reading, tasks=tasks, state=state
        )
        index._connection().close()
        index._of_thread.db = None
    for name in [name for name in sys.modules if name.partition(".")[0] == "librarian"]:
        del sys.modules[name]


def content(librarian: Any) -> list[Any]:
    """All that the index knows, apart from the numbers of definitions."""
    db = sqlite3.connect(librarian.state / "library.db")
    rows = db.execute(
        "SELECT file.path, digest, problem, kind, definition.name, first, last, doc, words FROM file "
        "LEFT JOIN definition USING (path) LEFT JOIN entry ON entry.rowid = definition.id ORDER BY 1, 5"
    ).fetchall()
    counts = db.execute("SELECT (SELECT count(*) FROM definition), (SELECT count(*) FROM entry)").fetchone()
    db.close()
    assert counts[0] == counts[1]
    return rows


def test_a_module_is_divided_into_its_definitions(librarian: Any) -> None:
    found = {one.name: one for one in librarian.reading.definitions(SOURCE, "shop")}
    assert {name: (one.kind, one.first, one.last) for name, one in found.items()} == {
        "shop": ("module", 1, 15),
        "shop.Shelf": ("class", 4, 13),
        "shop.Shelf.books": ("method", 9, 13),
        "shop.lend": ("function", 15, 15),
    }
    assert "size" in found["shop.Shelf"].words
    assert "inner" not in found["shop.Shelf"].words.split()
    assert "inner" in found["shop.Shelf.books"].words.split()
    assert found["shop.Shelf"].doc == "Holds books."


def test_a_file_is_read_in_the_encoding_that_it_declares(librarian: Any, tmp_path: Path) -> None:
    path = tmp_path / "old.py"
    path.write_bytes('# coding: latin-1\nname = "Molière"\n'.encode("latin-1"))
    assert librarian.tasks.index_file(str(path)) == 1
    assert librarian.index.search("Molière", limit=5)[0] == 1


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"# coding: no-such\n", SyntaxError),
        (b"x = 1\ny = 2\nz = '\xff'\n", ValueError),
        (b"print 1\n", SyntaxError),
    ],
)
def test_a_file_that_python_refuses_fails_with_its_words_and_is_remembered(
    librarian: Any, tmp_path: Path, data: bytes, kind: type[Exception]
) -> None:
    path = tmp_path / "bad.py"
    path.write_bytes(data)
    with pytest.raises(kind):
        librarian.tasks.index_file(str(path))
    assert str(path) in dict(librarian.index.problems())
    path.write_bytes(b"good = 1\n")
    assert librarian.tasks.index_file(str(path)) == 1
    assert str(path) not in dict(librarian.index.problems())


def test_indexing_twice_leaves_what_indexing_once_does(librarian: Any, tmp_path: Path) -> None:
    path = tmp_path / "shop.py"
    path.write_text(SOURCE)
    assert librarian.tasks.index_file(str(path)) == 4
    before = content(librarian)
    assert librarian.tasks.index_file(str(path)) == 0
    librarian.index.put(str(path), "shop", before[-1][1], librarian.reading.definitions(SOURCE, "shop"))
    path.write_text("x = 1\n")
    assert librarian.tasks.index_file(str(path)) == 1
    path.write_text(SOURCE)
    assert librarian.tasks.index_file(str(path)) == 4
    assert content(librarian) == before


def test_a_change_that_fails_halfway_changes_nothing(librarian: Any, tmp_path: Path) -> None:
    path = tmp_path / "half.py"
    path.write_text(SOURCE)
    librarian.tasks.index_file(str(path))
    before = content(librarian)

    def broken() -> Iterator[Any]:
        yield librarian.reading.definitions("x = 1", "half")[0]
        raise OSError

    with pytest.raises(OSError):
        librarian.index.put(str(path), "half", "new", broken())
    assert content(librarian) == before


def test_files_that_are_gone_leave_the_index(librarian: Any, tmp_path: Path) -> None:
    path = tmp_path / "gone.py"
    path.write_text(SOURCE)
    librarian.tasks.index_file(str(path))
    others = {row[0]: "module" for row in content(librarian) if row[0] != str(path)}
    librarian.index.expect(others | {"/new.py": "new"})
    found = {row[0] for row in content(librarian)}
    assert str(path) not in found
    assert "/new.py" in found


@given(query=st.text(max_size=40))
def test_no_query_can_break_the_search_or_the_page(librarian: Any, query: str) -> None:
    total, found = librarian.index.search(query, limit=5)
    assert total >= len(found)
    results = [(one, [(one.first, "def <x> & y")]) for one in found]
    page = librarian.pages.search(query, total, results, 1, librarian.index.progress(), {"queued": 1})
    assert "<x>" not in page


def test_what_a_page_shows_is_escaped(librarian: Any) -> None:
    evil = "<script>\"'&"
    assert "<script>" not in librarian.pages.source("m", "p", evil, 0, 0)
    assert "<script>" not in librarian.pages.problems([(evil, evil)])
    assert "<script>" not in librarian.pages.trouble(evil)
    assert "<script>" not in librarian.pages._highlight(evil, "script")


def test_the_library_is_large_enough_and_its_modules_are_named(librarian: Any) -> None:
    files = librarian.library.files()
    assert len(files) >= 1500
    names = {librarian.library.module(path) for path in files}
    assert names >= {"heapq", "asyncio", "asyncio.events", "librarian.tasks"}
    # Installed packages only stand in where the distribution leaves the library's tests out.
    assert ("test.test_heapq" in names) != any("site-packages" in path.parts for path in files)
