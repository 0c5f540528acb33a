"""`trio-streams call`: one call or stream of any server, its answer as lines of JSON."""

from __future__ import annotations

import argparse
import contextlib
from functools import partial
from typing import Final

import attrs
import trio

from trio_streams.cli.items import line, print_items, read_items, read_source
from trio_streams.cli.output import Output
from trio_streams.cli.process import UsageError, run
from trio_streams.cli.reflection import Server
from trio_streams.cli.remote import AddParser, Remote, add_remote, read_remote
from trio_streams.cli.values import Input
from trio_streams.codes import Code
from trio_streams.errors import RpcError, StreamStopped
from trio_streams.procedures.client import Client
from trio_streams.procedures.procedure import Kind
from trio_streams.streams.abc import Stream

__all__ = ["add_call", "add_input"]

_WRONG_WAY: Final = {Code.FAILED_PRECONDITION.name, Code.UNIMPLEMENTED.name}
"""How a server says over HTTP that a procedure is no call."""


@attrs.frozen(kw_only=True)
class Request:
    """What is called.

    Attributes:
      remote: of whom.
      name: of the procedure.
      input: what it is given.
      items: where the items to send come from: `-` for standard input, a file, or None for none.
    """

    remote: Remote
    name: str
    input: Input
    items: str | None


def add_call(add_parser: AddParser) -> None:
    """Declare the command's arguments."""
    parser = add_remote(
        add_parser,
        "call",
        run_call,
        about="call a procedure, or read a stream",
        description="Call a procedure of a server, whatever its kind. Each item of the answer is printed as a line of "
        "JSON, as it comes; Ctrl-C ends the stream on the server, too.",
    )
    add_input(parser)
    parser.add_argument(
        "--items", metavar="FILE", help="send each line of a file as an item, as JSON; - is standard input"
    )


def add_input(parser: argparse.ArgumentParser) -> None:
    """Declare the name of a procedure, and its input."""
    parser.add_argument("name", metavar="NAME", help="the procedure")
    parser.add_argument(
        "input",
        metavar="INPUT",
        nargs="*",
        help="its input: JSON; or pairs, key=value with a value of the type that the procedure has there, or key:=JSON",
    )


def run_call(arguments: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    return run(partial(_call, arguments))


async def _call(arguments: argparse.Namespace) -> None:
    if arguments.input and arguments.items is not None:
        raise UsageError("a procedure takes an input or items, not both")
    request = Request(
        remote=read_remote(arguments),
        name=arguments.name,
        input=Input.parse(arguments.input),
        items=arguments.items,
    )
    async with request.remote.connect() as client:
        if request.remote.url.startswith("http") and request.items is None:
            await _call_over_http(client, request, Output())
        else:
            await _call_as_stream(client, request, Output())


async def _call_as_stream(client: Client, request: Request, output: Output) -> None:
    """On our dialect every kind of procedure is a stream: what differs is how many items go which way."""
    value = await request.input.read(client, request.name, request.remote.metadata)
    async with client.bidi(request.name, metadata=request.remote.metadata) as stream, trio.open_nursery() as nursery:
        if request.items is not None:
            nursery.start_soon(_send_items, stream, request.items)
        else:
            if value is not None:
                await stream.send(value)
            stream.end()
        await print_items(stream, output)
        nursery.cancel_scope.cancel()


async def _call_over_http(client: Client, request: Request, output: Output) -> None:
    """HTTP has an address for each kind; the wrong one is refused before any handler runs."""
    name, metadata = request.name, request.remote.metadata
    value = await request.input.read(client, name, metadata)
    try:
        result = await client.call(name, value, metadata=metadata)
    except RpcError as refusal:
        if refusal.code not in _WRONG_WAY:
            raise
        described = (await Server.ask(client, metadata)).find(name)
        if described is not None and described.kind == Kind.CALL.value:
            raise  # the handler itself has said so
        if described is not None and described.kind == Kind.EVENT.value:
            await client.event(name, value, metadata=metadata)
            return
        try:
            async with client.stream(name, value, metadata=metadata) as items:
                await print_items(items, output)
        except RpcError as exc:
            # Refused both ways, the procedure is a call, and what it said itself counts.
            raise refusal if exc.code in _WRONG_WAY else exc from None
    else:
        await output.write(line(result))


async def _send_items(stream: Stream[object, object], source: str) -> None:
    try:
        async with contextlib.aclosing(read_items(read_source(source))) as items:
            async for item in items:
                await stream.send(item)
        stream.end()
    except StreamStopped:
        pass  # the handler has answered, or failed; which of them, the answer says
