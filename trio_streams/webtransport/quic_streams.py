"""The streams of a QUIC connection: who sends next, who may send more, and when a stream is over."""

from __future__ import annotations

from collections import deque

import attrs
from aioquic.quic import events as stock

from trio_streams.core.errors import LocalProtocolError
from trio_streams.core.schedule import Scheduler
from trio_streams.webtransport import quic_events
from trio_streams.webtransport.quic_config import QuicLimits
from trio_streams.webtransport.quic_connection import TunedConnection
from trio_streams.webtransport.quic_stream import StreamHalves

__all__ = ["QuicStreams", "Run"]


@attrs.define(eq=False)
class Run:
    """A `StreamDataReceived` that still grows."""

    stream_id: int
    chunks: list[bytes] = attrs.field(factory=list)
    is_ended: bool = False


class QuicStreams:
    """What a connection does with streams. `Quic` is the whole.

    Args:
      connection: aioquic's, tuned.
      limits: what it may hold.
    """

    def __init__(self, connection: TunedConnection, limits: QuicLimits) -> None:
        self._connection = connection
        self._limits = limits
        self._streams: dict[int, StreamHalves] = {}
        self._scheduler = Scheduler()
        self._fed_bytes = 0
        self._consumed_bytes = 0
        self._late_resets: set[int] = set()
        self._starved: set[int] = set()
        self._events: deque[quic_events.Event | Run] = deque()
        self._runs: dict[int, Run] = {}

    @property
    def stream_count(self) -> int:
        """Streams that are known: not yet released, or not yet over on the wire."""
        return len(self._streams)

    def streams_available(self, *, unidirectional: bool = False) -> int:
        """How many streams may be opened now."""
        next_id = self._connection.get_next_available_stream_id(is_unidirectional=unidirectional)
        return max(0, self._connection.allowed_streams[unidirectional] - next_id // 4)

    def open_stream(self, *, unidirectional: bool = False) -> int:
        """Open a stream. The peer learns of it with its first byte or its end.

        Returns:
          Its id.

        Raises:
          LocalProtocolError: the peer allows no more for now; `StreamsAllowed` says when.
        """
        if not self.streams_available(unidirectional=unidirectional):
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

    def set_priority(self, stream_id: int, priority: int) -> None:
        """Let a stream go before those of a lower priority from its next turn on; 0 is where it begins."""
        halves = self._known(stream_id)
        halves.priority = priority
        if stream_id in self._scheduler:
            self._scheduler.discard(stream_id)
            self._scheduler.push(stream_id, priority)

    def send(self, stream_id: int, data: bytes | bytearray | memoryview) -> int:
        """Let a stream take bytes, as many as its send buffer has room for.

        Args:
          stream_id: the stream.
          data: copied unless it is `bytes`.

        Returns:
          How many were taken. If not all were, `Writable` comes.

        Raises:
          LocalProtocolError: our half was ended, reset or stopped, or the stream is not known.
        """
        halves = self._sendable(stream_id, "send on")
        room = max(0, self._limits.max_send_buffer_bytes - halves.unsent_bytes)
        with memoryview(data) as flat:
            size = flat.nbytes
            taken = min(room, size)
            if taken < size:
                self._starved.add(stream_id)
            # A slice of a large object would keep all of it.
            kept = data if isinstance(data, bytes) and taken == size else bytes(flat.cast("B")[:taken])
        if taken:
            halves.push(memoryview(kept))
            self._schedule(stream_id, halves)
        return taken

    def end(self, stream_id: int) -> None:
        """End our half of a stream, after all that it took.

        Raises:
          LocalProtocolError: our half was ended, reset or stopped, or the stream is not known.
        """
        self._sendable(stream_id, "end").end()

    def reset(self, stream_id: int, code: int, *, after_bytes: int = 0) -> None:
        """Abandon our half of a stream: what was not sent is dropped. One that is over is no matter.

        Args:
          stream_id: the stream.
          code: why, in the application's terms.
          after_bytes: so many bytes from the start reach the peer first, as far as they were given: for a header that says
            whose stream this is. What RESET_STREAM_AT does, for peers that have none.
        """
        halves = self._known(stream_id)
        if not self._connection.can_send(stream_id):
            raise LocalProtocolError(f"can't reset stream {stream_id}: it has no half of ours", field="stream_id")
        if halves.is_reset or halves.late_reset is not None or halves.stream.sender.is_finished:
            return
        promised = min(after_bytes, halves.taken_bytes)
        if halves.acknowledged_bytes < promised:
            halves.truncate(promised)
            halves.late_reset = promised, code
            self._late_resets.add(stream_id)
            return
        self._reset_now(stream_id, halves, code)

    def stop(self, stream_id: int, code: int) -> None:
        """Refuse more of the peer's half: what is unread and what still comes is dropped, and its credit goes back.

        Args:
          stream_id: the stream. One whose half is over is no matter.
          code: why, in the application's terms.
        """
        halves = self._known(stream_id)
        if not self._connection.can_receive(stream_id):
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
        if self._connection.can_receive(stream_id):
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
        self._give_back(size)

    def unread_bytes(self, stream_id: int) -> int:
        """What arrived in order on a stream and was not consumed."""
        return self._known(stream_id).unread_bytes

    def unsent_bytes(self, stream_id: int) -> int:
        """What a stream took and never sent: at most `max_send_buffer_bytes`."""
        return self._known(stream_id).unsent_bytes

    def acknowledged_bytes(self, stream_id: int) -> int:
        """How many bytes from the start of our half the peer has for certain."""
        return self._known(stream_id).acknowledged_bytes

    # What the machine keeps.

    def _known(self, stream_id: int) -> StreamHalves:
        halves = self._streams.get(stream_id)
        if halves is None or halves.is_released:
            raise LocalProtocolError(f"there is no stream {stream_id}", field="stream_id", size=stream_id)
        return halves

    def _note_raised(self) -> None:
        """Look at the streams whose limit the peer raised."""
        for stream_id in self._connection.raised:
            if (halves := self._streams.get(stream_id)) is not None:
                self._schedule(stream_id, halves)
        self._connection.raised.clear()

    def _note_delivered(self) -> None:
        """Look at the streams whose reset waits for what goes before."""
        for stream_id in self._late_resets & self._connection.acknowledged:
            self._finish_reset(stream_id)
        self._connection.acknowledged.clear()

    def _sendable(self, stream_id: int, what: str) -> StreamHalves:
        halves = self._known(stream_id)
        if not self._connection.can_send(stream_id):
            state = "has no half of ours"
        elif halves.is_stopped:
            state = "was stopped"
        elif halves.is_reset or halves.late_reset is not None:
            state = "was reset"
        elif halves.is_ended:
            state = "was ended"
        else:
            return halves
        raise LocalProtocolError(f"can't {what} stream {stream_id}: it {state}", field="stream_id", size=stream_id)

    def _schedule(self, stream_id: int, halves: StreamHalves) -> None:
        if halves.is_ready:
            self._scheduler.push(stream_id, halves.priority)

    def _feed(self) -> None:
        """Give aioquic what the congestion window and the peer's limits let out, and a packet more."""
        connection, scheduler = self._connection, self._scheduler
        ahead = self._fed_bytes - connection.sent_data_bytes
        space = connection.flight_space_bytes + connection.packet_bytes - ahead
        space = min(space, connection.peer_data_limit - self._fed_bytes)
        while space > 0 and scheduler:
            stream_id, allowance = scheduler.pick(space)
            halves = self._streams[stream_id]
            size = halves.feed(min(allowance, space))
            self._fed_bytes += size
            space -= size
            scheduler.spent(stream_id, size, has_more=halves.is_ready)

    def _reset_now(self, stream_id: int, halves: StreamHalves, code: int) -> None:
        self._connection.reset_stream(stream_id, code)
        self._connection.wake(halves.stream)
        self._abandon(stream_id, halves)

    def _abandon(self, stream_id: int, halves: StreamHalves) -> None:
        if not halves.is_reset:
            self._fed_bytes -= halves.abandon()
            self._scheduler.discard(stream_id)
            self._starved.discard(stream_id)
            self._late_resets.discard(stream_id)

    def _stop_unfinished(self, stream_id: int, halves: StreamHalves, code: int) -> None:
        if not halves.is_refusing and not halves.stream.receiver.is_finished:
            self._connection.stop_stream(stream_id, code)
            self._connection.wake(halves.stream)

    def _refuse(self, stream_id: int, halves: StreamHalves) -> None:
        halves.is_refusing = True
        run = self._runs.pop(stream_id, None)
        if run is not None:
            run.chunks, run.is_ended = [], False
        self._give_back(halves.settle())

    def _give_back(self, size: int) -> None:
        """Credit the connection. Half a window at once, and at any time while less than a quarter is left.

        Consumption is out of order here: streams that nobody reads may hold more than half of the window for ever, and then
        the first rule alone would never let the others go on.
        """
        self._consumed_bytes += size
        limit, window = self._connection.data_limit, self._limits.connection_window_bytes
        growth = self._consumed_bytes + window - limit.value
        if growth * 2 >= window or (growth > 0 and (limit.value - limit.used) * 4 < window):
            limit.grant(growth)

    def _forget(self, stream_id: int) -> None:
        del self._streams[stream_id]
        if not self._connection.is_ours(stream_id):
            self._connection.grant_stream_place(stream_id)

    def _finish_reset(self, stream_id: int) -> None:
        halves = self._streams[stream_id]
        assert halves.late_reset is not None
        promised, code = halves.late_reset
        if halves.acknowledged_bytes >= promised:
            self._reset_now(stream_id, halves, code)

    def _note_closed(self) -> None:
        closed = self._connection.table.closed
        for stream_id in closed:
            halves = self._streams.get(stream_id)
            if halves is not None:
                halves.is_closed = True
                if halves.is_released:
                    self._forget(stream_id)
        closed.clear()

    def _note_writable(self) -> None:
        for stream_id in [
            stream_id
            for stream_id in self._starved
            if self._streams[stream_id].unsent_bytes <= self._limits.send_low_mark_bytes
        ]:
            self._starved.discard(stream_id)
            self._events.append(quic_events.Writable(stream_id))

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
            self._connection.wake(halves.stream)
        if halves.is_refusing:
            self._give_back(halves.settle())
            return
        run = self._runs.get(stream_id)
        if run is None:
            run = self._runs[stream_id] = Run(stream_id)
            self._events.append(run)
        if event.data:
            run.chunks.append(event.data)
        run.is_ended = run.is_ended or event.end_stream

    def _on_reset(self, event: stock.StreamReset) -> None:
        halves = self._halves(event.stream_id)
        self._connection.wake(halves.stream)
        was_refusing = halves.is_refusing
        halves.is_refusing = True
        self._give_back(halves.settle())
        if not was_refusing:
            # After what arrived before it: that may be the header that says whose stream it was.
            self._events.append(
                quic_events.StreamReset(event.stream_id, event.error_code, halves.stream.receiver.highest_offset)
            )

    def _on_stop(self, event: stock.StopSendingReceived) -> None:
        halves = self._halves(event.stream_id)
        self._connection.wake(halves.stream)
        self._abandon(event.stream_id, halves)
        if not halves.is_stopped:
            halves.is_stopped = True
            if not halves.is_released:
                self._events.append(quic_events.StopReceived(event.stream_id, event.error_code))
