"""`trio-streams stream`: the items of a server stream, as lines, as one array, or as a table that follows them."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from functools import partial
from typing import Final

import trio

from trio_streams.cli.call import add_input
from trio_streams.cli.items import line
from trio_streams.cli.output import Output, is_capable
from trio_streams.cli.process import UsageError, run
from trio_streams.cli.remote import AddParser, add_remote, read_remote
from trio_streams.cli.settings import count
from trio_streams.cli.table import Table, follow
from trio_streams.cli.values import Input
from trio_streams.streams.abc import ReceiveStream

__all__ = ["add_stream"]

_BATCH: Final = 256
_FORMS: Final = ("lines", "json", "table")
_GOODBYE_TIMEOUT: Final = 1.0
"""Seconds for the end of an array, whose reader may be gone."""

_read_limit: Final = count()


def add_stream(add_parser: AddParser) -> None:
    """Declare the command's arguments."""
    parser = add_remote(
        add_parser,
        "stream",
        run_stream,
        about="read a stream",
        description="Read a server stream until it ends, or Ctrl-C ends it on the server, too.",
    )
    add_input(parser)
    parser.add_argument("--limit", metavar="NUMBER", help="end after so many items")
    parser.add_argument(
        "--output",
        choices=_FORMS,
        help="each item as a line of JSON, all as one JSON array, or the last ones as a table; by default a table on a "
        "terminal, and lines elsewhere",
    )


def _limit(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return int(_read_limit(text))
    except ValueError as exc:
        raise UsageError(f"--limit is {exc}, not {text!r}") from exc


def run_stream(arguments: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    return run(partial(_stream, arguments))


async def _stream(arguments: argparse.Namespace) -> None:
    remote, given = read_remote(arguments), Input.parse(arguments.input)
    limit, is_terminal = _limit(arguments.limit), is_capable(sys.stdout)
    form = arguments.output or ("table" if is_terminal else "lines")
    output = Output()
    async with remote.connect() as client:
        value = await given.read(client, arguments.name, remote.metadata)
        async with (
            client.stream(arguments.name, value, metadata=remote.metadata) as items,
            contextlib.aclosing(_read(items, limit)) as batches,
        ):
            match form:
                case "table":
                    await follow(batches, Table(arguments.name), output, is_live=is_terminal)
                case "json":
                    await _print_array(batches, output)
                case _:
                    await _print_lines(batches, output)


async def _read(items: ReceiveStream[object], limit: int | None) -> AsyncGenerator[list[object], None]:
    """Items in the batches that they come in, up to a number of them."""
    left = limit
    with contextlib.suppress(trio.EndOfChannel):
        while left is None or left > 0:
            batch = await items.receive_many(_BATCH if left is None else min(left, _BATCH))
            if left is not None:
                left -= len(batch)
            yield batch


async def _print_lines(batches: AsyncIterator[list[object]], output: Output) -> None:
    async for batch in batches:
        await output.write("".join(map(line, batch)))


async def _print_array(batches: AsyncIterator[list[object]], output: Output) -> None:
    """An array whose end comes even if the stream's end is an error, or Ctrl-C: what is printed can be read."""
    before = "[\n"
    try:
        async for batch in batches:
            await output.write(before + ",\n".join(line(item).rstrip("\n") for item in batch))
            before = ",\n"
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + _GOODBYE_TIMEOUT):
            await output.write("\n]\n" if output.is_used else "[]\n")
