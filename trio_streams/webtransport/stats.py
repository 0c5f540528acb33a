"""What a manager of streams tells about them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from trio_streams.core.states import StreamState

__all__ = ["StreamManagerStats", "StreamStats"]


@attrs.frozen(kw_only=True)
class StreamStats:
    """A snapshot of one stream.

    Attributes:
      stream_id: which.
      state: of its halves, as `stream.state`.
      bytes_sent: that were written, and taken to be sent.
      bytes_received: that were read.
      write_seconds: on Trio's clock, that writes waited for room.
      read_seconds: likewise, that reads waited for something to arrive.
      errors: how many operations failed by the peer's, the connection's or our own doing. A cancelled one has not failed.
    """

    stream_id: int
    state: StreamState
    bytes_sent: int
    bytes_received: int
    write_seconds: float
    read_seconds: float
    errors: int


@attrs.frozen(kw_only=True)
class StreamManagerStats:
    """A snapshot of a `StreamManager`: numbers for all streams that it ever made, and a row for each that is open.

    Attributes:
      max_streams: how many may be open at once.
      open_streams: how many are.
      waiting_tasks: how many wait for a place.
      opened_streams: how many there ever were.
      bytes_sent: by all of them, those that are over included; so are the following.
      bytes_received: likewise.
      write_seconds: likewise.
      read_seconds: likewise.
      errors: likewise.
      streams: those that are open, the oldest first.
    """

    max_streams: int
    open_streams: int
    waiting_tasks: int
    opened_streams: int
    bytes_sent: int
    bytes_received: int
    write_seconds: float
    read_seconds: float
    errors: int
    streams: tuple[StreamStats, ...]
