"""`trio-streams chat`: a bidirectional stream as a conversation of lines."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

import msgspec
import trio

from trio_streams.cli.items import line
from trio_streams.cli.output import Output, read_chunks, read_lines
from trio_streams.cli.process import run
from trio_streams.cli.reflection import Schema, Server
from trio_streams.cli.remote import AddParser, add_remote, read_remote
from trio_streams.demo.view import clean
from trio_streams.errors import StreamStopped
from trio_streams.procedures.coding import BYTES
from trio_streams.streams.abc import ReceiveStream, Stream

__all__ = ["add_chat", "read_word", "shown"]

_BATCH: Final = 256


def add_chat(add_parser: AddParser) -> None:
    """Declare the command's arguments."""
    parser = add_remote(
        add_parser,
        "chat",
        run_chat,
        about="talk to a bidirectional stream",
        description="Send each line that is typed to a bidirectional stream, and print what it says as it comes. "
        "Ctrl-D ends our half and waits for the rest; Ctrl-C leaves. A line is a string, or bytes, where the procedure "
        "takes those; elsewhere it is JSON, or a string if it is none.",
    )
    parser.add_argument("name", metavar="NAME", help="the procedure")


def run_chat(arguments: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    return run(partial(_chat, arguments))


async def _chat(arguments: argparse.Namespace) -> None:
    remote, name = read_remote(arguments), arguments.name
    output = Output()
    async with remote.connect() as client:
        server = await Server.ask(client, remote.metadata)
        described = server.find(name)
        given, gives = (None, None) if described is None else (described.input, described.output)
        is_bytes = server.is_bytes(given)
        read = partial(read_word, is_bytes=is_bytes, is_text=_is_text(server.options(given)))
        async with (
            client.bidi(
                name,
                returns=bytes if server.is_bytes(gives) else None,
                metadata=remote.metadata,
                content_type=BYTES if is_bytes else None,
            ) as stream,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(_send_lines, stream, read)
            await _print(stream, output)
            nursery.cancel_scope.cancel()


def _is_text(options: list[Schema]) -> bool:
    return all(option.get("type") == "string" for option in options)


async def _send_lines(stream: Stream[object, object], read: Callable[[bytes], object]) -> None:
    try:
        async with contextlib.aclosing(read_lines(read_chunks())) as lines:
            async for typed in lines:
                await stream.send(read(typed))
        stream.end()
    except StreamStopped:
        pass  # they have heard enough; what they still say is printed


def read_word(typed: bytes, *, is_text: bool, is_bytes: bool = False) -> object:
    """What a line says.

    Args:
      typed: the line.
      is_bytes: whether bytes are what the procedure takes.
      is_text: whether strings are what the procedure takes.
    """
    if is_bytes:
        return typed
    text = typed.decode(errors="replace").rstrip("\r")
    if is_text:
        return text
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


async def _print(items: ReceiveStream[object], output: Output) -> None:
    is_terminal = sys.stdout.isatty()
    with contextlib.suppress(trio.EndOfChannel):
        while True:
            batch = await items.receive_many(_BATCH)
            await output.write("".join(one for item in batch for one in shown(item, is_terminal=is_terminal)))


def shown(item: object, *, is_terminal: bool) -> Iterator[str]:
    """An item as lines: text as it is, but for what a terminal would obey; anything else as JSON."""
    if isinstance(item, bytes):
        item = item.decode(errors="replace")
    texts = item.split("\n") if isinstance(item, str) else [line(item).rstrip("\n")]
    for text in texts:
        yield f"{clean(text, len(text)) if is_terminal else text}\n"
