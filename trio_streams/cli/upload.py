"""`trio-streams upload`: a file or standard input as the items of a client stream."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import AsyncGenerator
from functools import partial
from pathlib import Path
from typing import Final, Protocol

import attrs
import trio

from trio_streams.cli.items import STDIN, line, read_items, read_source
from trio_streams.cli.output import Output, is_capable
from trio_streams.cli.process import UsageError, run
from trio_streams.cli.reflection import Server
from trio_streams.cli.remote import AddParser, add_remote, read_remote
from trio_streams.dashboard.meter import Meter
from trio_streams.demo.view import size_text
from trio_streams.procedures.coding import BYTES

__all__ = ["HasLine", "Progress", "add_upload", "show_progress", "size_of"]

_REDRAW: Final = 0.2
_CLEAR: Final = "\r\x1b[K"


def add_upload(add_parser: AddParser) -> None:
    """Declare the command's arguments."""
    parser = add_remote(
        add_parser,
        "upload",
        run_upload,
        about="send a file to a client stream",
        description="Send a file to a procedure and print its answer as JSON. A procedure that takes bytes gets them in "
        "chunks, as they are; any other one gets each line, which is JSON, as an item.",
    )
    parser.add_argument("name", metavar="NAME", help="the procedure")
    parser.add_argument("file", metavar="FILE", help="what to send; - is standard input")
    parser.add_argument(
        "--bytes", action="store_true", help="send bytes, even if the server does not say that it takes them"
    )


def run_upload(arguments: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    return run(partial(_upload, arguments))


async def _upload(arguments: argparse.Namespace) -> None:
    remote, name = read_remote(arguments), arguments.name
    progress = Progress(size_of(arguments.file))
    output = Output()
    async with remote.connect() as client:
        server = await Server.ask(client, remote.metadata)
        described = server.find(name)
        is_bytes = arguments.bytes or (described is not None and server.is_bytes(described.input))
        chunks = progress.count(read_source(arguments.file))
        async with show_progress(progress):
            result = await client.upload(
                name,
                chunks if is_bytes else read_items(chunks),
                metadata=remote.metadata,
                content_type=BYTES if is_bytes else None,
            )
        await output.write(line(result))


def size_of(file: str) -> int | None:
    """A file's size; None for standard input. What can't be read is refused before anybody is asked."""
    if file == STDIN:
        return None
    try:
        with Path(file).open("rb") as opened:
            return os.fstat(opened.fileno()).st_size
    except OSError as exc:
        raise UsageError(f"can't read {Path(file).name}: {exc.strerror}") from exc


@attrs.define
class Progress:
    """How much of a file was given to the stream, which takes it no faster than the server does.

    Attributes:
      expected_bytes: the file's size; None where nobody knows.
      sent_bytes: until now.
    """

    expected_bytes: int | None
    sent_bytes: int = 0
    _meter: Meter = attrs.field(factory=Meter)

    async def count(self, chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        """The same chunks, counted when the next one is asked for; closed at the end."""
        async with contextlib.aclosing(chunks):
            async for chunk in chunks:
                yield chunk
                self.sent_bytes += len(chunk)

    def line(self, now: float) -> str:
        """How far it is: `1.5 MiB of 3.0 MiB   50 %   0.7 MiB/s`."""
        parts = [size_text(self.sent_bytes)]
        if self.expected_bytes:
            share = min(1.0, self.sent_bytes / self.expected_bytes)
            parts = [f"{parts[0]} of {size_text(self.expected_bytes)}", f"{share:.0%}"]
        return "   ".join([*parts, f"{size_text(self._meter.rate('', self.sent_bytes, now))}/s"])


class HasLine(Protocol):
    """Says in a line how far something is."""

    def line(self, now: float) -> str:
        """The line, at a time of Trio's clock."""
        ...


@contextlib.asynccontextmanager
async def show_progress(progress: HasLine) -> AsyncGenerator[None, None]:
    """Show the progress on standard error, if that is a terminal, for as long as the block; nothing of it stays."""
    if not is_capable(sys.stderr):
        yield
        return
    fd = sys.stderr.fileno()

    async def draw() -> None:
        while True:
            await trio.to_thread.run_sync(
                os.write, fd, (_CLEAR + progress.line(trio.current_time())).encode(), abandon_on_cancel=True
            )
            await trio.sleep(_REDRAW)

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(draw)
            yield
            nursery.cancel_scope.cancel()
    finally:
        os.write(fd, _CLEAR.encode())
