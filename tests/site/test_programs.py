"""Foreign programs with habits of their own, under a real site: stopped means empty, and nothing is ever doubled."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from tests import programs
from tests.site.live import LiveSite, alive, command, until


def service(name: str, argv: Sequence[str], env: Mapping[str, str], more: str = "") -> str:
    table = ", ".join(f"{key} = {json.dumps(value)}" for key, value in env.items())
    words = json.dumps([word.replace("$", "$$") for word in argv])
    return f"[service.{name}]\ncommand = {words}\nenv = {{ {table} }}\n{more}\n"


def named(site: LiveSite, word: bytes) -> set[int]:
    """Processes whose title holds a word and which come from this site's keeper."""
    found = set()
    keeper = site.keeper_pid()
    for entry in Path("/proc").iterdir():
        words = command(int(entry.name)) if entry.name.isdecimal() else b""
        if word in words and b"coserver.boot" not in words and alive(int(entry.name)):
            pid = int(entry.name)
            while pid > 1 and pid != keeper:
                try:
                    pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
                except OSError:
                    pid = 0
            if pid == keeper != int(entry.name):
                found.add(int(entry.name))
    return found


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def test_redis_runs_is_restarted_when_killed_and_stops_empty(site: LiveSite) -> None:
    redis, port = programs.redis(), programs.free_port()
    argv = redis.command("--port", str(port), "--save", "", "--dir", str(site.directory))
    site.write(service("redis", argv, redis.env))
    site.up()
    until(lambda: answers(port), "redis answers")
    first = site.pids()["redis/1"]
    os.kill(first, signal.SIGKILL)
    second = until(lambda: site.pids().get("redis/1", first) != first and site.pids()["redis/1"], "a new run")
    until(lambda: answers(port), "redis answers again")
    assert site.process("redis/1")["restarts"] == 1
    site.run("stop", "redis")
    assert not alive(second) and not answers(port)


NGINX = """
daemon on;
worker_processes 2;
pid nginx.pid;
error_log stderr;
{user}
events {{ }}
http {{
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    server {{ listen 127.0.0.1:{port}; }}
}}
"""


def test_nginx_that_goes_into_the_background_is_ended_and_never_doubled(site: LiveSite) -> None:
    nginx, port = programs.nginx(), programs.free_port()
    user = "user root;" if os.getuid() == 0 else ""
    (site.directory / "nginx.conf").write_text(NGINX.format(port=port, user=user))
    argv = nginx.command("-p", f"{site.directory}/", "-c", "nginx.conf", "-e", "stderr")
    site.write(service("nginx", argv, nginx.env, 'restart = { backoff = "0s..0s", give_up = "3 in 1m" }'))
    site.up(check=1)
    # Each run left for the background at once, was cleared before the next began, and then it was given up.
    assert site.process("nginx/1")["state"] == "fatal"
    assert "3 times" in site.process("nginx/1")["why"]
    assert named(site, b"nginx") == set()
    assert not answers(port)
    assert site.status()["unowned"] == []


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory that the server's account can reach; pytest's own are for our eyes only."""
    found = Path(tempfile.mkdtemp(prefix="coserver-postgres-"))
    programs.unprivileged().own(found)
    yield found
    shutil.rmtree(found, ignore_errors=True)


def test_postgres_whose_postmaster_is_killed_is_cleared_and_comes_back(
    site: LiveSite, directory: Path
) -> None:
    binaries, port = programs.postgres(), programs.free_port()
    account = programs.unprivileged()
    if binaries is None:
        argv = programs.standin("postgres").command()
    else:
        data = directory / "data"
        subprocess.run(
            [binaries / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-N", "--locale=C"],
            check=True,
            cwd="/",
            user=account.uid,
            group=account.gid,
            extra_groups=[] if account.gid is not None else None,
            stdout=subprocess.DEVNULL,
        )
        argv = [
            str(binaries / "postgres"),
            "-D",
            str(data),
            "-p",
            str(port),
            "-k",
            str(directory),
            "-h",
            "",
            "-F",
        ]
    user = f'user = "{account.uid}"\n' if account.uid is not None and binaries is not None else ""
    site.write(service("postgres", argv, {}, f'{user}cwd = "/"\nstop = {{ signal = "INT" }}\n'))
    site.up()
    before = until(lambda: len(found := named(site, b"postgres")) >= 4 and found, "its processes are there")
    leader = site.pids()["postgres/1"]
    os.kill(leader, signal.SIGKILL)
    after = until(
        lambda: (
            site.pids().get("postgres/1", leader) != leader
            and len(found := named(site, b"postgres")) >= 4
            and found
        ),
        "a new server",
    )
    assert not any(alive(pid) for pid in before - after)
    assert not before & after, "a process of the dead server lives on beside the new one"
    site.run("stop", "postgres")
    assert named(site, b"postgres") == set()
