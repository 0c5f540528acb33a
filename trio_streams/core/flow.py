"""Credit: absolute limits that only grow (RFC 9000 §4.1), moved by consumption, never by receipt.

Two dimensions are counted together, items and bytes (an item costs its length plus 64). A sender may start an item
while it has an item left and its byte count is *below* the limit; the item that crosses the byte limit is charged in
full and taken. So an item larger than the window can pass, and the overshoot is at most one item.
"""

from __future__ import annotations

from collections.abc import Sequence

from trio_streams.codes import Code
from trio_streams.config import ITEM_OVERHEAD_BYTES
from trio_streams.core.errors import FlowControlError

__all__ = ["ReceiveCredit", "SendCredit", "cost"]


def cost(items: Sequence[bytes]) -> int:
    """What a run costs in credit, in bytes."""
    return sum(map(len, items)) + ITEM_OVERHEAD_BYTES * len(items)


class SendCredit:
    """How much we may send.

    Attributes:
      items, bytes: what was sent since the start.
      item_limit, byte_limit: what may have been sent since the start.
    """

    __slots__ = ("byte_limit", "bytes", "item_limit", "items")

    def __init__(self, item_limit: int, byte_limit: int) -> None:
        self.items: int = 0
        self.bytes: int = 0
        self.item_limit: int = item_limit
        self.byte_limit: int = byte_limit

    @property
    def is_open(self) -> bool:
        """Whether at least one more item may start."""
        return self.items < self.item_limit and self.bytes < self.byte_limit

    def raise_limits(self, items: int, bytes_: int) -> bool:
        """Take a grant. Limits never shrink: a smaller one is an older one that was overtaken.

        Returns:
          Whether anything grew.
        """
        grew = False
        if items > self.item_limit:
            self.item_limit = items
            grew = True
        if bytes_ > self.byte_limit:
            self.byte_limit = bytes_
            grew = True
        return grew


class ReceiveCredit:
    """How much the peer may send us.

    A grant is due when a quarter of a window was consumed: often enough to keep a fast sender going, seldom enough
    not to answer each item. Where consumption is out of order (a connection's bytes: one stream may hold most of
    them unread) that rule alone could starve the others, so an `eager` credit also grants when less than a quarter
    is left.

    Args:
      window_items: items granted beyond what was consumed.
      window_bytes: bytes granted beyond what was consumed.
      eager: whether to grant early when little is left.
      name: what holds the credit, for errors.
    """

    __slots__ = (
        "_eager",
        "_name",
        "byte_limit",
        "bytes",
        "consumed_bytes",
        "consumed_items",
        "item_limit",
        "items",
        "window_bytes",
        "window_items",
    )

    def __init__(self, window_items: int, window_bytes: int, *, eager: bool = False, name: str = "stream") -> None:
        self.window_items: int = window_items
        self.window_bytes: int = window_bytes
        self.item_limit: int = window_items
        self.byte_limit: int = window_bytes
        self.items: int = 0
        self.bytes: int = 0
        self.consumed_items: int = 0
        self.consumed_bytes: int = 0
        self._eager = eager
        self._name = name

    def receive(self, items: int, bytes_: int, last: int) -> None:
        """Charge what arrived.

        Args:
          items: how many.
          bytes_: what they cost together.
          last: what the last of them costs: it alone may cross the byte limit.

        Raises:
          FlowControlError: the peer had no credit for it; nothing was charged.
        """
        if self.items + items > self.item_limit:
            raise self._violation("window_items", self.items + items, self.item_limit)
        self.receive_bytes(bytes_, last)
        self.items += items

    def receive_bytes(self, bytes_: int, last: int) -> None:
        """Charge what arrived by its bytes alone: what a connection's credit counts.

        Args:
          bytes_: what the items cost together.
          last: what the last of them costs: it alone may cross the limit.

        Raises:
          FlowControlError: the peer had no credit for it; nothing was charged.
        """
        if self.bytes + bytes_ - last >= self.byte_limit:
            field = "window_bytes" if self._name == "stream" else f"{self._name}_window_bytes"
            raise self._violation(field, self.bytes + bytes_, self.byte_limit)
        self.bytes += bytes_

    def _violation(self, field: str, size: int, limit: int) -> FlowControlError:
        return FlowControlError(
            f"the peer sent {size} on a {self._name} whose {field} limit is {limit}",
            code=Code.FLOW_CONTROL_ERROR,
            field=field,
            size=size,
            limit=limit,
        )

    def consume(self, items: int, bytes_: int) -> bool:
        """Count what the application took.

        Returns:
          Whether a grant is due.
        """
        self.consumed_items += items
        self.consumed_bytes += bytes_
        return self.is_due

    @property
    def is_due(self) -> bool:
        """Whether the peer should be told of new limits now."""
        items = self.consumed_items + self.window_items - self.item_limit
        bytes_ = self.consumed_bytes + self.window_bytes - self.byte_limit
        if items * 4 >= self.window_items > 0 and items > 0:
            return True
        if bytes_ * 4 >= self.window_bytes:
            return True
        return self._eager and bytes_ > 0 and (self.byte_limit - self.bytes) * 4 < self.window_bytes

    def grant(self) -> tuple[int, int]:
        """Raise the limits to what consumption allows.

        Returns:
          The new item and byte limits, absolute.
        """
        self.item_limit = self.consumed_items + self.window_items
        self.byte_limit = self.consumed_bytes + self.window_bytes
        return self.item_limit, self.byte_limit

    @property
    def unconsumed_bytes(self) -> int:
        """What arrived and was not yet taken, at its cost."""
        return self.bytes - self.consumed_bytes
