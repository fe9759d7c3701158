"""Putting layers and equals together."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from coserver.config.origin import Origin
from coserver.config.tree import Leaf, Node, Table, join, leaves, overlay, plain

UNDER = Origin("file", "under", Path("/"))
OVER = Origin("file", "over", Path("/"))

NESTED = st.recursive(
    st.integers(0, 9), lambda below: st.dictionaries(st.sampled_from("abc"), below, max_size=3), max_leaves=8
)
TABLES = st.dictionaries(st.sampled_from("abc"), NESTED, max_size=3)


def tree(value: object, origin: Origin) -> Node:
    if isinstance(value, dict):
        return Table({name: tree(entry, origin) for name, entry in value.items()}, origin)
    assert isinstance(value, int)
    return Leaf(value, origin)


def table(value: dict[str, object], origin: Origin) -> Table:
    made = tree(value, origin)
    assert isinstance(made, Table)
    return made


@given(TABLES, TABLES)
def test_the_upper_layer_wins_key_by_key(under: dict[str, object], over: dict[str, object]) -> None:
    laid = overlay(table(under, UNDER), table(over, OVER))
    found = dict(leaves(laid))
    for path, leaf in leaves(table(over, OVER)):
        assert found[path] == leaf
    for path, leaf in leaves(laid):
        source = table(over if leaf.origin == OVER else under, leaf.origin)
        assert source.get(*map(str, path)) == leaf


@given(TABLES)
def test_nothing_laid_over_a_table_changes_no_value(under: dict[str, object]) -> None:
    assert plain(overlay(table(under, UNDER), table({}, OVER))) == under
    assert plain(overlay(table({}, UNDER), table(under, OVER))) == under


@given(TABLES, TABLES)
def test_equals_join_without_loss_or_name_every_conflict(
    one: dict[str, object], two: dict[str, object]
) -> None:
    joined = join(table(one, UNDER), table(two, OVER))
    kept = dict(leaves(joined.table))
    for path, leaf in leaves(table(one, UNDER)):
        assert kept[path] == leaf
    for path, leaf in leaves(table(two, OVER)):
        beaten = any(conflict.path == path[: len(conflict.path)] for conflict in joined.conflicts)
        assert beaten or kept[path] == leaf
    assert all(conflict.first == UNDER and conflict.second == OVER for conflict in joined.conflicts)
