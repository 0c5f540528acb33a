"""`trio-streams call`: one call or stream of any server, its answer as lines of JSON."""

from __future__ import annotations

import argparse
import contextlib
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import attrs
import msgspec
import trio

from trio_streams.cli.output import Output, read_lines
from trio_streams.cli.process import UsageError, run
from trio_streams.codecs import Codec, json_codec
from trio_streams.codes import Code
from trio_streams.errors import CodecError, RpcError, StreamStopped
from trio_streams.procedures.client import Client
from trio_streams.streams.abc import ReceiveStream, Stream
from trio_streams.urls import connect

__all__ = ["add_call"]

_BATCH: Final = 256
_json: Final[Codec[object]] = json_codec(object)


@attrs.frozen(kw_only=True)
class Request:
    """What is called.

    Attributes:
      url: of the server.
      name: of the procedure.
      input: what it is given; None for nothing.
      items: where the items to send come from: `-` for standard input, a file, or None for none.
      timeout: seconds; the server learns of it.
    """

    url: str
    name: str
    input: object
    items: str | None
    timeout: float


def add_call(add_parser: Callable[..., argparse.ArgumentParser]) -> None:
    """Declare the command's arguments; `add_parser` is that of the subcommands."""
    parser = add_parser(
        "call",
        help="call a procedure, or read a stream",
        description="Call a procedure of a server. Each item of the answer is printed as a line of JSON, as it comes; "
        "Ctrl-C ends the stream on the server, too.",
    )
    parser.add_argument("url", metavar="URL", help="tcp://, ws://, wss://, http:// or https://")
    parser.add_argument("name", metavar="NAME", help="the procedure")
    parser.add_argument("input", metavar="JSON", nargs="?", help="its input")
    parser.add_argument(
        "--items", metavar="FILE", help="send each line of a file as an item, as JSON; - is standard input"
    )
    parser.add_argument("--timeout", metavar="SECONDS", type=float, default=math.inf, help="the server learns of it")
    parser.set_defaults(run=run_call)


def run_call(arguments: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    return run(partial(_call_in_time, arguments))


async def _call_in_time(arguments: argparse.Namespace) -> None:
    if arguments.input is not None and arguments.items is not None:
        raise UsageError("a procedure takes an input or items, not both")
    if not arguments.timeout >= 0:
        raise UsageError(f"--timeout is a number of seconds, not {arguments.timeout}")
    request = Request(
        url=arguments.url,
        name=arguments.name,
        input=None if arguments.input is None else _parse("the input", arguments.input.encode()),
        items=arguments.items,
        timeout=arguments.timeout,
    )
    with trio.fail_after(request.timeout):
        async with connect(request.url) as client:
            await _call(client, request, Output())


def _parse(what: str, text: bytes) -> object:
    try:
        return _json.decode(text)
    except CodecError as exc:
        raise UsageError(f"{what} is not JSON: {exc}") from exc


async def _call(client: Client, request: Request, output: Output) -> None:
    if request.url.startswith("http") and request.items is None:
        await _call_over_http(client, request, output)
        return
    # On our dialect every kind of procedure is a stream: what differs is how many items go which way.
    async with client.bidi(request.name) as stream, trio.open_nursery() as nursery:
        if request.items is not None:
            nursery.start_soon(_send_items, stream, request.items)
        else:
            if request.input is not None:
                await stream.send(request.input)
            stream.end()
        await _print_items(stream, output)
        nursery.cancel_scope.cancel()


async def _call_over_http(client: Client, request: Request, output: Output) -> None:
    """HTTP has one address for calls and one for streams; the wrong one is refused before any handler runs."""
    try:
        result = await client.call(request.name, request.input)
    except RpcError as refusal:
        if refusal.code != Code.FAILED_PRECONDITION.name:
            raise
        try:
            async with client.stream(request.name, request.input) as items:
                await _print_items(items, output)
        except RpcError as exc:
            # Refused both ways, the procedure is a call, and what it said itself counts.
            raise refusal if exc.code == Code.FAILED_PRECONDITION.name else exc from None
    else:
        await output.write(_line(result))


async def _print_items(items: ReceiveStream[object], output: Output) -> None:
    with contextlib.suppress(trio.EndOfChannel):
        while True:
            await output.write("".join(map(_line, await items.receive_many(_BATCH))))


def _line(item: object) -> str:
    return msgspec.json.encode(item).decode() + "\n"


async def _send_items(stream: Stream[object, object], source: str) -> None:
    try:
        if source == "-":
            number = 0
            async with contextlib.aclosing(read_lines()) as lines:
                async for line in lines:
                    number += 1
                    await stream.send(_parse(f"item {number}", line))
        else:
            await _send_file(stream, source)
        stream.end()
    except StreamStopped:
        pass  # the handler has answered, or failed; which of them, the answer says


async def _send_file(stream: Stream[object, object], source: str) -> None:
    try:
        text = await trio.Path(source).read_bytes()
    except OSError as exc:
        raise UsageError(f"can't read {Path(source).name}: {exc.strerror}") from exc
    lines: Sequence[bytes] = [line for line in text.split(b"\n") if line.strip()]
    await stream.send_many(_parse(f"item {number}", line) for number, line in enumerate(lines, 1))
