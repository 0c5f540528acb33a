"""Datagrams of a session that wait to be received."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
      now: Trio's time for datagrams that come or go; 0 where none of them grows too old, since it is asked for each.
      sent_items: datagrams that were sent, which is counted here beside the others.
      received_items: that arrived.
    """

    __slots__ = ("_queue", "now", "received_items", "sent_items")

    def __init__(self, config: WebTransportConfig) -> None:
        super().__init__()
        self._queue = DatagramQueue(
            max_items=config.max_received_datagrams,
            max_bytes=config.max_received_datagram_bytes,
            max_age=config.max_received_datagram_age,
        )
        ages = config.max_received_datagram_age, config.quic.max_datagram_age
        # `float` is the shortest way to no time at all, and the clock without `trio.current_time` saves two calls.
        self.now: Callable[[], float] = float if ages == (None, None) else trio.lowlevel.current_clock().current_time
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

    def push_run(self, run: Sequence[bytes]) -> None:
        """Some arrived."""
        self.received_items += len(run)
        self._queue.put_run(run, self.now())
        self._wake()

    async def take(self) -> bytes:
        """Take the oldest one. The schedule point is amortised, so that echoes leave together. Cancellation: atomic."""
        if self._pace.is_due():
            await trio.lowlevel.checkpoint()
            self._pace.restart()
        else:
            await trio.lowlevel.checkpoint_if_cancelled()
        queue = self._queue
        while (payload := queue.take(self.now())) is None:
            await self._wait_more()
        return payload
