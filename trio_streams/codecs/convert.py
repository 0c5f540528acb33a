"""The semantics: one strict cattrs converter between parsed JSON and declared types.

cattrs by itself coerces (`int("5")`, `list("abc")`); every hook here refuses what is not of the declared kind.
Everything a JSON string can stand for (dates, UUIDs, base64) is read by `msgspec.convert`, so that the fast path,
which is msgspec too, cannot differ.
"""

# Hooks take what the parser made and return what a type asks for: cattrs types both as Any.
# ruff: noqa: ANN401
# pyright: basic

from __future__ import annotations

import collections
import collections.abc
import datetime as dt
import decimal
import enum
import functools
import math
import typing
from collections.abc import Callable, Iterable
from typing import Any, Final, Literal, TypeAlias

import cattrs
import msgspec
from cattrs.errors import AttributeValidationNote, ForbiddenExtraKeysError
from cattrs.gen import make_dict_structure_fn

from trio_streams.codecs.failure import Mismatch, OutOfRange, at_index
from trio_streams.codecs.kinds import STRING_FORMATS, is_record, is_typed_dict, typed_dict_fields, typed_dict_required
from trio_streams.codecs.union import register_unions

__all__ = ["make_converter"]

# cattrs' own signatures are untyped: a hook takes any parsed value and the declared type, and returns anything.
Hook: TypeAlias = Callable[[Any, Any], Any]

_ARRAY_CLASSES: Final[dict[object, type]] = {
    list: list,
    tuple: tuple,
    set: set,
    frozenset: frozenset,
    collections.deque: collections.deque,
    collections.abc.Sequence: list,
    collections.abc.MutableSequence: list,
    collections.abc.Iterable: list,
    collections.abc.Set: frozenset,
    collections.abc.MutableSet: set,
}
_JSON_SCALARS: Final = frozenset({type(None), bool, int, float, str})
_MAPPING_CLASSES: Final = (dict, collections.abc.Mapping, collections.abc.MutableMapping)


def make_converter(*, forbid_extra_keys: bool = False) -> cattrs.Converter:
    """A strict converter for JSON: add hooks of your own and pass it to `json_codec(type, converter=...)`.

    Args:
      forbid_extra_keys: refuse fields that the type does not declare; else they are ignored, so that a peer may be
        newer than we are.

    Returns:
      A new converter; register all hooks before its first use.
    """
    converter = cattrs.Converter(detailed_validation=True, forbid_extra_keys=forbid_extra_keys)
    # Classes go first: cattrs dispatches on them before it asks predicates, also for subclasses such as IntEnum.
    for cls, hook in ((bool, _bool), (int, _int), (float, _float), (str, _str), (bytes, _string_format)):
        converter.register_structure_hook(cls, functools.partial(_exactly, cls, hook))
    converter.register_structure_hook_func(_is_enum, _enum)
    converter.register_structure_hook_func(lambda t: t in STRING_FORMATS, _string_format)
    converter.register_structure_hook_func(_is_decimal, _decimal)
    converter.register_structure_hook_func(_is_none, _null)
    converter.register_structure_hook_func(_is_untyped, _any)
    converter.register_structure_hook_func(_is_literal, _literal)
    converter.register_structure_hook_factory(lambda t: _origin(t) in _ARRAY_CLASSES, _array_factory)
    converter.register_structure_hook_factory(lambda t: _origin(t) in _MAPPING_CLASSES, _mapping_factory)
    converter.register_structure_hook_factory(is_record, _record_factory)
    converter.register_structure_hook_factory(is_typed_dict, _typed_dict_factory)
    converter.register_unstructure_hook_factory(is_typed_dict, _typed_dict_unstructure_factory)
    converter.register_unstructure_hook(decimal.Decimal, _unstructure_decimal)
    converter.register_unstructure_hook_func(_is_untyped, functools.partial(_tree, converter))
    converter.register_unstructure_hook_func(_is_untyped_object, functools.partial(_object, converter))
    register_unions(converter)
    return converter


def _origin(type_: object) -> object:
    return typing.get_origin(type_) or type_


def _is_none(type_: object) -> bool:
    return type_ is None or type_ is type(None)


def _is_decimal(type_: object) -> bool:
    return type_ is decimal.Decimal


def _is_literal(type_: object) -> bool:
    origin: object = typing.get_origin(type_)
    return origin is Literal


def _is_untyped(type_: object) -> bool:
    return type_ in (object, Any)


def _is_untyped_object(type_: object) -> bool:
    return typing.get_origin(type_) is dict and typing.get_args(type_) in ((str, object), (str, Any))


def _is_enum(type_: object) -> bool:
    return isinstance(type_, type) and issubclass(type_, enum.Enum)


def _exactly(cls: type, hook: Hook, value: Any, type_: Any) -> Any:
    if type_ is cls:
        return hook(value, type_)
    if _is_enum(type_):
        return _enum(value, type_)
    return type_(hook(value, cls))


def _bool(value: Any, _: Any) -> bool:
    if type(value) is not bool:
        raise Mismatch("a boolean", value)
    return value


def _int(value: Any, _: Any) -> int:
    if type(value) is not int:
        raise Mismatch("an integer", value)
    return value


def _float(value: Any, _: Any) -> float:
    if type(value) is float and math.isfinite(value):
        return value
    if type(value) is int:
        try:
            return float(value)
        except OverflowError:
            raise Mismatch("a finite number", OutOfRange()) from None
    raise Mismatch("a finite number", value)


def _str(value: Any, _: Any) -> str:
    if type(value) is not str:
        raise Mismatch("a string", value)
    return value


def _null(value: Any, _: Any) -> None:
    if value is not None:
        raise Mismatch("null", value)


def _any(value: Any, _: Any) -> object:
    if type(value) is OutOfRange:
        raise Mismatch("a JSON value", value)
    if type(value) is dict:
        for key, item in value.items():
            _noting(_any, item, object, key)
    elif type(value) is list:
        for index, item in enumerate(value):
            _noting(_any, item, object, index)
    return typing.cast(object, value)


_FORM_NAMES: Final[dict[object, str]] = {
    bytes: "bytes as base64",
    dt.datetime: "a date and time in ISO 8601",
    dt.date: "a date in ISO 8601",
    dt.time: "a time in ISO 8601",
    dt.timedelta: "a duration in ISO 8601",
}


def _string_format(value: Any, type_: Any) -> Any:
    expected = _FORM_NAMES.get(type_) or f"a {type_.__name__} as a string"
    if type(value) is not str:
        raise Mismatch(expected, value)
    try:
        return msgspec.convert(value, type_, strict=True)
    except msgspec.ValidationError:
        raise Mismatch(expected, value, got=f"a string of {len(value)} characters of another form") from None


def _decimal(value: Any, _: Any) -> decimal.Decimal:
    # A float has already lost digits that a Decimal was declared to keep; its shortest form is what the peer wrote.
    if type(value) not in (str, int, float):
        raise Mismatch("a decimal number", value)
    try:
        number = decimal.Decimal(str(value))
    except decimal.InvalidOperation:
        raise Mismatch("a decimal number", value) from None
    if not number.is_finite():
        raise Mismatch("a decimal number", value, got="NaN or Infinity; numbers must be finite")
    return number


def _unstructure_decimal(value: decimal.Decimal) -> str:
    if not value.is_finite():
        raise Mismatch("a decimal number", value, got="NaN or Infinity; numbers must be finite")
    return str(value)


def _enum(value: Any, type_: Any) -> enum.Enum:
    # `type_(value)` alone takes True for 1 and 1.0 for 1.
    try:
        member: enum.Enum | None = type_(value)
    except (ValueError, TypeError):
        member = None
    if member is None or not _is_same(member.value, value):
        raise Mismatch(f"one of the {len(type_)} values of {type_.__name__}", value)
    return member


def _is_same(declared: object, value: object) -> bool:
    base = next((cls for cls in (bool, int, float, str) if isinstance(declared, cls)), type(declared))
    return declared == value and (base is type(value) or (base is tuple and type(value) is list))


def _literal(value: Any, type_: Any) -> object:
    for choice in typing.get_args(type_):
        if _is_same(choice.value if isinstance(choice, enum.Enum) else choice, value):
            return typing.cast(object, choice)
    raise Mismatch(f"one of the {len(typing.get_args(type_))} literal values", value)


def _hook_for(type_: object, converter: cattrs.Converter) -> Hook:
    try:
        return converter.get_structure_hook(type_)
    except RecursionError:  # a recursive type: its hook is being made right now
        return lambda value, t: converter.get_structure_hook(t)(value, t)


def _noting(hook: Hook, value: Any, type_: Any, index: int | str) -> Any:
    try:
        return hook(value, type_)
    except Exception as exc:
        at_index(exc, index)
        raise


def _array_factory(type_: Any, converter: cattrs.Converter) -> Hook:
    cls: Callable[[Iterable[Any]], Any] = _ARRAY_CLASSES[_origin(type_)]
    args = typing.get_args(type_)
    if cls is tuple and args and args[-1] is not Ellipsis:
        return _fixed_tuple(() if args == ((),) else args, converter)
    item = args[0] if args else object
    hook = _hook_for(item, converter)

    def structure_array(value: Any, _: Any) -> Any:
        if type(value) is not list:
            raise Mismatch("an array", value)
        return cls([_noting(hook, part, item, index) for index, part in enumerate(value)])

    return structure_array


def _fixed_tuple(items: tuple[object, ...], converter: cattrs.Converter) -> Hook:
    hooks = [(_hook_for(item, converter), item) for item in items]

    def structure_tuple(value: Any, _: Any) -> tuple[Any, ...]:
        if type(value) is not list or len(value) != len(hooks):
            raise Mismatch(f"an array of {len(hooks)} items", value)
        return tuple(_noting(hook, part, t, i) for i, (part, (hook, t)) in enumerate(zip(value, hooks, strict=True)))

    return structure_tuple


def _mapping_factory(type_: Any, converter: cattrs.Converter) -> Hook:
    key_type, value_type = typing.get_args(type_) or (str, object)
    key_hook = _key_hook(key_type, converter)
    value_hook = _hook_for(value_type, converter)

    def structure_mapping(value: Any, _: Any) -> dict[Any, Any]:
        if type(value) is not dict:
            raise Mismatch("an object", value)
        return {
            _noting(key_hook, key, key_type, key): _noting(value_hook, item, value_type, key)
            for key, item in value.items()
        }

    return structure_mapping


def _key_hook(type_: object, converter: cattrs.Converter) -> Hook:
    if type_ is not int:
        return _any if type_ in (object, Any) else _hook_for(type_, converter)

    def structure_key(value: Any, _: Any) -> int:
        try:
            return msgspec.convert(value, int, strict=False)
        except msgspec.ValidationError:
            raise Mismatch("an integer as a key", value) from None

    return structure_key


def _record_factory(type_: Any, converter: cattrs.Converter) -> Hook:
    inner = make_dict_structure_fn(type_, converter, _cattrs_forbid_extra_keys=converter.forbid_extra_keys)

    def structure_record(value: Any, t: Any) -> Any:
        if type(value) is not dict:
            raise Mismatch("an object", value)
        return inner(value, t)

    return structure_record


def _typed_dict_factory(type_: Any, converter: cattrs.Converter) -> Hook:
    # Not cattrs' own: it copies fields that are not declared, unchecked, and misses `Required[...]` in annotations
    # that are strings.
    fields = [(name, hint, _hook_for(hint, converter)) for name, hint in typed_dict_fields(type_).items()]
    required = typed_dict_required(type_)
    declared = frozenset(name for name, _, _ in fields)

    def structure_typed_dict(value: Any, _: Any) -> Any:
        if type(value) is not dict:
            raise Mismatch("an object", value)
        if converter.forbid_extra_keys and not declared.issuperset(value):
            raise ForbiddenExtraKeysError(None, type_, set(value) - declared)
        for name in required:
            if name not in value:
                missing = KeyError(name)
                missing.add_note(AttributeValidationNote("at a field", name, object))
                raise missing
        return {name: _noting(hook, value[name], hint, name) for name, hint, hook in fields if name in value}

    return structure_typed_dict


def _typed_dict_unstructure_factory(type_: Any, converter: cattrs.Converter) -> Callable[[Any], Any]:
    hooks = {name: converter.get_unstructure_hook(hint) for name, hint in typed_dict_fields(type_).items()}
    return lambda value: {name: hook(value[name]) for name, hook in hooks.items() if name in value}


def _tree(converter: cattrs.Converter, value: Any) -> object:
    """What `object` encodes: each value by its own class, down to what JSON has."""
    if type(value) in _JSON_SCALARS:
        return typing.cast(object, value)
    if isinstance(value, dict):
        return {
            key if type(key) is str else _tree(converter, key): (
                item if type(item) in _JSON_SCALARS else _tree(converter, item)
            )
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple, set, frozenset, collections.deque)) and not hasattr(value, "_fields"):
        return [_tree(converter, item) for item in value]
    if is_record(type(value)):
        return converter.unstructure(value)
    if isinstance(value, (enum.Enum, decimal.Decimal)):
        return converter.unstructure(value)
    return typing.cast(object, value)


def _object(converter: cattrs.Converter, value: dict[str, Any]) -> dict[str, object]:
    """What `dict[str, object]` encodes: what cattrs would make, in one pass and without a call for each scalar."""
    return {key: item if type(item) in _JSON_SCALARS else _tree(converter, item) for key, item in value.items()}
