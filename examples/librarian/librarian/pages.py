"""The pages as HTML. Whatever comes from outside goes through `escape`."""

import re
from html import escape
from urllib.parse import urlencode

from librarian.index import MARKED, Found, Progress
from librarian.reading import terms

PER_PAGE = 20
EXAMPLES = ["heappush", "asyncio open_connection", "ordered dict", "atomic rename", "binary search"]


def search(
    query: str,
    total: int,
    results: list[tuple[Found, list[tuple[int, str]]]],
    page: int,
    progress: Progress,
    jobs: dict[str, int],
) -> str:
    """The search page; each result comes with some (number, text) of the lines that hold a word of the query."""
    if not query:
        examples = ", ".join(f'<a href="/?{_query(q=one)}">{escape(one)}</a>' for one in EXAMPLES)
        body = f"<p>A name or some words find the definitions that hold them all. Try {examples}.</p>"
    elif not results:
        body = f"<p>Nothing holds all of these words{'' if progress.done else ' so far'}.</p>"
    else:
        items = "".join(_result(found, lines, query) for found, lines in results)
        body = f'<ol class="results" start="{PER_PAGE * (page - 1) + 1}">{items}</ol>{_pager(query, page, total)}'
    count = f"<h2>{total:,} {'definition' if total == 1 else 'definitions'}</h2>" if query else ""
    title = f"{query} – The librarian" if query else "The librarian"
    return _page(title, f"{_progress(progress, jobs)}{count}{body}", query, focus=not query)


def source(module: str, path: str, text: str, first: int, last: int) -> str:
    """A module's text, each line with an address of its own."""
    lines = "".join(
        f'<span id="L{number}"{" class=marked" if first <= number <= last else ""}>'
        f"<b>{number}</b>{escape(line)}\n</span>"
        for number, line in enumerate(text.splitlines(), start=1)
    )
    return _page(
        module, f'<h2>{escape(module)}</h2><p class="path">{escape(path)}</p><pre tabindex="0">{lines}</pre>'
    )


def problems(found: list[tuple[str, str]]) -> str:
    """The files that cannot be indexed."""
    rows = "".join(f"<dt>{escape(path)}</dt><dd>{escape(problem)}</dd>" for path, problem in found)
    intro = (
        "Python must refuse these files; the standard library holds some on purpose, for its own tests. The jobs that "
        "had to index them failed with Python's own words, after one more try."
        if found
        else "Every file that was looked at could be read."
    )
    return _page(
        "Unreadable files – The librarian", f"<h2>Unreadable files</h2><p>{intro}</p><dl>{rows}</dl>"
    )


def trouble(message: str) -> str:
    """What went wrong."""
    return _page("Trouble – The librarian", f"<h2>That did not work</h2><p>{escape(message)}</p>")


def in_words(progress: Progress) -> str:
    """Tell how far the index is, in a sentence."""
    if not progress.files:
        return "the library has not been looked through yet"
    seen = "all" if progress.done else f"{progress.indexed + progress.unreadable:,} of"
    unreadable = f", {progress.unreadable} of which Python itself cannot read" if progress.unreadable else ""
    return f"{progress.definitions:,} definitions in {seen} {progress.files:,} files{unreadable}"


def jobs_in_words(jobs: dict[str, int]) -> str:
    """Tell how many jobs are in which state."""
    return ", ".join(f"{count:,} {state}" for state, count in jobs.items() if count) or "none yet"


def _progress(progress: Progress, jobs: dict[str, int]) -> str:
    seen = progress.indexed + progress.unreadable
    return (
        f'<section id="progress" aria-label="Progress of the index" data-done="{str(progress.done).lower()}">'
        f'<progress max="{max(progress.files, 1)}" value="{seen}" aria-label="Files looked at"></progress>'
        f'<p><span data-show="words">{escape(in_words(progress))}</span>. '
        f'Jobs: <span data-show="jobs_words">{escape(jobs_in_words(jobs))}</span>. '
        '<a href="/problems">Unreadable files</a></p></section>'
    )


def _result(found: Found, lines: list[tuple[int, str]], query: str) -> str:
    where = _query({"from": found.first, "to": found.last})
    address = f"/source/{escape(found.module)}?{where}"
    excerpt = escape(found.excerpt).replace(MARKED[0], "<mark>").replace(MARKED[1], "</mark>")
    code = "".join(
        f'<a href="{address}#L{number}"><b>{number}</b><code>{_highlight(line, query)}</code></a>'
        for number, line in lines
    )
    title = f'<a href="{address}#L{found.first}">{_highlight(found.name, query)}</a>'
    shown = (f"<p>{excerpt}</p>" if excerpt else "") + (f'<div class="code">{code}</div>' if code else "")
    return f"<li><h3>{title} <small>{found.kind}</small></h3>{shown}</li>"


def _highlight(text: str, query: str) -> str:
    pattern = "|".join(re.escape(term) for term in terms(query))
    # With a group, split returns what stands between the matches and the matches by turns.
    parts = re.split(f"({pattern})", text, flags=re.IGNORECASE)
    return "".join(
        f"<mark>{escape(part)}</mark>" if odd % 2 else escape(part) for odd, part in enumerate(parts)
    )


def _pager(query: str, page: int, total: int) -> str:
    pages = -(-total // PER_PAGE)
    earlier = f'<a rel="prev" href="/?{_query(q=query, page=page - 1)}">Previous</a>' if page > 1 else ""
    later = f'<a rel="next" href="/?{_query(q=query, page=page + 1)}">Next</a>' if page < pages else ""
    return f'<nav aria-label="Pages">{earlier} Page {page:,} of {pages:,} {later}</nav>' if pages > 1 else ""


def _query(some: dict[str, object] | None = None, **more: object) -> str:
    return escape(urlencode({**(some or {}), **more}))


def _page(title: str, body: str, query: str = "", *, focus: bool = False) -> str:
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<link rel="stylesheet" href="/static/style.css">
<link rel="icon" href="/static/icon.svg">
<script type="module" src="/static/progress.js"></script>
</head>
<body>
<header>
<h1><a href="/">The librarian</a></h1>
<form role="search" action="/">
<label for="q">Search the standard library</label>
<input id="q" name="q" type="search" value="{escape(query)}" autocomplete="off"{" autofocus" if focus else ""}>
<button>Search</button>
</form>
</header>
<main>
{body}
</main>
</body>
</html>
"""
