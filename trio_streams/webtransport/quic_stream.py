"""One stream of a QUIC connection: what waits to be sent, and what its receiver has consumed."""

from __future__ import annotations

from collections import deque

from aioquic.quic.stream import QuicStream

from trio_streams.webtransport.quic_connection import ReceiveCredit, TunedConnection

__all__ = ["StreamHalves"]


class StreamHalves:
    """Both halves of one stream, over aioquic's.

    Bytes wait here, and go to aioquic when they can be sent at once: then its buffer holds what is on its way and not
    what a slow peer refuses, and what waits can still be dropped or overtaken.

    Args:
      stream: aioquic's stream.
      connection: the connection it is on.
      window_bytes: how much the peer may be ahead of the reader.

    Attributes:
      has_own_half, has_peer_half: what kind of stream it is.
      takes_bytes: whether our half is there, and was neither ended nor reset nor stopped; `why_over` says which.
      waiting_bytes: given to `push`, and not yet to aioquic.
      consumed_bytes: of the peer's half, by whoever reads or dropped unread.
      priority: higher is fed first, in a group.
      group: whose turns it shares.
      is_urgent: whether it is fed before all groups.
      is_ended: whether our half has an end.
      is_delivered: whether the peer has all of our half, its end with it, and that was told.
      is_reset: whether our half was abandoned, by us or because the peer asked.
      is_refusing: whether what arrives is dropped.
      is_stopped: whether the peer's STOP_SENDING was told.
      is_closed: whether both halves are over on the wire.
      is_released: whether the application is done with the stream.
      late_reset: the number of bytes to be acknowledged before a reset, and its code.
    """

    __slots__ = (
        "_chunks",
        "_connection",
        "_credit",
        "_window_bytes",
        "consumed_bytes",
        "group",
        "has_own_half",
        "has_peer_half",
        "is_closed",
        "is_delivered",
        "is_ended",
        "is_refusing",
        "is_released",
        "is_reset",
        "is_stopped",
        "is_urgent",
        "late_reset",
        "priority",
        "stream",
        "takes_bytes",
        "waiting_bytes",
    )

    def __init__(self, stream: QuicStream, connection: TunedConnection, window_bytes: int) -> None:
        self.stream: QuicStream = stream
        self._connection = connection
        self._window_bytes = window_bytes
        stream_id = stream.stream_id or 0
        self._credit: ReceiveCredit | None = None
        self._chunks: deque[bytes | memoryview] = deque()
        is_bidirectional = not stream_id & 2
        is_ours = connection.is_ours(stream_id)
        self.has_own_half: bool = is_bidirectional or is_ours
        self.has_peer_half: bool = is_bidirectional or not is_ours
        self.takes_bytes: bool = self.has_own_half
        self.waiting_bytes: int = 0
        self.consumed_bytes: int = 0
        self.priority: int = 0
        self.group: int = 0
        self.is_urgent: bool = False
        self.is_ended: bool = False
        self.is_delivered: bool = False
        self.is_reset: bool = False
        self.is_refusing: bool = False
        self.is_stopped: bool = False
        self.is_closed: bool = False
        self.is_released: bool = False
        self.late_reset: tuple[int, int] | None = None

    # Receiving.

    @property
    def unread_bytes(self) -> int:
        """What arrived in order and was not consumed."""
        return self.stream.receiver.starting_offset() - self.consumed_bytes

    def consume(self, size: int) -> None:
        """Note that the reader took bytes, and raise the limit if that is half a window."""
        self.consumed_bytes += size
        stream, limit = self.stream, self.consumed_bytes + self._window_bytes
        if (limit - stream.max_stream_data_local) * 2 < self._window_bytes or stream.receiver.is_finished:
            return
        if self._credit is None:
            self._credit = ReceiveCredit(stream.stream_id or 0, stream.max_stream_data_local)
        self._credit.max_stream_data_local = stream.max_stream_data_local = limit
        self._connection.table.owed[self._credit] = None

    def settle(self) -> int:
        """Count all that was sent as consumed, read or not; the stream's own limit stays where it is.

        Returns:
          How many bytes that adds, for the connection's credit.
        """
        size = self.stream.receiver.highest_offset - self.consumed_bytes
        self.consumed_bytes += size
        self.stop_granting()
        return size

    def stop_granting(self) -> None:
        """Owe the peer no limit any more."""
        if self._credit is not None:
            self._connection.table.owed.pop(self._credit, None)

    # Sending.

    @property
    def why_over(self) -> str:
        """Why our half takes no bytes, in words."""
        if not self.has_own_half:
            return "has no half of ours"
        if self.is_stopped:
            return "was stopped"
        return "was reset" if self.is_reset or self.late_reset is not None else "was ended"

    @property
    def unsent_bytes(self) -> int:
        """What was never sent, here and at aioquic."""
        if self.is_reset:
            return 0
        sender = self.stream.sender
        return self.waiting_bytes + sender._buffer_stop - sender.highest_offset  # noqa: SLF001

    @property
    def fed_bytes(self) -> int:
        """What aioquic has and never sent."""
        sender = self.stream.sender
        return sender._buffer_stop - sender.highest_offset  # noqa: SLF001

    @property
    def acknowledged_bytes(self) -> int:
        """How many bytes from the start of our half the peer has for certain."""
        return self.stream.sender._buffer_start  # noqa: SLF001

    @property
    def sent_bytes(self) -> int:
        """How many bytes from the start of our half were sent at least once."""
        return self.stream.sender.highest_offset

    @property
    def is_finished(self) -> bool:
        """Whether the peer has all of our half, or knows that it was reset."""
        return self.stream.sender.is_finished

    @property
    def taken_bytes(self) -> int:
        """How many bytes our half has, sent or not."""
        return self.stream.sender._buffer_stop + self.waiting_bytes  # noqa: SLF001

    @property
    def is_ready(self) -> bool:
        """Whether something waits that the peer's limit for the stream lets through."""
        stream = self.stream
        return self.waiting_bytes > 0 and stream.max_stream_data_remote > stream.sender._buffer_stop  # noqa: SLF001

    @property
    def _credit_bytes(self) -> int:
        return self.stream.max_stream_data_remote - self.stream.sender._buffer_stop  # noqa: SLF001

    def push(self, data: bytes) -> None:
        """Let bytes wait."""
        self._chunks.append(data)
        self.waiting_bytes += len(data)

    def end(self) -> None:
        """End our half after what waits."""
        self.is_ended = True
        self.takes_bytes = False
        if not self._chunks:
            self._write(b"")

    def feed(self, max_bytes: int) -> int:
        """Give aioquic what the peer's limit for the stream lets through.

        Returns:
          How many bytes, at most `max_bytes`.
        """
        size = min(self.waiting_bytes, self._credit_bytes, max_bytes)
        if size <= 0:
            return 0
        self.waiting_bytes -= size
        chunks = self._chunks
        if not self.waiting_bytes:
            data = b"".join(chunks) if len(chunks) > 1 else bytes(chunks[0])
            chunks.clear()
            self._write(data)
        else:
            self._feed_some(size)
        return size

    def _feed_some(self, size: int) -> None:
        while size > 0:
            chunk = self._chunks.popleft()
            if len(chunk) > size:
                view = memoryview(chunk)
                self._chunks.appendleft(view[size:])
                chunk = view[:size]
            size -= len(chunk)
            self._write(bytes(chunk))

    def _write(self, data: bytes) -> None:
        self.stream.sender.write(data, end_stream=self.is_ended and not self._chunks)
        self._connection.wake(self.stream)

    def truncate(self, size: int) -> int:
        """Drop what waits beyond a number of bytes from the start of the half, and its end with it.

        Returns:
          How many bytes.
        """
        before = self.waiting_bytes
        self.is_ended = self.is_ended and not self._chunks
        keep = max(0, size - self.stream.sender._buffer_stop)  # noqa: SLF001
        while self.waiting_bytes > keep:
            chunk = self._chunks.pop()
            self.waiting_bytes -= len(chunk)
            if self.waiting_bytes < keep:
                self.push(bytes(chunk[: keep - self.waiting_bytes]))
        return before - self.waiting_bytes

    def abandon(self) -> int:
        """Drop all that was never sent, once the half was reset.

        Returns:
          How many bytes aioquic had of it.
        """
        self.is_reset = True
        self.takes_bytes = False
        self.late_reset = None
        self._chunks.clear()
        self.waiting_bytes = 0
        return self.fed_bytes
