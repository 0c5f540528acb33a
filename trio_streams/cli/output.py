"""Standard input and output for programs on Trio: bytes through threads, so that a pipe that is full stops nothing else.

The file descriptors are used directly. A thread that is abandoned inside `sys.stdin.buffer` holds its lock, and the
interpreter would die of that at its end.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import AsyncGenerator
from typing import Final, TextIO

import trio

__all__ = [
    "LineTooLongError",
    "Output",
    "OutputClosedError",
    "is_capable",
    "read_chunks",
    "read_lines",
    "write_error",
    "write_note",
]

CHUNK_BYTES: Final = 65_536
MAX_LINE_BYTES: Final = 16_777_216
"""The largest item that a connection takes by default."""


class OutputClosedError(Exception):
    """Whoever read our output wants no more: `… | head` has ended."""


class LineTooLongError(Exception):
    """A line of the input is longer than any item may be."""


class Output:
    """Writes whole texts to standard output, at once: a pipe's reader gets each line when it is made.

    Args:
      fd: to write to; standard output's if left out.
    """

    def __init__(self, fd: int | None = None) -> None:
        sys.stdout.flush()
        self._fd = sys.stdout.fileno() if fd is None else fd
        self._encoding = sys.stdout.encoding or "utf-8"
        self._lock = trio.Lock()
        self._last = threading.Event()
        self._last.set()
        self.is_used: bool = False
        """Whether anything was, or will be, written."""

    @property
    def is_unicode(self) -> bool:
        """Whether the output can show block characters."""
        try:
            "█░".encode(self._encoding)
        except UnicodeEncodeError:
            return False
        return True

    async def write(self, text: str) -> None:
        """Write all of a text.

        Raises:
          OutputClosedError: nobody reads any more.

        Cancellation: a part may have been written; the rest may follow, if the reader ever goes on, before anything that
        is written later.
        """
        await self.write_bytes(text.encode(self._encoding, errors="replace"))

    async def write_bytes(self, data: bytes) -> None:
        """Write bytes as they are; raises and cancellation as `write`."""
        async with self._lock:
            await trio.lowlevel.checkpoint_if_cancelled()
            self.is_used = True  # from here on the thread starts without a chance to be cancelled before
            try:
                before, self._last = self._last, threading.Event()
                await trio.to_thread.run_sync(self._write_all, data, before, self._last, abandon_on_cancel=True)
            except (BrokenPipeError, ConnectionResetError) as exc:
                raise OutputClosedError from exc

    def _write_all(self, data: bytes, before: threading.Event, done: threading.Event) -> None:
        """In a thread, which may have been abandoned: hence each write waits for the one before."""
        view = memoryview(data)
        before.wait()
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        finally:
            done.set()


async def read_chunks(fd: int | None = None) -> AsyncGenerator[bytes, None]:
    """Standard input as it comes, in chunks of at most 64 KiB.

    Args:
      fd: to read from; standard input's if left out.

    Cancellation: the reading thread is left behind, and with it what it may still read.
    """
    source = sys.stdin.fileno() if fd is None else fd
    while data := await trio.to_thread.run_sync(os.read, source, CHUNK_BYTES, abandon_on_cancel=True):
        yield data


async def read_lines(chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """The lines of some text as they come, without their ends; the last one may lack its end. Empty ones are left out.

    Args:
      chunks: the text, such as `read_chunks()`; closed at the end.

    Raises:
      LineTooLongError: a line is longer than any item may be.
    """
    parts: list[bytes] = []
    size = 0
    async with contextlib.aclosing(chunks):
        async for data in chunks:
            first, *others = data.split(b"\n")
            parts.append(first)
            size += len(first)
            if size > MAX_LINE_BYTES:
                raise LineTooLongError(f"a line of the input is longer than {MAX_LINE_BYTES} bytes")
            if not others:
                continue
            *lines, rest = [b"".join(parts), *others]
            parts, size = [rest], len(rest)
            for line in filter(bytes.strip, lines):
                yield line
    last = b"".join(parts)
    if last.strip():
        yield last


def is_capable(stream: TextIO) -> bool:
    """Whether a stream is a terminal that obeys escape sequences; old consoles of Windows print them."""
    if os.name == "nt" and not os.environ.get("WT_SESSION"):
        return False
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def write_note(text: str) -> None:
    """Say something on standard error, in one line."""
    sys.stderr.write(f"{' '.join(text.split())}\n")
    sys.stderr.flush()


def write_error(text: str) -> None:
    """Say on standard error what went wrong, in one line."""
    write_note(f"error: {text}")
