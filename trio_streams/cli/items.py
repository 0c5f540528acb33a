"""Items between a stream and the command line: where they come from, and how they are printed."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncGenerator
from pathlib import Path

import msgspec
import trio

from trio_streams.cli.output import CHUNK_BYTES, Output, read_chunks, read_lines
from trio_streams.cli.process import UsageError
from trio_streams.cli.values import parse_json
from trio_streams.streams.abc import ReceiveStream

__all__ = ["STDIN", "line", "print_items", "read_items", "read_source"]

STDIN = "-"
_BATCH = 256


async def read_source(name: str) -> AsyncGenerator[bytes, None]:
    """What a file holds, or standard input, in chunks.

    Args:
      name: of the file; `-` for standard input.

    Raises:
      UsageError: it can't be read.
    """
    if name == STDIN:
        async with contextlib.aclosing(read_chunks()) as chunks:
            async for chunk in chunks:
                yield chunk
        return
    try:
        file = await trio.open_file(name, "rb")
        async with file:
            while chunk := await file.read(CHUNK_BYTES):
                yield chunk
    except OSError as exc:
        raise UsageError(f"can't read {Path(name).name}: {exc.strerror}") from exc


async def read_items(chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[object, None]:
    """Lines of JSON as items.

    Args:
      chunks: the text; closed at the end.

    Raises:
      UsageError: a line is no JSON; the message says which one, empty lines not counted.
      LineTooLongError: a line is longer than any item may be.
    """
    number = 0
    async with contextlib.aclosing(read_lines(chunks)) as lines:
        async for text in lines:
            number += 1
            yield parse_json(f"item {number}", text)


def line(item: object) -> str:
    """An item as a line of JSON, in which strings have no character that a terminal would obey: it is escaped."""
    text = msgspec.json.encode(item).decode()
    return f"{text if text.isprintable() else ''.join(map(_escaped, text))}\n"


def _escaped(character: str) -> str:
    return character if character.isprintable() else json.dumps(character)[1:-1]


async def print_items(items: ReceiveStream[object], output: Output) -> None:
    """Print items as lines of JSON as they come, until their end.

    Raises:
      OutputClosedError: nobody reads them any more.
    """
    with contextlib.suppress(trio.EndOfChannel):
        while True:
            await output.write("".join(map(line, await items.receive_many(_BATCH))))
