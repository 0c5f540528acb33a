"""Streams that are open before anybody asks for one, and that are used again.

A pool keeps `pool_size` streams. Those that were taken from it count until they are over, since they are expected back: so
workers that return their streams share the same few for ever, and none is opened in vain. Whoever asks while all are taken
gets a new one even so, which stays if there is room for it when it is returned.

One task opens all streams, and gives each to whoever has waited longest, or else lays it by. So does whoever returns one.
"""

from __future__ import annotations

import contextlib
import weakref
from contextlib import AbstractAsyncContextManager
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Self

import trio

from trio_streams.core.states import StreamState
from trio_streams.errors import LocalProtocolError, StreamsError
from trio_streams.nursery import open_bare_nursery
from trio_streams.webtransport.streams import StreamId, WebTransportStream

if TYPE_CHECKING:
    from trio_streams.webtransport.session import WebTransportSession

__all__ = ["StreamPool"]


class StreamPool:
    """Bidirectional streams of a session, opened ahead and used again.

    Used as ``async with StreamPool(session) as pool:``. Leaving the block is `close_all`.

    Args:
      session: where streams are opened; it outlives the pool.
      pool_size: how many idle streams are kept at most. They count against the peer's limit of streams.

    Raises:
      ValueError: `pool_size` is less than 1.
    """

    def __init__(self, session: WebTransportSession, *, pool_size: int = 10) -> None:
        if pool_size < 1:
            raise ValueError(f"pool_size must be at least 1, not {pool_size!r}")
        self._session = session
        self._pool_size = pool_size
        self._nursery: AbstractAsyncContextManager[trio.Nursery, bool | None] | None = None
        self._opening = trio.CancelScope()
        self._changed = trio.Event()
        self._is_closed = False
        self._idle: dict[StreamId, WebTransportStream] = {}
        self._expected: set[StreamId] = set()  # those that are taken, and not over
        self._taken: weakref.WeakSet[WebTransportStream] = weakref.WeakSet()  # those that may be returned, over or not
        # Without a buffer: it gives a stream to whoever has waited longest, and loses none to a cancellation.
        self._giver, self._taker = trio.open_memory_channel[WebTransportStream](0)

    async def __aenter__(self) -> Self:
        """Begin to open streams; nothing waits here.

        Raises:
          LocalProtocolError: the pool has, or had, a block.
        """
        if self._nursery is not None:
            raise LocalProtocolError("can't enter the block of a StreamPool twice")
        self._nursery = open_bare_nursery()
        nursery = await self._nursery.__aenter__()
        nursery.start_soon(self._keep_filled)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        """Leave the block: `close_all`, however it is left. Streams that are taken are their takers' business."""
        assert self._nursery is not None
        self._shut()
        return await self._nursery.__aexit__(kind, exc, traceback)

    async def get_stream(self, *, timeout: float | None = None) -> WebTransportStream:
        """Take a stream; if none is idle, the next that is opened or returned. Whoever has waited longest gets it.

        Args:
          timeout: seconds to wait for the peer's credit of streams, or for a returned stream; None for no limit.

        Raises:
          LocalProtocolError: the pool's block was not entered.
          ValueError: `timeout` is less than 0.
          trio.ClosedResourceError: the pool is closed.
          trio.TooSlowError: the time has passed.
          ConnectionLost: the connection broke, or the session is closed.

        Cancellation: atomic; no stream was taken.
        """
        if timeout is not None and not timeout >= 0:
            raise ValueError(f"timeout must be at least 0, not {timeout!r}")
        await trio.lowlevel.checkpoint()
        self._require_open()
        stream = self._find_idle()
        if stream is None:
            with contextlib.nullcontext() if timeout is None else trio.fail_after(timeout):
                return await self._wait_for_stream()
        self._hand_out(stream)
        return stream

    async def return_stream(self, stream: WebTransportStream) -> None:
        """Give a stream back. It is kept if both of its halves are open, nothing of it is unread, and there is room; else closed.

        What the two sides say to each other on a stream is theirs to keep apart: one that is left in the middle of a message
        is better closed than returned, which its pool takes for granted.

        Args:
          stream: from `get_stream`, and not returned since.

        Raises:
          LocalProtocolError: it was returned already, or is none of this pool's.
          trio.ClosedResourceError: the pool is closed; so is the stream now.

        Cancellation: the stream is returned even so.
        """
        if stream not in self._taken:
            why = "it was returned already" if stream.stream_id in self._idle else "it was not taken from this pool"
            raise LocalProtocolError(f"can't return stream {stream.stream_id}: {why}")
        self._taken.discard(stream)
        self._expected.discard(stream.stream_id)
        self._give(stream)
        self._changed.set()
        self._require_open()
        await trio.lowlevel.checkpoint()

    async def close_all(self) -> None:
        """Close all idle streams, and give out none any more: who waits for one gets `trio.ClosedResourceError`. Idempotent.

        Streams that are taken stay as they are.

        Cancellation: the pool is closed even so.
        """
        self._shut()
        await trio.lowlevel.checkpoint()

    # -- inside -----------------------------------------------------------------------------------------------

    def _require_open(self) -> None:
        if self._is_closed:
            raise trio.ClosedResourceError("this StreamPool is closed")
        if self._nursery is None:
            raise LocalProtocolError("can't use a StreamPool outside its block")

    def _shut(self) -> None:
        self._is_closed = True
        self._opening.cancel()
        self._giver.close()
        for stream in list(self._idle.values()):
            stream.leave(None)
        self._idle.clear()

    async def _keep_filled(self) -> None:
        """Open streams whenever some are missing. What makes it impossible is for those to hear who ask for one."""
        with self._opening, self._giver, contextlib.suppress(StreamsError, trio.ClosedResourceError):
            while True:
                while self._lacks_some():
                    self._give(self._adopt(await self._session.create_bidirectional_stream()))
                self._changed = trio.Event()
                await self._changed.wait()

    def _lacks_some(self) -> bool:
        is_awaited = self._taker.statistics().tasks_waiting_receive > 0
        return is_awaited or len(self._idle) + len(self._expected) < self._pool_size

    def _adopt(self, stream: WebTransportStream) -> WebTransportStream:
        stream.call_when_over(partial(self._forget, stream.stream_id))
        return stream

    def _forget(self, stream_id: StreamId) -> None:
        """A stream is over."""
        self._idle.pop(stream_id, None)
        self._expected.discard(stream_id)
        self._changed.set()

    def _give(self, stream: WebTransportStream) -> None:
        """Let a stream be used, now or later; one that can't be is closed."""
        if self._is_closed or not _is_usable(stream):
            stream.leave(None)
            return
        try:
            self._giver.send_nowait(stream)
        except (trio.WouldBlock, trio.ClosedResourceError):
            if len(self._idle) < self._pool_size:
                self._idle[stream.stream_id] = stream
            else:
                stream.leave(None)
        else:
            self._hand_out(stream)

    def _find_idle(self) -> WebTransportStream | None:
        """The stream that was idle for the shortest time. Those on which the peer has said something are of no use."""
        while self._idle:
            _, stream = self._idle.popitem()
            if _is_usable(stream):
                return stream
            stream.leave(None)
        return None

    async def _wait_for_stream(self) -> WebTransportStream:
        while True:
            self._changed.set()  # the task that opens streams looks who waits
            try:
                stream = await self._taker.receive()
            except trio.EndOfChannel:
                self._require_open()
                stream = self._adopt(await self._session.create_bidirectional_stream())  # or learn why that can't be
                self._hand_out(stream)
                return stream
            if _is_usable(stream):
                return stream
            stream.leave(None)

    def _hand_out(self, stream: WebTransportStream) -> None:
        self._taken.add(stream)
        self._expected.add(stream.stream_id)
        self._changed.set()


def _is_usable(stream: WebTransportStream) -> bool:
    return stream.state is StreamState.OPEN and not stream.unread_bytes
