"""Where a store is: the two kinds of URL, parsed without touching anything.

`sqlite:PATH[?driver=apsw|sqlite3][&synchronous=FULL|NORMAL]` (also `sqlite:///absolute/path`), and whatever libpq
understands after `postgresql://` or `postgres://`.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from coserver.errors import UsageError


@dataclass(frozen=True, slots=True)
class SQLiteUrl:
    """`synchronous` FULL survives power loss with every commit; NORMAL may lose the last ones, but corrupts nothing."""

    path: str
    driver: Literal["apsw", "sqlite3"] = "apsw"
    synchronous: Literal["FULL", "NORMAL"] = "FULL"

    @property
    def masked(self) -> str:
        """The URL as it may be shown."""
        return f"sqlite:{self.path}"


@dataclass(frozen=True, slots=True)
class PostgresUrl:
    """`conninfo` is what libpq gets, password included."""

    conninfo: str

    @property
    def masked(self) -> str:
        """The URL as it may be shown: passwords are replaced, in the authority and in the query.

        A password in which somebody forgot to escape `/`, `?`, `#` or `@` makes a URL that cannot be used, and which
        therefore is shown in a message: everything up to the last `@` counts as its password.
        """
        shown = re.sub(r"(?<=://)([^/?#@:]*):.*@", r"\1:***@", self.conninfo, flags=re.DOTALL)
        return re.sub(r"(?i)([?&](?:ssl)?password=)[^&]*", r"\1***", shown)


def place_of(masked: str) -> str:
    """Return what the masked URLs of one and the same store have in common: the file without detours, or host, port and
    name of the database, whoever logs in and however. A host under two names counts as two."""
    kind, _, rest = masked.partition(":")
    if kind == "sqlite":
        return f"sqlite:{os.path.realpath(rest)}"
    parts = urlsplit(masked)
    said = dict(parse_qsl(parts.query))
    where = said.get("host") or parts.netloc.rpartition("@")[2]
    if "port" in said:
        where += f":{said['port']}"
    name = said.get("dbname") or unquote(parts.path[1:])
    return f"postgresql://{where.lower().removesuffix(':5432')}/{name}"


def parse_url(url: str) -> SQLiteUrl | PostgresUrl:
    """Return what `url` names; UsageError if it names nothing that coserver knows."""
    kind, colon, rest = url.partition(":")
    if kind in ("postgresql", "postgres") and rest.startswith("//"):
        return PostgresUrl(url)
    if kind != "sqlite" or not colon:
        raise UsageError(
            f"cannot use the store {kind + ':' if colon else url!r}: its kind is not known; "
            "write sqlite:PATH or postgresql://USER@HOST/NAME"
        )
    path, _, query = rest.partition("?")
    path = unquote(path.removeprefix("//")) if path.startswith("///") else unquote(path)
    if not path or path == ":memory:":
        raise UsageError(
            "cannot use the store sqlite: a file is needed, because several processes share it; write sqlite:site.db"
        )
    if "\0" in path:
        raise UsageError("cannot use the store: its path holds a NUL character; mend the path")
    options = SQLiteUrl(path)
    for key, value in parse_qsl(query, keep_blank_values=True):
        match key, value:
            case "driver", ("apsw" | "sqlite3") as driver:
                options = SQLiteUrl(path, driver, options.synchronous)
            case "synchronous", ("FULL" | "NORMAL" | "full" | "normal"):
                level: Literal["FULL", "NORMAL"] = "FULL" if value.upper() == "FULL" else "NORMAL"
                options = SQLiteUrl(path, options.driver, level)
            case _:
                raise UsageError(
                    f"cannot use the store sqlite:{path}: it has no option {key}={value}; "
                    "known are driver=apsw, driver=sqlite3, synchronous=FULL, synchronous=NORMAL"
                )
    return options
