"""What application a project holds, found by reading its source; nothing of it is imported.

Theory. A web application is an object that stands in a module under a name: made by a framework's class
(`app = FastAPI()`), by a framework's function (`application = get_wsgi_application()`), or by a function of the
project's own that makes one (`app = create_app()`). So each file is parsed, names are followed to what was imported
under them, and what is assigned at the top of a module is compared with the table below. A factory that nobody calls is
remembered, too. Where several applications are found, the likeliest one is first: near the root, in a module and under
a name that people use for it, not in tests or examples.

A module's name follows from where imports begin: `src` for what lies below it, else the nearest directory that is no
package, unless the module itself imports by the name of that directory.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Interface = Literal["asgi", "wsgi"]

FRAMEWORKS: dict[str, tuple[str, Interface]] = {
    "fastapi.FastAPI": ("FastAPI", "asgi"),
    "fastapi.applications.FastAPI": ("FastAPI", "asgi"),
    "starlette.applications.Starlette": ("Starlette", "asgi"),
    "litestar.Litestar": ("Litestar", "asgi"),
    "quart.Quart": ("Quart", "asgi"),
    "falcon.asgi.App": ("Falcon", "asgi"),
    "falcon.App": ("Falcon", "wsgi"),
    "flask.Flask": ("Flask", "wsgi"),
    "flask.app.Flask": ("Flask", "wsgi"),
    "bottle.Bottle": ("Bottle", "wsgi"),
    "django.core.asgi.get_asgi_application": ("Django", "asgi"),
    "django.core.wsgi.get_wsgi_application": ("Django", "wsgi"),
}
_FACTORIES = ("create_app", "make_app", "build_app", "create_application", "make_application", "get_app")
_MODULES = ("wsgi", "asgi", "main", "app", "web", "server", "application", "api", "__init__")
_NAMES = ("app", "application", "api", "server")
_ASIDE = frozenset(
    {"test", "tests", "testing", "example", "examples", "docs", "scripts", "tools", "benchmarks"}
)
_SKIPPED = frozenset(
    {"node_modules", "__pycache__", "site-packages", "build", "dist", "migrations", "venv", "env"}
)
_DEEPEST = 5
_MOST_FILES = 5000
_LARGEST = 1 << 20


@dataclass(frozen=True, slots=True)
class Application:
    """An application: where it stands, and how it is called.

    `reference` is `module:name`, `root` the directory where imports begin and `file` the source, both relative to the
    project. For a `factory` the name is that of a function without obligatory parameters.
    """

    framework: str
    interface: Interface
    reference: str
    root: Path
    file: Path
    factory: bool = False


@dataclass(frozen=True, slots=True)
class Project:
    """What a directory holds: applications, the likeliest first; modules that declare tasks; any Python source?"""

    applications: tuple[Application, ...]
    tasks: tuple[tuple[str, Path], ...]
    has_python: bool


@dataclass(frozen=True, slots=True)
class _Source:
    """A parsed module: `imported` maps its names to what they stand for, such as `flask.Flask`."""

    file: Path
    root: Path
    module: str
    tree: ast.Module
    imported: dict[str, str]


def look_at(directory: Path) -> Project:
    """Look through a project. Files that cannot be read or parsed are passed over."""
    files = list(_files(directory))
    sources = [source for file in files if (source := _read(directory, file)) is not None]
    factories = {
        f"{source.module}.{name}": made for source in sources for name, made in _factories(source).items()
    }
    found = [one for source in sources for one in _applications(source, factories)]
    called = {one.framework for one in found}
    found += [one for source in sources for one in _uncalled(source) if one.framework not in called]
    asynchronous = any(_states_asgi(source) for source in sources)
    found.sort(key=lambda one: _unlikely(one, asynchronous))
    tasks = tuple((source.module, source.root) for source in sources if _declares_tasks(source))
    return Project(tuple(found), tasks, bool(files))


# Files ----------------------------------------------------------------------------------------------------------


def _files(directory: Path) -> Iterator[Path]:
    """Yield the project's own Python files, relative to it."""
    count = 0
    for place, directories, names in os.walk(directory):
        here = Path(place).relative_to(directory)
        directories[:] = sorted(
            name
            for name in directories
            if not name.startswith(".")
            and name not in _SKIPPED
            and len(here.parts) < _DEEPEST
            and not Path(place, name, "pyvenv.cfg").exists()
        )
        for name in sorted(names):
            if name.endswith(".py") and count < _MOST_FILES:
                count += 1
                yield here / name


def _read(directory: Path, file: Path) -> _Source | None:
    path = directory / file
    try:
        data = path.read_bytes() if path.stat().st_size <= _LARGEST else b""
        # Parsing takes a while, and what holds neither of these is of no interest.
        if b"import" not in data and b"ASGI_APPLICATION" not in data:
            return None
        tree = ast.parse(data)
    except (OSError, SyntaxError, ValueError, RecursionError):
        return None
    imported = dict(_imports(tree))
    root = _root(directory, file, imported)
    parts = file.relative_to(root).with_suffix("").parts
    if parts[-1] == "__init__" and len(parts) > 1:
        parts = parts[:-1]
    if not all(part.isidentifier() for part in parts):
        return None
    module = ".".join(parts)
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    imported = {name: _absolute(target, package) for name, target in imported.items()}
    return _Source(file, root, module, tree, imported)


def _root(directory: Path, file: Path, imported: dict[str, str]) -> Path:
    """Return the directory, relative to the project, from which the file is imported."""
    if file.parts[0] == "src" and len(file.parts) > 2:
        return Path("src")
    root = file.parent
    while root != Path() and (directory / root / "__init__.py").exists():
        root = root.parent
    if root != Path() and any(target.split(".")[0] == root.name for target in imported.values()):
        root = root.parent
    return root


def _imports(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield (name, what it stands for) of every import; a relative one begins with its dots."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield (
                    alias.asname or alias.name.split(".")[0],
                    alias.name if alias.asname else alias.name.split(".")[0],
                )
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                origin = "." * node.level + (node.module or "")
                dot = "" if origin.endswith(".") or not origin else "."
                yield alias.asname or alias.name, f"{origin}{dot}{alias.name}"


def _absolute(target: str, package: str) -> str:
    level = len(target) - len(target.lstrip("."))
    if not level:
        return target
    parts = package.split(".")
    base = parts[: len(parts) - (level - 1)]
    return ".".join([*base, target[level:]])


# What stands in a module ----------------------------------------------------------------------------------------


def _applications(source: _Source, factories: dict[str, tuple[str, Interface]]) -> Iterator[Application]:
    for name, value in _assigned(source.tree.body):
        # Django's may be wrapped: ProtocolTypeRouter({"http": get_asgi_application()}).
        calls = [node for node in ast.walk(value) if isinstance(node, ast.Call)]
        for call in calls:
            target = _target(call.func, source)
            made = FRAMEWORKS.get(target) or factories.get(target)
            if made is not None and (call is value or made[0] == "Django"):
                framework, interface = made
                reference = f"{source.module}:{name}"
                yield Application(framework, interface, reference, source.root, source.file)
                break


def _assigned(body: list[ast.stmt]) -> Iterator[tuple[str, ast.expr]]:
    """Yield (name, value) of the assignments at the top of a module, inside `if`, `try` and `with` as well."""
    for statement in body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                yield name, value
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                yield name, value
            case ast.If(test=test, body=inner, orelse=other) if not _is_main(test):
                yield from _assigned(inner)
                yield from _assigned(other)
            case ast.Try(body=inner, orelse=other):
                yield from _assigned(inner)
                yield from _assigned(other)
            case ast.With(body=inner):
                yield from _assigned(inner)
            case _:
                pass


def _is_main(test: ast.expr) -> bool:
    return any(isinstance(node, ast.Name) and node.id == "__name__" for node in ast.walk(test))


def _target(function: ast.expr, source: _Source) -> str:
    """Return the full name of what is called, as far as imports tell; a name of the module itself begins with it."""
    match function:
        case ast.Name(id=name):
            return source.imported.get(name, f"{source.module}.{name}")
        case ast.Attribute(value=value, attr=attribute):
            return f"{_target(value, source)}.{attribute}"
        case _:
            return ""


def _factories(source: _Source) -> dict[str, tuple[str, Interface]]:
    """Return the functions that make an application and can be called without arguments."""
    found = {}
    for node in source.tree.body:
        if isinstance(node, ast.FunctionDef) and node.name in _FACTORIES and not _needs_arguments(node.args):
            calls = (call for call in ast.walk(node) if isinstance(call, ast.Call))
            made = (FRAMEWORKS.get(_target(call.func, source)) for call in calls)
            for one in made:
                if one is not None:
                    found[node.name] = one
    return found


def _needs_arguments(arguments: ast.arguments) -> bool:
    positional = [*arguments.posonlyargs, *arguments.args]
    return len(positional) > len(arguments.defaults) or None in arguments.kw_defaults


def _uncalled(source: _Source) -> Iterator[Application]:
    for name, (framework, interface) in _factories(source).items():
        yield Application(
            framework, interface, f"{source.module}:{name}", source.root, source.file, factory=True
        )


def _declares_tasks(source: _Source) -> bool:
    decorated = (
        node for node in source.tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    decorators = (one for node in decorated for one in node.decorator_list)
    functions = (one.func if isinstance(one, ast.Call) else one for one in decorators)
    return not _aside(source.file) and any(_target(one, source) == "coserver.task" for one in functions)


def _states_asgi(source: _Source) -> bool:
    """Tell whether these are Django's settings and name an ASGI application, so that the project relies on it."""
    return any(name == "ASGI_APPLICATION" for name, _ in _assigned(source.tree.body))


# Which one ------------------------------------------------------------------------------------------------------


def _unlikely(one: Application, asynchronous: bool) -> tuple[object, ...]:
    """Return a key by which the likeliest application is the smallest."""
    module, _, name = one.reference.partition(":")
    wrong_interface = one.framework == "Django" and (one.interface == "asgi") != asynchronous
    return (
        _aside(one.file),
        one.factory,
        wrong_interface,
        len(one.file.relative_to(one.root).parts),
        _place(module.rpartition(".")[2] if one.file.name != "__init__.py" else "__init__", _MODULES),
        _place(name, _NAMES),
        one.reference,
    )


def _aside(file: Path) -> bool:
    return file.name.startswith("test_") or file.name == "conftest.py" or not _ASIDE.isdisjoint(file.parts)


def _place(word: str, words: tuple[str, ...]) -> int:
    return words.index(word) if word in words else len(words)
