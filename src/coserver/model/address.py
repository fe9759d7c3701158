"""An address that a program listens on: TCP or a Unix socket.

Written `127.0.0.1:8000`, `tcp:0.0.0.0:8000`, `tcp:[::1]:8000` or `unix:PATH`. The form without a scheme is TCP.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

_TCP = re.compile(
    r"(?:tcp:)?(?:\[(?P<v6>[0-9A-Fa-f:.%\w]+)\]|(?P<host>[^:\[\]/\s]*)):(?P<port>[0-9]{1,5})", re.ASCII
)


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A host (a name, an IPv4 or an IPv6 address, without brackets) and a port; port 0 lets the kernel choose."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"tcp:[{self.host}]:{self.port}" if ":" in self.host else f"tcp:{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """The path of a Unix stream socket."""

    path: Path

    def __str__(self) -> str:
        return f"unix:{self.path}"


Address = TcpAddress | UnixAddress


def parse_address(text: str) -> Address:
    """Read an address; raises `ValueError` naming the form that works."""
    if text.startswith("unix:"):
        if len(text) == len("unix:") or "\0" in text:
            raise ValueError(
                f'cannot read "{text}" as an address: it names no path; write "unix:run/web.sock"'
            )
        return UnixAddress(Path(text.removeprefix("unix:")))
    found = _TCP.fullmatch(text)
    if found is None or not (found["v6"] or found["host"]):
        raise ValueError(
            f'cannot read "{text}" as an address; write "127.0.0.1:8000", "[::1]:8000" or "unix:run/web.sock"'
        )
    port = int(found["port"])
    if port > 65_535:
        raise ValueError(f'cannot use "{text}" as an address: the port must be at most 65535')
    return TcpAddress(found["v6"] or found["host"], port)


def url(address: Address) -> str:
    """Return what a person types into a browser to reach it; one of all interfaces is shown as this host's."""
    match address:
        case UnixAddress():
            return str(address)
        case TcpAddress("" | "0.0.0.0" | "::", port):
            return f"http://127.0.0.1:{port}"
        case TcpAddress(host, port):
            return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        case _:
            assert_never(address)
