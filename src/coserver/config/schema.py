"""The JSON Schema of coserver.toml, for editors, made from the table of keys.

What is known but not supported yet is left out, so that an editor marks it like the check does. A value of any kind
may also be text with a substitution, or `file:PATH`.
"""

from __future__ import annotations

from typing import Any

from coserver.config.keys import Key, Named, Section, keys_of
from coserver.config.records import Document, ServiceConfig
from coserver.config.shapes import Json
from coserver.config.values import NAME

_SUBSTITUTED: dict[str, Json] = {"type": "string", "pattern": r"\$\{|^file:"}


def schema() -> dict[str, Json]:
    """Return the schema of a whole file (JSON Schema, draft 2020-12)."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "coserver.toml",
        "description": "What runs beside a web application, run and seen as one site.",
        **_record(Document),
        "$defs": {"substituted": _SUBSTITUTED},
    }


def _record(record: type[Any], *, inherited: bool = False) -> dict[str, Json]:
    keys = keys_of(record).values()
    return {
        "type": "object",
        "properties": {key.name: _key(key) for key in keys if key.inherited or not inherited},
        "additionalProperties": False,
    }


def _key(key: Key) -> dict[str, Json]:
    described: dict[str, Json] = {"description": key.doc}
    match key.shape:
        case Section(record=record):
            # Of a service, [defaults.service] knows only what can be inherited.
            return {**_record(record, inherited=record is ServiceConfig), **described}
        case Named(record=record, pattern=pattern):
            named: dict[str, Json] = {"type": "object", "propertyNames": {"pattern": f"^{pattern or NAME}$"}}
            return {**named, "additionalProperties": _record(record), **described}
        case shape:
            value = shape.schema()
    if key.shown_default is not None:
        described["default"] = key.shown_default
    if value == {"type": "string"}:
        return {**value, **described}
    return {"anyOf": [value, {"$ref": "#/$defs/substituted"}], **described}
