"""JSON Schema (2020-12) of declared types, for documents: what the codecs take, said in the words of others.

Records, TypedDicts and enums become components of their own, under their names; two classes of one name are told apart
by a number. What has no schema, such as a class that only a user's own hook understands, may be anything.
"""

# Types as values are `object` here, which strict pyright narrows to Unknown; mypy stays strict.
# pyright: basic

from __future__ import annotations

import collections.abc
import dataclasses
import datetime as dt
import decimal
import enum
import inspect
import typing
import uuid
from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias

from trio_streams.codecs.json import json_codec
from trio_streams.codecs.kinds import (
    is_record,
    is_typed_dict,
    is_union,
    record_fields,
    record_types,
    typed_dict_fields,
    typed_dict_required,
    union_members,
    unwrap,
)
from trio_streams.errors import CodecError

__all__ = ["Schema", "Schemas"]

Schema: TypeAlias = dict[str, Any]
"""A JSON Schema, as JSON's own types."""

_SCALARS: Final[Mapping[object, Schema]] = {
    None: {"type": "null"},
    type(None): {"type": "null"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    decimal.Decimal: {"anyOf": [{"type": "string", "format": "decimal"}, {"type": "number"}]},
    bytes: {"type": "string", "contentEncoding": "base64"},
    uuid.UUID: {"type": "string", "format": "uuid"},
    dt.datetime: {"type": "string", "format": "date-time"},
    dt.date: {"type": "string", "format": "date"},
    dt.time: {"type": "string", "format": "time"},
    dt.timedelta: {"type": "string", "format": "duration"},
}
_SETS: Final = (set, frozenset, collections.abc.Set)
_ARRAYS: Final = (list, tuple, collections.deque, collections.abc.Sequence, collections.abc.Iterable, *_SETS)


class Schemas:
    """Collects the components that schemas refer to.

    Args:
      prefix: of references, before a component's name.
    """

    def __init__(self, prefix: str = "#/components/schemas/") -> None:
        self.components: dict[str, Schema] = {}
        self._prefix = prefix
        self._names: dict[object, str] = {}

    def of(self, type_: object) -> Schema:
        """The schema of a type; its components are in `components` afterwards.

        Args:
          type_: anything that `json_codec` takes.
        """
        type_ = unwrap(type_)
        scalar = _SCALARS.get(type_) if isinstance(type_, collections.abc.Hashable) else None
        if scalar is not None:
            return dict(scalar)
        if is_union(type_):
            return {"anyOf": [self.of(member) for member in union_members(type_)]}
        if typing.get_origin(type_) is Literal:
            values = [v.value if isinstance(v, enum.Enum) else v for v in typing.get_args(type_)]
            return {"const": values[0]} if len(values) == 1 else {"enum": values}
        if is_record(type_) or is_typed_dict(type_) or (isinstance(type_, type) and issubclass(type_, enum.Enum)):
            return self._component(type_)
        return self._container(type_)

    def _container(self, type_: object) -> Schema:
        origin = typing.get_origin(type_) or type_
        args = typing.get_args(type_)
        if not isinstance(origin, type):
            return {}
        if issubclass(origin, collections.abc.Mapping):
            return {"type": "object", "additionalProperties": self.of(args[1])} if args else {"type": "object"}
        if issubclass(origin, tuple) and args and args[-1] is not Ellipsis:
            items = [self.of(item) for item in args]
            return {"type": "array", "minItems": len(items), "maxItems": len(items), "prefixItems": items}
        if origin in _ARRAYS or issubclass(origin, (list, tuple, set, frozenset, collections.deque)):
            return {"type": "array", "items": self.of(args[0])} if args else {"type": "array"}
        return {}

    def _component(self, type_: object) -> Schema:
        name = self._names.get(type_)
        if name is None:
            name = self._names[type_] = self._free_name(type_)
            self.components[name] = {}  # a type that holds itself refers to it already
            self.components[name] = self._describe(type_)
        return {"$ref": f"{self._prefix}{name}"}

    def _free_name(self, type_: object) -> str:
        parts = [_plain_name(type_), *(_plain_name(argument) for argument in typing.get_args(type_))]
        base = name = "_".join(parts)
        number = 1
        while name in self.components:
            number += 1
            name = f"{base}{number}"
        return name

    def _describe(self, type_: object) -> Schema:
        cls: Any = typing.get_origin(type_) or type_
        schema: Schema = {"title": _plain_name(type_)}
        if description := _description(cls):
            schema["description"] = description
        if isinstance(cls, type) and issubclass(cls, enum.Enum):
            return {**schema, "enum": [member.value for member in cls]}
        if is_typed_dict(type_):
            fields = typed_dict_fields(type_)
            properties = {name: self.of(hint) for name, hint in fields.items()}
            required = typed_dict_required(type_)
        else:
            properties, required = self._record(type_, cls)
        schema |= {"type": "object", "properties": properties}
        return {**schema, "required": required} if required else schema

    def _record(self, type_: object, cls: Any) -> tuple[dict[str, Schema], list[str]]:  # noqa: ANN401 - a class
        hints = record_types(type_)
        by_variable = dict(zip(getattr(cls, "__parameters__", ()), typing.get_args(type_), strict=False))
        properties: dict[str, Schema] = {}
        required: list[str] = []
        for name, default, has_default in record_fields(cls):
            hint = hints[name]
            schema = self.of(by_variable.get(hint, hint))
            if not has_default:
                required.append(name)
            elif default is not None and (value := _as_json(default)) is not None:
                schema["default"] = value
            properties[name] = schema
        return properties, required


def _as_json(value: object) -> object:
    """A default as JSON has it; None where it has none."""
    codec = json_codec(object)
    try:
        return codec.decode(codec.encode(value))
    except CodecError:
        return None


def _plain_name(type_: object) -> str:
    origin = typing.get_origin(type_) or type_
    name = origin.__name__ if isinstance(origin, type) else str(origin)
    return "".join(character if character.isalnum() or character in "_-" else "_" for character in name)


def _description(cls: Any) -> str:  # noqa: ANN401 - a class
    """The docstring that somebody wrote; dataclasses and attrs make one up, enums and TypedDicts inherit theirs."""
    text = cls.__dict__.get("__doc__") or ""
    is_made_up = dataclasses.is_dataclass(cls) and text.startswith(f"{_plain_name(cls)}(")
    return "" if is_made_up else inspect.cleandoc(text).split("\n\n", 1)[0]
