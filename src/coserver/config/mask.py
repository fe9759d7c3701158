"""What people and programs are not shown: passwords, tokens and keys, wherever a value may carry one.

Theory. A secret is known by where it came from (a `file:` value is one always), by the name it stands under (`env`
entries such as `API_TOKEN`), or by its form (the password of a URL, an option `--password …`). Masking may hide too
much but never too little: everything before the last `@` of a URL's authority counts as password.
"""

from __future__ import annotations

import re

from coserver.config.shapes import Json

MASK = "***"

_WORDS = r"password|passwd|passphrase|requirepass|secret|token|credential|dsn|api[_-]?key|private[_-]?key"
_NAME = re.compile(rf"{_WORDS}|(?:^|[_-])(?:key|pass|pwd|auth)(?:$|[_-])", re.IGNORECASE)
_URL = re.compile(r"(://[^\s:/@]*:)\S+@")
_PAIR = re.compile(rf"((?:{_WORDS})\w*=)[^&\s;]+", re.IGNORECASE)
_OPTION = re.compile(rf"((?:^|\s)-*(?:\w+-)*(?:{_WORDS})\s+)\S+", re.IGNORECASE)
_OPTION_NAME = re.compile(rf"-*(?:\w+-)*(?:{_WORDS})", re.IGNORECASE)


def secret_name(name: str) -> bool:
    """Tell whether a variable or key of this name probably holds a secret."""
    return _NAME.search(name) is not None


def mask_text(text: str) -> str:
    """Hide the secrets that a text shows by its form."""
    return _OPTION.sub(rf"\1{MASK}", _PAIR.sub(rf"\1{MASK}", _URL.sub(rf"\1{MASK}@", text)))


def mask(value: Json) -> Json:
    """Hide the secrets in any value."""
    match value:
        case str():
            return mask_text(value)
        case list():
            shown: list[Json] = []
            for place, item in enumerate(value):
                before = value[place - 1] if place else None
                hidden = isinstance(before, str) and _OPTION_NAME.fullmatch(before)
                shown.append(MASK if hidden else mask(item))
            return shown
        case dict():
            return {name: MASK if secret_name(name) else mask(entry) for name, entry in value.items()}
        case _:
            return value
