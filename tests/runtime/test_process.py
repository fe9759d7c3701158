"""Python service processes, run as a node runs them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import psycopg
import pytest

from coserver.model.job import NewJob, State
from coserver.model.statuses import RECYCLED, UNFIT
from coserver.runtime.started import read_started
from coserver.store import open_store
from coserver.store.contract import Store
from coserver.wire.bridge import AskStacks, Pause, Ping, Pong, Resume, Stacks
from tests.runtime.processes import TASKS, child, node
from tests.runtime.workers import ended, info, submit, until


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A directory with an application in it."""
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "shopjobs.py").write_text(TASKS)
    return tmp_path


def working(home: Path, url: str, **more: Any) -> dict[str, Any]:
    return {
        "store": url,
        "path": (str(home / "app"),),
        "tasks": ("shopjobs",),
        "queues": (("default", 4),),
        "stop_timeout": 10.0,
        **more,
    }


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def get(port: int, path: str = "/") -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        body: bytes = answer.read()
        return body.decode()


def answers(port: int) -> bool:
    try:
        get(port)
    except (OSError, urllib.error.URLError):
        return False
    return True


# The worker -------------------------------------------------------------------------------------------------------


def test_a_process_works_and_leaves_with_0_on_term(home: Path, store: Store, store_url: str) -> None:
    out = home / "out"
    with child(home, **working(home, store_url)) as process:
        ids = submit(store, "touch", *[f'["{out}"]'] * 30)
        until(lambda: ended(store, ids), "all done")
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
    assert size(out) == 30
    assert process.said == ""


def test_a_worker_says_what_the_node_calls_its_host(home: Path, store: Store, store_url: str) -> None:
    with child(home, **working(home, store_url), host="left") as process:
        until(lambda: [one.host for one in store.workers()] == ["left"], "it has registered")
        process.signal(signal.SIGTERM)
        assert process.wait() == 0


def test_n12_on_term_running_jobs_finish_and_the_others_go_back_uncharged(
    home: Path, store: Store, store_url: str
) -> None:
    """N12."""
    go, begun = home / "go", home / "begun"
    with child(home, **working(home, store_url)) as process:
        ids = submit(store, "wait_for", *[f'["{go}","{begun}"]'] * 30)
        until(lambda: size(begun) == 4, "four run")
        process.signal(signal.SIGTERM)
        until(
            lambda: sum(info(store, job).state is State.RUNNING for job in ids) == 4, "the others went back"
        )
        assert process.process.poll() is None
        go.touch()
        assert process.wait() == 0
    found = [info(store, job) for job in ids]
    assert sum(job.state is State.SUCCEEDED for job in found) == 4
    assert sum(job.state is State.QUEUED for job in found) == 26
    assert {(job.state, job.attempt, job.crashes) for job in found} == {
        (State.SUCCEEDED, 1, 0),
        (State.QUEUED, 0, 0),
    }


@pytest.mark.parametrize("task", ["wait_for", "wait_plain"])
def test_jobs_that_do_not_end_within_the_stop_timeout_go_back(home: Path, sqlite_url: str, task: str) -> None:
    store = open_store(sqlite_url)
    with child(home, **working(home, sqlite_url, stop_timeout=1.5)) as process:
        (job,) = submit(store, task, f'["{home / "never"}","{home / "begun"}"]')
        until(lambda: size(home / "begun") == 1, "it runs")
        asked = time.monotonic()
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
        assert time.monotonic() - asked < 5
    assert info(store, job).state is State.QUEUED
    store.close()


def test_an_asyncio_task_of_a_job_that_exits_fails_that_job_alone(home: Path, sqlite_url: str) -> None:
    with closing(open_store(sqlite_url)) as store:
        gate, began = home / "gate", home / "began"
        (mate,) = submit(store, "wait_for", json.dumps([str(gate), str(began)]))
        with child(home, **working(home, sqlite_url)) as process:
            until(lambda: size(began) == 1, "the mate runs")
            (job,) = submit(store, "exit_below", "[]")
            until(lambda: info(store, job).state.final, "it ended")
            assert process.process.poll() is None
            gate.touch()
            until(lambda: info(store, mate).state.final, "the mate ended")
            process.signal(signal.SIGTERM)
            assert process.wait() == 0
        done = info(store, job)
        assert done.error is not None
        assert (done.state, done.crashes, done.error.type) == (State.FAILED, 0, "SystemExit")
        assert (info(store, mate).state, info(store, mate).attempt) == (State.SUCCEEDED, 1)


def test_a_second_term_hurries(home: Path, sqlite_url: str) -> None:
    store = open_store(sqlite_url)
    with child(home, **working(home, sqlite_url, stop_timeout=60.0)) as process:
        (job,) = submit(store, "wait_for", f'["{home / "never"}","{home / "begun"}"]')
        until(lambda: size(home / "begun") == 1, "it runs")
        process.signal(signal.SIGTERM)
        time.sleep(0.1)  # two signals at once would be one
        process.signal(signal.SIGTERM)
        asked = time.monotonic()
        assert process.wait() == 0
        assert time.monotonic() - asked < 20
    assert info(store, job).state is State.QUEUED
    store.close()


def test_n11_after_a_kill_those_that_had_begun_are_charged_and_their_mates_are_not(
    home: Path, store: Store, store_url: str
) -> None:
    """N11."""
    go, begun, started = home / "go", home / "begun", home / "started"
    with child(home, **working(home, store_url, token="t1", started=str(started))) as process:
        ids = submit(store, "wait_for", *[f'["{go}","{begun}"]'] * 12)
        until(lambda: size(begun) == 4, "four run")
        process.signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    known = read_started(started)
    assert known is not None
    assert len(known) == 4
    rescue = store.bury("t1", started=known, note="killed by the test")
    assert sorted(rescue.crashed) == known
    assert rescue.lost == []
    go.touch()
    with child(home, **working(home, store_url)) as process:
        until(lambda: ended(store, ids), "all done")
    found = [info(store, job) for job in ids]
    assert {job.state for job in found} == {State.SUCCEEDED}
    assert {job.id for job in found if job.crashes} == set(known)
    assert store.counts().by_state[State.SUCCEEDED] == len(ids)
    assert size(begun) == 4 + len(ids)


def test_a_job_that_kills_its_worker_is_lost_at_the_third_time_and_takes_no_mate_along(
    home: Path, sqlite_url: str
) -> None:
    store = open_store(sqlite_url)
    out = home / "out"
    (deadly,) = submit(store, "die", "[]")
    mates = submit(store, "touch", *[f'["{out}"]'] * 20)
    for attempt in range(3):
        token, started = f"t{attempt}", home / f"started{attempt}"
        with child(home, **working(home, sqlite_url, token=token, started=str(started))) as process:
            assert process.wait() == -signal.SIGKILL
        store.bury(token, started=read_started(started), note="killed itself")
    found = info(store, deadly)
    assert found.state is State.LOST
    with child(home, **working(home, sqlite_url)):
        until(lambda: ended(store, mates), "the mates are done")
    assert {info(store, job).state for job in mates} == {State.SUCCEEDED}
    assert max(info(store, job).crashes for job in mates) <= 1
    store.close()


def test_mates_that_run_beside_a_job_that_kills_its_worker_succeed_after_all(
    home: Path, sqlite_url: str
) -> None:
    """Whoever was there twice runs alone, so the third death, which counts, is the poison's only."""
    store = open_store(sqlite_url)
    mates = submit(store, "nap", *["[]"] * 8)
    (deadly,) = submit(store, "die", "[]")
    for attempt in range(3):
        token, started = f"t{attempt}", home / f"started{attempt}"
        more = {"queues": (("default", 9),), "token": token, "started": str(started)}
        with child(home, **working(home, sqlite_url, **more)) as process:
            assert process.wait() == -signal.SIGKILL
        store.bury(token, started=read_started(started), note="killed itself")
    assert info(store, deadly).state is State.LOST
    assert {info(store, job).state for job in mates} == {State.SUCCEEDED}
    assert max(info(store, job).crashes for job in mates) <= 2
    store.close()


def test_sockets_that_killed_runs_left_behind_are_removed_and_only_those(home: Path, sqlite_url: str) -> None:
    wake = home / "wake"
    wake.mkdir()
    for name in ("jobs.1.7", "jobs.1.12", "jobs.1.x", "jobs.11.3"):
        (wake / name).touch()
    store = open_store(sqlite_url)
    ids = submit(store, "touch", f'["{home / "out"}"]')
    with child(home, **working(home, sqlite_url, wake=str(wake), run=10)) as process:
        until(lambda: ended(store, ids), "it works")
        assert {path.name for path in wake.iterdir()} == {"jobs.1.10", "jobs.1.12", "jobs.1.x", "jobs.11.3"}
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
    assert not (wake / "jobs.1.10").exists()
    store.close()


# The bridge -------------------------------------------------------------------------------------------------------


def test_the_node_hears_of_readiness_and_can_pause_and_resume(home: Path, sqlite_url: str) -> None:
    store = open_store(sqlite_url)
    with (
        node(home / "bus") as peer,
        child(home, **working(home, sqlite_url, bus=str(home / "bus"), token="t")) as process,
    ):
        peer.until_ready()
        assert peer.state is not None
        assert peer.state.worker is not None
        assert peer.state.free == 4
        peer.send(Pause())
        time.sleep(0.1)
        ids = submit(store, "touch", f'["{home / "out"}"]')
        time.sleep(0.3)
        assert not ended(store, ids)
        peer.send(Resume())
        until(lambda: ended(store, ids), "it runs after all")
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
        assert peer.state.ready is False
    store.close()


def test_n10_a_process_with_a_blocked_loop_still_shows_its_stacks(home: Path, sqlite_url: str) -> None:
    """N10."""
    (home / "app" / "blocking.py").write_text(
        "import time\nfrom coserver import task\n"
        '@task(name="stuck")\nasync def stuck_in_here(path: str) -> None:\n'
        "    open(path, 'w').write('x')\n    time.sleep(60)\n"
    )
    store = open_store(sqlite_url)
    with (
        node(home / "bus") as peer,
        child(
            home, **working(home, sqlite_url, bus=str(home / "bus"), token="t", tasks=("blocking",))
        ) as process,
    ):
        peer.until_ready()
        submit(store, "stuck", f'["{home / "begun"}"]')
        until(lambda: size(home / "begun") == 1, "it is stuck")
        peer.send(Ping())
        peer.send(AskStacks(id=1))
        until(lambda: any(isinstance(m, Stacks) for m in peer.heard), "stacks")
        (answer,) = [message for message in peer.heard if isinstance(message, Stacks)]
        assert "stuck_in_here" in answer.text
        time.sleep(0.2)
        peer.send(Ping())
        until(lambda: any(isinstance(m, Pong) and m.blocked >= 0.1 for m in peer.heard), "it says so")
        process.signal(signal.SIGKILL)
        process.wait()
    store.close()


# The web application ----------------------------------------------------------------------------------------------

ASGI = """
import asyncio
from contextlib import asynccontextmanager
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

@asynccontextmanager
async def lifespan(app):
    open("up", "w").close()
    yield
    open("down", "w").close()

async def home(request):
    return PlainTextResponse("hello")

async def slow(request):
    open("slow", "w").close()
    await asyncio.sleep(0.7)
    return PlainTextResponse("late but here")

app = Starlette(routes=[Route("/", home), Route("/slow", slow)], lifespan=lifespan)
"""


def test_an_asgi_application_is_served_and_its_lifespan_is_kept(home: Path) -> None:
    (home / "app" / "web.py").write_text(ASGI)
    port = free_port()
    with (
        node(home / "bus") as peer,
        child(
            home,
            path=(str(home / "app"),),
            asgi="web:app",
            bind=f"127.0.0.1:{port}",
            bus=str(home / "bus"),
            token="t",
        ) as process,
    ):
        peer.until_ready()
        assert (home / "up").exists()
        assert get(port) == "hello"
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
        assert (home / "down").exists()


def test_a_request_under_way_is_answered_before_the_process_leaves(home: Path) -> None:
    (home / "app" / "web.py").write_text(ASGI)
    port = free_port()
    with child(home, path=(str(home / "app"),), asgi="web:app", bind=f"127.0.0.1:{port}") as process:
        until(lambda: answers(port), "it serves")
        with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
            client.sendall(b"GET /slow HTTP/1.0\r\nhost: x\r\n\r\n")
            until(lambda: (home / "slow").exists(), "the request runs")
            process.signal(signal.SIGTERM)
            answer = b""
            while part := client.recv(4096):
                answer += part
        assert answer.endswith(b"late but here")
        assert process.wait() == 0


def test_a_wsgi_application_is_served(home: Path) -> None:
    (home / "app" / "old.py").write_text(
        "def application(environ, start_response):\n"
        '    start_response("200 OK", [("content-type", "text/plain")])\n'
        '    return [environ["PATH_INFO"].encode()]\n'
    )
    port = free_port()
    with child(home, path=(str(home / "app"),), wsgi="old:application", bind=f"127.0.0.1:{port}") as process:
        until(lambda: answers(port), "it serves")
        assert get(port, "/some/path") == "/some/path"
        process.signal(signal.SIGTERM)
        assert process.wait() == 0


def test_a_unix_socket_is_served_and_one_left_behind_is_replaced(home: Path) -> None:
    (home / "app" / "web.py").write_text(ASGI)
    path = home / "web.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as left_behind:
        left_behind.bind(str(path))
    with child(home, path=(str(home / "app"),), asgi="web:app", bind=f"unix:{path}") as process:
        until(lambda: (home / "up").exists() or process.process.poll() is not None, "it serves")

        def ask() -> bytes:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
                client.settimeout(10)
                client.connect(str(path))
                client.sendall(b"GET / HTTP/1.0\r\nhost: x\r\n\r\n")
                answer = b""
                while part := client.recv(4096):
                    answer += part
                return answer

        assert ask().endswith(b"hello")
        with child(home, path=(str(home / "app"),), asgi="web:app", bind=f"unix:{path}") as second:
            assert second.wait() == 1
            assert f"cannot listen on unix:{path}: address in use; " in second.said
        assert ask().endswith(b"hello")
        process.signal(signal.SIGINT)
        assert process.wait() == 0
    assert not path.exists()


def test_one_process_serves_and_works(home: Path, sqlite_url: str) -> None:
    (home / "app" / "web.py").write_text(ASGI)
    store = open_store(sqlite_url)
    port = free_port()
    both = working(home, sqlite_url, asgi="web:app", bind=f"127.0.0.1:{port}")
    with child(home, **both) as process:
        ids = submit(store, "touch", f'["{home / "out"}"]')
        until(lambda: answers(port) and ended(store, ids), "both parts live")
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
    store.close()


# Mistakes ---------------------------------------------------------------------------------------------------------


def test_a_port_in_use_is_one_clear_line(home: Path) -> None:
    (home / "app" / "web.py").write_text(ASGI)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with child(home, path=(str(home / "app"),), asgi="web:app", bind=f"127.0.0.1:{port}") as process:
            assert process.wait() == 1
    assert process.said == (
        f"cannot listen on tcp:127.0.0.1:{port}: address in use; "
        "stop what listens there, or choose another in bind = …\n"
    )


def test_a_start_up_that_fails_ends_the_process_with_its_cause(home: Path) -> None:
    (home / "app" / "web.py").write_text(
        ASGI.replace('open("up", "w").close()', 'raise LookupError("no database")')
    )
    with child(home, path=(str(home / "app"),), asgi="web:app", bind=f"127.0.0.1:{free_port()}") as process:
        assert process.wait() == 1
    assert "LookupError: no database" in process.said
    assert process.said.endswith(
        "cannot start the web application: its start-up failed; see the lines above\n"
    )


def test_a_missing_module_is_one_line_that_says_where_it_was_looked_for(home: Path, sqlite_url: str) -> None:
    with child(home, **working(home, sqlite_url, tasks=("shopjbos",))) as process:
        assert process.wait() == 1
    assert process.said.startswith(f"cannot import shopjbos: no module shopjbos in {home / 'app'}, ")
    assert process.said.endswith("; correct tasks = … or path = […]\n")
    assert process.said.count("\n") == 1


def test_an_error_inside_a_module_shows_its_authors_traceback_and_nothing_of_ours(
    home: Path, sqlite_url: str
) -> None:
    (home / "app" / "broken.py").write_text("import json\n\nprice = 1 / 0\n")
    with child(home, **working(home, sqlite_url, tasks=("broken",))) as process:
        assert process.wait() == 1
    assert "price = 1 / 0" in process.said
    assert "ZeroDivisionError" in process.said
    assert "coserver/runtime" not in process.said
    assert "importlib" not in process.said


def test_a_module_that_misses_another_shows_the_line_that_wants_it(home: Path, sqlite_url: str) -> None:
    (home / "app" / "wanting.py").write_text("import no_such_library\n")
    with child(home, **working(home, sqlite_url, tasks=("wanting",))) as process:
        assert process.wait() == 1
    assert "import no_such_library" in process.said
    assert process.said.endswith(f"; see {home}/app/wanting.py:1\n")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"asgi": "web"}, 'cannot use asgi = "web": it names no object; write "module:attribute"'),
        ({"asgi": "web:nothing"}, "cannot find web:nothing: web has no nothing; correct asgi = …"),
        (
            {"setup": "web:nothing", "asgi": "web:app"},
            "cannot find web:nothing: web has no nothing; correct setup = …",
        ),
        ({"tasks": ("web",)}, "cannot start jobs/1: web declare no task; put @task before a function"),
        (
            {"tasks": ("@no.such.group",)},
            "cannot load the task plugin @no.such.group: no installed package brings it",
        ),
    ],
)
def test_a_wrong_name_is_one_line(home: Path, sqlite_url: str, given: dict[str, Any], said: str) -> None:
    (home / "app" / "web.py").write_text("app = object()\n")
    spec: dict[str, Any] = {"store": sqlite_url, "path": (str(home / "app"),), **given}
    if "asgi" in given:
        spec["bind"] = f"127.0.0.1:{free_port()}"
    with child(home, **spec) as process:
        assert process.wait() == 1
    assert said in process.said
    assert process.said.count("\n") == 1


def test_a_store_of_a_newer_schema_is_one_line(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    store = open_store(f"sqlite:{path}")
    store.migrate()
    store.close()
    connection = apsw.Connection(str(path))
    connection.execute("UPDATE coserver_meta SET value = '999' WHERE key = 'schema'")
    connection.close()
    with child(home, **working(home, f"sqlite:{path}")) as process:
        assert process.wait() == UNFIT
    assert "its schema is version 999, newer than this coserver's" in process.said
    assert process.said.count("\n") == 1


@pytest.mark.parametrize("working_already", [False, True])
def test_a_store_that_asks_for_a_newer_worker_ends_the_process_with_a_status_of_its_own(
    home: Path, store_url: str, working_already: bool
) -> None:
    store = open_store(store_url)

    def ask_for_more() -> None:
        if store_url.startswith("sqlite:"):
            connection = apsw.Connection(store_url.removeprefix("sqlite:"))
            connection.set_busy_timeout(30_000)
            connection.execute("INSERT OR REPLACE INTO coserver_meta VALUES ('min_protocol', '99')")
            connection.execute("UPDATE coserver_worker SET state = 1")
            connection.close()
        else:
            with psycopg.connect(store_url, autocommit=True) as link:
                link.execute(
                    "INSERT INTO coserver_meta VALUES ('min_protocol', '99') "
                    "ON CONFLICT (key) DO UPDATE SET value = excluded.value"
                )
                link.execute("UPDATE coserver_worker SET state = 1")

    try:
        if not working_already:
            ask_for_more()
        with child(home, **working(home, store_url)) as process:
            if working_already:
                ids = submit(store, "touch", f'["{home / "out"}"]')
                until(lambda: ended(store, ids), "it works")
                ask_for_more()
            assert process.wait() == UNFIT
        assert "it asks for workers of protocol 99, newer than this coserver's" in process.said
        assert "upgrade coserver" in process.said
    finally:
        store.close()


def test_a_process_leaves_after_its_jobs_and_hands_back_what_has_not_begun(
    home: Path, store_url: str
) -> None:
    store = open_store(store_url)
    try:
        held = submit(store, "wait_for", f'["{home / "gate"}","{home / "began"}"]')
        with child(home, **working(home, store_url, max_jobs=4, concurrency=3)) as process:
            until((home / "began").exists, "the long one runs")
            first = submit(store, "touch", *[f'["{home / "out"}"]'] * 5)
            until(lambda: "a fresh process takes over" in process.said, "it says so")
            until(lambda: sum(ended(store, [job]) for job in first) >= 4, "they have ended")
            late = submit(store, "touch", f'["{home / "out"}"]')
            assert process.process.poll() is None  # what runs may finish
            (home / "gate").touch()
            assert process.wait() == RECYCLED
        assert ended(store, held)
        assert [job.state for job in map(store.job, late) if job is not None] == [State.QUEUED]
    finally:
        store.close()


@pytest.mark.parametrize("given", [{"max_age": 0.5}, {"max_memory": 1 << 20}])
def test_a_process_leaves_when_it_is_old_or_large(home: Path, sqlite_url: str, given: dict[str, Any]) -> None:
    store = open_store(sqlite_url)
    try:
        ids = submit(store, "touch", f'["{home / "out"}"]')
        with child(home, **working(home, sqlite_url, **given)) as process:
            assert process.wait() == RECYCLED
        assert ended(store, ids)
    finally:
        store.close()


def test_a_process_that_works_off_the_rest_can_be_asked_to_end(home: Path, sqlite_url: str) -> None:
    store = open_store(sqlite_url)
    try:
        (job,) = submit(store, "wait_for", f'["{home / "never"}","{home / "began"}"]')
        with child(home, **working(home, sqlite_url, max_age=0.3, stop_timeout=2.0)) as process:
            until(lambda: "a fresh process takes over" in process.said, "it says so")
            process.signal(signal.SIGTERM)
            assert process.wait() == 0
        found = store.job(job)
        assert found is not None
        assert (found.state, found.crashes) == (State.QUEUED, 0)
    finally:
        store.close()


@pytest.mark.parametrize("asked", [False, True], ids=["worn", "asked to end"])
def test_a_thread_that_hangs_in_a_function_whose_time_was_over_keeps_no_process(
    home: Path, store_url: str, asked: bool
) -> None:
    """Its job has failed, and nothing waits for it any more."""
    store = open_store(store_url)
    try:
        args = f'["{home / "never"}","{home / "began"}"]'
        (job,) = store.submit([NewJob("wait_plain", args, options='{"timeout":0.5}')])
        given: dict[str, Any] = {} if asked else {"max_jobs": 1}
        with child(home, **working(home, store_url, stop_timeout=60.0, **given)) as process:
            until((home / "began").exists, "it runs")
            if asked:
                process.signal(signal.SIGTERM)
            else:
                submit(store, "touch", f'["{home / "out"}"]')
            assert process.wait() == (0 if asked else RECYCLED)
            assert "something still holds this process" not in process.said
        found = store.job(job)
        assert found is not None
        assert (found.state, found.crashes) == (State.FAILED, 0)
    finally:
        store.close()


def test_without_a_specification_it_says_who_starts_it() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COSERVER_")}
    done = subprocess.run(
        [sys.executable, "-m", "coserver.runtime.process"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("cannot start: COSERVER_SPEC is not set; ")


def test_setup_runs_before_tasks_are_imported_and_outside_of_any_event_loop(
    home: Path, sqlite_url: str
) -> None:
    (home / "app" / "settings.py").write_text(
        "import asyncio\n\nready = False\n\ndef configure():\n    global ready\n"
        "    try:\n        asyncio.get_running_loop()\n    except RuntimeError:\n        ready = True\n"
    )
    (home / "app" / "shopjobs.py").write_text(f"import settings\nassert settings.ready\n{TASKS}")
    store = open_store(sqlite_url)
    ids = submit(store, "touch", f'["{home / "out"}"]')
    with child(home, **working(home, sqlite_url, setup="settings:configure")):
        until(lambda: ended(store, ids), "it runs")
    store.close()
