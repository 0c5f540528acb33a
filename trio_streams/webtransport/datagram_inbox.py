"""Datagrams of a session that wait to be received."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from trio_streams.webtransport.arrivals import Arrivals
from trio_streams.webtransport.protocol.datagrams import DatagramQueue

if TYPE_CHECKING:
    from trio_streams.webtransport.config import WebTransportConfig

__all__ = ["DatagramInbox"]


class DatagramInbox(Arrivals[bytes]):
    """A queue that drops its oldest where too many wait, and those that have waited too long.

    Args:
      config: its limits.

    Attributes:
      sent_items: datagrams that were sent, which is counted here beside the others.
      received_items: that arrived.
    """

    __slots__ = ("_queue", "received_items", "sent_items")

    def __init__(self, config: WebTransportConfig) -> None:
        super().__init__()
        self._queue = DatagramQueue(
            max_items=config.max_received_datagrams,
            max_bytes=config.max_received_datagram_bytes,
            max_age=config.max_received_datagram_age,
        )
        self.sent_items: int = 0
        self.received_items: int = 0

    @property
    def dropped_items(self) -> int:
        """How many were dropped because too many waited."""
        return self._queue.dropped_items

    @property
    def expired_items(self) -> int:
        """How many were dropped because they waited too long."""
        return self._queue.expired_items

    def push(self, payload: bytes) -> None:
        """One arrived."""
        self.received_items += 1
        self._queue.put(payload, trio.current_time())
        self._wake()

    async def take(self) -> bytes:
        """Take the oldest one. The schedule point is amortised, so that echoes leave together. Cancellation: atomic."""
        await self._pace.step()
        while (payload := self._queue.take(trio.current_time())) is None:
            await self._wait_more()
        return payload
