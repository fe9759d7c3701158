"""The page on observing a site: its site runs, its commands do what it says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.site.live import LiveSite, living, until

PAGE = Path(__file__).parent.parent / "docs" / "how-to" / "observability.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[LiveSite]:
    """The site of the page."""
    for block in [*blocks("toml"), *blocks("python")]:
        (tmp_path / block.splitlines()[0].removeprefix("# ")).write_text(block)
    yield from living(tmp_path)


def say(shop: LiveSite, command: str) -> str:
    """Run a command of the page as a shell would in that directory."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["sh", "-ec", command],
        cwd=shop.directory,
        env=shop.environment() | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}\n{shop.node_log()[-2000:]}"
    return done.stdout


def test_every_command_of_the_page_does_what_it_says(shop: LiveSite) -> None:
    start, metrics, file, logs, down = blocks("sh")
    say(shop, start)
    told = next(iter(blocks("text"))).strip()
    until(lambda: told in say(shop, logs), "the job has said what the page shows")
    until(
        lambda: json.loads(say(shop, "coserver jobs show 2 --json"))["state"] == "succeeded",
        "both have ended",
    )
    assert "packing" not in say(shop, logs)
    assert "job=2 INFO shop: packing bread" in say(shop, logs.replace("1", "2"))
    names = {family.name for family in text_string_to_metric_families(say(shop, metrics))}
    for mentioned in re.findall(r"`(?:rate|increase)?\(?(coserver_\w+?)(?:_total)?\b", PAGE.read_text()):
        assert mentioned in names | {"coserver_jobs_unserved"}, mentioned
    say(shop, file)
    assert (shop.directory / "shop.prom").read_text().startswith("# HELP coserver_info ")
    spans = until(lambda: traced(say(shop, "coserver logs work -n 1000"), 3), "the spans are exported")
    run, below, packed = spans["run shop:order"], spans["submit shop:pack"], spans["run shop:pack"]
    assert run["trace_id"] == below["trace_id"] == packed["trace_id"]
    assert (below["parent"], packed["parent"]) == (run["span_id"], below["span_id"])
    say(shop, down)


def traced(log: str, number: int) -> dict[str, dict[str, str]] | None:
    """The spans that the log holds, by name, once there are so many."""
    found = {}
    for text in re.findall(r"^\{\n.*?^\}$", log, re.DOTALL | re.MULTILINE):
        span = json.loads(text)
        found[span["name"]] = span["context"] | {"parent": span["parent_id"]}
    return found if len(found) >= number else None


def test_a_logging_configuration_of_ones_own_marks_the_lines_as_well(tmp_path: Path) -> None:
    (own,) = [block for block in blocks("python") if block.startswith("# own_logging.py")]
    (tmp_path / "own_logging.py").write_text(own)
    code = (
        "import logging, own_logging\n"
        "from coserver.tasks.current import CurrentJob, running\n"
        "logging.getLogger('a').info('outside')\n"
        "running.set(CurrentJob(7, 1, 't', 'q'))\n"
        "logging.getLogger('a').info('inside')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stderr == "INFO a: outside\njob=7 INFO a: inside\n"
