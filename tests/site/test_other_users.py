"""Python services as another user: everything that node and process share works across the two users.

The interpreter and the packages that the tests run with may lie where only their owner may read (below /root, say). So
these tests bring a copy of the packages, and look for an interpreter of the same version that everybody may run.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import pwd
import re
import shutil
import signal
import statistics
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

import coserver
from coserver.client import Client
from coserver.host.access import may
from coserver.host.users import account
from tests.programs import free_port
from tests.site.live import LiveSite, alive, ending, until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may run services as somebody else")

SITE = """
[site]
store = "sqlite:data/site.db"
[app]
path = ["code"]
[service.work]
user = "nobody"
tasks = ["jobs"]
concurrency = 2
[service.web]
user = "nobody"
asgi = "page:app"
bind = "127.0.0.1:{port}"
"""
JOBS = """
import os, time
from pathlib import Path
from coserver import current_job, task

@task
def who() -> list[int]:
    print("it is", os.getuid(), flush=True)
    return [os.getuid(), os.getgid()]

@task
def first_time_for_ever(note: str) -> int:
    job = current_job()
    if not Path(note).exists():
        Path(note).write_text(str(os.getpid()))
        time.sleep(600)
    return os.getuid()
"""
PAGE = """
import os

async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": str(os.getuid()).encode()})
"""


@pytest.fixture(scope="module")
def open_place() -> Iterator[Path]:
    """A directory that everybody may enter; pytest's own are for their user alone."""
    place = Path(tempfile.mkdtemp(prefix="coserver-users-"))
    place.chmod(0o755)
    yield place
    shutil.rmtree(place)


@pytest.fixture(scope="module")
def packages(open_place: Path) -> Path:
    """A copy of coserver and of what it needs, for everybody to read."""
    place = open_place / "packages"
    wanted, seen = ["coserver"], set()
    while wanted:
        name = re.sub(r"[-_.]+", "-", wanted.pop()).lower()
        if name in seen:
            continue
        seen.add(name)
        try:
            found = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # needed elsewhere only
        wanted += [re.split(r"[^\w.-]", one)[0] for one in found.requires or () if "extra ==" not in one]
        for file in found.files or ():
            if ".." not in file.parts and file.suffix not in (".pyc", ".pth"):
                target = place / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(str(found.locate_file(file)), target)
    home = Path(coserver.__file__).parent
    shutil.copytree(
        home, place / "coserver", ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True
    )
    return place


@pytest.fixture(scope="module")
def interpreter(open_place: Path) -> Path:
    """A Python of this version that "nobody" may run."""
    name = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    nobody = account("nobody")
    for path in (sys.executable, getattr(sys, "_base_executable", ""), *map(str, _on_path(name))):
        if path and may(nobody, "execute", Path(path)):
            return Path(path)
    pytest.skip(f'no {name} on this machine that user "nobody" may run, so no service can be run as nobody')


def _on_path(name: str) -> Iterator[Path]:
    for directory in (*os.get_exec_path(), "/usr/local/bin", "/usr/bin"):
        path = Path(directory, name)
        # A manager's shim runs what lies elsewhere.
        if path.is_file() and path.read_bytes()[:4] == b"\x7fELF":
            yield path


@pytest.fixture
def site(open_place: Path, packages: Path, interpreter: Path) -> Iterator[LiveSite]:
    """A site of root's, with code that everybody may read."""
    directory = Path(tempfile.mkdtemp(dir=open_place))
    directory.chmod(0o755)
    (directory / "code").mkdir()
    (directory / "code" / "jobs.py").write_text(JOBS)
    (directory / "code" / "page.py").write_text(PAGE)
    site = LiveSite(directory)
    site.store = directory / "data" / "site.db"
    site.command = [str(interpreter), "-m", "coserver"]
    site.variables = {"PYTHONPATH": str(packages), "PYTHONDONTWRITEBYTECODE": "1"}
    site.file.write_text(SITE.format(port=free_port()))
    yield from ending(site)


def given(directory: Path, uid: int, gid: int, mode: int) -> None:
    """Make the store's directory for somebody."""
    directory.mkdir()
    os.chown(directory, uid, gid)
    directory.chmod(mode)


def test_jobs_and_pages_are_served_as_the_services_user(site: LiveSite) -> None:
    nobody = account("nobody")
    given(site.directory / "data", nobody.uid, nobody.gid, 0o755)
    site.up()
    pids = site.pids()
    assert {Path(f"/proc/{pids[name]}").stat().st_uid for name in ("work/1", "web/1")} == {nobody.uid}
    answer = json.loads(site.run("jobs", "submit", "jobs:who", "--wait", "--json").stdout)
    assert answer["result"] == [nobody.uid, nobody.gid]
    url = next(service["url"] for service in site.status()["services"] if service["name"] == "web")
    with urllib.request.urlopen(url, timeout=30) as page:
        assert page.read() == str(nobody.uid).encode()
    until(lambda: f"it is {nobody.uid}\n".encode() in site.log("work/1"), "its output is kept")

    # What is the node's stays the node's.
    state = site.state
    own = [*state.glob("node.db*"), state / "children", state / "lock", state / "keeper.log"]
    own += [state / "control.sock", state / "log" / "coserver.log", state / "log" / "work" / "1.log"]
    for file in own:
        assert file.exists()
        assert [may(nobody, deed, file) for deed in ("read", "write")] == [False, False], file
    assert may(nobody, "write", state / "bus.sock")
    assert may(account("daemon"), "write", state / "bus.sock") is False
    assert not may(nobody, "read", state)

    site.down()
    assert "work/1 ended: exit status 0" in site.node_log()
    assert "web/1 ended: exit status 0" in site.node_log()
    assert not any(alive(pid) for pid in pids.values())
    assert list(state.glob("process/*/*")) == []


def test_a_store_of_the_users_group_serves_both(site: LiveSite) -> None:
    nobody = account("nobody")
    given(site.directory / "data", 0, nobody.gid, 0o2770)
    site.up()
    assert site.run("jobs", "submit", "jobs:who", "--wait", check=0).stdout.split()[1:2] == [f"{nobody.uid},"]
    site.run("restart", "work")
    site.run("jobs", "submit", "jobs:who", "--wait")


def test_a_submit_of_roots_rouses_a_worker_of_another_user_itself(site: LiveSite) -> None:
    nobody = account("nobody")
    given(site.directory / "data", nobody.uid, nobody.gid, 0o755)
    site.up()
    with Client(f"sqlite:{site.store}") as client:
        node = site.node_pid()
        os.kill(node, signal.SIGSTOP)  # so that nobody else can rouse it
        waits = []
        try:
            for _ in range(7):
                until(lambda: site.sql("SELECT 1 FROM coserver_worker WHERE parked = 1"), "the worker sleeps")
                job = client.submit("jobs:who")
                job.result(30)
                info = job.info()
                assert info.started_at is not None
                waits.append((info.started_at - info.created_at) / 1e6)
        finally:
            os.kill(node, signal.SIGCONT)
    # It looks by itself once a second only.
    assert statistics.median(waits) < 0.3


def test_a_killed_worker_of_another_user_is_charged_with_what_it_had_begun_alone(site: LiveSite) -> None:
    nobody = account("nobody")
    data = site.directory / "data"
    given(data, nobody.uid, nobody.gid, 0o755)
    site.up()
    begun = json.loads(
        site.run("jobs", "submit", "jobs:first_time_for_ever", str(data / "note"), "--json").stdout
    )
    pid = int(until(lambda: (data / "note").exists() and (data / "note").read_text(), "it has begun"))
    assert pid == site.pids()["work/1"]
    os.kill(pid, signal.SIGKILL)
    with Client(f"sqlite:{site.store}") as client:
        assert client.job(begun["id"]).result(60) == nobody.uid
        after = client.job(begun["id"]).info()
        other = client.submit("jobs:who")
        other.result(60)
        assert (after.crashes, other.info().crashes) == (1, 0)
    assert "1 begun ones and 0 others are back" in site.node_log()


def test_a_store_that_the_user_may_not_write_is_named_before_anything_starts(site: LiveSite) -> None:
    given(site.directory / "data", 0, 0, 0o755)
    advice = site.run("doctor", check=1).stdout
    assert re.search(r'bad   work: user "nobody" may not write .*/data.*install -d -o nobody', advice)
    assert "bad   web" not in advice
    up = site.up("--no-wait")
    assert 'work: user "nobody" may not write the store' in up.stderr


def test_a_foreign_program_of_another_user_may_open_its_output_by_name(site: LiveSite) -> None:
    site.file.write_text(
        '[service.a]\ncommand = ["sh", "-c", "echo named > /dev/stdout; exec sleep 1000"]\nuser = "nobody"\ncwd = "/"\n'
    )
    site.up()
    until(lambda: b"named\n" in site.log("a/1"), "what it wrote is kept")


def test_a_user_that_may_change_what_root_runs_is_noted(site: LiveSite) -> None:
    given(site.directory / "data", pwd.getpwnam("nobody").pw_uid, 0, 0o755)
    assert "and so decide what root runs" not in site.run("doctor").stdout
    os.chown(site.file, pwd.getpwnam("nobody").pw_uid, -1)
    assert f'note  work: user "nobody" may change {site.file}' in site.run("doctor").stdout
