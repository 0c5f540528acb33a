"""Streams of a session under one limit: made here, found by their ids, counted, and closed together."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, TypeAlias, TypeVar

import trio

from trio_streams.codes import Code
from trio_streams.webtransport.stats import StreamManagerStats, StreamStats
from trio_streams.webtransport.streams import StreamId, WebTransportSendStream, WebTransportStream

if TYPE_CHECKING:
    from trio_streams.webtransport.session import WebTransportSession

__all__ = ["StreamManager"]

Managed: TypeAlias = WebTransportStream | WebTransportSendStream

T = TypeVar("T", WebTransportStream, WebTransportSendStream)

_COUNTS: Final = ("bytes_sent", "bytes_received", "write_seconds", "read_seconds", "errors")


class StreamManager:
    """Makes streams on a session, no more at once than a limit, and closes them when its block is left.

    Used as ``async with StreamManager(session) as manager:``. It has no task. Streams that the peer opens, and those that are
    made on the session itself, are none of its business.

    Args:
      session: where streams are made; it outlives the manager.
      max_streams: how many may be open at once; one counts until it is closed in both directions.

    Raises:
      ValueError: `max_streams` is less than 1.
    """

    def __init__(self, session: WebTransportSession, *, max_streams: int = 100) -> None:
        if max_streams < 1:
            raise ValueError(f"max_streams must be at least 1, not {max_streams!r}")
        self._session = session
        self._max_streams = max_streams
        self._places = trio.CapacityLimiter(max_streams)
        self._streams: dict[StreamId, Managed] = {}
        # A failure is counted by the operation that meets it, which may come after the stream is over. So the last streams
        # that are over are kept, with nothing in them, until others are.
        self._ended: deque[Managed] = deque()
        self._counts = dict.fromkeys(_COUNTS, 0.0)
        self._opened_streams = 0
        self._creating: set[trio.CancelScope] = set()
        self._is_shut_down = False

    async def __aenter__(self) -> Self:
        """Nothing waits here."""
        self._require_open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leave the block: normally as `shutdown`; cancelled or by an exception as if each stream's own block were."""
        self._shut_down(exc)
        if exc is None:
            await trio.lowlevel.checkpoint()

    async def create_bidirectional_stream(self) -> WebTransportStream:
        """Open a stream for both directions, waiting while `max_streams` are open, and for the peer's credit of streams.

        Whoever came first gets the next place.

        Raises:
          trio.ClosedResourceError: the manager is shut down.
          ConnectionLost: the connection broke, or the session is closed.

        Cancellation: atomic; there is no stream, and the place is free.
        """
        return await self._create(self._session.create_bidirectional_stream)

    async def create_unidirectional_stream(self) -> WebTransportSendStream:
        """Open a stream that we send on; else as `create_bidirectional_stream`."""
        return await self._create(self._session.create_unidirectional_stream)

    def get_stream(self, stream_id: StreamId) -> Managed | None:
        """The stream of this id; None if the manager has none that is open.

        Args:
          stream_id: as `stream.stream_id`.
        """
        return self._streams.get(stream_id)

    def get_stats(self) -> StreamManagerStats:
        """What there is, and what there was. Its size goes with the streams that are open, not with those that were."""
        rows = tuple(_row(stream) for stream in self._streams.values())
        totals = dict(self._counts)
        for row in itertools.chain(rows, map(_row, self._ended)):
            _add(totals, row)
        return StreamManagerStats(
            max_streams=self._max_streams,
            open_streams=len(rows),
            waiting_tasks=self._places.statistics().tasks_waiting,
            opened_streams=self._opened_streams,
            bytes_sent=int(totals["bytes_sent"]),
            bytes_received=int(totals["bytes_received"]),
            write_seconds=totals["write_seconds"],
            read_seconds=totals["read_seconds"],
            errors=int(totals["errors"]),
            streams=rows,
        )

    async def shutdown(self) -> None:
        """Close all streams, and make no more: who waits for a place gets `trio.ClosedResourceError`. Idempotent.

        What was written is still delivered; what is unread is dropped.

        Cancellation: all streams are closed even so.
        """
        self._shut_down(None)
        await trio.lowlevel.checkpoint()

    # -- inside -----------------------------------------------------------------------------------------------

    def _require_open(self) -> None:
        if self._is_shut_down:
            raise trio.ClosedResourceError("can't make a stream: this StreamManager is shut down")

    def _shut_down(self, exc: BaseException | None) -> None:
        """Make no more streams, and leave those that are open as blocks of their own would be."""
        self._is_shut_down = True
        for scope in self._creating:
            scope.cancel()
        for stream in list(self._streams.values()):
            stream.leave(exc)

    async def _create(self, create: Callable[[], Awaitable[T]]) -> T:
        self._require_open()
        place = object()
        with trio.CancelScope() as scope:  # for `shutdown`
            self._creating.add(scope)
            try:
                await self._places.acquire_on_behalf_of(place)
                try:
                    stream = await create()
                except BaseException:
                    self._places.release_on_behalf_of(place)
                    raise
            finally:
                self._creating.discard(scope)
            self._keep(stream, place)
            if self._is_shut_down:  # which came too late to cancel anything
                stream.abort(code=Code.CANCELLED)
                self._require_open()
            return stream
        self._require_open()
        raise AssertionError("nobody else cancels the scope")

    def _keep(self, stream: Managed, place: object) -> None:
        """Count a stream until it is over."""
        self._opened_streams += 1
        self._streams[stream.stream_id] = stream
        stream.call_when_over(partial(self._let_go, stream.stream_id, place))

    def _let_go(self, stream_id: StreamId, place: object) -> None:
        self._ended.append(self._streams.pop(stream_id))
        if len(self._ended) > self._max_streams:
            _add(self._counts, _row(self._ended.popleft()))
        self._places.release_on_behalf_of(place)


def _row(stream: Managed) -> StreamStats:
    return StreamStats(
        stream_id=stream.stream_id,
        state=stream.state,
        bytes_sent=stream.bytes_sent,
        bytes_received=stream.bytes_received if isinstance(stream, WebTransportStream) else 0,
        write_seconds=stream.write_seconds,
        read_seconds=stream.read_seconds if isinstance(stream, WebTransportStream) else 0.0,
        errors=stream.errors,
    )


def _add(totals: dict[str, float], stats: StreamStats) -> None:
    for name in _COUNTS:
        totals[name] += getattr(stats, name)
