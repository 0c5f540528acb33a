"""Our halves of the streams of a QUIC connection: what they take, who sends next, and when the peer has it."""

from __future__ import annotations

from collections import deque
from typing import Final

from trio_streams.core.errors import LocalProtocolError
from trio_streams.webtransport import quic_events
from trio_streams.webtransport.quic_config import QuicLimits
from trio_streams.webtransport.quic_connection import TunedConnection
from trio_streams.webtransport.quic_schedule import GroupScheduler
from trio_streams.webtransport.quic_stream import StreamHalves

__all__ = ["QuicSending"]

_LEAST_SHARE_BYTES: Final = 4_096
"""What any stream may have waiting, so that those which a peer refuses never shut out the others."""


class QuicSending:
    """What a connection does with our halves. `Quic` is the whole.

    Args:
      connection: aioquic's, tuned.
      limits: what it may hold.
    """

    def __init__(self, connection: TunedConnection, limits: QuicLimits) -> None:
        self._connection = connection
        self._limits = limits
        self._streams: dict[int, StreamHalves] = {}
        self._scheduler = GroupScheduler()
        self._waiting_bytes = 0
        self._fed_bytes = 0
        self._late_resets: set[int] = set()
        self._starved: set[int] = set()
        self._fed_lately: set[int] = set()  # of those that are starved: only they can have got room
        self._events: deque[quic_events.Event] = deque()

    def set_priority(self, stream_id: int, priority: int, *, group: int = 0, is_urgent: bool = False) -> None:
        """Say when it is a stream's turn, from the next one on. A stream begins in group 0 with priority 0.

        Args:
          stream_id: the stream.
          priority: in its group, those with a higher one go first.
          group: groups take turns by bytes.
          is_urgent: whether it goes before all groups.
        """
        halves = self._known(stream_id)
        halves.priority, halves.group, halves.is_urgent = priority, group, is_urgent
        if stream_id in self._scheduler:
            self._scheduler.discard(stream_id)
            self._scheduler.push(stream_id, priority, group, is_urgent=is_urgent)

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
        if type(data) is bytes:
            size = len(data)
            taken = min(self._room(halves), size)
            kept = data
        else:
            with memoryview(data) as flat:
                size = flat.nbytes
                taken = min(self._room(halves), size)
                kept = bytes(flat.cast("B")[:taken])
        if taken < size:
            self._starve(stream_id)
            kept = kept[:taken]  # a copy: a view of a large object would keep all of it
        if taken:
            halves.push(kept)
            self._waiting_bytes += taken
            self._schedule(stream_id, halves)
        return taken

    def send_room(self, stream_id: int) -> int:
        """How many bytes `send` would take now; 0 where our half is over."""
        halves = self._known(stream_id)
        return self._room(halves) if halves.takes_bytes else 0

    def want_room(self, stream_id: int) -> None:
        """Let `Writable` come once there is room, as if `send` had not taken all it was given.

        Raises:
          LocalProtocolError: our half was ended, reset or stopped, or the stream is not known.
        """
        self._sendable(stream_id, "send on")
        self._starve(stream_id)

    def end(self, stream_id: int) -> None:
        """End our half of a stream, after all that it took; `Delivered` comes when the peer has it.

        Raises:
          LocalProtocolError: our half was ended, reset or stopped, or the stream is not known.
        """
        self._sendable(stream_id, "end").end()

    def reset(self, stream_id: int, code: int, *, after_bytes: int = 0) -> bool:
        """Abandon our half of a stream: what was not sent is dropped. One that is over is no matter.

        Args:
          stream_id: the stream.
          code: why, in the application's terms.
          after_bytes: so many bytes from the start reach the peer first, as far as they were given: for a header that says
            whose stream this is. What RESET_STREAM_AT does, for peers that have none.

        Returns:
          Whether our half is over; if not, `ResetSent` comes, or `StopReceived`.
        """
        halves = self._known(stream_id)
        if not halves.has_own_half:
            raise LocalProtocolError(f"can't reset stream {stream_id}: it has no half of ours", field="stream_id")
        if halves.is_reset or halves.late_reset is not None or halves.is_finished:
            return halves.late_reset is None
        promised = min(after_bytes, halves.taken_bytes)
        if halves.acknowledged_bytes < promised:
            self._waiting_bytes -= halves.truncate(promised)
            halves.late_reset = promised, code
            halves.takes_bytes = False
            self._late_resets.add(stream_id)
            self._starved.discard(stream_id)
            return False
        self._reset_now(stream_id, halves, code)
        return True

    def unsent_bytes(self, stream_id: int) -> int:
        """What a stream took and never sent: at most `max_send_buffer_bytes`."""
        return self._known(stream_id).unsent_bytes

    def sent_bytes(self, stream_id: int) -> int:
        """How many bytes from the start of our half were sent at least once: its final size if it is reset now."""
        return self._known(stream_id).sent_bytes

    def acknowledged_bytes(self, stream_id: int) -> int:
        """How many bytes from the start of our half the peer has for certain."""
        return self._known(stream_id).acknowledged_bytes

    def unacknowledged_bytes(self, stream_id: int) -> int:
        """What a stream took and the peer has not acknowledged; 0 where our half was reset."""
        halves = self._known(stream_id)
        return 0 if halves.is_reset else halves.taken_bytes - halves.acknowledged_bytes

    # What the machine keeps.

    def _known(self, stream_id: int) -> StreamHalves:
        halves = self._streams.get(stream_id)
        if halves is None or halves.is_released:
            raise LocalProtocolError(f"there is no stream {stream_id}", field="stream_id", size=stream_id)
        return halves

    def _sendable(self, stream_id: int, what: str) -> StreamHalves:
        halves = self._streams.get(stream_id)
        if halves is not None and halves.takes_bytes and not halves.is_released:
            return halves
        state = self._known(stream_id).why_over
        raise LocalProtocolError(f"can't {what} stream {stream_id}: it {state}", field="stream_id", size=stream_id)

    @property
    def _unsent_bytes(self) -> int:
        return self._waiting_bytes + self._fed_bytes - self._connection.sent_data_bytes

    def _share(self) -> int:
        """What one stream may have waiting: never more than what is left for all (Choudhury and Hahne, 1998)."""
        limits = self._limits
        left = limits.max_connection_send_buffer_bytes - self._unsent_bytes
        if left >= limits.max_send_buffer_bytes:
            return limits.max_send_buffer_bytes
        return min(limits.max_send_buffer_bytes, max(_LEAST_SHARE_BYTES, left))

    def _room(self, halves: StreamHalves) -> int:
        return max(0, self._share() - halves.unsent_bytes)

    def _starve(self, stream_id: int) -> None:
        self._starved.add(stream_id)
        self._fed_lately.add(stream_id)

    def _schedule(self, stream_id: int, halves: StreamHalves) -> None:
        if halves.is_ready:
            self._scheduler.push(stream_id, halves.priority, halves.group, is_urgent=halves.is_urgent)

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
            self._waiting_bytes -= size
            self._fed_bytes += size
            space -= size
            scheduler.spent(stream_id, size, has_more=halves.is_ready)
            if stream_id in self._starved:
                self._fed_lately.add(stream_id)

    def _reset_now(self, stream_id: int, halves: StreamHalves, code: int) -> None:
        self._connection.reset_stream(stream_id, code)
        self._connection.wake(halves.stream)
        self._abandon(stream_id, halves)

    def _abandon(self, stream_id: int, halves: StreamHalves) -> None:
        if not halves.is_reset:
            self._waiting_bytes -= halves.waiting_bytes
            self._fed_bytes -= halves.abandon()
            self._scheduler.discard(stream_id)
            self._starved.discard(stream_id)
            self._late_resets.discard(stream_id)

    def _note_raised(self) -> None:
        """Look at the streams whose limit the peer raised."""
        for stream_id in self._connection.raised:
            if (halves := self._streams.get(stream_id)) is not None:
                self._schedule(stream_id, halves)
        self._connection.raised.clear()

    def _note_delivered(self) -> None:
        """Look at the streams whose end, or reset, waits for what goes before."""
        for stream_id in sorted(self._connection.acknowledged):
            halves = self._streams.get(stream_id)
            if halves is None:
                continue
            if halves.late_reset is not None:
                self._finish_reset(stream_id, halves, *halves.late_reset)
            elif halves.is_ended and halves.is_finished and not (halves.is_reset or halves.is_delivered):
                halves.is_delivered = True
                self._events.append(quic_events.Delivered(stream_id))
        self._connection.acknowledged.clear()

    def _finish_reset(self, stream_id: int, halves: StreamHalves, promised: int, code: int) -> None:
        if halves.acknowledged_bytes >= promised:
            self._reset_now(stream_id, halves, code)
            self._events.append(quic_events.ResetSent(stream_id))

    def _note_writable(self) -> None:
        low = min(self._limits.send_low_mark_bytes, self._share() // 2)
        for stream_id in list(self._fed_lately):
            halves = self._streams.get(stream_id)
            if halves is None or stream_id not in self._starved:
                self._fed_lately.discard(stream_id)
            elif halves.unsent_bytes <= low:
                self._fed_lately.discard(stream_id)
                self._starved.discard(stream_id)
                self._events.append(quic_events.Writable(stream_id))
            elif not halves.fed_bytes:
                self._fed_lately.discard(stream_id)
