"""A site whose configuration was broken while it is up can still be seen, read, commanded and stopped."""

from __future__ import annotations

import json

import pytest

from tests.site.live import LiveSite, alive

SITE = '[service.a]\ncommand = ["sh", "-c", "echo hello; exec sleep 1000"]\n'


@pytest.mark.parametrize(
    "place", ["", '[node]\nstate = "elsewhere/state"\n[control]\nsocket = "door.sock"\n']
)
@pytest.mark.parametrize("broken", ["[service.a\n", '[service.a]\ncomand = "x"\n'])
def test_what_runs_can_be_asked_and_stopped(site: LiveSite, place: str, broken: str) -> None:
    site.write(place + SITE)
    site.up()
    site.file.write_text(place + broken)
    status = site.run("status", "--json")
    found = json.loads(status.stdout)
    [process] = found["services"][0]["processes"]
    assert process["state"] == "running"
    assert "coserver.toml:" in status.stderr
    assert "as it was started" in status.stderr
    logs = site.run("logs", "a")
    assert (logs.stdout, "as it was started" in logs.stderr) == ("hello\n", True)
    assert "a/1 running" in site.run("restart", "a").stdout
    down = site.run("down")
    assert "is down" in down.stderr
    assert not alive(process["pid"]) and not alive(found["node"]["keeper_pid"])
    for verb in ("status", "logs", "down", "up"):  # nothing runs, so there is only the mistake
        said = site.run(verb, check=2)
        assert "coserver.toml:" in said.stderr
        assert "as it was started" not in said.stderr


def test_another_profile_of_the_file_is_another_site(site: LiveSite) -> None:
    site.write(SITE)
    (site.directory / "coserver.test.toml").write_text('[node]\nstate = "test-state"\n')
    site.up()
    site.file.write_text("[broken\n")
    assert site.run("--profile", "test", "status", check=2).stdout == ""
    assert "running" in site.run("status").stdout
