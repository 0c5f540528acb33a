"""What the benchmarks ask a server to do, and what it sends then; both sides import this."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Iterator, Mapping
from itertools import repeat
from time import perf_counter_ns
from typing import Final, Self

import attrs
import trio

__all__ = ["PREFIX", "REQUEST", "Item", "Work", "payload_stamp"]

REQUEST: Final = struct.Struct(">IId")
PREFIX: Final = struct.Struct(">I")  # the length before each item of the bare baselines

_STAMP_BYTES: Final = 8


@attrs.frozen
class Item:
    """What procedures send: 16 bytes as JSON with a small number and no padding.

    Attributes:
      n: when it was sent, in the nanoseconds of `perf_counter_ns`, which on Linux all processes share; 0 for no stamp.
      p: makes it longer.
    """

    n: int
    p: str = ""


@attrs.frozen
class Work:
    """A run of items for one stream.

    Attributes:
      count: how many items.
      size: bytes of each payload.
      interval: seconds between items, each stamped when it is sent; 0 for as fast as it goes, without stamps.
    """

    count: int
    size: int = 16
    interval: float = 0.0

    @property
    def metadata(self) -> Mapping[str, str]:
        return {"count": str(self.count), "size": str(self.size), "interval": str(self.interval)}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> Self:
        return cls(int(metadata["count"]), int(metadata["size"]), float(metadata["interval"]))

    def payloads(self) -> Iterator[bytes]:
        """One payload again and again: making payloads is not what is measured."""
        return repeat(bytes(self.size), self.count)

    def item(self) -> Item:
        """The item whose JSON has `size` bytes, or 16 where that is less than it takes."""
        return Item(0, "x" * max(0, self.size - 14))

    async def stamped(self) -> AsyncIterator[bytes]:
        """Payloads that say when they were made, one at a time."""
        pad = bytes(self.size - _STAMP_BYTES)
        for _ in range(self.count):
            await trio.sleep(self.interval)
            yield perf_counter_ns().to_bytes(_STAMP_BYTES, "big") + pad

    async def stamped_items(self) -> AsyncIterator[Item]:
        """Items that say when they were made, one at a time."""
        pad = self.item().p
        for _ in range(self.count):
            await trio.sleep(self.interval)
            yield Item(perf_counter_ns(), pad)


def payload_stamp(payload: bytes) -> int:
    """When a payload was sent."""
    return int.from_bytes(payload[:_STAMP_BYTES], "big")
