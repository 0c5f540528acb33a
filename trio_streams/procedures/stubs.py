"""Writes a Python module from what a server says of itself: its records as attrs classes, its procedures as methods.

::

    trio-streams describe ws://127.0.0.1:7001 --stubs > api.py

    from api import Api, Line
    async with connect(url) as client:
        async with Api(client).logs.tail(level="error") as lines: ...

The module needs nothing but trio_streams and attrs, and is made for a type checker as much as for running.
"""

from __future__ import annotations

import keyword
from collections.abc import Iterator, Mapping
from typing import Final, cast

from trio_streams.codecs.json_schema import Schema
from trio_streams.procedures.describe import Description, ProcedureDescription
from trio_streams.procedures.procedure import check_name, is_parameter

__all__ = ["write_stubs"]

_HEAD: Final = '''"""Made from what {source} says of itself; make it anew instead of editing it."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import uuid
from collections.abc import AsyncIterable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal, cast

import attrs

from trio_streams.procedures.client import Client
from trio_streams.streams.abc import ReceiveStream, Stream
'''

_FORMATS: Final = {
    "uuid": "uuid.UUID",
    "date-time": "dt.datetime",
    "date": "dt.date",
    "time": "dt.time",
    "duration": "dt.timedelta",
    "decimal": "decimal.Decimal",
}
_TYPES: Final = {"null": "None", "boolean": "bool", "integer": "int", "number": "float", "string": "str"}


def write_stubs(description: Description, *, source: str = "the server") -> str:
    """The text of the module.

    Args:
      description: what the server says.
      source: where from, for the module's docstring.

    Raises:
      ValueError: a schema has a name that no class can have, or a procedure one that none can have.
    """
    for name in description.schemas:
        _check_class(name)
    for procedure in description.procedures:
        check_name(procedure.name)
    parts = [_HEAD.format(source=source.replace("\\", "/").replace('"', "'"))]
    # A default may be a member of an enumeration, so these come first.
    records = sorted(description.schemas.items(), key=lambda pair: "enum" not in pair[1])
    parts += ["\n".join(_record(name, schema)) for name, schema in records]
    tree = _Namespace("Api", "")
    for procedure in description.procedures:
        tree.add(procedure, procedure.name.split("."))
    parts += ["\n".join(lines) for lines in tree.classes()]
    return "\n\n".join(part.rstrip("\n") + "\n" for part in parts)


def _check_class(name: str) -> str:
    if not name.isidentifier() or keyword.iskeyword(name):
        raise ValueError(f"a schema is named {name[:64]!r}, which is no name for a class")
    return name


def _type(schema: Schema | None) -> str:
    """A schema as an annotation."""
    if schema is None or not schema:
        return "Any"
    if "$ref" in schema:
        return _check_class(str(schema["$ref"]).rpartition("/")[2])
    if "anyOf" in schema:
        options = [_type(option) for option in schema["anyOf"]]
        return "decimal.Decimal" if "decimal.Decimal" in options else " | ".join(dict.fromkeys(options))
    if "const" in schema or "enum" in schema:
        values = [schema["const"]] if "const" in schema else schema["enum"]
        return f"Literal[{', '.join(map(repr, values))}]"
    match schema.get("type"):
        case "array" if "prefixItems" in schema:
            return f"tuple[{', '.join(map(_type, schema['prefixItems']))}]"
        case "array":
            return f"list[{_type(schema.get('items'))}]"
        case "object":
            return f"dict[str, {_type(schema.get('additionalProperties'))}]"
        case "string" if schema.get("contentEncoding") == "base64":
            return "bytes"
        case "string":
            return _FORMATS.get(schema.get("format", ""), "str")
        case other:
            return _TYPES.get(str(other), "Any")


def _docstring(text: str, indent: str) -> list[str]:
    clean = " ".join(text.replace("\\", "\\\\").replace('"', "'").split())
    return [f'{indent}"""{clean}"""'] if clean else []


def _record(name: str, schema: Schema) -> Iterator[str]:
    description = _docstring(str(schema.get("description", "")), "    ")
    if "enum" in schema:
        yield from [f"class {name}(enum.Enum):", *description]
        for number, value in enumerate(schema["enum"], 1):
            yield f"    {_member(value, number)} = {value!r}"
        return
    yield from ["@attrs.frozen(kw_only=True)", f"class {name}:", *description]
    required = schema.get("required", [])
    properties = cast("Mapping[str, Schema]", schema.get("properties", {}))
    for field, its in properties.items():
        if not field.isidentifier() or keyword.iskeyword(field):
            raise ValueError(f"a field of {name} is named {field!r}, which is no name in Python")
        yield f"    {field}: {_field(its, is_required=field in required)}"
    if not properties and not description:
        yield "    pass"


def _member(value: object, number: int) -> str:
    name = "".join(c if c.isalnum() else "_" for c in str(value)).upper()
    return name if name.isidentifier() and not keyword.iskeyword(name) else f"VALUE_{number}"


def _field(schema: Schema, *, is_required: bool) -> str:
    hint = _type(schema)
    if is_required:
        return hint
    default = schema.get("default")
    if default is not None and "$ref" in schema:
        return f"{hint} = {hint}({default!r})"
    if isinstance(default, (bool, int, float, str)):
        return f"{hint} = {default!r}"
    if schema.get("type") in {"array", "object"}:
        return f"{hint} = attrs.field(factory={'list' if schema['type'] == 'array' else 'dict'})"
    return f"{hint} = None" if hint == "Any" or hint.endswith("None") else f"{hint} | None = None"


class _Namespace:
    """A class of the module: procedures by the last part of their names, and other such classes."""

    def __init__(self, class_name: str, path: str) -> None:
        self.class_name = class_name
        self._path = path
        self._below: dict[str, _Namespace] = {}
        self._procedures: dict[str, ProcedureDescription] = {}

    def add(self, procedure: ProcedureDescription, parts: list[str]) -> None:
        plain = [part[1:-1] if is_parameter(part) else part for part in parts]
        first = _identifier(plain[0])
        if len(parts) == 1:
            self._procedures[first] = procedure
            return
        if first not in self._below:
            self._below[first] = _Namespace(
                f"{self.class_name}{first.title().replace('_', '')}", f"{self._path}{parts[0]}."
            )
        self._below[first].add(procedure, parts[1:])

    def classes(self) -> Iterator[list[str]]:
        for below in self._below.values():
            yield from below.classes()
        lines = [f"class {self.class_name}:"]
        lines += [f'    """Procedures of {self._path or "/"}*."""', ""]
        lines += ["    def __init__(self, client: Client) -> None:", "        self._client = client"]
        lines += [f"        self.{name} = {below.class_name}(client)" for name, below in self._below.items()]
        for name, procedure in self._procedures.items():
            # A name that is a part of others, too, is the method of its own namespace.
            method = f"{name}_" if name in self._below else name
            lines += ["", *_method(method, procedure)]
        yield lines


def _identifier(part: str) -> str:
    name = "".join(c if c.isalnum() else "_" for c in part)
    return f"{name}_" if keyword.iskeyword(name) or not name.isidentifier() else name


def _method(name: str, procedure: ProcedureDescription) -> list[str]:
    parts = procedure.name.split(".")
    params = [part[1:-1] for part in parts if is_parameter(part)]
    called = ".".join(f"{{{part[1:-1]}}}" if is_parameter(part) else part for part in parts)
    takes, gives = _type(procedure.input), _type(procedure.output)
    arguments = ["self", *(f"{param}: str" for param in params)]
    given = f"f{called!r}" if params else repr(called)
    if procedure.kind == "client":
        arguments.append(f"items: Iterable[{takes}] | AsyncIterable[{takes}]")
        given += ", items"
    elif procedure.input is not None and procedure.kind != "bidirectional":
        arguments.append(f"input: {takes} | None = None" if procedure.is_input_optional else f"input: {takes}")
        given += ", input"
    if gives not in {"Any", "None"} and procedure.output is not None:
        given += (
            f", returns=cast({f'type[{gives}]'!r}, {gives})" if " | " in gives or "[" in gives else f", returns={gives}"
        )
    start, result, verb = {
        "call": ("async def", gives, "await self._client.call"),
        "event": ("async def", "None", "await self._client.event"),
        "server": ("def", f"AbstractAsyncContextManager[ReceiveStream[{gives}]]", "self._client.stream"),
        "client": ("async def", gives, "await self._client.upload"),
    }.get(procedure.kind, ("def", f"AbstractAsyncContextManager[Stream[{takes}, {gives}]]", "self._client.bidi"))
    statement = "" if result == "None" else "return "
    return [
        f"    {start} {name}({', '.join(arguments)}) -> {result}:",
        *_docstring(procedure.description, "        "),
        f"        {statement}{verb}({given})",
    ]
