"""Jobs that nobody takes, on a site that is up: every face names them with cause and mend."""

from __future__ import annotations

import json

import pytest

from tests.site.live import LiveSite, until
from tests.store_contract.helpers import Raw

WORK = """
from coserver import task

@task
def report(day: str = "") -> str:
    return day
"""

SITE = """
[site]
name = "shop"
store = "STORE"
[app]
path = ["."]
tasks = ["work"]
[service.images]
queues = { default = 2 }
"""


@pytest.fixture
def rows(store_url: str) -> list[int]:
    """Put in by plain SQL: a task that nobody has, and a queue that nobody reads."""
    raw = Raw(store_url)
    try:
        raw("INSERT INTO coserver_job (task) VALUES ('work:reprot')")
        raw("INSERT INTO coserver_job (task, queue) VALUES ('work:report', 'pdf')")
        return [row[0] for row in raw("SELECT id FROM coserver_job ORDER BY id")]
    finally:
        raw.close()


def test_n18_a_row_that_nobody_takes_is_named_by_every_face_with_its_mend(
    site: LiveSite, store_url: str, rows: list[int]
) -> None:
    """N18."""
    unknown, unread = rows
    site.write(SITE.replace("STORE", store_url), work=WORK)
    site.up()
    until(
        lambda: [g["state"] for g in site.status()["unserved"]] == ["new", "queued"], "the rows are looked at"
    )
    says = 'no live worker has the task "work:reprot"; one has "work:report"'
    mend = (
        "define the task in a module that a service names under `tasks`, then `coserver restart images`; or submit "
        "the job by its right name"
    )
    first, second = site.status()["unserved"]
    assert (first["task"], first["number"], first["oldest"], first["cause"]) == (
        "work:reprot",
        1,
        unknown,
        "unknown_task",
    )
    assert first["says"].endswith(says)
    assert first["mend"] == mend
    assert (second["queue"], second["oldest"], second["cause"]) == ("pdf", unread, "unread_queue")

    told = site.run("status").stdout
    assert f"{says}; {mend}\n" in told
    assert 'add "pdf" to `queues` of [service.images]' in told
    assert f"{says}; {mend}\n" in site.run("doctor", check=None).stdout
    assert f"  why          {says}; {mend}\n" in site.run("jobs", "show", str(unknown)).stdout
    answer = json.loads(site.run("why", str(unknown), "--json").stdout)
    assert (answer["cause"], answer["says"], answer["mend"]) == ("unknown_task", says, mend)


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
def test_the_mend_mends(site: LiveSite, store_url: str, rows: list[int]) -> None:
    """The task is defined and the service restarted; the queue is added and the site started anew."""
    unknown, unread = map(str, rows)
    site.write(SITE.replace("STORE", store_url), work=WORK)
    site.up()
    until(lambda: len(site.status()["unserved"]) == 2, "the rows are looked at")
    site.write(SITE.replace("STORE", store_url), work=WORK.replace("report(", "reprot(") + WORK)
    site.run("restart", "images")

    def cause(id: str) -> str:
        return str(json.loads(site.run("why", id, "--json").stdout)["cause"])

    until(lambda: cause(unknown) == "finished", "the first one runs")
    assert cause(unread) == "unread_queue"
    site.run("down")
    assert cause(unread) == "no_worker"
    site.write(SITE.replace("STORE", store_url).replace("2 }", "2, pdf = 1 }"), work=WORK)
    site.up()
    until(lambda: cause(unread) == "finished", "the second one runs")
    assert site.status()["unserved"] == []


def test_what_up_prints_does_not_say_of_jobs_that_waited_for_it_that_nobody_takes_them(
    site: LiveSite, store_url: str
) -> None:
    site.write(SITE.replace("STORE", store_url).replace("default = 2", "default = 1"), work=WORK)
    raw = Raw(store_url)
    raw("INSERT INTO coserver_job (task) VALUES ('work:report')")
    raw("INSERT INTO coserver_job (task, queue, state, seq) VALUES ('work:report', 'default', 5, 1)")
    raw.close()
    assert "unserved" not in site.up().stdout
