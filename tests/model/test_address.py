"""Addresses to listen on."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coserver.model.address import Address, TcpAddress, UnixAddress, parse_address, url


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8000", TcpAddress("127.0.0.1", 8000)),
        ("tcp:0.0.0.0:80", TcpAddress("0.0.0.0", 80)),
        ("localhost:0", TcpAddress("localhost", 0)),
        ("[::1]:8000", TcpAddress("::1", 8000)),
        ("tcp:[fe80::1%eth0]:1", TcpAddress("fe80::1%eth0", 1)),
        ("unix:run/web.sock", UnixAddress(Path("run/web.sock"))),
    ],
)
def test_every_form_is_read_and_its_text_reads_back(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    "text", ["", "8000", ":8000", "host", "host:", "host:70000", "::1:80", "unix:", "http://h:1", "a b:1"]
)
def test_anything_else_is_refused_with_a_form_that_works(text: str) -> None:
    with pytest.raises(ValueError, match="cannot"):
        parse_address(text)


@given(st.text(max_size=20))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        parse_address(text)
    except ValueError as error:
        assert str(error).startswith("cannot ")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("127.0.0.1:80", "http://127.0.0.1:80"),
        ("0.0.0.0:8000", "http://127.0.0.1:8000"),
        ("tcp:[::]:8000", "http://127.0.0.1:8000"),
        ("[::1]:8000", "http://[::1]:8000"),
        ("shop.test:8000", "http://shop.test:8000"),
        ("unix:run/web.sock", "unix:run/web.sock"),
    ],
)
def test_an_address_is_shown_as_what_a_browser_takes(text: str, shown: str) -> None:
    assert url(parse_address(text)) == shown
