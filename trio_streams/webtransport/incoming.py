"""Streams of a session that nobody has yet: those that the peer opened, and those that we want to open."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import trio

from trio_streams.streams.pace import Pace
from trio_streams.streams.parking import Parking
from trio_streams.webtransport.arrivals import Arrivals
from trio_streams.webtransport.stream_half import OverCause
from trio_streams.webtransport.streams import WebTransportReceiveStream, WebTransportStream

if TYPE_CHECKING:
    from trio_streams.webtransport.link import Link

__all__ = ["Incoming", "Opening"]

StreamIn: TypeAlias = WebTransportStream | WebTransportReceiveStream
StreamT = TypeVar("StreamT", WebTransportStream, WebTransportReceiveStream)


class Incoming(Arrivals[StreamIn]):
    """The peer's streams in the order in which they came; QUIC's limits of streams are their bound.

    A stream that nobody has taken is not released, whatever the peer does to it: else a peer could open and reset streams
    without end. When the session is over, those that are here can still be taken.
    """

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        super().__init__()
        self._waiting: deque[StreamIn] = deque()

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def push(self, stream: StreamIn) -> None:
        """Put a stream at the end."""
        self._waiting.append(stream)
        self._wake()

    def clear(self) -> list[StreamIn]:
        """Take all that wait."""
        waiting = list(self._waiting)
        self._waiting.clear()
        return waiting

    async def take(self) -> StreamIn:
        """Take the first one; the schedule point is amortised. Cancellation: atomic."""
        await self._pace.step()
        while not self._waiting:
            await self._wait_more()
        stream = self._waiting.popleft()
        stream.note_taken()
        return stream

    async def take_one_of(self, kind: type[StreamT]) -> StreamT:
        """Take the first one of a kind. Cancellation: atomic."""
        await trio.lowlevel.checkpoint()
        while True:
            for index, stream in enumerate(self._waiting):
                if isinstance(stream, kind):
                    del self._waiting[index]
                    stream.note_taken()
                    return stream
            await self._wait_more()


class Opening(Parking):
    """Opens streams of one kind, and has those who have to wait for it wait in line.

    Args:
      link: the connection.
      session_id: whose streams.
      is_unidirectional: which kind.
    """

    __slots__ = ("_is_unidirectional", "_link", "_over", "_pace", "_session_id", "_turn")

    def __init__(self, link: Link, session_id: int, *, is_unidirectional: bool) -> None:
        super().__init__()
        self._link = link
        self._session_id = session_id
        self._is_unidirectional = is_unidirectional
        self._over: OverCause | None = None
        self._pace = Pace()
        self._turn: trio.StrictFIFOLock | None = None

    async def open(self, priority: int) -> int:
        """Open a stream, waiting until the peer allows it; first come, first served. The schedule point is amortised.

        Returns:
          Its id.

        Cancellation: nothing was opened.
        """
        await self._pace.step()
        if self._turn is None or not self._turn.locked():
            stream_id = self._try_open(priority)
            if stream_id is not None:
                return stream_id
        if self._turn is None:
            self._turn = trio.StrictFIFOLock()
        async with self._turn:
            while (stream_id := self._try_open(priority)) is None:
                await self._park()
            return stream_id

    def _try_open(self, priority: int) -> int | None:
        if self._over is not None:
            raise self._over()
        machine, is_unidirectional = self._link.machine, self._is_unidirectional
        if not machine.can_open(self._session_id, is_unidirectional=is_unidirectional):
            return None
        stream_id = machine.open_stream(self._session_id, is_unidirectional=is_unidirectional, priority=priority)
        self._link.kick()
        return stream_id

    def on_allowed(self) -> None:
        """The peer allows more."""
        self._wake()

    def finish(self, over: OverCause) -> None:
        """No more can be opened."""
        self._over = over
        self._wake()
