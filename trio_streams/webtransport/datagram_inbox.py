"""Datagrams of a session that wait to be received."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Self

import trio

from trio_streams.streams.pace import Pace
from trio_streams.streams.parking import Parking
from trio_streams.webtransport.errors import SessionClosed
from trio_streams.webtransport.protocol.datagrams import DatagramQueue
from trio_streams.webtransport.stream_half import OverCause

if TYPE_CHECKING:
    from trio_streams.webtransport.config import WebTransportConfig

__all__ = ["DatagramInbox"]


class DatagramInbox(Parking, AsyncIterator[bytes]):
    """A queue that drops its oldest where too many wait, and those that have waited too long.

    Args:
      config: its limits.

    Attributes:
      sent_items: datagrams that were sent, which is counted here beside the others.
      received_items: that arrived.
    """

    __slots__ = ("_is_clean", "_over", "_pace", "_queue", "received_items", "sent_items")

    def __init__(self, config: WebTransportConfig) -> None:
        super().__init__()
        self._queue = DatagramQueue(
            max_items=config.max_received_datagrams,
            max_bytes=config.max_received_datagram_bytes,
            max_age=config.max_received_datagram_age,
        )
        self._is_clean = False
        self._pace = Pace()
        self._over: OverCause | None = None
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

    def finish(self, over: OverCause, *, is_clean: bool) -> None:
        """No more will come; whether that is no error for a loop."""
        self._over, self._is_clean = over, is_clean
        self._wake()

    async def take(self) -> bytes:
        """Take the oldest one. The schedule point is amortised, so that echoes leave together. Cancellation: atomic."""
        await self._pace.step()
        while (payload := self._queue.take(trio.current_time())) is None:
            if self._over is not None:
                raise self._over()
            await self._park()
            self._pace.restart()
        return payload

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """Take the oldest one; a clean end of the session finishes the loop. Cancellation: atomic."""
        try:
            return await self.take()
        except (SessionClosed, trio.ClosedResourceError):
            if self._is_clean:
                raise StopAsyncIteration from None
            raise
