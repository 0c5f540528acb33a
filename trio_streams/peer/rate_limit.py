"""A stream's rate: it waits, and never drops."""

from __future__ import annotations

import math

import attrs
import trio

__all__ = ["Pacer", "RateLimit"]

_BURST_SECONDS = 0.005  # sleeping for each item would cost more than fast items do


def _rate(_: object, attribute: attrs.Attribute[float], value: float) -> None:
    if not 0 < value < math.inf:
        raise ValueError(f"{attribute.name} must be more than 0 and finite, not {value!r}")


@attrs.frozen(kw_only=True)
class RateLimit:
    """How fast a stream is sent.

    Attributes:
      items_per_second: on average; items that are due within the same 5 ms may leave together.
    """

    items_per_second: float = attrs.field(validator=_rate)


class Pacer:
    """Keeps one stream to its rate (the virtual scheduling of ITU-T I.371, with a tolerance of 5 ms).

    Args:
      limit: the rate.
    """

    __slots__ = ("_due", "_interval")

    def __init__(self, limit: RateLimit) -> None:
        self._interval = 1 / limit.items_per_second
        self._due = -math.inf

    def delay(self, now: float) -> float:
        """Count an item, and say how many seconds it has to wait.

        Args:
          now: seconds.
        """
        due = max(self._due, now)
        self._due = due + self._interval
        return max(0.0, due - now - _BURST_SECONDS) if self._interval < _BURST_SECONDS else due - now

    async def wait(self) -> None:
        """Wait until the next item may leave.

        Cancellation: the item's place is used up.
        """
        delay = self.delay(trio.current_time())
        if delay > 0:
            await trio.sleep(delay)
