"""URLs of stores."""

from __future__ import annotations

import pytest

from coserver.errors import UsageError
from coserver.store.url import PostgresUrl, SQLiteUrl, parse_url, place_of


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("sqlite:site.db", SQLiteUrl("site.db")),
        ("sqlite:/var/lib/site.db", SQLiteUrl("/var/lib/site.db")),
        ("sqlite:///var/lib/site.db", SQLiteUrl("/var/lib/site.db")),
        ("sqlite:with%20space%3F.db", SQLiteUrl("with space?.db")),
        ("sqlite:site.db?driver=sqlite3", SQLiteUrl("site.db", driver="sqlite3")),
        ("sqlite:site.db?synchronous=NORMAL&driver=apsw", SQLiteUrl("site.db", synchronous="NORMAL")),
        ("sqlite:site.db?synchronous=full", SQLiteUrl("site.db")),
        ("postgresql://me@db/shop", PostgresUrl("postgresql://me@db/shop")),
        ("postgres://me@db/shop", PostgresUrl("postgres://me@db/shop")),
    ],
)
def test_what_a_url_names(url: str, expected: object) -> None:
    assert parse_url(url) == expected


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:secret@db:5433/shop", "postgresql://me:***@db:5433/shop"),
        ("postgresql://me:se%2Fcret@db/shop", "postgresql://me:***@db/shop"),
        (
            "postgresql://me@db/shop?password=secret&sslmode=require",
            "postgresql://me@db/shop?password=***&sslmode=require",
        ),
        ("postgresql:///shop?sslpassword=secret", "postgresql:///shop?sslpassword=***"),
        ("postgresql://me:se/cr?e#t@db/shop", "postgresql://me:***@db/shop"),
        ("postgresql://me:s@cret@db/shop", "postgresql://me:***@db/shop"),
        ("postgresql://me:two words@db/shop", "postgresql://me:***@db/shop"),
        ("postgresql://db/shop", "postgresql://db/shop"),
        ("sqlite:a b.db?synchronous=NORMAL", "sqlite:a b.db"),
    ],
)
def test_the_masked_url_shows_no_password(url: str, shown: str) -> None:
    assert parse_url(url).masked == shown


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("site.db", "its kind is not known"),
        ("redis://localhost", "its kind is not known"),
        ("postgresql:shop", "its kind is not known"),
        ("sqlite:", "a file is needed"),
        ("sqlite::memory:", "a file is needed"),
        ("sqlite:a.db?cache=shared", "has no option cache=shared"),
        ("sqlite:a.db?synchronous=OFF", "has no option synchronous=OFF"),
    ],
)
def test_other_urls_are_refused_with_the_reason(url: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        parse_url(url)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("postgresql://me:a@db/shop", "postgres://you:b@DB:5432/shop?sslmode=require", True),
        ("postgresql://db:5433/shop", "postgresql:///shop?host=db&port=5433", True),
        ("postgresql://db/shop", "postgresql://db/other", False),
        ("postgresql://db/shop", "postgresql://db:5433/shop", False),
        ("sqlite:shop.db", "sqlite:./shop.db?synchronous=NORMAL", True),
        ("sqlite:shop.db", "sqlite:other.db", False),
        ("sqlite:shop.db", "postgresql:///shop.db", False),
    ],
)
def test_the_urls_of_one_store_name_one_place(one: str, other: str, same: bool) -> None:
    assert (place_of(parse_url(one).masked) == place_of(parse_url(other).masked)) is same
