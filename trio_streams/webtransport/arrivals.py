"""What a session hands out one after the other, and how a loop over it ends."""

from __future__ import annotations

import abc
from collections.abc import AsyncIterator
from typing import Self, TypeVar

import trio

from trio_streams.streams.pace import Pace
from trio_streams.streams.parking import Parking
from trio_streams.webtransport.errors import SessionClosed
from trio_streams.webtransport.stream_half import OverCause

__all__ = ["Arrivals"]

T = TypeVar("T")


class Arrivals(Parking, AsyncIterator[T], abc.ABC):
    """What has arrived and waits for somebody to take it, until the session is over."""

    __slots__ = ("_is_clean", "_over", "_pace")

    def __init__(self) -> None:
        super().__init__()
        self._pace = Pace()
        self._is_clean = False
        self._over: OverCause | None = None

    def finish(self, over: OverCause, *, is_clean: bool) -> None:
        """No more will come; whether that is no error for a loop."""
        self._over, self._is_clean = over, is_clean
        self._wake()

    @abc.abstractmethod
    async def take(self) -> T:
        """Take the first one. Cancellation: atomic."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        """Take the first one; a clean end of the session finishes the loop. Cancellation: atomic."""
        try:
            return await self.take()
        except (SessionClosed, trio.ClosedResourceError):
            if self._is_clean:
                raise StopAsyncIteration from None
            raise

    async def _wait_more(self) -> None:
        if self._over is not None:
            raise self._over()
        await self._park()
        self._pace.restart()
