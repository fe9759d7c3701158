"""What is written is what the library of Prometheus reads."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from coserver.control.exposition import Metric, written
from coserver.control.metrics import METRICS

SIZE = Metric("size_bytes", "gauge", (), 'How large\nit is: \\ and "quoted".')
DONE = Metric("done_total", "counter", ("queue", "state"), "What was done.")


def test_families_come_together_in_the_order_in_which_they_are_met() -> None:
    assert written([(DONE, ("mail", "failed"), 2), (SIZE, (), 0.5), (DONE, ('a"\n\\', ""), True)]) == (
        "# HELP done_total What was done.\n"
        "# TYPE done_total counter\n"
        'done_total{queue="mail",state="failed"} 2\n'
        'done_total{queue="a\\"\\n\\\\",state=""} 1\n'
        '# HELP size_bytes How large\\nit is: \\\\ and "quoted".\n'
        "# TYPE size_bytes gauge\n"
        "size_bytes 0.5\n"
    )
    assert written([]) == ""


@given(
    st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r")),
            st.floats(allow_nan=False, allow_infinity=False) | st.integers(0, 2**60),
        ),
        unique_by=lambda pair: pair[0],
    )
)
def test_any_label_and_any_number_is_read_as_it_was(pairs: list[tuple[str, float]]) -> None:
    families = list(text_string_to_metric_families(written((DONE, (text, "x"), n) for text, n in pairs)))
    found = {sample.labels["queue"]: sample.value for family in families for sample in family.samples}
    assert found.keys() == {text for text, _ in pairs}
    assert all(math.isclose(found[text], number) for text, number in pairs)


def test_names_are_of_one_kind() -> None:
    names = [metric.name for metric in METRICS]
    assert len(set(names)) == len(names)
    for metric in METRICS:
        assert metric.name.startswith("coserver_")
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        assert metric.help.endswith(".")
        assert "|" not in metric.help
