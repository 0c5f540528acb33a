"""A receive half seen through a function: the same items, decoded where they are taken."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import trio

from trio_streams.codes import Code
from trio_streams.errors import StreamsError
from trio_streams.streams.abc import ReceiveStream, StreamStatistics
from trio_streams.streams.pace import BATCH_ITEMS

__all__ = ["MappedReceiveStream"]

T = TypeVar("T")
R = TypeVar("R")


class MappedReceiveStream(ReceiveStream[R], Generic[T, R]):
    """Applies a function to each item of a source as it is taken.

    Args:
      source: gives the items; this stream takes its place, and closes it.
      decode: an item of the source to one of this stream; what it raises reaches the caller, and the item is gone.
      find_failure: what really ended the source, if its clean end was not the truth.
    """

    __slots__ = ("_decode", "_find_failure", "_source", "_undecoded")

    def __init__(
        self,
        source: ReceiveStream[T],
        decode: Callable[[T], R],
        find_failure: Callable[[], Exception | None] = lambda: None,
    ) -> None:
        self._source = source
        self._decode = decode
        self._find_failure = find_failure
        self._undecoded: Exception | None = None

    async def receive(self) -> R:
        """Take the next item; see `ReceiveStream.receive`."""
        if self._undecoded is not None:
            await trio.lowlevel.checkpoint_if_cancelled()
            self._raise_undecoded()
        try:
            item = await self._source.receive()
        except trio.EndOfChannel:
            self._raise_failure()
            raise
        return self._decode(item)

    def receive_nowait(self) -> R:
        """Take the next item if there is one; see `ReceiveStream.receive_nowait`."""
        self._raise_undecoded()
        try:
            item = self._source.receive_nowait()
        except trio.EndOfChannel:
            self._raise_failure()
            raise
        return self._decode(item)

    async def receive_many(self, max_items: int = BATCH_ITEMS) -> list[R]:
        """Take what is there; see `ReceiveStream.receive_many`.

        Raises:
          Exception: what `decode` raised for the first item; for a later one the next call raises it.
        """
        if self._undecoded is not None:
            await trio.lowlevel.checkpoint_if_cancelled()
            self._raise_undecoded()
        if max_items < 1:
            raise ValueError(f"max_items must be at least 1, not {max_items!r}")
        items = [await self.receive()]
        while len(items) < max_items:
            try:
                item = self._source.receive_nowait()
            except (trio.WouldBlock, trio.EndOfChannel, trio.ClosedResourceError, StreamsError):
                break  # sticky, or nothing at all: see abc.py
            try:
                items.append(self._decode(item))
            except Exception as exc:  # noqa: BLE001 - the next call raises it
                self._undecoded = exc
                break
        return items

    def _raise_undecoded(self) -> None:
        failure, self._undecoded = self._undecoded, None
        if failure is not None:
            raise failure

    def _raise_failure(self) -> None:
        failure = self._find_failure()
        if failure is not None:
            raise failure

    def stop(self, code: Code = Code.OK, reason: str = "") -> None:
        """Refuse more; see `ReceiveStream.stop`."""
        self._source.stop(code, reason)

    async def aclose(self) -> None:
        """Let go of the source; see `ReceiveStream.aclose`."""
        await self._source.aclose()

    def statistics(self) -> StreamStatistics:
        """A snapshot of the source."""
        return self._source.statistics()
