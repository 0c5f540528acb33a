"""What a session has written and its peer has not acknowledged: kept as it was written, to be written again elsewhere.

Writes are kept whole, as the very objects that left. While all is well nothing is looked at but their heads, once, when
an acknowledgement may cover them; only a replay and a full buffer take writes apart. Frames that belonged to the carrier that
is gone are not repeated on another one.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from trio_streams.config import ITEM_OVERHEAD_BYTES
from trio_streams.core.errors import RemoteProtocolError
from trio_streams.core.wire import ResumableWire

__all__ = ["Retention"]

_LOOKED_AT_BYTES: Final = 64
"""Writes up to this length are looked at when they are kept: those that hold no counted frame, such as a lonely ping, would
otherwise wait for an acknowledgement that never comes. The others go when the limit is reached."""

_UNKNOWN: Final = -1


class Retention:
    """The unacknowledged writes of one session.

    Args:
      wire: finds the frames in a write.
      max_bytes: when `is_full` says so; a write costs its length plus 64.
    """

    __slots__ = ("_acknowledged", "_first_frames", "_max_bytes", "_start", "_wire", "_writes", "retained_bytes")

    def __init__(self, wire: ResumableWire, max_bytes: int) -> None:
        self._wire = wire
        self._max_bytes = max_bytes
        self._writes: deque[bytes] = deque()
        self._start = 0  # counted frames before the first write
        self._first_frames = _UNKNOWN  # in the first write
        self._acknowledged = 0
        self.retained_bytes: int = 0

    @property
    def is_full(self) -> bool:
        """Whether no more data should be written until the peer has acknowledged some."""
        return self.retained_bytes >= self._max_bytes

    def keep(self, data: bytes) -> None:
        """Keep a write: whole frames."""
        most = self._max_bytes
        was_full = self.retained_bytes >= most
        if (was_full or len(data) <= _LOOKED_AT_BYTES) and not self._wire.find_counted(data):
            return
        self._writes.append(data)
        self.retained_bytes += len(data) + ITEM_OVERHEAD_BYTES
        if self.retained_bytes >= most and not was_full:
            self._hold([write for write in self._writes if self._wire.find_counted(write)])
            self._cut_first()

    def acknowledge(self, frames: int) -> None:
        """Drop the writes that are covered as a whole. Less than was acknowledged before changes nothing.

        Args:
          frames: how many counted frames the peer has received since the session began.

        Raises:
          RemoteProtocolError: that is more than were sent.
        """
        while self._writes and self._start + self._count_first() <= frames:
            self._start += self._first_frames
            self.retained_bytes -= len(self._writes.popleft()) + ITEM_OVERHEAD_BYTES
            self._first_frames = _UNKNOWN
        if not self._writes and frames > self._start:
            raise RemoteProtocolError(
                f"the peer acknowledges {frames} frames, {self._start} were sent",
                field="frames",
                size=frames,
                limit=self._start,
            )
        self._acknowledged = max(frames, self._acknowledged)
        if self.retained_bytes >= self._max_bytes:
            self._cut_first()

    def replay(self, received: int) -> list[bytes]:
        """What to write again on another carrier, from the first frame on that the peer lacks. It stays kept, too.

        Args:
          received: how many counted frames the peer has received since the session began.

        Raises:
          RemoteProtocolError: that is more than were sent, or fewer than it has acknowledged.
        """
        if received < self._acknowledged:
            raise RemoteProtocolError(
                f"the peer has received {received} frames, and acknowledged {self._acknowledged} before",
                field="frames_received",
                size=received,
                limit=self._acknowledged,
            )
        self.acknowledge(received)
        self._cut_first()
        cut = [_cut(write, self._wire.find_counted(write)) for write in self._writes]
        self._hold([write for write in cut if write])
        return list(self._writes)

    def _count_first(self) -> int:
        if self._first_frames == _UNKNOWN:
            self._first_frames = len(self._wire.find_counted(self._writes[0]))
        return self._first_frames

    def _cut_first(self) -> None:
        """Drop the part of the first write that is acknowledged, which costs a copy of the rest.

        While there is room that is not worth it. But a peer acknowledges only now and then, and what it has received
        since must not be all that keeps us from writing more.
        """
        if self._writes and self._acknowledged > self._start:
            first = self._writes[0]
            spans = self._wire.find_counted(first)[self._acknowledged - self._start :]
            self._hold([_cut(first, spans), *list(self._writes)[1:]])
            self._start = self._acknowledged

    def _hold(self, writes: list[bytes]) -> None:
        self._writes = deque(writes)
        self._first_frames = _UNKNOWN
        self.retained_bytes = sum(map(len, writes)) + ITEM_OVERHEAD_BYTES * len(writes)


def _cut(data: bytes, spans: list[tuple[int, int]]) -> bytes:
    """Some parts of a write; the write itself where that is all of it."""
    if sum(end - start for start, end in spans) == len(data):
        return data
    return b"".join([data[start:end] for start, end in spans])
