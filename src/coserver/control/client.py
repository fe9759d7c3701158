"""Asking a node: the verbs over its Unix socket, from a command line or a test. Blocking, standard library only."""

from __future__ import annotations

import http.client
import json
import socket
from pathlib import Path
from typing import Any
from urllib.parse import quote

from coserver import errors
from coserver.errors import CoserverError, NodeUnreachable, NotRunning
from coserver.runtime import unix

_BY_CODE: dict[str, type[CoserverError]] = {
    error.code: error
    for error in vars(errors).values()
    if isinstance(error, type) and issubclass(error, CoserverError) and error is not errors.JobFailed
}


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock: socket.socket = unix.connect(self._path, timeout=self.timeout)


class ControlClient:
    """One node's verbs. Each call is a connection of its own.

    Raises NotRunning when no node is there, NodeUnreachable when it does not answer within `timeout` seconds, and
    otherwise what the node's own errors say.
    """

    def __init__(self, path: Path, *, site: str, timeout: float = 10.0) -> None:
        self._path = path
        self._site = site
        self._timeout = timeout

    def get(self, path: str) -> dict[str, Any]:
        """Read."""
        return self._ask("GET", path, None, self._timeout)

    def text(self, path: str) -> str:
        """Read what is answered as text."""
        answer: str = self.get(path)["text"]
        return answer

    def post(self, path: str, arguments: dict[str, Any], *, patience: float = 0.0) -> dict[str, Any]:
        """Change something; `patience` seconds are added to the time that the answer may take."""
        return self._ask("POST", path, arguments, self._timeout + patience)

    def status(self) -> dict[str, Any]:
        """Return the answer of `status`."""
        return self.get("/api/v1/status")

    def order(
        self, verb: str, names: list[str], *, by: str, wait: bool = True, timeout: float = 60.0
    ) -> dict[str, Any]:
        """Start, stop or restart services and processes; globs are taken."""
        arguments = {"names": names, "by": by, "wait": wait, "timeout": timeout}
        return self.post(
            f"/api/v1/services/{quote(names[0], safe='')}/{verb}",
            arguments,
            patience=timeout if wait else 0.0,
        )

    def _ask(
        self, method: str, path: str, arguments: dict[str, Any] | None, timeout: float
    ) -> dict[str, Any]:
        connection = _Connection(self._path, timeout)
        try:
            try:
                connection.connect()
            except FileNotFoundError:
                raise NotRunning(f"{self._site} is not up; `coserver up` starts it") from None
            except NotADirectoryError:
                raise NotRunning(
                    f"{self._site} is not up: {self._path.parent} is no directory; move away what is there, or set "
                    "`state` in [node]"
                ) from None
            except ConnectionRefusedError:
                raise NotRunning(f"{self._site} is not up any more; `coserver up` starts it again") from None
            except PermissionError:
                raise errors.Denied(
                    f"cannot reach {self._site}: {self._path} belongs to another user; ask as that user or as root"
                ) from None
            body = json.dumps(arguments) if arguments is not None else None
            connection.request(method, path, body=body, headers={"content-type": "application/json"})
            response = connection.getresponse()
            read = response.read()
            answer: dict[str, Any]
            if response.headers.get_content_type() == "text/plain":
                answer = {"text": read.decode()}
            else:
                answer = json.loads(read)
        except TimeoutError:
            raise NodeUnreachable(
                f"cannot reach {self._site}: its node has not answered within {timeout:g} s; see `coserver doctor`"
            ) from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise NodeUnreachable(
                f"cannot reach {self._site}: {str(error) or 'the node left'}; try again in a moment"
            ) from None
        finally:
            connection.close()
        if "error" in answer:
            found = answer["error"]
            raise _BY_CODE.get(found.get("code"), CoserverError)(found.get("message", "the node refused"))
        return answer
