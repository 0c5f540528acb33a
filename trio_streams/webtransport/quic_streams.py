"""The streams of a QUIC connection: who may send more to us, and when a stream is over."""

from __future__ import annotations

from aioquic.quic import events as stock

from trio_streams.core.errors import LocalProtocolError
from trio_streams.webtransport import quic_events
from trio_streams.webtransport.quic_config import QuicLimits
from trio_streams.webtransport.quic_connection import TunedConnection
from trio_streams.webtransport.quic_sending import QuicSending
from trio_streams.webtransport.quic_stream import StreamHalves

__all__ = ["QuicStreams"]


class QuicStreams(QuicSending):
    """What a connection does with streams. `Quic` is the whole.

    Args:
      connection: aioquic's, tuned.
      limits: what it may hold.
    """

    def __init__(self, connection: TunedConnection, limits: QuicLimits) -> None:
        super().__init__(connection, limits)
        self._consumed_bytes = 0
        self._stream_limits = connection._bidirectional, connection._unidirectional  # noqa: SLF001 - ours, of the file below
        self._runs: dict[int, quic_events.StreamDataReceived] = {}  # those that were not taken, and still grow

    @property
    def stream_count(self) -> int:
        """Streams that are known: not yet released, or not yet over on the wire."""
        return len(self._streams)

    def streams_available(self, *, unidirectional: bool = False) -> int:
        """How many streams may be opened now."""
        return max(0, self._connection.free_streams(unidirectional=unidirectional))

    def open_stream(self, *, unidirectional: bool = False) -> int:
        """Open a stream. The peer learns of it with its first byte or its end.

        Returns:
          Its id.

        Raises:
          LocalProtocolError: the peer allows no more for now; `StreamsAllowed` says when.
        """
        if self._connection.free_streams(unidirectional=unidirectional) < 1:
            kind = "unidirectional" if unidirectional else "bidirectional"
            limit = self._connection.allowed_streams[unidirectional]
            raise LocalProtocolError(
                f"can't open a {kind} stream: the peer allows {limit}", field=f"max_{kind}_streams", limit=limit
            )
        stream = self._connection.open(unidirectional=unidirectional)
        halves = StreamHalves(stream, self._connection, self._limits.window_bytes)
        stream_id = halves.stream.stream_id
        assert stream_id is not None
        self._streams[stream_id] = halves
        return stream_id

    def stop(self, stream_id: int, code: int) -> None:
        """Refuse more of the peer's half: what is unread and what still comes is dropped, and its credit goes back.

        Args:
          stream_id: the stream. One whose half is over is no matter.
          code: why, in the application's terms.
        """
        halves = self._known(stream_id)
        if not halves.has_peer_half:
            raise LocalProtocolError(f"can't stop stream {stream_id}: the peer has no half of it", field="stream_id")
        self._stop_unfinished(stream_id, halves, code)
        self._refuse(stream_id, halves)

    def release(self, stream_id: int, code: int = 0) -> None:
        """Be done with a stream: each one that was opened, by whom ever, is released once, and then no event names it.

        What is unread is dropped, and its credit goes back; a half of the peer's that has no end yet is stopped, or its
        sender would wait for ever. Our half is not touched: what it took still leaves. The peer may open another stream when
        this one is over on the wire, so our half is to be ended or reset before.

        Args:
          stream_id: the stream.
          code: why the peer's half is stopped, if it is.
        """
        halves = self._known(stream_id)
        halves.is_released = True
        self._starved.discard(stream_id)
        if halves.has_peer_half:
            self._stop_unfinished(stream_id, halves, code)
        self._refuse(stream_id, halves)
        if halves.is_closed:
            self._forget(stream_id)

    def consumed(self, stream_id: int, size: int) -> None:
        """Let the peer send as much more, on the stream and on the connection. Limits travel at half a window.

        Args:
          stream_id: the stream. One that was reset, stopped or released is no matter: its credit went back then.
          size: bytes that the reader took.

        Raises:
          LocalProtocolError: that is more than has arrived.
        """
        halves = self._streams.get(stream_id)
        if halves is None or halves.is_refusing:
            return
        if not 0 <= size <= halves.unread_bytes:
            raise LocalProtocolError(
                f"can't consume {size} bytes of stream {stream_id}: {halves.unread_bytes} are unread",
                field="size",
                size=size,
                limit=halves.unread_bytes,
            )
        halves.consume(size)
        self._consumed_bytes += size

    def unread_bytes(self, stream_id: int) -> int:
        """What arrived in order on a stream and was not consumed."""
        return self._known(stream_id).unread_bytes

    # What the machine keeps.

    def _stop_unfinished(self, stream_id: int, halves: StreamHalves, code: int) -> None:
        if not halves.is_refusing and not halves.stream.receiver.is_finished:
            self._connection.stop_stream(stream_id, code)
            self._connection.wake(halves.stream)

    def _refuse(self, stream_id: int, halves: StreamHalves) -> None:
        halves.is_refusing = True
        self._consumed_bytes += halves.settle()
        run = self._runs.pop(stream_id, None)
        if run is not None:
            if run.is_ended:  # nobody will hear of the end but by this
                self._discarded(halves, is_ended=True)
            run.run, run.is_ended = [], False

    @property
    def wants_flush(self) -> bool:
        """Whether the next flush has something to say beside acknowledgements and datagrams: bytes, ends, limits."""
        return bool(self._scheduler) or self._connection.has_frames or self._due_credit() > 0

    def _due_credit(self) -> int:
        """What the connection's limit is to be raised by: half a window at once, and all while less than a quarter is left.

        Consumption is out of order here: streams that nobody reads may hold more than half of the window for ever, and then
        the first rule alone would never let the others go on.
        """
        limit, window = self._connection.data_limit, self._limits.connection_window_bytes
        growth = self._consumed_bytes + window - limit.value
        is_due = growth * 2 >= window or (growth > 0 and (limit.value - limit.used) * 4 < window)
        return growth if is_due else 0

    def _forget(self, stream_id: int) -> None:
        del self._streams[stream_id]
        if not self._connection.is_ours(stream_id):
            self._connection.grant_stream_place(stream_id)

    def _note_closed(self) -> bool:
        """Forget what is over; whether that gives the peer places that it is to hear of at once.

        aioquic tells of them when they are more than the peer has left; a flush for less would find nothing to send.
        """
        closed = self._connection.table.closed
        if not closed:
            return False
        for stream_id in closed:
            halves = self._streams.get(stream_id)
            if halves is not None:
                halves.is_closed = True
                if halves.is_released:
                    self._forget(stream_id)
        closed.clear()
        return any(limit.is_due for limit in self._stream_limits)

    def _halves(self, stream_id: int) -> StreamHalves:
        halves = self._streams.get(stream_id)
        if halves is None:
            stream = self._connection.table[stream_id]
            halves = self._streams[stream_id] = StreamHalves(stream, self._connection, self._limits.window_bytes)
        return halves

    def _on_data(self, event: stock.StreamDataReceived) -> None:
        stream_id = event.stream_id
        halves = self._halves(stream_id)
        if event.end_stream:
            halves.stop_granting()
            if halves.is_finished:
                self._connection.wake(halves.stream)
        if halves.is_refusing:
            self._consumed_bytes += halves.settle()
            self._discarded(halves, is_ended=event.end_stream)
            return
        run = self._runs.get(stream_id)
        if run is None:
            run = self._runs[stream_id] = quic_events.StreamDataReceived(stream_id, [], event.end_stream)
            self._events.append(run)
        elif event.end_stream:
            run.is_ended = True
        if event.data:
            run.run.append(event.data)

    def _on_reset(self, event: stock.StreamReset) -> None:
        halves = self._halves(event.stream_id)
        self._connection.wake(halves.stream)
        was_refusing = halves.is_refusing
        halves.is_refusing = True
        self._consumed_bytes += halves.settle()
        if was_refusing:
            self._discarded(halves, is_ended=True)
            return
        # After what arrived before it: that may be the header that says whose stream it was.
        final_bytes = halves.stream.receiver.highest_offset
        self._events.append(quic_events.StreamReset(event.stream_id, event.error_code, final_bytes))

    def _discarded(self, halves: StreamHalves, *, is_ended: bool) -> None:
        stream_id = halves.stream.stream_id or 0
        self._events.append(quic_events.Discarded(stream_id, halves.stream.receiver.highest_offset, is_ended))

    def _is_told(self, stream_id: int) -> bool:
        halves = self._streams.get(stream_id)
        return halves is not None and not halves.is_released

    def _on_stop(self, event: stock.StopSendingReceived) -> None:
        halves = self._halves(event.stream_id)
        self._connection.wake(halves.stream)
        self._abandon(event.stream_id, halves)
        if not halves.is_stopped:
            halves.is_stopped = True
            self._events.append(quic_events.StopReceived(event.stream_id, event.error_code))
