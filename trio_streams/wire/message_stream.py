"""A stream of envelopes: its items are messages, so none is ever cut, and nobody grants credit for them."""

from __future__ import annotations

from typing import Final

from trio_streams.core.flow import ReceiveCredit, SendCredit
from trio_streams.core.stream_machine import Pulled, StreamMachine
from trio_streams.wire.message_limits import MessageLimits

__all__ = ["MAX_FRAME_BYTES", "UNLIMITED", "MessageStream"]

MAX_FRAME_BYTES: Final = 1 << 40
"""An item is never cut: the dialect has no pieces. Its length is bounded by `max_item_bytes`."""

UNLIMITED: Final = 1 << 62
"""A limit that is never reached: the dialect's peers neither grant nor heed credit."""


class MessageStream(StreamMachine):
    """A stream whose items may be larger than a turn of the scheduler.

    Args:
      limits: how much may wait for the carrier.
      priority: higher goes first.
    """

    __slots__ = ()

    def __init__(self, limits: MessageLimits, *, priority: int = 0) -> None:
        super().__init__(
            SendCredit(limits.send_window_items, limits.send_window_bytes),
            ReceiveCredit(UNLIMITED, UNLIMITED),
            priority=priority,
            max_frame_bytes=MAX_FRAME_BYTES,
        )

    def pull(self, max_bytes: int, connection_room: int) -> Pulled | None:
        """The next content; a single item may pass `max_bytes`."""
        if self._queue:
            max_bytes = max(max_bytes, len(self._queue[0]) + 2)
        return super().pull(max_bytes, connection_room)
