"""`trio-streams durable tail`: what a stream holds, and what comes, over disconnects; then the offset to go on from."""

from __future__ import annotations

import argparse
import base64
from functools import partial
from typing import Literal

from trio_streams.cli.durable_remote import add_stream_command, open_stream
from trio_streams.cli.items import line
from trio_streams.cli.output import Output, write_note
from trio_streams.cli.process import run
from trio_streams.cli.remote import AddParser
from trio_streams.durable import StreamEvent
from trio_streams.durable.protocol.media_types import is_json

__all__ = ["add_tail"]


def add_tail(add_parser: AddParser) -> None:
    """Declare the command's arguments."""
    about = "print a stream from its beginning, and what comes, until it is closed or Ctrl-C"
    parser = add_stream_command(add_parser, "tail", run_tail, about)
    parser.epilog = "The offset to go on from is said on standard error at the end."
    parser.add_argument("--offset", metavar="OFFSET", help="begin behind it; `now` for what comes only")
    parser.add_argument(
        "--live", action=argparse.BooleanOptionalAction, default=True, help="whether to wait for what comes"
    )
    parser.add_argument(
        "--json", action="store_true", help="each piece as a line of JSON with its offset; bytes are base64 there"
    )


def run_tail(arguments: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    return run(partial(_tail, arguments))


async def _tail(arguments: argparse.Namespace) -> None:
    output, offset = Output(), arguments.offset
    async with open_stream(arguments) as stream:
        try:
            # Not by events: they carry text with one kind of line end, and what is printed is what was appended.
            async with stream.stream(offset=offset, live="long-poll" if arguments.live else False) as response:
                async for event in response.iter_events(_mode(response.content_type)):
                    await output.write_bytes(_with_offset(event) if arguments.json else _plain(event.data))
                    offset = event.next_offset
        finally:
            if offset not in {None, "now"}:
                write_note(f"offset: {offset}")


def _mode(content_type: str | None) -> Literal["json", "text", "bytes"]:
    if is_json(content_type):
        return "json"
    return "text" if (content_type or "").startswith("text/") else "bytes"


def _plain(data: object) -> bytes:
    if isinstance(data, bytes):
        return data
    if isinstance(data, str):
        return data.encode()
    assert isinstance(data, list)
    return "".join(map(line, data)).encode()


def _with_offset(event: StreamEvent[object]) -> bytes:
    data = base64.b64encode(event.data).decode() if isinstance(event.data, bytes) else event.data
    return line({"data": data, "offset": event.next_offset}).encode()
