"""Query strings: text values read as what each field declares, then held to the same rules as JSON."""

from __future__ import annotations

import dataclasses
import functools
import re
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias, TypeVar, overload

import attrs

from trio_streams.codecs.document import check_depth, parse
from trio_streams.codecs.failure import field_step, short
from trio_streams.codecs.json import DEFAULT_MAX_DEPTH, JsonCodec, resolve
from trio_streams.codecs.kinds import (
    Kind,
    is_record,
    is_typed_dict,
    is_union,
    kinds_of,
    record_types,
    typed_dict_fields,
    union_members,
    unwrap,
)
from trio_streams.errors import CodecError

__all__ = ["DEFAULT_MAX_QUERY_BYTES", "DEFAULT_MAX_QUERY_VALUES", "decode_query"]

T = TypeVar("T")
Reader: TypeAlias = Callable[[str, Sequence[str]], object]

DEFAULT_MAX_QUERY_BYTES: Final = 16_384
"""Names and values together; more than the 8 KiB that servers commonly allow for a whole request line."""

DEFAULT_MAX_QUERY_VALUES: Final = 256
"""Values in all, so that a long list in a query is possible and a flood is not."""

_BOOLEAN_OR_NULL: Final[frozenset[Kind]] = frozenset({"boolean", "null"})
_ARRAY: Final[frozenset[Kind]] = frozenset({"array"})
_INTEGER: Final = re.compile(r"-?[0-9]{1,4300}", re.ASCII)
_NUMBER: Final = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?", re.ASCII)


@overload
def decode_query(
    type: type[T], query: Mapping[str, Sequence[str]], *, max_bytes: int = ..., max_values: int = ...
) -> T: ...
@overload
def decode_query(
    type: object, query: Mapping[str, Sequence[str]], *, max_bytes: int = ..., max_values: int = ...
) -> object: ...
def decode_query(
    type: object,  # noqa: A002 - the word that callers read
    query: Mapping[str, Sequence[str]],
    *,
    max_bytes: int = DEFAULT_MAX_QUERY_BYTES,
    max_values: int = DEFAULT_MAX_QUERY_VALUES,
) -> object:
    """Read a parsed query string as a declared type.

    `level=404` stays text where text is declared; `5`, `1.5`, `true`, `false`, `1`, `0` become numbers and booleans
    where those are. A repeated name is an array. Records inside a field are read as JSON text. Fields that the type
    does not declare are refused: in a query they are typing errors.

    Args:
      type: an attrs class, dataclass, TypedDict, a dict with str keys, or `object`.
      query: names to values, as `urllib.parse.parse_qs(..., keep_blank_values=True)` returns.
      max_bytes: of names and values together.
      max_values: in all.

    Raises:
      CodecError: names the field, what was expected and what came, or the limit.
    """
    _check_size(query, max_bytes, max_values)
    readers, fallback, codec = _plan(type)
    document: dict[str, object] = {}
    for name, values in query.items():
        reader = readers.get(name, fallback)
        if reader is None:
            path = f"${field_step(name)}"
            raise CodecError(f"{path}: unknown field `{short(name)}`", path=path)
        if values:
            document[name] = reader(name, values)
    return codec.structure(document)


def _check_size(query: Mapping[str, Sequence[str]], max_bytes: int, max_values: int) -> None:
    values = sum(map(len, query.values()))
    if values > max_values:
        raise CodecError(f"$: a query of {values} values; at most {max_values} are taken")
    size = sum(len(n.encode("utf-8", "replace")) for n in query)
    size += sum(len(v.encode("utf-8", "replace")) for vs in query.values() for v in vs)
    if size > max_bytes:
        raise CodecError(f"$: a query of {size} bytes; at most {max_bytes} are taken")


@functools.lru_cache(maxsize=1_024)
def _plan(type_: object) -> tuple[dict[str, Reader], Reader | None, JsonCodec[Any]]:
    codec = resolve(type_, forbid_extra_keys=False, max_depth=DEFAULT_MAX_DEPTH)
    if type_ is object:
        return {}, _read_untyped, codec
    if is_record(type_):
        cls: Any = typing.get_origin(type_) or type_
        fields = attrs.fields(cls) if attrs.has(cls) else dataclasses.fields(cls)
        hints = record_types(cls)
        return {f.name: _reader(hints.get(f.name, object)) for f in fields if f.init}, None, codec
    if is_typed_dict(type_):
        return {name: _reader(hint) for name, hint in typed_dict_fields(type_).items()}, None, codec
    if typing.get_origin(type_) is dict and typing.get_args(type_)[0] is str:
        return {}, _reader(typing.get_args(type_)[1]), codec
    if type_ is dict:
        return {}, _read_untyped, codec
    raise TypeError(f"a query has named fields, which {type_!r} does not have")


def _read_untyped(_name: str, values: Sequence[str]) -> object:
    return values[0] if len(values) == 1 else list(values)


def _reader(type_: object) -> Reader:
    if type_ is object or type_ is Any:
        return _read_untyped
    kinds = kinds_of(type_)
    item = _array_item(type_)
    if item is not None:
        item_kinds = kinds_of(item)
        return lambda _name, values: [_value(text, item_kinds) for text in values]

    def read_one(name: str, values: Sequence[str]) -> object:
        if len(values) != 1:
            path = f"${field_step(name)}"
            raise CodecError(f"{path}: given {len(values)} times, expected once", path=path)
        return _value(values[0], kinds)

    return read_one


def _array_item(type_: object) -> object | None:
    for member in union_members(type_) if is_union(type_) else (unwrap(type_),):
        if kinds_of(member) == _ARRAY:
            args = typing.get_args(member)
            return args[0] if args else object
    return None


def _value(text: str, kinds: frozenset[Kind]) -> object:
    """The JSON value that a text stands for, given what may be; the text itself if nothing else fits."""
    if "boolean" in kinds and text in ("true", "false"):
        return text == "true"
    if kinds <= _BOOLEAN_OR_NULL and text in ("1", "0"):
        return text == "1"
    if "integer" in kinds and _INTEGER.fullmatch(text):
        return int(text)
    if "number" in kinds and _NUMBER.fullmatch(text):
        return float(text)
    if not text and "null" in kinds and "string" not in kinds:
        return None
    if kinds & {"array", "object"} and "string" not in kinds and text[:1] in ("[", "{"):
        data = text.encode("utf-8", "replace")
        check_depth(data, DEFAULT_MAX_DEPTH)
        return parse(data)
    return text
