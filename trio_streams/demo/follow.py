"""Follows a file as it grows, through truncation and rotation, as `tail -F` does.

`Follower` has no clock and never waits, so that each case can be tested as a plain call; `follow` polls it. Polling
needs no system's notification service, works on every file system, and costs one `stat` a round.

What polling cannot see: a file that is cut and filled beyond the old size between two looks. What was written to a
file in the last moments before it was rotated away is not lost: the old file is read to its end first.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import BinaryIO, Final

import trio

__all__ = ["Follower", "follow"]

_READ_BYTES: Final = 65_536
"""What one look reads, so that a huge addition does not become a huge list."""
_BACK_BYTES: Final = 1_048_576
"""How far back the last lines are looked for."""
_MAX_LINE_BYTES: Final = 65_536
"""A longer line is cut into several: no file makes us hold more than this."""
_INTERVAL: Final = 0.2


class Follower:
    """The lines that are added to a file; each call looks once.

    Args:
      path: of the file; it need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._identity: tuple[int, int] = (0, 0)
        self._position = 0
        self._rest = b""

    def last_lines(self) -> list[str]:
        """What the file holds already, at most its last MiB; `poll` goes on from there.

        A first line that began before that is left out, and so is a last one that has no end yet: `poll` will have it.
        """
        if not self._open():
            return []
        assert self._file is not None
        size = os.fstat(self._file.fileno()).st_size
        start = max(0, size - _BACK_BYTES)
        self._file.seek(start)
        data = self._file.read(size - start)
        self._position = start + len(data)
        if start:
            data = data.partition(b"\n")[2]
        return self._split(data)

    def poll(self) -> list[str]:
        """The complete lines that were added since the last look, at most about 64 KiB of them."""
        if self._file is None and not self._open():
            return []
        assert self._file is not None
        data = self._file.read(_READ_BYTES)
        if data:
            self._position += len(data)
            return self._split(data)
        if os.fstat(self._file.fileno()).st_size < self._position:
            self._file.seek(0)
            self._position, self._rest = 0, b""
            return []
        if self._is_replaced():
            unfinished = self._rest
            self.close()
            return [_text(unfinished)] if unfinished else []
        return []

    def close(self) -> None:
        """Close the file; another `poll` would open it anew, from its beginning. Idempotent."""
        if self._file is not None:
            self._file.close()
            self._file = None
        self._position, self._rest = 0, b""

    def _open(self) -> bool:
        try:
            # Without a buffer: what is read is what the file holds now.
            self._file = self._path.open("rb", buffering=0)
        except OSError:
            return False  # not yet, or between two moves of a rotation
        status = os.fstat(self._file.fileno())
        self._identity = (status.st_dev, status.st_ino)
        return True

    def _is_replaced(self) -> bool:
        try:
            status = self._path.stat()
        except OSError:
            return False
        return (status.st_dev, status.st_ino) != self._identity

    def _split(self, data: bytes) -> list[str]:
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _MAX_LINE_BYTES:
            lines.append(self._rest)
            self._rest = b""
        pieces = (line[i : i + _MAX_LINE_BYTES] for line in lines for i in range(0, len(line) or 1, _MAX_LINE_BYTES))
        return [_text(piece) for piece in pieces]


def _text(line: bytes) -> str:
    return line.removesuffix(b"\r").decode("utf-8", errors="replace")


async def follow(path: Path) -> AsyncGenerator[list[str], None]:
    """Runs of lines: first what the file holds (perhaps none), then what is added to it, for ever.

    Args:
      path: of the file; it need not exist yet.

    Cancellation: between two looks; the file is closed with the iterator.
    """
    follower = Follower(path)
    try:
        yield await trio.to_thread.run_sync(follower.last_lines)
        while True:
            lines = await trio.to_thread.run_sync(follower.poll)
            if lines:
                yield lines
            else:
                await trio.sleep(_INTERVAL)
    finally:
        follower.close()
