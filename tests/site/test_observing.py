"""A real site as it is watched: its metrics, and the log lines of one job wherever it ran."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Mapping

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.site.live import LiveSite, until

TASKS = """
import logging
import os
import signal
from coserver import task

log = logging.getLogger("shop.deep.down")

@task
async def quick(word: str) -> None:
    log.info("quick with %s", word)

@task(queue="mail")
def plain(word: str) -> None:
    try:
        raise LookupError(word)
    except LookupError:
        log.exception("plain with %s", word)

@task(isolate=True)
def apart(word: str) -> None:
    log.warning("apart with %s", word)

@task
async def wrong(word: str) -> None:
    raise ValueError(word)
"""
SITE = """
[site]
name = "shop"
store = "sqlite:site.db"

[app]
path = ["."]
tasks = ["jobs"]
{app}

[service.images]
queues = {{ default = 4 }}
processes = 2

[service.mail]
queues = {{ mail = 3 }}

[service.watcher]
command = "sleep 1000"
"""

Figures = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


def figures(site: LiveSite) -> Figures:
    """What `coserver metrics` prints, by name and labels."""
    families = text_string_to_metric_families(site.run("metrics").stdout)
    return {
        (one.name, frozenset(one.labels.items())): one.value for family in families for one in family.samples
    }


def figure(found: Figures, name: str, **labels: str) -> float | None:
    return found.get((f"coserver_{name}", frozenset(labels.items())))


def submit(site: LiveSite, task: str, word: str) -> int:
    return int(site.run("jobs", "submit", f"jobs:{task}", word).stdout)


def wait(site: LiveSite, *ids: int) -> None:
    def all_ended() -> bool:
        jobs = json.loads(site.run("jobs", "list", "--json").stdout)["jobs"]
        ended = {job["id"] for job in jobs if job["state"] in ("succeeded", "failed", "lost")}
        return set(ids) <= ended

    until(all_ended, f"jobs {ids} have ended")


def test_metrics_tell_of_processes_jobs_and_the_node(site: LiveSite) -> None:
    site.write(SITE.format(app=""), jobs=TASKS)
    site.up()
    good, bad, mail = submit(site, "quick", "a"), submit(site, "wrong", "b"), submit(site, "plain", "c")
    wait(site, good, bad, mail)
    site.run("jobs", "retry", str(bad))
    wait(site, bad)
    site.run("stop", "mail")
    submit(site, "plain", "d")
    found = until(
        lambda: (now := figures(site)) and figure(now, "jobs", queue="mail", state="queued") == 1 and now,
        "a job is queued",
    )
    assert figure(found, "jobs_finished_total", queue="default", state="succeeded") == 1
    assert figure(found, "jobs_finished_total", queue="default", state="failed") == 2
    assert figure(found, "jobs_finished_total", queue="mail", state="succeeded") == 1
    assert figure(found, "jobs", queue="default", state="queued") == 0
    assert figure(found, "jobs", queue="", state="new") == 0
    assert (figure(found, "queue_oldest_seconds", queue="mail") or 0) > 0
    assert figure(found, "queue_oldest_seconds", queue="default") == 0
    assert figure(found, "queue_paused", queue="mail") == 0
    assert figure(found, "jobs_unserved", queue="mail", task="jobs:plain") == 1
    assert figure(found, "workers", state="live") == 2
    assert figure(found, "healthy") == figure(found, "store_up") == 1
    assert [figure(found, "state", state=state) for state in ("starting", "running", "stopping")] == [0, 1, 0]
    for process in ("images/1", "images/2", "watcher/1"):
        labels = {"service": process.partition("/")[0], "process": process}
        assert figure(found, "process_state", **labels, state="running") == 1
        assert figure(found, "process_ready", **labels) == 1
        assert figure(found, "process_restarts_total", **labels) == 0
        assert (figure(found, "process_resident_bytes", **labels) or 0) > 100_000
        assert figure(found, "process_cpu_seconds_total", **labels) is not None
        assert (figure(found, "process_start_time_seconds", **labels) or 0) > 1e9
    assert figure(found, "process_state", service="mail", process="mail/1", state="stopped") == 1
    assert figure(found, "worker_slots", service="images", process="images/1") == 4
    assert figure(found, "worker_busy_slots", service="images", process="images/1") == 0
    assert figure(found, "worker_slots", service="watcher", process="watcher/1") is None
    assert (figure(found, "part_resident_bytes", part="keeper") or 0) > 1_000_000
    assert figure(found, "node_takeovers_total") == 0
    os.kill(site.pids()["images/1"], signal.SIGKILL)
    until(
        lambda: figure(figures(site), "process_restarts_total", service="images", process="images/1") == 1,
        "the restart is counted",
    )


def test_metrics_need_a_node(site: LiveSite) -> None:
    site.write(SITE.format(app=""), jobs=TASKS)
    assert "is not up" in site.run("metrics", check=3).stderr


@pytest.mark.parametrize("format", ["text", "json"])
def test_the_log_lines_of_one_job_are_found_wherever_it_ran(site: LiveSite, format: str) -> None:
    """N9."""
    site.write(SITE.format(app=f'log_format = "{format}"'), jobs=TASKS)
    site.up()
    ids = {task: submit(site, task, f"w-{task}") for task in ("quick", "plain", "apart", "wrong")}
    wait(site, *ids.values())
    for task, job in ids.items():
        lines = site.run("logs", "--job", str(job)).stdout.splitlines()
        said = [line.partition("| ")[2] for line in lines]
        if format == "text":
            assert all(line.startswith(f"job={job} ") for line in said)
        else:
            entries = [json.loads(line) for line in said]
            assert [(one["job"], one["task"], one["attempt"]) for one in entries] == [
                (job, f"jobs:{task}", 1)
            ]
            assert entries[0]["queue"] == ("mail" if task == "plain" else "default")
        assert f"w-{task}" in "\n".join(said)
        others = [f"w-{other}" for other in ids if other != task]
        assert not any(word in line for word in others for line in said)
    traceback = site.run("logs", "mail", "--job", str(ids["plain"])).stdout
    assert "LookupError: w-plain" in traceback
    assert (
        ("Traceback" in traceback.splitlines()[1]) if format == "text" else len(traceback.splitlines()) == 1
    )
