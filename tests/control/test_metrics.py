"""The reference of metrics."""

from __future__ import annotations

from pathlib import Path

from coserver.control.metrics import METRICS, reference

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"


def test_the_committed_page_is_up_to_date() -> None:
    assert PAGE.read_text() == reference(), (
        "run python -m coserver.control.metrics > docs/reference/metrics.md"
    )


def test_every_metric_is_on_the_page() -> None:
    for metric in METRICS:
        assert f"| `{metric.name}` | {metric.kind} |" in reference()
