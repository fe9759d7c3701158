"""Figures in the text format of Prometheus, version 0.0.4: families of samples, as lines.

Written here and not by prometheus-client, since the format is these few lines, while the library would bring five
megabytes of HTTP servers and registries into the node. Tests read what is written with the library's parser.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Metric:
    """A family of samples. A counter only grows, or begins anew; its name ends in `_total`. Units are in the name."""

    name: str
    kind: Literal["gauge", "counter"]
    labels: tuple[str, ...]
    help: str


Sample = tuple[Metric, tuple[str, ...], float]
"""A family, the values of its labels, and the figure."""


def written(samples: Iterable[Sample]) -> str:
    """Return the text; samples of a family come together, in the order in which families and samples are met."""
    families: dict[Metric, list[str]] = {}
    for metric, labels, value in samples:
        pairs = zip(metric.labels, labels, strict=True)
        shown = ",".join(f'{name}="{_escaped(text)}"' for name, text in pairs)
        families.setdefault(metric, []).append(
            f"{metric.name}{{{shown}}} {_number(value)}" if shown else f"{metric.name} {_number(value)}"
        )
    lines: list[str] = []
    for metric, found in families.items():
        words = metric.help.replace("\\", "\\\\").replace("\n", "\\n")
        lines += [f"# HELP {metric.name} {words}", f"# TYPE {metric.name} {metric.kind}", *found]
    return "".join(f"{line}\n" for line in lines)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))
