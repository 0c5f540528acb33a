"""How large packets may be on a path: begin with what every path carries, and go up when a probe was acknowledged.

A search in the sense of RFC 8899, with a short ladder in place of a binary search: the sizes that networks really have. A probe
carries nothing, so its loss costs nothing, and it is tried a few times, since paths lose packets for other reasons, too. When
packets of a size that was found vanish without a trace, the path has changed, and the search begins anew from below.
"""

from __future__ import annotations

from typing import Final

__all__ = ["MIN_PACKET_BYTES", "PacketSizeSearch"]

MIN_PACKET_BYTES: Final = 1_200
"""What every path of QUIC carries (RFC 9000 §14)."""

_LADDER: Final = (1_372, 1_232)
"""What to try below the largest: what a common tunnel leaves of an Ethernet frame, and IPv6's least."""

_TRIES: Final = 3


class PacketSizeSearch:
    """The search on one connection.

    Args:
      max_bytes: the largest UDP payload to try.

    Attributes:
      size_bytes: what is known to pass.
    """

    def __init__(self, max_bytes: int) -> None:
        self.size_bytes: int = MIN_PACKET_BYTES
        self._max_bytes = max_bytes
        self._tries = 0
        self._under_way: int | None = None
        self._left: list[int] = []
        self.restart()

    def limit(self, max_bytes: int) -> None:
        """Note what the peer takes at most."""
        self._max_bytes = min(self._max_bytes, max_bytes)
        self.restart()

    def restart(self) -> None:
        """Begin again from below: the path is another one."""
        self.size_bytes = MIN_PACKET_BYTES
        self._tries = 0
        self._under_way = None
        candidates = (self._max_bytes, *(size for size in _LADDER if size < self._max_bytes))
        self._left = [size for size in candidates if size > MIN_PACKET_BYTES]

    def next_probe(self) -> int | None:
        """The size to probe now; None while one is under way, and when nothing is left to find."""
        if self._under_way is not None or not self._left:
            return None
        self._tries += 1
        self._under_way = self._left[0]
        return self._under_way

    def on_acknowledged(self, size_bytes: int) -> None:
        """A probe arrived: sizes below it need no probe any more."""
        if size_bytes == self._under_way:
            self._under_way = None
            self._left = []
            self.size_bytes = size_bytes

    def on_lost(self, size_bytes: int) -> None:
        """A probe did not arrive: try again, or the next size."""
        if size_bytes != self._under_way:
            return
        self._under_way = None
        if self._tries >= _TRIES:
            self._tries = 0
            del self._left[0]
