"""A task's arguments: between a Python call and the JSON text of a job.

Theory. A call `f(1, 2)` is kept as the array `[1,2]`, `f(size=2)` as the object `{"size":2}`, and `f(1, size=2)` as
`{"*":[1],"size":2}`, just as the caller wrote it. Three things are checked on the way out, before any store is touched:
that the call fits the signature, that each value fits its annotation, and that JSON gives back what was put in. On
the way in, in the worker, the same signature is checked again (any language may have written the row) and each value
becomes what its annotation says.

*Annotations decide what may travel.* An annotated parameter may hold whatever msgspec can write and read back as that
type: dataclasses, datetime, UUID, Decimal, enums, sets, and paths. Without an annotation nobody could turn text back
into a datetime, so only what JSON itself has is accepted there. An annotation that msgspec does not understand, or
that cannot be evaluated, counts as none: it must never keep a task from running.

Reading is on the worker's hot path. An array, the usual case, is read by one decoder made for the signature; what it
refuses, and every object, goes the explicit way, which finds the words for the error.
"""

from __future__ import annotations

import inspect
import math
import typing
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import PurePath
from typing import Any, Literal, NoReturn

import msgspec
from msgspec import UNSET, ValidationError

from coserver.errors import InvalidArguments
from coserver.model import payload

POSITIONAL = "*"
"""The key that holds the positional arguments when there are keyword arguments too."""

Doing = Literal["submit", "run"]
_Kind = inspect._ParameterKind

_encoder = msgspec.json.Encoder(enc_hook=lambda value: _plain_twin(value))
_orderly = msgspec.json.Encoder(enc_hook=lambda value: _plain_twin(value), order="deterministic")
_reader = msgspec.json.Decoder()
_PLAIN = frozenset({str, int, bool, type(None)})


class _Parameter:
    """One parameter: its name, its annotation (Any where there is none to use), whether a call must give it."""

    __slots__ = ("_box", "hint", "name", "required")

    def __init__(self, name: str, hint: Any, *, required: bool) -> None:
        self.name = name
        self.hint = hint
        self.required = required
        # A Struct keeps what msgspec worked out about the type; bare `convert` works it out at each call.
        self._box = (
            None if hint is Any else msgspec.defstruct("Box", [("value", hint)], array_like=True, frozen=True)
        )

    def convert(self, value: Any, *, str_keys: bool) -> Any:
        """Return the value as its annotation says. Raises `_Unfit` naming the place inside the value."""
        if self._box is None or (type(value) is self.hint and self.hint in _PLAIN):
            return value
        try:
            made = msgspec.convert([value], self._box, str_keys=str_keys, dec_hook=_read_hook)
        except ValidationError as error:
            cause, _, place = str(error).partition(" - at `$[0]")
            place = place.removesuffix("`")
            raise _Unfit(f"argument `{self.name}{place}` does not fit its annotation: {cause}") from None
        return made.value  # type: ignore[attr-defined]


class Parameters:
    """What a task's function takes. `name` is the task's, for messages; hints are evaluated at the first use."""

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        signature = inspect.signature(function)
        hints = usable_annotations(function)
        self._task = name
        self._signature = signature
        self._shown = _shown(signature)
        self._positional: list[_Parameter] = []
        self._named: dict[str, _Parameter] = {}
        self._keyword_required: list[str] = []
        self._rest: _Parameter | None = None
        self._others: _Parameter | None = None
        for parameter in signature.parameters.values():
            hint = hints.get(parameter.name, Any)
            if parameter.default is None and hint is not Any:
                hint = typing.Optional[hint]  # noqa: UP045 - `hint | None` fails for text that stands for a type
            one = _Parameter(parameter.name, hint, required=parameter.default is inspect.Parameter.empty)
            match parameter.kind:
                case _Kind.VAR_POSITIONAL:
                    self._rest = one
                case _Kind.VAR_KEYWORD:
                    self._others = one
                case kind:
                    if kind is not _Kind.KEYWORD_ONLY:
                        self._positional.append(one)
                    elif one.required:
                        self._keyword_required.append(one.name)
                    if kind is not _Kind.POSITIONAL_ONLY:
                        self._named[one.name] = one
        self._hints = [one.hint for one in self._positional]
        needed = sum(one.required for one in self._positional)
        self._needs_none = not self._keyword_required and not needed
        self._fitting = range(0) if self._keyword_required else range(needed, len(self._hints) + 1)
        self._array = None if self._rest or self._keyword_required else self._array_decoder()

    def encode(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
        """Return the JSON text of a call. Raises `InvalidArguments` naming the argument."""
        if not kwargs and len(args) in self._fitting:
            # The usual call: its values need no look beyond their types.
            for value, hint in zip(args, self._hints, strict=False):
                kind = type(value)
                if kind not in _PLAIN or (kind is not hint and hint is not Any):
                    break
            else:
                return self._text(args, args, kwargs) if args else "[]"
        self._fit(args, kwargs, "submit")
        if not args and not kwargs:
            return "[]"
        positional = [
            self._prepared(value, self._at(place), self._called(place)) for place, value in enumerate(args)
        ]
        if not kwargs:
            return self._text(positional, positional, {})
        keyword = {name: self._prepared(value, self._by(name), name) for name, value in kwargs.items()}
        if POSITIONAL in keyword:
            self._fail("submit", f"the name `{POSITIONAL}` is reserved for positional arguments")
        return self._text({POSITIONAL: positional, **keyword} if positional else keyword, positional, keyword)

    def canonical(self, text: str) -> str:
        """Return one text for all ways to write the same call: by position or by name, defaults given or left out."""
        args, kwargs = self.decode(text)
        call = self._signature.bind(*args, **kwargs)
        call.apply_defaults()
        try:
            return _orderly.encode([call.args, call.kwargs]).decode()
        except (TypeError, UnicodeEncodeError):  # a default that is no JSON
            return text

    def check_one(self) -> None:
        """Raise `InvalidArguments` unless a call with one positional argument fits."""
        self._fit((None,), {}, "submit")

    def decode(self, text: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the call that JSON text stands for. Raises `InvalidArguments` naming the argument."""
        if self._needs_none and text == "[]":
            return (), {}
        if self._array is not None and text[:1] == "[":
            try:
                given: tuple[Any, ...] = msgspec.structs.astuple(self._array.decode(text))
            except ValidationError:
                pass  # the explicit way below says what is wrong
            except msgspec.DecodeError as error:
                self._fail("run", f"its arguments are no JSON: {error}")
            else:
                count = len(given)
                while count and given[count - 1] is UNSET:
                    count -= 1
                return (given if count == len(given) else given[:count]), {}
        return self._decode_explicitly(text)

    def _text(self, call: object, positional: Sequence[Any], keyword: Mapping[str, Any]) -> str:
        try:
            text = _encoder.encode(call).decode()
            reason = payload.refuse_written(text)
        except UnicodeEncodeError:
            reason = "they hold a lone surrogate, which is no character"
        if reason is not None:
            parts = {self._called(place): value for place, value in enumerate(positional)} | dict(keyword)
            raise self._error("submit", f"its arguments cannot be stored: {reason}{_culprit(parts)}")
        return text

    def _decode_explicitly(self, text: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
        try:
            raw = _reader.decode(text)
        except msgspec.DecodeError as error:
            self._fail("run", f"its arguments are no JSON: {error}")
        match raw:
            case list():
                args, kwargs = raw, {}
            case dict():
                args, kwargs = raw.pop(POSITIONAL, []), raw
                if not isinstance(args, list):
                    self._fail(
                        "run", f"the value under `{POSITIONAL}` must be an array of positional arguments"
                    )
            case _:
                self._fail("run", "its arguments must be a JSON array (positional) or object (by name)")
        self._fit(args, kwargs, "run")
        try:
            return (
                tuple(self._at(place).convert(value, str_keys=True) for place, value in enumerate(args)),
                {name: self._by(name).convert(value, str_keys=True) for name, value in kwargs.items()},
            )
        except _Unfit as error:
            self._fail("run", str(error))

    def _fit(self, args: Sequence[Any], kwargs: Mapping[str, Any], doing: Doing) -> None:
        positional, given = self._positional, len(args)
        if given > len(positional) and self._rest is None:
            s = "" if len(positional) == 1 else "s"
            self._fail(doing, f"it takes {len(positional)} positional argument{s} but {given} were given")
        for place, parameter in enumerate(positional):
            by_name = parameter.name in kwargs and parameter.name in self._named
            if place < given:
                if by_name:
                    self._fail(doing, f"argument `{parameter.name}` is given twice")
            elif parameter.required and not by_name:
                self._fail(doing, f"argument `{parameter.name}` is missing")
        for name in self._keyword_required:
            if name not in kwargs:
                self._fail(doing, f"argument `{name}` is missing")
        if self._others is None:
            for name in kwargs:
                if name not in self._named:
                    close = get_close_matches(name, self._named, n=1)
                    hint = f"; did you mean `{close[0]}`?" if close else ""
                    self._fail(doing, f"it has no argument `{name}`{hint}")

    def _prepared(self, value: Any, parameter: _Parameter, where: str) -> Any:
        """Return the value in JSON's own types, checked; `where` names it in messages."""
        if type(value) in _PLAIN and (parameter.hint is Any or type(value) is parameter.hint):
            return value
        try:
            if parameter.hint is Any:
                _only_json(value, where)
                return value
            parameter.convert(value, str_keys=False)
            plain = msgspec.to_builtins(value, str_keys=True, enc_hook=_plain_twin)
            _only_json(plain, where)
            return plain
        except _Unfit as error:
            cause = str(error)
        except TypeError:
            cause = f"argument `{where}` is {_kind(value)}, which JSON cannot hold; pass plain data, such as an id"
        except RecursionError:
            cause = f"argument `{where}` is nested deeper than {payload.MAX_DEPTH} levels, or contains itself"
        raise self._error("submit", cause)

    def _at(self, place: int) -> _Parameter:
        if place < len(self._positional):
            return self._positional[place]
        assert self._rest is not None  # `_fit` let it pass
        return self._rest

    def _by(self, name: str) -> _Parameter:
        found = self._named.get(name, self._others)
        assert found is not None  # `_fit` let it pass
        return found

    def _called(self, place: int) -> str:
        name = self._at(place).name
        return name if place < len(self._positional) else f"{name}[{place - len(self._positional)}]"

    def _array_decoder(self) -> msgspec.json.Decoder[Any]:
        # Defaults are not checked against the type, so UNSET can mark what the call left out.
        fields: list[Any] = [
            (f"p{place}", one.hint) if one.required else (f"p{place}", one.hint, UNSET)
            for place, one in enumerate(self._positional)
        ]
        shape = msgspec.defstruct("Call", fields, array_like=True, forbid_unknown_fields=True, gc=False)
        return msgspec.json.Decoder(shape, dec_hook=_read_hook)

    def _fail(self, doing: Doing, cause: str) -> NoReturn:
        mend = "" if ";" in cause else f"; it is called as {self._task.rpartition(':')[2]}{self._shown}"
        raise self._error(doing, cause + mend)

    def _error(self, doing: Doing, cause: str) -> InvalidArguments:
        return InvalidArguments(f"cannot {doing} {self._task}: {cause}")


def usable_annotations(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the annotations of a function that msgspec can work with, evaluated; the others are left out."""
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except Exception:
        # One name that exists for type checkers only must not cost the others.
        hints = {}
        space = getattr(inspect.unwrap(function), "__globals__", {})
        for name, written in inspect.get_annotations(function).items():
            try:
                hints[name] = typing.get_type_hints(
                    type("One", (), {"__annotations__": {name: written}}), space, include_extras=True
                )[name]
            except Exception:
                continue
    return {name: hint for name, hint in hints.items() if hint is not Any and _understood(hint)}


def result_text(value: Any) -> str | None:
    """Return a result as JSON text, None for None. Raises `TypeError` for what JSON cannot hold."""
    if value is None:
        return None
    try:
        text = _encoder.encode(value).decode()
        # msgspec writes a number that is none as null, silently.
        if "null" in text:
            _only_json(msgspec.to_builtins(value, str_keys=True, enc_hook=_plain_twin), "result")
    except _Unfit:
        raise TypeError(
            "cannot keep the result: it holds NaN or an infinite number, which JSON does not know; return None instead"
        ) from None
    except TypeError:
        raise TypeError(
            f"cannot keep the result: it is or holds {_kind(value)}, which JSON cannot hold; return plain data or None"
        ) from None
    except UnicodeEncodeError:
        raise TypeError(
            "cannot keep the result: it holds a lone surrogate, which is no text; replace or drop it"
        ) from None
    except RecursionError:
        raise TypeError(
            f"cannot keep the result: it is nested deeper than {payload.MAX_DEPTH} levels, or contains itself"
        ) from None
    reason = payload.refuse_value(text)
    if reason is not None:
        raise TypeError(f"cannot keep the values returned: {reason}")
    return text


class _Written:
    """An annotation that was written as text, shown without its quotes."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _shown(signature: inspect.Signature) -> str:
    def bare(annotation: Any) -> Any:
        return _Written(annotation) if isinstance(annotation, str) else annotation

    parameters = [one.replace(annotation=bare(one.annotation)) for one in signature.parameters.values()]
    return str(signature.replace(parameters=parameters, return_annotation=bare(signature.return_annotation)))


class ResultReader:
    """Reads results as a function's return annotation says; what does not fit it comes as plain data."""

    __slots__ = ("_typed",)

    def __init__(self, function: Callable[..., Any]) -> None:
        hint = usable_annotations(function).get("return", Any)
        self._typed = msgspec.json.Decoder(hint, dec_hook=_read_hook)

    def read(self, text: str | None) -> Any:
        """Return the value that JSON text stands for; None stands for None."""
        if text is None:
            return None
        try:
            return self._typed.decode(text)
        except ValidationError:
            return _reader.decode(text)


class _Unfit(Exception):
    """A value that may not travel; its text names the place and the mend."""


def _only_json(value: Any, where: str, depth: int = 0) -> None:
    """Raise `_Unfit` unless the value consists of JSON's own types."""
    if depth > payload.MAX_DEPTH:
        raise RecursionError
    kind = type(value)
    if kind in _PLAIN:
        return
    if issubclass(kind, float):
        if not math.isfinite(value):
            raise _Unfit(
                f"argument `{where}` is {value}, a number that JSON cannot hold; pass None or text instead"
            )
    elif issubclass(kind, (list, tuple)) and not hasattr(kind, "_fields"):
        for place, item in enumerate(value):
            if type(item) not in _PLAIN:
                _only_json(item, f"{where}[{place}]", depth + 1)
    elif issubclass(kind, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise _Unfit(
                    f"argument `{where}` has the key {key!r}, but keys of JSON are text; write {str(key)!r}, or "
                    "annotate the parameter, for example as dict[int, str]"
                )
            if type(item) not in _PLAIN:
                _only_json(item, f"{where}[{key!r}]", depth + 1)
    elif not issubclass(kind, (str, int)) or hasattr(kind, "__members__"):
        raise _Unfit(
            f"argument `{where}` is {_kind(value)}, which JSON cannot hold; annotate the parameter with a type that "
            "can be written and read back, or pass plain data"
        )


def _culprit(parts: Mapping[str, object]) -> str:
    """Say which part of a call JSON text cannot hold, as deep as one part alone is to blame."""
    blamed = ""
    while True:
        for where, part in parts.items():
            if _refused(part):
                blamed = where
                break
        else:
            return f" (see `{blamed}`)" if blamed else ""
        match part:
            case list():
                parts = {f"{blamed}[{place}]": item for place, item in enumerate(part)}
            case dict():
                parts = {f"{blamed}[{key!r}]": item for key, item in part.items()}
            case _:
                return f" (see `{blamed}`)"


def _refused(value: object) -> bool:
    try:
        return payload.refuse_value(_encoder.encode(value).decode()) is not None
    except UnicodeEncodeError:
        return True


def _understood(hint: Any) -> bool:
    """Whether msgspec can read and check values of this type."""
    try:
        msgspec.json.Decoder(hint, dec_hook=_read_hook)
        return not _has_foreign(msgspec.inspect.type_info(hint), set())
    except Exception:
        return False


def _has_foreign(info: Any, seen: set[int]) -> bool:
    """Whether a class that only its own module understands occurs in a type."""
    if id(info) in seen:
        return False
    seen.add(id(info))
    if isinstance(info, msgspec.inspect.CustomType):
        return not issubclass(info.cls, PurePath)
    if isinstance(info, (tuple, list)):
        return any(_has_foreign(part, seen) for part in info)
    if isinstance(info, (msgspec.inspect.Type, msgspec.inspect.Field)):
        return any(_has_foreign(getattr(info, name), seen) for name in info.__struct_fields__)
    return False


def _read_hook(kind: Any, value: Any) -> Any:
    if isinstance(value, str) and issubclass(kind, PurePath):
        return kind(value)
    return value


def _plain_twin(value: Any) -> Any:
    """Return JSON's own twin of a value that msgspec does not know. Raises `TypeError` where there is none."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, PurePath):
        return str(value)
    raise TypeError


def _kind(value: Any) -> str:
    name = type(value).__name__
    return f"{'an' if name[:1] in 'AEIOUaeiou' else 'a'} {name}"
