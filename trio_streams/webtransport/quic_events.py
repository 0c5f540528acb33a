"""What a QUIC connection tells its driver: edges, named by past participles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import attrs

__all__ = [
    "ConnectionIdIssued",
    "ConnectionIdRetired",
    "ConnectionTerminated",
    "DatagramsReceived",
    "Delivered",
    "Discarded",
    "Event",
    "Handshaken",
    "ResetSent",
    "StopReceived",
    "StreamDataReceived",
    "StreamEvent",
    "StreamReset",
    "StreamsAllowed",
    "Writable",
]


@attrs.frozen
class Handshaken:
    """The handshake is complete: the peer is who its certificate says, and streams can be opened.

    Attributes:
      alpn_protocol: what both sides agreed to speak, None where neither asked.
      session_resumed: whether an earlier session's ticket saved a round trip.
    """

    alpn_protocol: str | None
    session_resumed: bool


@attrs.frozen
class DatagramsReceived:
    """Datagrams arrived, all that did since the events were last taken.

    Attributes:
      run: the datagrams, in the order in which they came.
    """

    run: Sequence[bytes]


@attrs.define  # frozen ones take three times as long to make
class StreamDataReceived:
    """Bytes of a stream arrived, in order; the first event of a stream that the peer opened may be this one.

    Attributes:
      stream_id: the stream.
      run: what arrived since the events were last taken, in chunks.
      is_ended: whether the peer ended its half after these bytes.
    """

    stream_id: int
    run: list[bytes]
    is_ended: bool


@attrs.frozen
class StreamReset:
    """The peer abandoned its half: what was not yet read is to be dropped, and its credit has gone back already.

    Attributes:
      stream_id: the stream.
      code: why.
      final_bytes: how many were sent on the half, arrived or not.
    """

    stream_id: int
    code: int
    final_bytes: int


@attrs.frozen
class Discarded:
    """Bytes came on a half that we stopped: they were dropped, and their credit has gone back already.

    Attributes:
      stream_id: the stream.
      arrived_bytes: the end of what was sent on the half, as far as it is known: its final size if it is over.
      is_ended: whether the half is over with them.
    """

    stream_id: int
    arrived_bytes: int
    is_ended: bool


@attrs.frozen
class Delivered:
    """The peer has acknowledged all of our half, its end with it."""

    stream_id: int


@attrs.frozen
class StopReceived:
    """The peer refuses more of our half, which was reset with the same code: what was not sent is dropped."""

    stream_id: int
    code: int


@attrs.frozen
class ResetSent:
    """A reset of our half that waited for what goes before has left: no more of it is sent."""

    stream_id: int


@attrs.frozen
class Writable:
    """A stream that took less than it was offered has fallen to its low mark."""

    stream_id: int


@attrs.frozen
class StreamsAllowed:
    """The peer lets us open more streams.

    Attributes:
      bidirectional: how many may be opened over the whole life of the connection.
      unidirectional: likewise.
    """

    bidirectional: int
    unidirectional: int


@attrs.frozen
class ConnectionIdIssued:
    """The peer may send to this connection id from now on: a server that demultiplexes has to know."""

    connection_id: bytes


@attrs.frozen
class ConnectionIdRetired:
    """The peer won't send to this connection id any more."""

    connection_id: bytes


@attrs.frozen
class ConnectionTerminated:
    """The connection is over, and so is every stream on it; the last event.

    Attributes:
      code: an error code of QUIC, or of the application if `is_application`.
      reason: in words; may be empty.
      is_application: whether an application closed it, and not the transport.
      is_timeout: whether nothing was heard of the peer for too long.
    """

    code: int
    reason: str
    is_application: bool
    is_timeout: bool


StreamEvent: TypeAlias = StreamDataReceived | StreamReset | StopReceived | Discarded | Delivered | ResetSent | Writable
"""What names a stream."""

Event: TypeAlias = (
    Handshaken
    | DatagramsReceived
    | StreamDataReceived
    | StreamReset
    | Discarded
    | Delivered
    | ResetSent
    | StopReceived
    | Writable
    | StreamsAllowed
    | ConnectionIdIssued
    | ConnectionIdRetired
    | ConnectionTerminated
)
