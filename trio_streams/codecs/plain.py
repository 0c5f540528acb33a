"""Which types may take the fast path: those for which msgspec accepts nothing that the converter would refuse.

What msgspec refuses is asked of the converter again, so a stricter fast path costs time and never an answer.
A laxer one would be a bug: it skips validators, converters and aliases, reads private fields and writes none, and
encodes a subclass with all it has. Classes with any of these stay off it.
"""

# Types as values are `object` here, which strict pyright narrows to Unknown; mypy stays strict.
# pyright: basic

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from typing import Any, Final, Literal

import attrs

from trio_streams.codecs.kinds import STRING_FORMATS, is_record, is_union, record_types, union_members

__all__ = ["Plan", "plan_for"]

_SCALARS: Final = frozenset({type(None), bool, int, float, str})


@attrs.frozen
class Plan:
    """What the fast path may do for a type.

    Attributes:
      decodes: msgspec may decode it.
      encodes: msgspec may encode it, if the value's class is exactly `exact_class` (where that is not None).
      exact_class: the class that was declared.
      has_bounded_depth: no value of the type nests deeper than the type itself does.
    """

    decodes: bool
    encodes: bool
    exact_class: type | None
    has_bounded_depth: bool


def plan_for(type_: object) -> Plan:
    """Survey a type once, at registration.

    Raises:
      TypeError: an annotation of a class can't be resolved.
    """
    survey = _Survey()
    decodes = survey.visit(type_)
    record = type_ if isinstance(type_, type) and is_record(type_) else None
    nested = survey.records - {record}
    return Plan(
        decodes=decodes,
        # msgspec writes the slots of an attrs class in alphabetical order, and what else an instance holds.
        encodes=decodes and not survey.holds_object and not nested and not (record is not None and attrs.has(record)),
        exact_class=record,
        has_bounded_depth=decodes and not survey.holds_object and not survey.is_recursive,
    )


class _Survey:
    def __init__(self) -> None:
        self.records: set[object] = set()
        self.holds_object = False
        self.is_recursive = False
        self._open: list[object] = []

    def visit(self, type_: object) -> bool:
        if type_ is None or type_ in STRING_FORMATS or (isinstance(type_, type) and type_ in _SCALARS):
            return True
        if type_ is object or type_ is Any:
            self.holds_object = True
            return True
        if is_union(type_):
            return self._visit_union(union_members(type_))
        if isinstance(type_, type) and issubclass(type_, enum.Enum):
            return _is_plain_enum(type_)
        if isinstance(type_, type) and is_record(type_):
            return self._visit_record(type_)
        return self._visit_generic(typing.get_origin(type_), typing.get_args(type_))

    def _visit_union(self, members: tuple[object, ...]) -> bool:
        scalars = [member for member in members if isinstance(member, type) and member in _SCALARS]
        others = [member for member in members if member not in scalars]
        # One more member beside null is no choice; any other union is decided by the converter.
        return not others or (len(others) == 1 and set(scalars) <= {type(None)} and self.visit(others[0]))

    def _visit_generic(self, origin: object, args: tuple[object, ...]) -> bool:
        if origin is Literal:
            return all(type(value) is str or type(value) is int for value in args)
        if origin is list:
            return self.visit(args[0])
        if origin is dict:
            return args[0] is str and self.visit(args[1])
        if origin is tuple:
            return [item is Ellipsis or self.visit(item) for item in args].count(False) == 0
        return False

    def _visit_record(self, cls: type) -> bool:
        if cls in self._open:
            self.is_recursive = True
            return True
        self.records.add(cls)
        if not (_is_plain_attrs(cls) if attrs.has(cls) else _is_plain_dataclass(cls)):
            return False
        self._open.append(cls)
        hints = record_types(cls)
        # Each field is visited, also after the first that is not plain: the survey is of the whole type.
        names = [field.name for field in (attrs.fields(cls) if attrs.has(cls) else dataclasses.fields(cls))]  # type: ignore[arg-type,unused-ignore]  # pyright: ignore[reportArgumentType]
        is_plain = [name in hints and self.visit(hints[name]) for name in names].count(False) == 0
        self._open.pop()
        return is_plain


def _is_plain_enum(cls: type[enum.Enum]) -> bool:
    return "_missing_" not in _names_below(cls, enum.Enum) and all(type(member.value) is str for member in cls)


def _names_below(cls: type, root: type) -> set[str]:
    return {name for base in cls.__mro__ if issubclass(base, root) and base.__module__ != "enum" for name in vars(base)}


def _is_plain_attrs(cls: type) -> bool:
    if any(hasattr(cls, hook) for hook in ("__attrs_pre_init__", "__attrs_post_init__")):
        return False
    if not _has_generated_init(cls):
        return False
    return all(
        field.init
        and field.validator is None
        and field.converter is None
        and field.alias == field.name
        and not field.name.startswith("_")
        and not getattr(field.default, "takes_self", False)
        for field in attrs.fields(cls)
    )


def _is_plain_dataclass(cls: type) -> bool:
    if hasattr(cls, "__post_init__") or not _has_generated_init(cls):
        return False
    is_init_var = any(isinstance(t, dataclasses.InitVar) for t in vars(cls).get("__annotations__", {}).values())
    return not is_init_var and all(field.init and not field.name.startswith("_") for field in dataclasses.fields(cls))


def _has_generated_init(cls: type) -> bool:
    """Whether constructing does nothing but set the fields."""
    init = vars(cls).get("__init__")
    if not isinstance(init, types.FunctionType) or any("__new__" in vars(base) for base in cls.__mro__[:-1]):
        return False
    written = init.__code__.co_filename
    return written.startswith("<attrs generated") or written == "<string>"
