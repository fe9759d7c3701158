"""The effective configuration: each key, its value and where that came from, for people and programs; no secrets."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from coserver.config.mask import MASK, mask, secret_name
from coserver.config.origin import Origin
from coserver.config.records import Setting, Site
from coserver.config.shapes import Json

_TABLE = re.compile(r"(service\.[^.]+|\w+)\.(.+)")
_WIDEST = 60
"""Columns; origins line up there, or follow a longer value."""


def visible(key: str, setting: Setting) -> Json:
    """Return a setting's value as it may be shown."""
    if setting.origin.secret is not None or (setting.named and secret_name(key.rpartition(".")[2])):
        return MASK
    return mask(setting.value)


def as_text(site: Site, *, stated: bool = False) -> str:
    """Write a site's settings as TOML with each origin in a comment.

    What is unset and has no value to show is a comment itself. `stated` leaves out all that is not stated.
    """
    rows: list[tuple[str, str]] = []
    header = ""
    for key, setting in site.settings.items():
        if stated and setting.origin.kind == "default":
            continue
        found = _TABLE.fullmatch(key)
        table, name = (found[1], found[2]) if found else ("", key)
        if table != header:
            rows += [("", ""), (f"[{table}]", "")]
            header = table
        rows.append(_row(name, key, setting))
    width = min(_WIDEST, max((len(left) for left, right in rows if right), default=0))
    return "\n".join(f"{left:<{width}}  # {right}" if right else left for left, right in rows).strip("\n")


def as_json(site: Site, *, stated: bool = False) -> dict[str, Json]:
    """Return a site's settings as one JSON object: `{"file", "files", "settings": {KEY: {"value", "origin"}}}`."""
    return {
        "file": str(site.file),
        "files": [str(path) for path in site.files],
        "settings": {
            key: {"value": visible(key, setting), "origin": _origin(setting.origin)}
            for key, setting in site.settings.items()
            if not stated or setting.origin.kind != "default"
        },
    }


def _row(name: str, key: str, setting: Setting) -> tuple[str, str]:
    if setting.value is None:
        return f"# {name} is not set", f"default: {setting.default}" if setting.default else "default"
    return f"{name} = {_toml(visible(key, setting))}", str(setting.origin)


def _toml(value: Json) -> str:
    match value:
        case dict():
            inside = ", ".join(f"{name} = {_toml(entry)}" for name, entry in _bare(value))
            return f"{{ {inside} }}" if inside else "{}"
        case list():
            return f"[{', '.join(_toml(item) for item in value)}]"
        case _:
            # A JSON string, number or boolean is a TOML one, except for the character DEL.
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _bare(table: dict[str, Json]) -> Iterator[tuple[str, Json]]:
    for name, entry in table.items():
        yield (name if re.fullmatch(r"[A-Za-z0-9_-]+", name, re.ASCII) else json.dumps(name)), entry


def _origin(origin: Origin) -> dict[str, Json]:
    found: dict[str, Json] = {"kind": origin.kind}
    if origin.kind == "environment":
        found["variable"] = origin.name
    elif origin.kind != "default":
        found |= {"file": origin.name, "line": origin.line}
    if origin.via:
        found["via"] = list(origin.via)
    if origin.secret is not None:
        found["secret"] = str(origin.secret)
    return found
