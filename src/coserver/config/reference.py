"""The reference page of every key, made from the table of keys; `docs/reference/configuration.md` is its output.

python -m coserver.config.reference > docs/reference/configuration.md
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from coserver.config.keys import Key, Named, Section, keys_of, later_of
from coserver.config.records import Document, ServiceConfig
from coserver.config.shapes import Json

INTRODUCTION = """\
# Configuration reference

<!-- Made from the table of keys by `python -m coserver.config.reference`; do not edit. -->

Every key of `coserver.toml`. `coserver config check` tells everything that is wrong with a file, `coserver config
show` prints each value with its origin, `coserver config schema` prints a JSON Schema for editors.

**Which file.** `-c FILE`; else the one that `COSERVER_CONFIG` names; else `coserver.toml`, or `[tool.coserver]` of
`pyproject.toml`, upward from the working directory to the root of the repository; else
`/etc/coserver/coserver.toml`.

**What wins.** From the weakest to the strongest: the defaults below, `[app]`, `[defaults.service]`, the file with
what it includes, `coserver.PROFILE.toml` beside it with `--profile PROFILE`, `[node]` of `/etc/coserver/node.toml`,
variables `COSERVER_CFG__SECTION__KEY` (in capitals, `-` written `_`: `COSERVER_CFG__SERVICE__WEB__PROCESSES=4`). A
value replaces what is below it, a table is merged key by key.

**Values.** `${VAR}` is an environment variable, `${VAR:-default}` has a default for one that is unset or empty, `$$`
is a dollar sign. A value `file:PATH` is the content of that file, a secret. Relative paths resolve against the file
that states them. A duration is a number of seconds or text such as `"100ms"`, `"30s"`, `"2m"`, `"1h30m"`, `"1d"`; a
size is a number of bytes or text such as `"20K"`, `"250M"` (M is MiB).

**Restart.** coserver reads the file when it starts, so a change needs `coserver down` and `coserver up`. The column
says what a changed value concerns: the whole *site*, the *processes* of the service, or *nothing* that runs.
"""


def reference_markdown() -> str:
    """Return the page."""
    parts = [INTRODUCTION]
    for header, record, doc in _tables("", Document, "What stands above the first table."):
        keys = [key for key in keys_of(record).values() if not isinstance(key.shape, Section | Named)]
        postponed = later_of(record)
        if not keys and not postponed:
            continue
        parts.append(f"## {f'`[{header}]`' if header else 'The whole file'}\n\n{doc}\n")
        if keys:
            parts.append(_table(keys, service=record is ServiceConfig))
        if postponed:
            listed = ", ".join(f"`{name}` ({what})" for name, what in postponed.items())
            parts.append(f"Not supported yet, and refused: {listed}.\n")
        if record is ServiceConfig:
            parts.append(_not_inherited())
    return "\n".join(parts)


def _tables(header: str, record: type[Any], doc: str) -> Iterator[tuple[str, type[Any], str]]:
    yield header, record, doc
    for name, key in keys_of(record).items():
        below = f"{header}.{name}" if header else name
        match key.shape:
            case Section(record=inner) if inner is not ServiceConfig:
                yield from _tables(below, inner, key.doc)
            case Named(record=inner):
                yield from _tables(f"{below}.NAME", inner, key.doc)
            case _:
                pass


def _table(keys: list[Key], *, service: bool) -> str:
    rows = ["| Key | Value | Default | Restart | Meaning |", "|---|---|---|---|---|"]
    for key in keys:
        only = " *Python services only.*" if service and key.kind == "python" else ""
        cells = (f"`{key.name}`", _value(key), _default(key), key.restart, key.doc + only)
        rows.append(" | ".join(("", *(cell.replace("|", "\\|") for cell in cells), "")).strip())
    return "\n".join(rows) + "\n"


def _value(key: Key) -> str:
    text = key.shape.expected
    if key.example:
        text += f"; for example `{key.example}`"
    return text + (f" ({key.shape.unit})" if key.shape.unit else "")


def _default(key: Key) -> str:
    if key.default_text:
        return key.default_text
    return "none" if key.shown_default is None else f"`{_toml(key.shown_default)}`"


def _toml(value: Json) -> str:
    return "{}" if value == {} else json.dumps(value, ensure_ascii=False)


def _not_inherited() -> str:
    own = [f"`{name}`" for name, key in keys_of(ServiceConfig).items() if not key.inherited]
    return (
        "`[defaults.service]` takes the same keys, with the same sub-tables, for every service that does not state "
        f"them; only {', '.join(own[:-1])} and {own[-1]} belong to one service.\n"
    )


if __name__ == "__main__":
    print(reference_markdown(), end="")
