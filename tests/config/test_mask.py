"""No secret in any view."""

from __future__ import annotations

import pytest

from coserver.config.mask import mask, mask_text, secret_name
from coserver.config.shapes import Json


@pytest.mark.parametrize(
    "name",
    ["PASSWORD", "DB_PASSWORD", "PGPASSWORD", "db-passwd", "SECRET_KEY", "API_KEY", "apikey", "KEY", "AUTH_TOKEN",
     "SENTRY_DSN", "AWS_SECRET_ACCESS_KEY", "PASS", "REDIS_PASS", "GOOGLE_CREDENTIALS", "PRIVATE_KEY_FILE"],
)  # fmt: skip
def test_a_name_that_promises_a_secret_is_known(name: str) -> None:
    assert secret_name(name)


@pytest.mark.parametrize("name", ["DEBUG", "PATH", "HOME", "KEYBOARD", "MONKEY", "COMPASS", "AUTHOR", "PORT"])
def test_an_innocent_name_is_none(name: str) -> None:
    assert not secret_name(name)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://ann:s3cret@host/db", "postgresql://ann:***@host/db"),
        ("redis://:s3cret@host", "redis://:***@host"),
        ("http://u:a@b@c:s/3cret@host/x", "http://u:***@host/x"),
        ("postgresql://h/db?password=s3cret&x=1", "postgresql://h/db?password=***&x=1"),
        ("host=h password=s3cret dbname=d", "host=h password=*** dbname=d"),
        ("redis-server --requirepass s3cret --port 1", "redis-server --requirepass *** --port 1"),
        ("x --api-key=s3cret", "x --api-key=***"),
        ("https://host/path", "https://host/path"),
        ("--port 6400", "--port 6400"),
    ],
)
def test_a_secret_is_known_by_its_form(text: str, shown: str) -> None:
    assert mask_text(text) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (
            ["redis-server", "--requirepass", "s3cret", "-p", "1"],
            ["redis-server", "--requirepass", "***", "-p", "1"],
        ),
        (["x", "--db-password", "s3cret"], ["x", "--db-password", "***"]),
        (["x", "postgresql://a:s3cret@h"], ["x", "postgresql://a:***@h"]),
        (
            {"TOKEN": "s3cret", "URL": "http://a:s3cret@h", "N": 1},
            {"TOKEN": "***", "URL": "http://a:***@h", "N": 1},
        ),
        (3, 3),
        (None, None),
        (True, True),
    ],
)
def test_lists_and_tables_are_masked_throughout(value: Json, shown: Json) -> None:
    assert mask(value) == shown
