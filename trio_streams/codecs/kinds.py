"""Which kinds of JSON value a declared type takes, so that a union is decided by kind and not by trial."""

# Types as values are `object` here, which strict pyright narrows to Unknown; mypy stays strict.
# pyright: basic

from __future__ import annotations

import collections.abc
import dataclasses
import datetime as dt
import decimal
import enum
import types
import typing
import uuid
from typing import Final, Literal, TypeAlias

import attrs
import typing_extensions

__all__ = [
    "ALL_KINDS",
    "STRING_FORMATS",
    "Kind",
    "is_record",
    "is_typed_dict",
    "is_union",
    "kind_of",
    "kinds_of",
    "record_fields",
    "record_types",
    "typed_dict_fields",
    "typed_dict_required",
    "union_members",
    "unwrap",
]

Kind: TypeAlias = Literal["null", "boolean", "integer", "number", "string", "array", "object"]

ALL_KINDS: Final[frozenset[Kind]] = frozenset(typing.get_args(Kind))

STRING_FORMATS: Final[tuple[type, ...]] = (
    uuid.UUID,
    dt.datetime,
    dt.date,
    dt.time,
    dt.timedelta,
    bytes,
)
"""Types that travel as a string of a form of their own."""

_OF_VALUE: Final[dict[object, Kind]] = {
    type(None): "null",
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
}

_ARRAYS: Final = (list, tuple, set, frozenset, collections.deque)
_ABSTRACT_ARRAYS: Final = (
    collections.abc.Sequence,
    collections.abc.MutableSequence,
    collections.abc.Iterable,
    collections.abc.Set,
    collections.abc.MutableSet,
)


def kind_of(value: object) -> Kind | None:
    """The kind of a parsed value; None for a number that is out of range."""
    return _OF_VALUE.get(type(value))


def is_union(type_: object) -> bool:
    """Whether the type is `A | B` or `Union[A, B]`."""
    return typing.get_origin(type_) in (typing.Union, types.UnionType)


def union_members(type_: object) -> tuple[object, ...]:
    """The members of a union, `None` as NoneType."""
    return tuple(type(None) if member is None else member for member in typing.get_args(type_))


def is_typed_dict(type_: object) -> bool:
    """Whether the type is a TypedDict class."""
    return typing_extensions.is_typeddict(typing.get_origin(type_) or type_)


def is_record(type_: object) -> bool:
    """Whether the type is an attrs class or a dataclass (or a parametrised generic one)."""
    origin = typing.get_origin(type_) or type_
    return isinstance(origin, type) and (attrs.has(origin) or dataclasses.is_dataclass(origin))


def record_types(type_: object) -> dict[str, object]:
    """The declared types of a class's annotations, resolved.

    Raises:
      TypeError: an annotation names something that cannot be found.
    """
    try:
        return typing.get_type_hints(typing.get_origin(type_) or type_, include_extras=True)
    except NameError as exc:
        raise TypeError(f"can't resolve the annotations of {type_!r}: {exc}") from exc


def record_fields(type_: object) -> list[tuple[str, object, bool]]:
    """Name, default and whether there is one, for each field of a class that JSON sets; None for defaults that are made."""
    cls: typing.Any = typing.get_origin(type_) or type_
    found: list[tuple[str, object, bool]] = []
    if attrs.has(cls):
        for field in attrs.fields(cls):
            if field.init:
                is_made = isinstance(field.default, attrs.Factory)  # type: ignore[arg-type]
                found.append((field.name, None if is_made else field.default, field.default is not attrs.NOTHING))
        return found
    for data_field in dataclasses.fields(cls):
        if data_field.init:
            is_plain = data_field.default is not dataclasses.MISSING
            is_made = data_field.default_factory is not dataclasses.MISSING
            found.append((data_field.name, data_field.default if is_plain else None, is_plain or is_made))
    return found


def typed_dict_fields(type_: object) -> dict[str, object]:
    """The declared types of a TypedDict's keys, without `Required` and `NotRequired`."""
    return {name: unwrap(hint) for name, hint in record_types(type_).items()}


def typed_dict_required(type_: object) -> list[str]:
    """The keys that a TypedDict requires; unlike `__required_keys__`, also where annotations are strings."""
    cls = typing.get_origin(type_) or type_
    by_class: frozenset[str] = getattr(cls, "__required_keys__", frozenset())
    markers: dict[object, bool] = {typing.Required: True, typing.NotRequired: False}
    hints = record_types(type_)
    return [name for name, hint in hints.items() if markers.get(typing.get_origin(hint), name in by_class)]


def unwrap(hint: object) -> object:
    """A type without what only annotates it."""
    while typing.get_origin(hint) in (typing.Required, typing.NotRequired, typing.Annotated):
        hint = typing.get_args(hint)[0]
    return hint


def kinds_of(type_: object) -> frozenset[Kind]:
    """The kinds of JSON value that a declared type may take; all of them for a type we know nothing of."""
    if type_ is None:
        return frozenset({"null"})
    if type_ is float:
        return frozenset({"integer", "number"})
    if type_ is decimal.Decimal:
        return frozenset({"string", "integer", "number"})
    if isinstance(type_, type) and type_ in _OF_VALUE:
        return frozenset({_OF_VALUE[type_]})
    if type_ in STRING_FORMATS:
        return frozenset({"string"})
    if is_record(type_) or is_typed_dict(type_):
        return frozenset({"object"})
    return _kinds_of_composite(type_)


def _kinds_of_composite(type_: object) -> frozenset[Kind]:
    origin = typing.get_origin(type_)
    if is_union(type_):
        return frozenset().union(*(kinds_of(member) for member in union_members(type_)))
    if origin is typing.Annotated:
        return kinds_of(typing.get_args(type_)[0])
    if origin is Literal:
        return _kinds_of_values([v.value if isinstance(v, enum.Enum) else v for v in typing.get_args(type_)])
    if isinstance(type_, type) and issubclass(type_, enum.Enum):
        return _kinds_of_values([member.value for member in type_])
    cls = origin or type_
    if cls in _ABSTRACT_ARRAYS or (isinstance(cls, type) and issubclass(cls, _ARRAYS)):
        return frozenset({"array"})
    if isinstance(cls, type) and issubclass(cls, collections.abc.Mapping):
        return frozenset({"object"})
    return ALL_KINDS


def _kinds_of_values(values: collections.abc.Iterable[object]) -> frozenset[Kind]:
    kinds: set[Kind] = set()
    for value in values:
        kind = kind_of(value)
        if kind is None:
            return ALL_KINDS
        kinds.add(kind)
    return frozenset(kinds)
