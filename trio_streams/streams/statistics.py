"""What a connection tells about itself and its streams."""

from __future__ import annotations

import attrs

from trio_streams.streams.abc import StreamStatistics

__all__ = ["ConnectionStatistics"]


@attrs.frozen(kw_only=True)
class ConnectionStatistics:
    """A snapshot of one connection.

    Attributes:
      peer: the other end, for people.
      transport: what carries it, such as `tcp` or `ws`; empty where nobody said.
      is_open: whether streams can be opened and used.
      streams: its live streams.
      streams_opened: how many were ever opened here.
      streams_accepted: how many were ever opened by the peer.
      queued_bytes: bytes queued for the carrier, items at their cost.
      unread_bytes: bytes that arrived and were not taken, items at their cost.
      bytes_sent: bytes handed to the carrier.
      bytes_received: bytes taken from it.
      round_trip: seconds that the last ping took; None before the first.
      is_attached: whether there is a carrier; False while a session waits for another one.
      resumes: how often the session went on with another carrier.
      retained_bytes: bytes that were written and that the peer has not acknowledged; 0 where nothing is to be resumed.
    """

    peer: str
    transport: str
    is_open: bool
    streams: tuple[StreamStatistics, ...]
    streams_opened: int
    streams_accepted: int
    queued_bytes: int
    unread_bytes: int
    bytes_sent: int
    bytes_received: int
    round_trip: float | None
    is_attached: bool = True
    resumes: int = 0
    retained_bytes: int = 0
