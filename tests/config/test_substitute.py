"""`${VAR}` and its kin, and secrets from files."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coserver.config.origin import ConfigError, Origin, Problems
from coserver.config.show import as_json, as_text
from coserver.config.substitute import expand, substitute
from coserver.config.tree import Leaf, Table
from tests.config.sites import Desk

ENVIRON = {"USER": "ann", "EMPTY": "", "ODD": "a$b${USER}file:x"}


@pytest.mark.parametrize(
    ("text", "becomes", "via"),
    [
        ("plain", "plain", ()),
        ("${USER}", "ann", ("USER",)),
        ("/home/${USER}/x${USER}", "/home/ann/xann", ("USER",)),
        ("${NONE:-default}", "default", ()),
        ("${EMPTY:-default}", "default", ()),
        ("${EMPTY}", "", ("EMPTY",)),
        ("${NONE:-}", "", ()),
        ("${USER:-default}", "ann", ("USER",)),
        ("${NONE:-${USER}}", "ann", ("USER",)),
        ("${NONE:-a${NONE:-b}c}d", "abcd", ()),
        ("${USER:-${NONE}}", "ann", ("USER",)),
        ("${NONE:-$$}", "$", ()),
        ("$$", "$", ()),
        ("$${USER}", "${USER}", ()),
        ("{}}", "{}}", ()),
        ("${NONE:-sqlite:site.db}", "sqlite:site.db", ()),
        ("${ODD}", "a$b${USER}file:x", ("ODD",)),
    ],
)
def test_substitution(text: str, becomes: str, via: tuple[str, ...]) -> None:
    expanded = expand(text, ENVIRON)
    assert (expanded.text, expanded.via) == (becomes, via)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("${NONE}", 'NONE is not set; set it, or give a default: "${NONE:-value}"'),
        ("${USER", "cannot read"),
        ("${USER:-x", "never closed"),
        ("${}", "cannot read"),
        ("${USER-x}", "cannot read"),
        ("${US ER}", "cannot read"),
        ("$USER", 'write "${USER}"'),
        ("5 $", 'write "$$"'),
        ("$1", 'write "$$"'),
        ("${socket:http}", "not supported yet"),
        ("${NONE:-${NOTHING}}", "NOTHING is not set"),
        ("${USER:-$x}", 'write "${x}"'),
    ],
)
def test_anything_else_with_a_dollar_sign_is_refused(text: str, cause: str) -> None:
    with pytest.raises(ValueError) as refused:
        expand(text, ENVIRON)
    assert cause in str(refused.value)


@given(st.text(alphabet="${}:-ABx ", max_size=20))
def test_any_text_is_substituted_or_refused(text: str) -> None:
    try:
        expand(text, {"A": "1"})
    except ValueError as error:
        assert str(error)


@given(st.text(max_size=20))
def test_doubling_every_dollar_sign_keeps_a_text(text: str) -> None:
    assert expand(text.replace("$", "$$"), {}).text == text


def test_a_number_may_come_from_a_variable(desk: Desk) -> None:
    desk.environ = {"COUNT": "3", "FLAG": "false", "WAIT": "5", "NAME": "7"}
    site = desk.load(
        """
        [service.clock]
        command = ["clock", "${COUNT}"]
        processes = "${COUNT}"
        autostart = "${FLAG}"
        stop = { timeout = "${WAIT}" }
        env = { NAME = "${NAME}" }
        """
    )
    clock = site.services["clock"]
    assert (clock.processes, clock.autostart, clock.stop.timeout) == (3, False, 5.0)
    assert clock.command == ("clock", "3")
    assert clock.env == {"NAME": "7"}
    assert site.settings["service.clock.processes"].origin.via == ("COUNT",)


def test_text_that_no_variable_stands_in_never_becomes_a_number(desk: Desk) -> None:
    assert desk.problems('[service.clock]\ncommand = "clock"\nprocesses = "3"\n') == [
        'coserver.toml:3: service.clock.processes: expected a whole number such as 2, found "3"'
    ]


def test_a_variable_that_is_not_set_is_one_problem_and_not_two(desk: Desk) -> None:
    assert desk.problems('[site]\nstore = "${NOT_SET}"\n') == [
        "coserver.toml:2: site.store: the environment variable NOT_SET is not set; set it, or give a default: "
        '"${NOT_SET:-value}"'
    ]


SECRET_SITE = """
    [site]
    store = "file:run/store"
    [service.mail]
    command = "mail"
    env = { PASSPHRASE_OF_DAY = "x", GREETING = "file:${WHERE:-run}/greeting" }
    """


def test_a_secret_is_read_from_its_file_and_never_shown(desk: Desk) -> None:
    desk.write("postgresql://ann:s3cret@host/db\n", "run/store")
    desk.write("hello\nthere\n", "run/greeting")
    site = desk.load(SECRET_SITE)
    assert site.store == "postgresql://ann:s3cret@host/db"
    assert site.services["mail"].env["GREETING"] == "hello\nthere"
    assert site.settings["site.store"].origin.secret == desk.directory / "run/store"
    for shown in (as_text(site), str(as_json(site))):
        assert "s3cret" not in shown
        assert "hello" not in shown
        assert "run/store" in shown


def test_a_secret_that_cannot_be_read_is_a_problem_with_its_place(desk: Desk) -> None:
    (desk.directory / "run").mkdir()
    (desk.directory / "run/greeting").write_bytes(b"\xff\xfe")
    assert desk.problems(SECRET_SITE) == [
        f"coserver.toml:2: site.store: cannot read the secret {desk.directory}/run/store: no such file",
        f"coserver.toml:5: service.mail.env.GREETING: cannot use the secret {desk.directory}/run/greeting: "
        "it is not UTF-8 text",
    ]


@pytest.mark.parametrize(
    ("error", "cause"),
    [(PermissionError(13, ""), "permission denied"), (IsADirectoryError(21, ""), "it is a directory")],
)
def test_a_secret_that_may_not_be_read_says_why(error: OSError, cause: str) -> None:
    def refuse(path: Path) -> bytes:
        raise error

    here = Origin("file", "coserver.toml", Path("/site"), line=1)
    problems = Problems()
    substitute(Table({"a": Leaf("file:x", here)}, here), {}, refuse, problems)
    with pytest.raises(ConfigError, match=f"^coserver.toml:1: a: cannot read the secret /site/x: {cause}$"):
        problems.raise_any()


def test_a_secret_without_an_end_is_refused(desk: Desk) -> None:
    (problem,) = desk.problems('[site]\nstore = "file:/dev/zero"\n')
    assert "larger than 1 MiB" in problem


def test_a_variable_cannot_name_a_secret_file(desk: Desk) -> None:
    desk.environ = {"SLY": "file:/etc/hostname"}
    site = desk.load('[service.a]\ncommand = "a"\nenv = { X = "${SLY}" }\n')
    assert site.services["a"].env == {"X": "file:/etc/hostname"}


def test_items_of_a_list_are_no_secrets(desk: Desk) -> None:
    site = desk.load('[service.a]\ncommand = ["a", "file:x"]\n')
    assert site.services["a"].command == ("a", "file:x")


def test_a_secret_path_resolves_against_the_file_that_states_it(desk: Desk, tmp_path: Path) -> None:
    desk.write("deep", "conf.d/value")
    desk.write('[service.a]\ncommand = "a"\nenv = { X = "file:value" }\n', "conf.d/a.toml")
    assert desk.load('include = ["conf.d/*.toml"]\n').services["a"].env == {"X": "deep"}
