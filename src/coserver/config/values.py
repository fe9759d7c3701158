"""The shapes that the configuration's keys share: durations, sizes, names, addresses, signals, stores."""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar
from urllib.parse import parse_qsl, urlsplit

from coserver.config.shapes import Choice, FilePath, Json, Listing, Mapped, Parsed, Shape, absolute
from coserver.config.tree import Leaf, Node
from coserver.model import units
from coserver.model.address import Address, UnixAddress, parse_address
from coserver.model.names import LONGEST_NAME, QUEUE_RULE, is_queue

NAME = r"[A-Za-z][A-Za-z0-9]*([_-][A-Za-z0-9]+)*"
_NAME = re.compile(NAME, re.ASCII)
LIMIT = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
_LIMIT = re.compile(LIMIT, re.ASCII)
_DOTTED = r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*"
_MODULE = re.compile(_DOTTED)
_GROUP = re.compile(r"@[\w.-]+")
_OBJECT = re.compile(rf"{_DOTTED}:{_DOTTED}")
# A file means the same wherever it is read, so these are not the signals of the machine that reads it.
_SIGNALS = frozenset((
    "ABRT", "ALRM", "HUP", "INT", "IO", "KILL", "PIPE", "PROF", "PWR", "QUIT", "TERM", "TRAP", "USR1", "USR2",
))  # fmt: skip
_VARIABLE = re.compile(r"[^=\0]+")
_RESERVED = frozenset(
    f"COSERVER_{name}"
    for name in ["SITE", "SERVICE", "PROCESS", "RUN", "STORE", "BUS", "TOKEN", "MARK", "SPEC"]
)


def check_name(text: str) -> str:
    """Return a name of a site, node or service unchanged; raises `ValueError` for one that cannot be."""
    if not _NAME.fullmatch(text) or len(text) > LONGEST_NAME:
        raise ValueError(
            f'"{text}" cannot be a name: a name begins with a letter and holds letters, digits and single '
            f'"-" or "_" between them, at most {LONGEST_NAME} characters; for example "mail-queue"'
        )
    return text


def check_queue(text: str) -> str:
    """Return a queue's name unchanged; raises `ValueError` for one that cannot be."""
    if not is_queue(text):
        raise ValueError(f'"{text}" cannot be a queue: {QUEUE_RULE}')
    return text


def check_limit(text: str) -> str:
    """Return a limit's name unchanged; raises `ValueError` for one that cannot be."""
    if not _LIMIT.fullmatch(text) or len(text) > LONGEST_NAME or text == "queue":
        raise ValueError(
            f'"{text}" cannot be a limit: its name, the part of limit keys before the colon, holds letters, digits, '
            f'"_", "-" and ".", at most {LONGEST_NAME} characters, and is not "queue"'
        )
    return text


def check_variable(text: str) -> str:
    """Return the name of an environment variable unchanged; raises `ValueError` for one that cannot be set."""
    if not _VARIABLE.fullmatch(text):
        raise ValueError(f'"{text}" cannot be an environment variable: a name is not empty and holds no "="')
    if text in _RESERVED or text.startswith("COSERVER_CFG__"):
        raise ValueError(f"cannot set {text}: coserver gives it to every process itself; remove it")
    return text


def _label(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", text, re.ASCII):
        raise ValueError(f'"{text}" cannot be a label: it holds letters, digits, "_", "-" and "."')
    return text


def check_host(text: str) -> str:
    """Return a node's name unchanged; raises `ValueError` for one that cannot be."""
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?", text, re.ASCII):
        raise ValueError(
            f'"{text}" cannot be a node\'s name: write a host name such as "web1" or "web1.example.org"'
        )
    return text


def _module(text: str) -> str:
    if _OBJECT.fullmatch(text):
        module = text.partition(":")[0]
        raise ValueError(f'"{text}" names an object; here a module is asked for: "{module}"')
    if not _MODULE.fullmatch(text) and not _GROUP.fullmatch(text):
        raise ValueError(f'"{text}" is no module; write "shop.tasks", or "@http-call" for a task plugin')
    return text


def _object(text: str) -> str:
    if not _OBJECT.fullmatch(text):
        mend = f'"{text}:app"' if _MODULE.fullmatch(text) else '"shop.web:app"'
        raise ValueError(f'"{text}" does not say which object of which module; write {mend}')
    return text


def _signal(text: str) -> str:
    name = text.upper().removeprefix("SIG")
    if name in ("CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG"):
        raise ValueError(f'"{text}" does not end a program; write "TERM", "INT" or "QUIT"')
    if name not in _SIGNALS:
        raise ValueError(f'"{text}" is no signal; write "TERM", "INT", "QUIT", "HUP", "USR1" or "KILL"')
    return name


def _same(value: str) -> Json:
    return value


def _text(value: str) -> str:
    if "\0" in value:
        raise ValueError("the text holds a NUL character; remove it")
    return value


def _nonempty(value: str) -> str:
    if not value.strip():
        raise ValueError("the text is empty")
    return _text(value)


TEXT = Parsed(_text, _same, expected='text in quotes, such as "value"')
USER = Parsed(_nonempty, _same, expected='a user in quotes, by name or number, such as "www-data" or "33"')
NAME_TEXT = Parsed(check_name, _same, expected='a name such as "shop"', pattern=f"^{NAME}$")
HOST = Parsed(check_host, _same, expected='a host name such as "web1"')
LABELS = Listing(Parsed(_label, _same, expected='a label such as "web"'), example='["web", "linux"]')
MODULES = Listing(Parsed(_module, _same, expected='a module such as "shop.tasks"'), example='["shop.tasks"]')
OBJECT = Parsed(_object, _same, expected='a module and an object in it, such as "shop.web:app"')
SIGNAL = Parsed(_signal, _same, expected='a signal such as "TERM"')
PATHS = Listing(FilePath(example="."), example='["."]')
FILES = Listing(FilePath(example=".env"), example='[".env"]')
PATTERNS = Listing(
    Parsed(_nonempty, _same, expected='a pattern such as "conf.d/*.toml"'), example='["conf.d/*.toml"]'
)
ENVIRONMENT = Mapped(
    Parsed(_text, _same, expected='text in quotes, such as "8000"'),
    check_variable,
    example='{ DEBUG = "1" }',
    verbatim=True,
)

DURATION = Parsed(
    units.seconds,
    units.format_seconds,
    expected='a duration such as "30s", "2m" or 0.5',
    numbers=True,
    unit="seconds",
)
SIZE = Parsed(units.size, units.format_size, expected='a size such as "20M"', numbers=True, unit="bytes")
BACKOFF = Parsed(
    units.seconds_range,
    units.format_range,
    expected='a range of durations such as "100ms..60s"',
    unit="durations",
)


def _give_up(text: str) -> tuple[int, float] | None:
    return None if text == "never" else units.rate(text)


def _show_give_up(value: tuple[int, float] | None) -> Json:
    return "never" if value is None else units.format_rate(value)


GIVE_UP = Parsed(_give_up, _show_give_up, expected='a rate such as "5 in 1m", or "never"')


def _pace(text: str) -> tuple[int, float]:
    found = re.fullmatch(r"\s*([0-9]+)\s*/\s*(\S.*)", text, re.ASCII)
    try:
        if found is None:
            raise ValueError
        window = found[2].strip()
        count, period = int(found[1]), units.seconds(window if window[0].isdigit() else f"1{window}")
    except ValueError:
        raise ValueError(
            f'cannot read "{text}" as a rate; write a count and a duration: "10/s" or "100/5m"'
        ) from None
    if not 0 < count < 2**31 or not period:
        raise ValueError(
            f'cannot use "{text}" as a rate: both numbers must be above zero, the count below 2^31'
        )
    return count, period


def _show_pace(value: tuple[int, float]) -> Json:
    return f"{value[0]}/{units.format_seconds(value[1])}"


PACE = Parsed(_pace, _show_pace, expected='a rate such as "10/s" or "100/5m"')
STDERR = Choice("joined", "separate")


class Listen(Shape[Address]):
    """An address to listen on."""

    text = True
    expected = 'an address such as "127.0.0.1:8000", "[::1]:8000" or "unix:run/web.sock"'

    def read(self, node: Node) -> Address:
        if not isinstance(node, Leaf) or not isinstance(node.value, str):
            raise self.refused(node)
        try:
            address = parse_address(node.value)
            if isinstance(address, UnixAddress):
                return UnixAddress(absolute(str(address.path), node.origin))
        except ValueError as error:
            raise self.refused(node, str(error)) from None
        return address

    def show(self, value: object) -> Json:
        return str(value)

    def schema(self) -> dict[str, Json]:
        return {"type": "string"}


class Umask(Shape[int]):
    """File mode bits that are not given, in octal."""

    expected = 'octal digits such as "022"'

    def read(self, node: Node) -> int:
        match node:
            case Leaf(str() as text) if re.fullmatch(r"(0o)?[0-7]{1,4}", text, re.ASCII):
                value = int(text.removeprefix("0o"), 8)
            case Leaf(int()):
                # 22 and 0o22 are told apart by nobody who reads the value alone, and only one of them is meant.
                raise self.refused(
                    node, 'a number may be read as decimal; write octal digits in quotes, such as "022"'
                )
            case _:
                raise self.refused(node)
        if value > 0o777:
            raise self.refused(node, 'the mask is beyond 777; write octal digits such as "022"')
        return value

    def show(self, value: object) -> Json:
        return f"{value:03o}"

    def schema(self) -> dict[str, Json]:
        return {"type": "string", "pattern": "^(0o)?[0-7]{1,4}$"}


UNLIMITED = -1
"""A resource limit that is not one; the number that the kernel's interface uses, too."""


class ResourceLimit(Shape[int]):
    """A count or a size that the kernel enforces, or `unlimited`."""

    def __init__(self, *, sized: bool) -> None:
        number = 'a size such as "64M"' if sized else "a whole number such as 1024"
        self.expected = f'{number} or "unlimited"'
        self.unit = "bytes" if sized else ""
        self._sized = sized

    def read(self, node: Node) -> int:
        match node:
            case Leaf("unlimited"):
                return UNLIMITED
            case Leaf(bool()):
                raise self.refused(node)
            case Leaf(int() as value) if value >= 0:
                return value
            case Leaf(str() as text) if self._sized:
                try:
                    return units.size(text)
                except ValueError as error:
                    raise self.refused(node, str(error)) from None
            case _:
                raise self.refused(node)

    def show(self, value: int) -> Json:
        if value == UNLIMITED:
            return "unlimited"
        return units.format_size(value) if self._sized else value

    def schema(self) -> dict[str, Json]:
        words: dict[str, Json] = {"type": "string"} if self._sized else {"const": "unlimited"}
        return {"anyOf": [{"type": "integer", "minimum": 0}, words]}


class StoreUrl(Shape[str]):
    """Where jobs are kept: `sqlite:PATH[?driver=…]` (the path made absolute) or `postgresql://…`."""

    text = True
    expected = 'a store such as "sqlite:site.db" or "postgresql://user@host/name"'
    _options: ClassVar = {"driver": ("apsw", "sqlite3"), "synchronous": ("FULL", "NORMAL")}

    def read(self, node: Node) -> str:
        if not isinstance(node, Leaf) or not isinstance(node.value, str):
            raise self.refused(node)
        try:
            return self._sqlite(node) if node.value.startswith("sqlite:") else self._postgresql(node.value)
        except ValueError as error:
            raise self.refused(node, str(error)) from None

    def _sqlite(self, node: Leaf) -> str:
        path, _, query = str(node.value).removeprefix("sqlite:").partition("?")
        if path.startswith("//"):
            raise ValueError(
                f'cannot read "{node.value}": a store names its file without slashes before it; '
                'write "sqlite:site.db" or "sqlite:/var/lib/shop/site.db"'
            )
        if path in ("", ":memory:"):
            raise ValueError(
                f'cannot use "{node.value}": processes can only share a file; write "sqlite:site.db"'
            )
        for name, value in parse_qsl(query, keep_blank_values=True):
            allowed = self._options.get(name)
            if allowed is None:
                raise ValueError(
                    f'unknown option "{name}" of the store; known are {" and ".join(self._options)}'
                )
            if value not in allowed:
                raise ValueError(f'"{value}" is no {name}; write {name}={f" or {name}=".join(allowed)}')
        found = f"sqlite:{absolute(path, node.origin)}"
        return f"{found}?{query}" if query else found

    def _postgresql(self, text: str) -> str:
        if text.startswith("postgres://"):
            text = "postgresql://" + text.removeprefix("postgres://")
        if not text.startswith("postgresql://"):
            scheme = text.partition(":")[0] if ":" in text else ""
            cause = f'"{scheme}" is no store that coserver knows' if scheme else "it names no kind of store"
            raise ValueError(
                f'cannot use this store: {cause}; write "sqlite:site.db" or "postgresql://user@host/name"'
            )
        try:
            _ = urlsplit(text).port
        except ValueError as error:
            raise ValueError(
                f'cannot read the store\'s address: {str(error).lower()}; write "postgresql://user@host:5432/name"'
            ) from None
        return text

    def show(self, value: object) -> Json:
        return str(value)

    def schema(self) -> dict[str, Json]:
        return {"type": "string", "pattern": "^(sqlite:|postgres(ql)?://)"}


def sqlite_path(store: str) -> Path | None:
    """Return the file of a read SQLite store, or None for another kind."""
    return Path(store.removeprefix("sqlite:").partition("?")[0]) if store.startswith("sqlite:") else None
