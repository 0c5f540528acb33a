"""`trio-streams durable append`: arguments, a file, or the lines of standard input, each stored once."""

from __future__ import annotations

import argparse
import contextlib
import uuid
from collections.abc import AsyncGenerator
from functools import partial
from typing import Final

from trio_streams.cli.durable_remote import add_stream_command, open_stream
from trio_streams.cli.items import STDIN, read_source
from trio_streams.cli.output import Output, read_lines
from trio_streams.cli.process import UsageError, run
from trio_streams.cli.remote import AddParser
from trio_streams.cli.upload import Progress, show_progress, size_of
from trio_streams.durable import AsyncDurableStream, IdempotentProducer
from trio_streams.durable.protocol.media_types import is_json
from trio_streams.errors import CodecError

__all__ = ["add_append"]

_LINGER: Final = 0.02


def add_append(add_parser: AddParser) -> None:
    """Declare the command's arguments."""
    about = "append to a stream, and print the offset behind it"
    parser = add_stream_command(add_parser, "append", run_append, about)
    parser.add_argument(
        "data",
        metavar="DATA",
        nargs="*",
        help="what to append: JSON where the stream holds JSON, else text. Without any, standard input: its lines as they "
        "come, each a message of JSON, or a line of text",
    )
    parser.add_argument("--file", metavar="FILE", help="a file's lines of JSON, or its bytes; - is standard input")
    parser.add_argument("--close", action="store_true", help="close the stream behind it")


def run_append(arguments: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    return run(partial(_append, arguments))


async def _append(arguments: argparse.Namespace) -> None:
    if arguments.file is not None and arguments.data:
        raise UsageError("give either DATA or --file")
    file = arguments.file
    progress = Progress(size_of(file) if file is not None else None)
    output = Output()
    async with open_stream(arguments) as stream:
        await stream.head()
        # An id of its own: nothing that is sent twice, for whatever reason, is stored twice.
        async with IdempotentProducer(stream, f"cli-{uuid.uuid4()}", linger=_LINGER) as producer:
            if arguments.data:
                await _send(producer, _each(arguments.data))
            elif file is None:
                await _send(producer, _lines(stream, read_source(STDIN)))
            else:
                chunks = progress.count(read_source(file))
                async with show_progress(progress):
                    await _send(producer, _lines(stream, chunks) if is_json(stream.content_type) else chunks)
                    await producer.flush()
            if arguments.close:
                await producer.close()
        offset = producer.progress.last_offset or (await stream.head()).offset
        await output.write(f"{offset}\n")


async def _each(data: list[str]) -> AsyncGenerator[bytes, None]:
    for text in data:
        yield text.encode(errors="surrogateescape")


async def _lines(stream: AsyncDurableStream, chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    end = b"" if is_json(stream.content_type) else b"\n"
    async with contextlib.aclosing(read_lines(chunks)) as lines:
        async for line in lines:
            yield line + end


async def _send(producer: IdempotentProducer, messages: AsyncGenerator[bytes, None]) -> None:
    number = 0
    async with contextlib.aclosing(messages):
        async for message in messages:
            number += 1
            try:
                await producer.append(message)
            except CodecError as exc:
                raise UsageError(f"item {number} is not JSON: {exc}") from exc
