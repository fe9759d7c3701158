"""Printing for people and for programs, and who asks."""

from __future__ import annotations

import json

import pytest

from coserver.cli.context import put_json, put_text, say, user_name
from tests.cli.conftest import Terminal

EVIL = "one\x1b[2J\ntwo\x1b]0;title\x07 \x1b[31mred\x1b[0m"


def test_a_terminal_gets_lines_without_control_sequences(
    terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal(80)
    put_text(EVIL)
    say(EVIL)
    said = capsys.readouterr()
    assert said.out == said.err == "one\\x1b[2J\ntwo\\x1b]0;title\\x07 red\n"


def test_our_own_colour_is_the_only_one(terminal: Terminal, capsys: pytest.CaptureFixture[str]) -> None:
    terminal(80)
    put_text("a\x1b[32mb", colour="red")
    assert capsys.readouterr().out == "\x1b[31mab\x1b[0m\n"


def test_a_pipe_gets_what_there_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    put_text("a\x07b", colour="red")
    assert capsys.readouterr().out == "a\x07b\n"


def test_json_means_the_same_and_holds_nothing_to_obey(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"text": "ä \x1b \x9b \x7f \u202e \u2028"}
    put_json(value)
    out = capsys.readouterr().out
    assert json.loads(out) == value
    assert "ä" in out
    assert not set(out) & set("\x1b\x9b\x7f\u202e\u2028")


def test_who_asks_is_the_person_behind_sudo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "ada")
    assert user_name() == "ada"
    monkeypatch.delenv("SUDO_USER")
    monkeypatch.setenv("LOGNAME", "grace")
    assert user_name() == "grace"
