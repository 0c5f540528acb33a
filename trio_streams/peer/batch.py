"""Small items that travel together: one item on the wire for many of the stream's."""

from __future__ import annotations

import attrs

from trio_streams.config import positive

__all__ = ["BatchOptions", "Batcher"]


@attrs.frozen(kw_only=True)
class BatchOptions:
    """When a batch leaves: at the first of the three.

    Attributes:
      max_items: items in it.
      max_bytes: their bytes, with one more for each; an item that alone is larger travels alone.
      max_delay: seconds that its first item has waited; 0 for no wait, so that only what is there at once is joined.
    """

    max_items: int = attrs.field(default=64, validator=positive)
    max_bytes: int = attrs.field(default=16_384, validator=positive)
    max_delay: float = attrs.field(default=0.001, validator=attrs.validators.ge(0))


class Batcher:
    """Collects payloads of JSON and joins them, a line each.

    JSON as we write it has no line breaks, so the lines are what was put in (https://github.com/ndjson/ndjson-spec).

    Args:
      options: when a batch is full or late.
    """

    __slots__ = ("_lines", "_options", "_size", "deadline")

    def __init__(self, options: BatchOptions) -> None:
        self._options = options
        self._lines: list[bytes] = []
        self._size = 0
        self.deadline: float | None = None

    def __len__(self) -> int:
        return len(self._lines)

    def fits(self, payload: bytes) -> bool:
        """Whether a payload may join those that wait; into an empty batch anything may."""
        return not self._lines or self._size + len(payload) + 1 <= self._options.max_bytes

    def add(self, payload: bytes, now: float) -> bool:
        """Take a payload that fits.

        Args:
          payload: one item.
          now: seconds; the first item sets the batch's `deadline` by it.

        Returns:
          Whether the batch is full.
        """
        if not self._lines:
            self.deadline = now + self._options.max_delay
        self._lines.append(payload)
        self._size += len(payload) + 1
        return len(self._lines) >= self._options.max_items or self._size >= self._options.max_bytes

    def take(self) -> bytes:
        """The batch as one payload; the next one begins empty."""
        joined = b"\n".join(self._lines)
        self._lines, self._size, self.deadline = [], 0, None
        return joined
