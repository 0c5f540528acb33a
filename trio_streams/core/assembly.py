"""Items that are larger than a frame: the parts they travel in, and how they are put together again."""

from __future__ import annotations

from typing import Final

import attrs

from trio_streams.core.errors import RemoteProtocolError

__all__ = ["Assembly", "Piece"]

_SMALL_BYTES: Final = 512
"""Below it a piece is copied into an array: an item that comes two bytes at a time must not cost thirty times its size."""


@attrs.frozen
class Piece:
    """A part of an item that is larger than a frame; in one frame, or in several that follow each other.

    Attributes:
      data: the part.
      total: the whole item's length, with its first part only; None afterwards.
      frames: how many brought it.
    """

    data: bytes | memoryview
    total: int | None = None
    frames: int = 1

    @property
    def is_whole(self) -> bool:
        """Whether this is all of an item that came in several frames."""
        return self.frames > 1 and len(self.data) == self.total


class Assembly:
    """An item under way. It never holds more than what has arrived, whatever was announced.

    Args:
      first: the first part.
      total: the length that was announced.

    Raises:
      RemoteProtocolError: the first part holds the whole item already; then it should not have been cut.
    """

    __slots__ = ("_parts", "left")

    def __init__(self, first: bytes | memoryview, total: int) -> None:
        if len(first) >= total:
            raise RemoteProtocolError(
                f"the first piece of {len(first)} bytes holds all of an item announced with {total}",
                field="piece",
                size=len(first),
                limit=total,
            )
        self.left: int = total - len(first)
        self._parts: list[bytes | bytearray | memoryview] = [first]

    def add(self, data: bytes | memoryview) -> bytes | None:
        """Take a further part.

        Returns:
          The item when this part completes it.

        Raises:
          RemoteProtocolError: the parts are longer together than what was announced.
        """
        if len(data) > self.left:
            raise RemoteProtocolError(
                f"the pieces of an item are {len(data) - self.left} bytes longer than announced",
                field="piece",
                size=len(data),
                limit=self.left,
            )
        self.left -= len(data)
        parts = self._parts
        if len(data) >= _SMALL_BYTES:
            parts.append(data)
        elif isinstance(parts[-1], bytearray):
            parts[-1] += data
        else:
            parts.append(bytearray(data))
        return None if self.left else b"".join(parts)
