"""`coserver logs` on written files, without a site that is up."""

from __future__ import annotations

import json
import struct
import time
from pathlib import Path

import pytest

from tests.cli.conftest import Console, Terminal


@pytest.fixture
def logs(site: Path) -> Path:
    """The log directory of the site, with what its processes and its node have printed."""
    root = site / ".coserver" / "log"
    write(root / "web" / "1.log", ["one", "two \x1b[2J\x1b[31mred\x1b[0m", "three"])
    write(root / "web" / "2.log", ["other"])
    write(root / "mail" / "1.err.log", ["wrong"])
    write(root / "mail" / "1.log", ["sent"])
    (root / "coserver.log").write_text("going up\n")
    return root


def write(path: Path, lines: list[str], *, age: float = 0.0) -> None:
    """Write a log and its index; the first line came `age` seconds ago, the others now."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))
    now = time.time_ns() // 1000
    stamps = [(0, now - int(age * 1e6)), (len(lines[0]) + 1, now)]
    path.with_suffix(".log.idx").write_bytes(b"".join(struct.pack("<QQ", *stamp) for stamp in stamps))


def test_one_process_is_shown_as_it_printed(console: Console, logs: Path) -> None:
    assert console("logs", "web/1") == (0, "one\ntwo \x1b[2J\x1b[31mred\x1b[0m\nthree\n", "")


def test_several_are_told_apart_by_name(console: Console, logs: Path) -> None:
    assert sorted(console("logs", "web", "-n", "1").out.splitlines()) == ["web/1 | three", "web/2 | other"]
    everything = console("logs").out
    assert "coserver | going up\n" in everything
    assert "mail/1   | wrong\n" in everything


def test_a_terminal_gets_no_control_sequences(
    console: Console, logs: Path, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal(80)
    assert console("logs", "web/1", "--grep", "two").out == "two \\x1b[2J\x1b[31mred\x1b[0m\x1b[0m\n"
    monkeypatch.setenv("NO_COLOR", "1")
    assert console("logs", "web/1", "--grep", "two").out == "two \\x1b[2Jred\n"


def test_lines_since_a_time_leave_out_older_ones(console: Console, logs: Path) -> None:
    write(logs / "web" / "1.log", ["old", "new"], age=3600)
    assert console("logs", "web/1", "--since", "10m").out == "new\n"
    assert console("logs", "web/1", "--since", "2h").out == "old\nnew\n"
    assert console("logs", "web/1", "--since", "2001-02-03T04:05").out == "old\nnew\n"


def test_json_is_one_object_for_each_line(console: Console, logs: Path) -> None:
    lines = [json.loads(line) for line in console("logs", "mail", "--json").out.splitlines()]
    assert sorted((line["stream"], line["line"]) for line in lines) == [("err", "wrong"), ("out", "sent")]
    assert {line["process"] for line in lines} == {"mail/1"}


def test_the_lines_of_one_job_are_found_in_whatever_process_ran_it(console: Console, logs: Path) -> None:
    write(logs / "web" / "1.log", ["job=7 INFO shop: one", "job=70 INFO shop: two", "INFO shop: three"])
    write(logs / "mail" / "2.log", ["nothing"] * 60 + ['{"message": "four", "job": 7}', '{"job": 8}'])
    write(logs / "mail" / "1.log", ["job=7 ERROR shop: five", "job=7 Traceback"], age=60)
    found = console("logs", "--job", "7").out.splitlines()
    assert [line.partition("| ")[2] for line in found if "mail/1" in line] == [
        "job=7 ERROR shop: five",
        "job=7 Traceback",
    ]
    assert [line.partition("| ")[2] for line in found if "mail/2" in line] == [
        '{"message": "four", "job": 7}'
    ]
    assert [line.partition("| ")[2] for line in found if "web/1" in line] == ["job=7 INFO shop: one"]
    assert len(found) == 4
    assert found[0].endswith("five")
    assert console("logs", "mail/1", "--job", "7", "-n", "1").out == "job=7 Traceback\n"
    assert console("logs", "--job", "9") == (0, "", "")


def test_times_stand_before_lines_when_asked_for(console: Console, logs: Path) -> None:
    before, _, line = console("logs", "web/2", "--times").out.partition(" ")
    assert line == "other\n"
    assert before.startswith("20")


def test_what_the_configuration_no_longer_has_can_be_read(console: Console, logs: Path) -> None:
    write(logs / "gone" / "3.log", ["long ago", "x"])
    assert console("logs", "gone/3").out == "long ago\nx\n"
    assert console("logs", "go*").out == "long ago\nx\n"


def test_a_name_that_nothing_has_is_code_4_with_a_suggestion(console: Console, logs: Path) -> None:
    said = console("logs", "mial")
    assert said.code == 4
    assert 'did you mean "mail"' in said.err


@pytest.mark.parametrize(
    "words",
    [
        ["-n", "3", "--since", "1m"],
        ["--since", "yesterday"],
        ["--grep", "("],
        ["-n", "-1"],
        ["--job", "0"],
        ["--job", "1", "-n", "1", "-f"],
    ],
)
def test_a_wrong_command_line_is_code_2(console: Console, logs: Path, words: list[str]) -> None:
    said = console("logs", *words)
    assert (said.code, said.out) == (2, "")


def test_a_site_that_never_ran_has_nothing_to_show(console: Console, site: Path) -> None:
    assert console("logs") == (0, "", "")
