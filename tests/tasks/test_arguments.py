"""Arguments between a Python call and JSON text."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypedDict
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coserver.errors import InvalidArguments
from coserver.tasks.arguments import Parameters, ResultReader, result_text

if TYPE_CHECKING:
    from collections import OrderedDict as ForCheckersOnly


def resize(path: str, size: int = 200) -> str:
    return path


def nothing() -> None: ...


def loose(a, b=None, *rest, c=1, **others):  # type: ignore[no-untyped-def]
    ...


def strict(a: int, /, b: int, *, c: int) -> None: ...


@dataclass
class Order:
    number: int
    due: datetime


class Size(Enum):
    SMALL = "s"
    LARGE = "l"


class Point(NamedTuple):
    x: int
    y: int


class Address(TypedDict):
    street: str


NOON = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)


def encoded(function: Any, *args: Any, **kwargs: Any) -> str:
    return Parameters("shop:task", function).encode(args, kwargs)


def decoded(function: Any, text: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return Parameters("shop:task", function).decode(text)


def refusal(function: Any, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(InvalidArguments) as caught:
        encoded(function, *args, **kwargs)
    return str(caught.value)


@pytest.mark.parametrize(
    ("args", "kwargs", "text"),
    [
        ((), {}, "[]"),
        ((1, 2), {}, "[1,2]"),
        ((), {"b": 2}, '{"b":2}'),
        ((1,), {"b": 2}, '{"*":[1],"b":2}'),
    ],
)
def test_a_call_is_kept_as_its_caller_wrote_it(args: Any, kwargs: Any, text: str) -> None:
    def free(*rest: Any, **others: Any) -> None: ...

    assert encoded(free, *args, **kwargs) == text
    assert decoded(free, text) == (args, kwargs)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0")),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0")), inner, max_size=4
        )
    ),
    max_leaves=20,
)


@given(
    st.lists(json_values, max_size=4).map(tuple),
    st.dictionaries(st.sampled_from(["c", "x", "y", "size"]), json_values, max_size=3),
)
def test_what_json_can_hold_comes_back_as_it_was(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    def free(*rest: Any, **others: Any) -> None: ...

    text = encoded(free, *args, **kwargs)
    json.loads(text)
    assert decoded(free, text) == (args, kwargs)


@given(json_values)
def test_the_quick_and_the_explicit_way_of_reading_agree(value: Any) -> None:
    def one(a: Any, b: Any = None) -> None: ...

    parameters = Parameters("shop:task", one)
    text = json.dumps([value])
    assert parameters.decode(text) == parameters._decode_explicitly(text) == ((value,), {})


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (datetime, NOON),
        (timedelta, timedelta(minutes=3)),
        (Decimal, Decimal("1.10")),
        (UUID, UUID(int=7)),
        (Path, Path("/srv/a.png")),
        (PurePosixPath, PurePosixPath("a/b")),
        (Path | None, Path("x")),
        (Order, Order(1, NOON)),
        (list[Order], [Order(1, NOON), Order(2, NOON)]),
        (Size, Size.LARGE),
        (Literal["a", "b"], "b"),
        (Point, Point(1, 2)),
        (Address, {"street": "Main"}),
        (set[int], {1, 2}),
        (tuple[int, str], (1, "a")),
        (dict[int, str], {1: "a"}),
        (bytes, b"\x00\xff"),
        (float, 1.5),
        (float, 2),
        (int | str, "x"),
        (None, None),
    ],
    ids=str,
)
def test_an_annotated_value_comes_back_as_its_annotation_says(annotation: Any, value: Any) -> None:
    def one(a): ...  # type: ignore[no-untyped-def]

    one.__annotations__ = {"a": annotation}
    text = encoded(one, value)
    assert decoded(one, text) == ((value,), {})
    (args, _), kwargs_text = decoded(one, text), encoded(one, a=value)
    assert decoded(one, kwargs_text) == ((), {"a": args[0]})


def test_a_default_of_none_allows_none_although_the_annotation_forgot_it() -> None:
    def old(size: int = None) -> None: ...  # type: ignore[assignment]  # noqa: RUF013

    assert decoded(old, encoded(old, None)) == ((None,), {})


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "said"),
    [
        (resize, (), {}, "argument `path` is missing; it is called as task(path: str, size: int = 200) -> str"),
        (resize, ("a",), {"sise": 3}, "it has no argument `sise`; did you mean `size`?"),
        (resize, ("a", 1, 2), {}, "it takes 2 positional arguments but 3 were given"),
        (resize, ("a",), {"path": "b"}, "argument `path` is given twice"),
        (resize, (5,), {}, "argument `path` does not fit its annotation: Expected `str`, got `int`"),
        (resize, ("a",), {"size": True}, "argument `size` does not fit its annotation: Expected `int`, got `bool`"),
        (nothing, (1,), {}, "it takes 0 positional arguments but 1 were given"),
        (strict, (1, 2), {}, "argument `c` is missing"),
        (strict, (), {"a": 1, "b": 2, "c": 3}, "argument `a` is missing"),
        (loose, (NOON,), {}, "argument `a` is a datetime, which JSON cannot hold; annotate the parameter"),
        (loose, ({1: 2},), {}, "argument `a` has the key 1, but keys of JSON are text; write '1'"),
        (loose, ([1, math.nan],), {}, "argument `a[1]` is nan, a number that JSON cannot hold"),
        (loose, (-math.inf,), {}, "argument `a` is -inf"),
        (loose, (1, {"k": [{2}]}), {}, "argument `b['k'][0]` is a set"),
        (loose, (1, 2, object()), {}, "argument `rest[0]` is an object"),
        (loose, (1,), {"other": Size.SMALL}, "argument `other` is a Size"),
        (loose, (Point(1, 2),), {}, "argument `a` is a Point"),
        (loose, (["x", "\ud800"],), {}, "they hold a lone surrogate, which is no character (see `a[1]`)"),
        (loose, ({"k": "a\0b"},), {}, "they hold a NUL character (see `a['k']`)"),
        (loose, (2**63,), {}, "an integer beyond 64 bits; send it as text (see `a`)"),
        (loose, (1,), {"*": 1}, "the name `*` is reserved"),
    ],
)  # fmt: skip
def test_a_call_that_cannot_be_kept_is_refused_with_the_place(
    function: Any, args: Any, kwargs: Any, said: str
) -> None:
    message = refusal(function, *args, **kwargs)
    assert message.startswith("cannot submit shop:task: ")
    assert said in message


def test_the_place_inside_an_annotated_value_is_named() -> None:
    def one(orders: list[dict[str, int]]) -> None: ...

    assert "argument `orders[1][...]` does not fit" in refusal(one, [{"a": 1}, {"b": "x"}])


def test_an_annotated_value_may_not_smuggle_numbers_that_json_lacks() -> None:
    def one(values: list[float]) -> None: ...

    assert "argument `values[1]` is nan" in refusal(one, [1.0, math.nan])


def test_a_value_that_contains_itself_is_refused() -> None:
    circle: list[Any] = []
    circle.append(circle)
    assert "nested deeper than 100 levels, or contains itself" in refusal(loose, circle)


def test_a_hundred_levels_are_accepted_and_one_more_is_not() -> None:
    def nested(levels: int) -> list[Any]:
        value: list[Any] = []
        for _ in range(levels - 1):
            value = [value]
        return value

    deepest = 99  # the array of the arguments is a level itself
    assert decoded(loose, encoded(loose, nested(deepest))) == ((nested(deepest),), {})
    assert "100 levels" in refusal(loose, nested(deepest + 1))


def test_arguments_over_the_cap_are_refused() -> None:
    assert "they take more than 8 MiB (see `a`)" in refusal(loose, "x" * (8 * 1024 * 1024))
    half = "x" * (5 * 1024 * 1024)
    assert "they take more than 8 MiB" in refusal(loose, half, half)


def test_subclasses_of_json_types_travel_as_what_they_are() -> None:
    class Safe(str): ...

    class Meters(float): ...

    class Count(int): ...

    def one(a: Any, b: str) -> None: ...

    text = encoded(one, [Safe("x"), Meters(1.5), Count(3), {Safe("k"): 1}], Safe("y"))
    assert text == '[["x",1.5,3,{"k":1}],"y"]'


def test_an_annotation_for_checkers_only_costs_no_other_one() -> None:
    def one(a: ForCheckersOnly, b: Path) -> None: ...  # type: ignore[type-arg]

    assert decoded(one, encoded(one, {"x": 1}, Path("p"))) == (({"x": 1}, Path("p")), {})


def test_an_annotation_that_msgspec_does_not_understand_counts_as_none() -> None:
    class Foreign: ...

    def one(a: Foreign, b: list[int] | tuple[int, ...], c: dict[str, Foreign]) -> None: ...

    one.__annotations__ = {"a": Foreign, "b": list[int] | tuple[int, ...], "c": dict[str, Foreign]}
    assert decoded(one, '[1,[2],{"x":3}]') == ((1, [2], {"x": 3}), {})
    assert "argument `a` is a Foreign, which JSON cannot hold" in refusal(one, Foreign(), [1], {})


@pytest.mark.parametrize(
    ("function", "text", "said"),
    [
        (resize, "[]", "argument `path` is missing"),
        (resize, '["a",1,2]', "it takes 2 positional arguments but 3 were given"),
        (resize, '["a","b"]', "argument `size` does not fit its annotation: Expected `int`, got `str`"),
        (resize, '{"path":1}', "argument `path` does not fit"),
        (resize, '{"*":["a"],"path":"b"}', "argument `path` is given twice"),
        (resize, '{"*":5}', "the value under `*` must be an array"),
        (resize, '"a"', "its arguments must be a JSON array (positional) or object (by name)"),
        (resize, "[1", "its arguments are no JSON"),
        (resize, "nonsense", "its arguments are no JSON"),
        (resize, "", "its arguments are no JSON"),
        (nothing, "[1]", "it takes 0 positional arguments but 1 were given"),
        (strict, "[1,2]", "argument `c` is missing"),
        (strict, '{"*":[1],"b":2}', "argument `c` is missing"),
    ],
)  # fmt: skip
def test_a_row_of_another_program_is_checked_when_it_is_read(function: Any, text: str, said: str) -> None:
    with pytest.raises(InvalidArguments) as caught:
        decoded(function, text)
    assert str(caught.value).startswith("cannot run shop:task: ")
    assert said in str(caught.value)


@pytest.mark.parametrize("text", [' ["a"]', '[ "a" ]', '{"path": "a"}', '{"*": ["a"]}'])
def test_any_way_of_writing_the_json_is_read(text: str) -> None:
    args, kwargs = decoded(resize, text)
    assert (*args, *kwargs.values()) == ("a",)


def test_arguments_left_out_are_left_to_the_defaults_of_the_function() -> None:
    def many(a: int, b: int = 2, c: int = 3) -> None: ...

    assert decoded(many, "[1]") == ((1,), {})
    assert decoded(many, "[1,5]") == ((1, 5), {})
    assert decoded(many, "[1,5,6]") == ((1, 5, 6), {})


def test_each_call_gets_its_own_containers() -> None:
    parameters = Parameters("shop:task", loose)
    _, first = Parameters("shop:task", nothing).decode("[]")
    first["x"] = 1
    assert Parameters("shop:task", nothing).decode("[]") == ((), {})
    assert parameters.decode("[[]]")[0][0] is not parameters.decode("[[]]")[0][0]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, None),
        (0, "0"),
        ("", '""'),
        ([1, None], "[1,null]"),
        (Order(1, NOON), '{"number":1,"due":"2026-05-04T12:00:00Z"}'),
        (Path("a"), '"a"'),
        ({1: {2}}, '{"1":[2]}'),
    ],
)
def test_a_result_is_kept_as_json(value: Any, text: str | None) -> None:
    assert result_text(value) == text


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (object(), "it is or holds an object, which JSON cannot hold"),
        ([math.nan], "it holds NaN or an infinite number"),
        (math.inf, "it holds NaN or an infinite number"),
        ("\ud800", "lone surrogate"),
        ("a\0", "they hold a NUL character"),
        (2**64, "integer beyond 64 bits"),
        ("x" * (9 * 1024 * 1024), "more than 8 MiB"),
    ],
    ids=["object", "nan", "infinity", "surrogate", "nul", "large number", "long text"],
)
def test_a_result_that_cannot_be_kept_is_refused(value: Any, said: str) -> None:
    with pytest.raises(TypeError, match="cannot keep the") as caught:
        result_text(value)
    assert said in str(caught.value)


def test_a_result_that_contains_itself_is_refused() -> None:
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(TypeError, match="contains itself"):
        result_text(circle)


def test_results_are_read_as_the_return_annotation_says() -> None:
    def order() -> Order: ...  # type: ignore[empty-body]

    reader = ResultReader(order)
    assert reader.read(result_text(Order(1, NOON))) == Order(1, NOON)
    assert reader.read(None) is None


def test_a_result_that_does_not_fit_its_annotation_comes_as_plain_data() -> None:
    def liar() -> int:
        return "x"  # type: ignore[return-value]

    assert ResultReader(liar).read('{"a":1}') == {"a": 1}


def test_all_ways_to_write_a_call_have_one_canonical_text() -> None:
    def add(a: int, b: int = 1, *, tags: frozenset[str] = frozenset()) -> int:
        return a + b

    one = Parameters("add", add)
    ways: list[tuple[tuple[int, ...], dict[str, int]]] = [
        ((5,), {}),
        ((), {"a": 5}),
        ((5, 1), {}),
        ((5,), {"b": 1}),
        ((), {"b": 1, "a": 5}),
    ]
    assert len({one.canonical(one.encode(args, kwargs)) for args, kwargs in ways}) == 1
    assert one.canonical("[5]") != one.canonical("[6]")
    many = [{"tags": frozenset(order)} for order in ("abcdef", "fedcba")]
    assert len({one.canonical(one.encode((1,), kwargs)) for kwargs in many}) == 1
