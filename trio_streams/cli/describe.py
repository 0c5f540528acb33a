"""`trio-streams describe`: what a server offers, for people, for programs, or as a Python module."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator
from functools import partial
from typing import Final, cast

import msgspec

from trio_streams.cli.output import Output
from trio_streams.cli.process import run
from trio_streams.cli.reflection import Schema, Server, notation
from trio_streams.cli.remote import AddParser, add_remote, read_remote
from trio_streams.codecs import Codec, json_codec
from trio_streams.codes import Code
from trio_streams.demo.view import align, clean
from trio_streams.errors import RemoteProtocolError, RpcError
from trio_streams.procedures.describe import DESCRIBE, Description, ProcedureDescription
from trio_streams.procedures.stubs import write_stubs

__all__ = ["add_describe", "show_all", "show_one"]

_description: Final[Codec[Description]] = json_codec(Description)
_NAME: Final = 60
_TYPE: Final = 40
_LINE: Final = 1_000
_HEADS: Final = ("name", "kind", "input", "output", "description")


def add_describe(add_parser: AddParser) -> None:
    """Declare the command's arguments."""
    parser = add_remote(
        add_parser,
        "describe",
        run_describe,
        about="show what a server offers",
        description="Show the procedures of a server: names, kinds, and the types of what goes in and comes out.",
    )
    parser.add_argument("name", metavar="NAME", nargs="?", help="only this procedure, with the fields of its types")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="the description as JSON")
    form.add_argument("--stubs", action="store_true", help="a Python module with typed methods")


def run_describe(arguments: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    return run(partial(_describe, arguments))


async def _describe(arguments: argparse.Namespace) -> None:
    remote = read_remote(arguments)
    output = Output()
    async with remote.connect() as client:
        server = Server(await client.call(DESCRIBE, returns=Description, metadata=remote.metadata))
        if arguments.name is not None:
            server = _only(server, arguments.name)
        await output.write(_text(arguments, server))


def _only(server: Server, name: str) -> Server:
    only = server.only(name)
    if only is None:
        raise RpcError(Code.NOT_FOUND, f"there is no procedure {name!r}")
    return only


def _text(arguments: argparse.Namespace, server: Server) -> str:
    if arguments.json:
        return msgspec.json.format(_description.encode(server.description), indent=2).decode() + "\n"
    if arguments.stubs:
        try:
            return write_stubs(server.description, source=arguments.url)
        except ValueError as exc:
            raise RemoteProtocolError(f"no module can be made of what the server says: {exc}") from exc
    if arguments.name is not None:
        lines = list(show_one(server, server.description.procedures[0]))
    else:
        lines = show_all(server, shutil.get_terminal_size((120, 24)).columns)
    return "".join(f"{one}\n" for one in lines)


def show_all(server: Server, width: int) -> list[str]:
    """A table of all procedures; only descriptions are cut to the terminal's width."""
    if not server.description.procedures:
        return ["there are no procedures"]
    rows = [_HEADS, *map(_row, server.description.procedures)]
    room = width - max(len(one.rstrip()) for one in align([[*row[:4], ""] for row in rows])) - 2
    return align([[*row[:4], clean(row[4], max(room, 20))] for row in rows])


def _row(one: ProcedureDescription) -> tuple[str, ...]:
    optional = "?" if one.is_input_optional and one.input is not None else ""
    return (
        clean(one.name, _NAME),
        clean(one.kind, _TYPE),
        clean(_type(one.input) + optional, _TYPE),
        clean(_type(one.output), _TYPE),
        one.description,
    )


def _type(schema: Schema | None) -> str:
    return "-" if schema is None else notation(schema)


def show_one(server: Server, one: ProcedureDescription) -> Iterator[str]:
    """One procedure, and the fields of the types that it names."""
    yield clean(f"{one.name}: {one.kind}", _LINE)
    if one.description:
        yield clean(one.description, _LINE)
    optional = ", may be left out" if one.is_input_optional else ""
    yield clean(f"  input   {_type(one.input)}{optional if one.input is not None else ''}", _LINE)
    yield clean(f"  output  {_type(one.output)}", _LINE)
    for name, schema in server.description.schemas.items():
        yield ""
        yield from _show_schema(name, schema)


def _show_schema(name: str, schema: Schema) -> Iterator[str]:
    about = schema.get("description")
    yield clean(f"{name}: {about}" if isinstance(about, str) and about else name, _LINE)
    properties: object = schema.get("properties")
    if not isinstance(properties, dict):
        if "enum" in schema or schema.get("type") != "object":
            yield clean(f"  {notation(schema)}", _LINE)
        return
    required: object = schema.get("required")
    needed = cast("list[object]", required) if isinstance(required, list) else []
    fields = cast("Schema", properties)
    if fields:
        yield from align([_field(field, its, is_needed=field in needed) for field, its in fields.items()])


def _field(name: str, schema: object, *, is_needed: bool) -> tuple[str, ...]:
    known: Schema = cast("Schema", schema) if isinstance(schema, dict) else {}
    if is_needed:
        default = "required"
    elif "default" in known:
        default = f"= {msgspec.json.encode(known['default']).decode()}"
    else:
        default = ""
    about = known.get("description")
    cells = (f"  {name}", notation(known), default, about if isinstance(about, str) else "")
    return tuple(clean(cell, _NAME) for cell in cells)
