"""The reference page of the command line and the commands behind it."""

from __future__ import annotations

from pathlib import Path

from coserver.cli.main import VERBS
from coserver.cli.reference import exit_codes, reference_markdown

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "cli.md"


def test_the_committed_page_is_up_to_date() -> None:
    assert PAGE.read_text() == reference_markdown(), (
        "run python -m coserver.cli.reference > docs/reference/cli.md"
    )


def test_every_verb_and_every_exit_code_is_on_the_page() -> None:
    page = reference_markdown()
    for verb in VERBS:
        assert f"## `coserver {verb}`" in page
    for code, _ in exit_codes():
        assert f"| {code} |" in page


def test_every_option_is_explained() -> None:
    for line in reference_markdown().splitlines():
        if line.startswith("| `-"):
            assert line.rsplit("|", 2)[1].strip(), line
