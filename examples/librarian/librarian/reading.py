"""From a source file to its definitions: the module itself, its classes, their methods, its functions."""

import ast
import re
import tokenize
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

WORD = re.compile(r"[^\W\d]\w+")

# Some of the standard library's tests hold dubious code on purpose; reading it is no reason to warn.
warnings.filterwarnings("ignore", category=SyntaxWarning)


@dataclass(frozen=True)
class Definition:
    """A piece of source that has a name. Lines count from 1; `words` are those of its code, each once."""

    kind: str
    name: str
    first: int
    last: int
    doc: str
    words: str


def read(path: Path) -> str:
    """Return the text of a source file, in the encoding that it declares.

    Raises SyntaxError for a declaration that Python does not know, UnicodeDecodeError for bytes that do not keep it.
    """
    with tokenize.open(path) as file:
        return file.read()


def definitions(source: str, module: str, path: str = "<unknown>") -> list[Definition]:
    """Divide a module's source. Raises SyntaxError, which names `path`, or ValueError for null characters."""
    return list(_divide(ast.parse(source, path), module, "module", source.splitlines()))


def _divide(
    node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef,
    name: str,
    kind: str,
    lines: list[str],
) -> Iterator[Definition]:
    first, last = _extent(node, len(lines))
    own = set(range(first, last + 1))
    # What a function defines inside itself belongs to its body.
    inner = [] if "function" in kind or "method" in kind else node.body
    for child in inner:
        if isinstance(child, ast.ClassDef):
            child_kind = "class"
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            child_kind = "method" if kind == "class" else "function"
        else:
            continue
        child_first, child_last = _extent(child, len(lines))
        own.difference_update(range(child_first, child_last + 1))
        yield from _divide(child, f"{name}.{child.name}", child_kind, lines)
    code = "\n".join(lines[number - 1] for number in sorted(own))
    yield Definition(
        kind, name, first, last, ast.get_docstring(node) or "", " ".join(set(WORD.findall(code)))
    )


def _extent(node: ast.AST, length: int) -> tuple[int, int]:
    if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return 1, length
    decorators = [decorator.lineno for decorator in node.decorator_list]
    return min([node.lineno, *decorators]), node.end_lineno or node.lineno


def terms(query: str) -> list[str]:
    """Return the words that a query asks for."""
    return re.findall(r"\w+", query)


def lines_with(path: Path, first: int, last: int, query: str, *, limit: int = 3) -> list[tuple[int, str]]:
    """Return (number, text) of the first lines of a definition that hold a word of the query; none if unreadable."""
    pattern = re.compile("|".join(map(re.escape, terms(query))), re.IGNORECASE)
    try:
        lines = read(path).splitlines()[first - 1 : last]
    except (OSError, SyntaxError, ValueError):
        return []
    return [(number, line) for number, line in enumerate(lines, first) if pattern.search(line)][:limit]
