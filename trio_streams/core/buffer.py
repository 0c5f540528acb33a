"""A bounded buffer for input that does not yet make a whole frame.

It never rescans: the parser says how many bytes the next frame needs, and until they are there a chunk is only
appended. A frame fed byte by byte so costs as much as one fed whole.
"""

from __future__ import annotations

from trio_streams.core.errors import RemoteProtocolError

__all__ = ["FrameBuffer"]


class FrameBuffer:
    """Keeps the incomplete tail of the input.

    Args:
      max_bytes: the most that one frame may need. Precedent: every protocol with a length prefix bounds it before
        allocating (HTTP/2 SETTINGS_MAX_FRAME_SIZE).
      field: the name of that limit in errors.
    """

    __slots__ = ("_field", "_max_bytes", "_needed", "_tail")

    def __init__(self, max_bytes: int, field: str) -> None:
        self._max_bytes = max_bytes
        self._field = field
        self._tail = bytearray()
        self._needed = 0

    def __len__(self) -> int:
        return len(self._tail)

    def join(self, chunk: bytes) -> bytes | None:
        """Put a chunk behind what was kept.

        Returns:
          Everything that waits, to be parsed, or None while the next frame is still incomplete.
        """
        tail = self._tail
        if not tail:
            return chunk
        if len(tail) + len(chunk) < self._needed:
            tail += chunk
            return None
        whole = b"".join((tail, chunk))
        tail.clear()
        return whole

    def complete(self, chunk: bytes, start: int) -> tuple[bytes | None, int]:
        """Put what the kept frame lacks behind it, and leave the rest of a chunk alone: a long one is not copied for the
        sake of a frame that began in the one before.

        Args:
          chunk: what arrived.
          start: where in it the frame goes on.

        Returns:
          What was kept, as long as was needed, or None while it is incomplete; and where the rest of the chunk begins.
        """
        tail = self._tail
        end = start + self._needed - len(tail)
        tail += chunk[start:end]
        if end > len(chunk):
            return None, len(chunk)
        whole = bytes(tail)
        tail.clear()
        return whole, end

    def keep(self, rest: bytes, needed: int) -> None:
        """Keep an incomplete frame.

        Args:
          rest: its beginning; may be empty.
          needed: the length from which on parsing can make progress.

        Raises:
          RemoteProtocolError: the frame would pass the limit.
        """
        if needed > self._max_bytes:
            raise RemoteProtocolError(
                f"a frame of {needed} bytes passes {self._field} of {self._max_bytes}",
                field=self._field,
                size=needed,
                limit=self._max_bytes,
            )
        self._tail += rest
        self._needed = needed
