"""Standard input and output for programs on Trio: bytes through threads, so that a pipe that is full stops nothing else.

The file descriptors are used directly. A thread that is abandoned inside `sys.stdin.buffer` holds its lock, and the
interpreter would die of that at its end.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncGenerator
from typing import Final

import trio

__all__ = ["LineTooLongError", "Output", "OutputClosedError", "read_lines", "write_error"]

_READ_BYTES: Final = 65_536
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

        Cancellation: a part may have been written; the rest may follow, if the reader ever goes on.
        """
        data = text.encode(self._encoding, errors="replace")
        async with self._lock:
            try:
                await trio.to_thread.run_sync(_write_all, self._fd, data, abandon_on_cancel=True)
            except (BrokenPipeError, ConnectionResetError) as exc:
                raise OutputClosedError from exc


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


async def read_lines(fd: int | None = None) -> AsyncGenerator[bytes, None]:
    """The lines of standard input as they come, without their ends; the last one may lack its end. Empty ones are left out.

    Args:
      fd: to read from; standard input's if left out.

    Raises:
      LineTooLongError: a line is longer than any item may be.

    Cancellation: the reading thread is left behind, and with it what it may still read.
    """
    source = sys.stdin.fileno() if fd is None else fd
    parts: list[bytes] = []
    size = 0
    while data := await trio.to_thread.run_sync(os.read, source, _READ_BYTES, abandon_on_cancel=True):
        first, *others = data.split(b"\n")
        parts.append(first)
        size += len(first)
        if size > MAX_LINE_BYTES:
            raise LineTooLongError(f"a line of the input is longer than {MAX_LINE_BYTES} bytes")
        if others:
            *lines, rest = [b"".join(parts), *others]
            parts, size = [rest], len(rest)
            for line in lines:
                if line.strip():
                    yield line
    last = b"".join(parts)
    if last.strip():
        yield last


def write_error(text: str) -> None:
    """Say on standard error what went wrong, in one line."""
    sys.stderr.write(f"error: {' '.join(text.split())}\n")
    sys.stderr.flush()
