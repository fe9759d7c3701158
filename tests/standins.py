"""Programs with the habits of redis, nginx and postgres as far as containment sees them, for machines without these."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import sys
import time
from pathlib import Path


def overwrite_environment(title: str) -> None:
    """Put a title where arguments and environment were, as programs without setproctitle(2) do."""
    stat = Path("/proc/self/stat").read_bytes()
    fields = stat[stat.rindex(b")") + 2 :].split()
    start, end = int(fields[45]), int(fields[48])  # arg_start, env_end
    ctypes.memset(start, 0, end - start)
    ctypes.memmove(start, title.encode(), min(len(title), end - start - 1))


def wait_for_ever() -> None:
    while True:
        signal.pause()


def redis(arguments: list[str]) -> None:
    overwrite_environment(f"redis-server 127.0.0.1:{arguments[arguments.index('--port') + 1]}")
    wait_for_ever()


def nginx(arguments: list[str]) -> None:
    prefix = Path(arguments[arguments.index("-p") + 1])
    configuration = (prefix / arguments[arguments.index("-c") + 1]).read_text()
    pid_file = re.search(r"pid (\S+);", configuration)
    assert pid_file is not None
    if "daemon on" in configuration and os.fork():
        os._exit(0)
    os.setsid()
    overwrite_environment("nginx: master process")
    if os.fork() == 0:
        overwrite_environment("nginx: worker process")
        wait_for_ever()
    (prefix / pid_file[1]).write_text(f"{os.getpid()}\n")
    wait_for_ever()


def postgres(arguments: list[str]) -> None:
    for title in ("checkpointer", "background writer", "backend busy"):
        if os.fork() == 0:
            os.setsid()
            overwrite_environment(f"postgres: {title}")
            while "busy" in title:
                time.sleep(0)
            wait_for_ever()
    wait_for_ever()


if __name__ == "__main__":
    {"redis": redis, "nginx": nginx, "postgres": postgres}[sys.argv[1]](sys.argv[2:])
