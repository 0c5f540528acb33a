"""What arrived on a stream and was not read."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from trio_streams.errors import FlowControlError

__all__ = ["StreamBuffer"]

_SMALL_BYTES: Final = 512  # an object costs about 50 bytes: a peer that sends single bytes must not cost fifty windows
_JOINED_BYTES: Final = 16_384
_LARGE_BYTES: Final = 65_536
"""Behind a gap that closes a whole window arrives as one chunk. It is cut up, or who reads it slowly would hold all of it until
the last byte, and beside it what the peer sends meanwhile."""


class StreamBuffer:
    """A queue of chunks that is read by bytes. Nothing is copied but what a read cuts or joins, and chunks that are very large.

    What it holds in memory is what waits, at most a third more for its objects, and 64 KiB of a chunk that is partly read.

    Args:
      max_bytes: what fits: the stream's window, for no peer that keeps to its credit sends more.

    Attributes:
      returned_bytes: how many of those at the front were taken before, and put back: they don't count against `max_bytes`.

    Raises:
      ValueError: `max_bytes` is less than 1.
    """

    __slots__ = ("_chunks", "_size_bytes", "max_bytes", "returned_bytes")

    def __init__(self, max_bytes: int) -> None:
        if max_bytes < 1:
            raise ValueError(f"max_bytes must be at least 1, not {max_bytes!r}")
        self._chunks: deque[bytes | bytearray | memoryview] = deque()
        self._size_bytes = 0
        self.max_bytes: int = max_bytes
        self.returned_bytes: int = 0

    def __len__(self) -> int:
        """How many bytes wait."""
        return self._size_bytes

    def push(self, run: Sequence[bytes]) -> int:
        """Put chunks at the end.

        Args:
          run: bytes objects, of which most are kept as they are.

        Returns:
          How many bytes that were.

        Raises:
          FlowControlError: they don't fit; nothing was put.
        """
        size = sum(map(len, run))
        waiting = self._size_bytes - self.returned_bytes + size
        if waiting > self.max_bytes:
            raise FlowControlError(
                f"{waiting} bytes wait to be read: max_bytes is {self.max_bytes}",
                field="max_bytes",
                size=waiting,
                limit=self.max_bytes,
            )
        for chunk in run:
            if len(chunk) > _LARGE_BYTES:
                self._chunks.extend(chunk[start : start + _LARGE_BYTES] for start in range(0, len(chunk), _LARGE_BYTES))
            elif len(chunk) >= _SMALL_BYTES:
                self._chunks.append(chunk)
            elif chunk:
                self._push_small(chunk)
        self._size_bytes += size
        return size

    def _push_small(self, chunk: bytes) -> None:
        last = self._chunks[-1] if self._chunks else None
        if isinstance(last, bytearray) and len(last) < _JOINED_BYTES:
            last += chunk
        else:
            self._chunks.append(chunk if last is None else bytearray(chunk))

    def take(self, max_bytes: int | None = None) -> bytes:
        """Take bytes from the front.

        Args:
          max_bytes: the most to take; None for all.

        Returns:
          As many as are there, up to `max_bytes`; empty if there are none.
        """
        chunks = self._chunks
        if not chunks:
            return b""
        wanted = self._size_bytes if max_bytes is None else max_bytes
        if wanted >= self._size_bytes:
            whole = _joined(chunks)
            self.clear()
            return whole
        parts: list[bytes | bytearray | memoryview] = []
        while wanted:
            chunk = chunks[0]
            size = len(chunk)
            if size > wanted:
                # As a view, so that small reads of a large chunk copy each byte once.
                view = memoryview(bytes(chunk) if isinstance(chunk, bytearray) else chunk)
                parts.append(view[:wanted])
                chunks[0] = view[wanted:]
                size = wanted
            else:
                parts.append(chunks.popleft())
            wanted -= size
            self._size_bytes -= size
            self.returned_bytes -= min(size, self.returned_bytes)
        return _joined(parts)

    def put_back(self, data: bytes) -> None:
        """Put at the front what was taken: it may pass `max_bytes`, since whoever took it has held it all the while."""
        if data:
            self._chunks.appendleft(data)
            self._size_bytes += len(data)
            self.returned_bytes += len(data)

    def clear(self) -> int:
        """Drop everything.

        Returns:
          How many bytes that were.
        """
        size, self._size_bytes = self._size_bytes, 0
        self._chunks.clear()
        self.returned_bytes = 0
        return size


def _joined(parts: Sequence[bytes | bytearray | memoryview]) -> bytes:
    first = parts[0] if len(parts) == 1 else None
    return first if isinstance(first, bytes) else b"".join(parts)
