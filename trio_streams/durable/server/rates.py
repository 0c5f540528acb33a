"""How often one client may append."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Final

from trio_streams.durable.protocol.refusals import too_many

__all__ = ["AppendRate"]

_MAX_CLIENTS: Final = 10_000


class AppendRate:
    """Buckets of one second's appends, one for each address.

    Args:
      per_second: how many of one client are let through, in the long run and at once.
    """

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._burst = max(1.0, per_second)
        # What is left, and when it was counted; the least recent clients, whose buckets are full again, are dropped.
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allows(self, peer: str, now: float) -> None:
        """Count an append.

        Args:
          peer: `address:port` of the client, all of whose ports count together.
          now: seconds of any clock.

        Raises:
          Refused: 429, with when to come again.
        """
        address = peer.rpartition(":")[0]
        left, counted_at = self._buckets.get(address, (self._burst, now))
        left = min(self._burst, left + (now - counted_at) * self._per_second)
        if left < 1:
            self._buckets[address] = (left, now)
            wait = math.ceil((1 - left) / self._per_second)
            message = f"one client may append {self._per_second:g} times a second"
            raise too_many("max_appends_per_second", int(self._per_second), message, retry_after=max(1, wait))
        self._buckets[address] = (left - 1, now)
        self._buckets.move_to_end(address)
        if len(self._buckets) > _MAX_CLIENTS:
            self._buckets.popitem(last=False)
