"""What a session tells the machine that drives it, named by past participles."""

from __future__ import annotations

import enum
from typing import TypeAlias

import attrs

from trio_streams.webtransport.protocol.error_codes import Http3Code, Http3Error

__all__ = [
    "Abandoned",
    "Accepted",
    "Closed",
    "Closer",
    "DataAllowed",
    "Drained",
    "Event",
    "Failed",
    "Refused",
    "Rejected",
    "StreamsAllowed",
]


class Closer(enum.Enum):
    """Who closed a session."""

    LOCAL = "local"
    PEER = "peer"
    LOST = "lost"  # its stream was reset, so nobody said why


@attrs.frozen
class Accepted:
    """The session is open: the 2xx was sent, or arrived."""


@attrs.frozen
class Refused:
    """There will be no session.

    Attributes:
      status: of the answer.
    """

    status: int


@attrs.frozen
class Drained:
    """The peer asks to come to an end; streams may still be opened."""


@attrs.frozen
class StreamsAllowed:
    """A stream can be opened again after the limit was reached."""

    is_unidirectional: bool


@attrs.frozen
class DataAllowed:
    """Bytes can be sent again after the session's limit was reached."""


@attrs.frozen
class Abandoned:
    """Streams of a session that is over: both their halves are to be reset and stopped.

    Attributes:
      stream_ids: which.
      http3_code: with what.
    """

    stream_ids: tuple[int, ...]
    http3_code: Http3Code = Http3Code.WT_SESSION_GONE


@attrs.frozen
class Closed:
    """The session is over; its last event.

    Attributes:
      code: the application's; where the stream was reset, the code on the wire.
      reason: for people.
      closer: who did it.
    """

    code: int
    reason: str
    closer: Closer


@attrs.frozen
class Failed:
    """The session is over by the peer's fault; its last event."""

    error: Http3Error


@attrs.frozen
class Rejected:
    """A stream came too early, and there is no room, or no session, for it: it is to be reset and stopped.

    Attributes:
      stream_id: which.
      http3_code: with what.
    """

    stream_id: int
    http3_code: Http3Code = Http3Code.WT_BUFFERED_STREAM_REJECTED


Event: TypeAlias = Accepted | Refused | Drained | StreamsAllowed | DataAllowed | Abandoned | Closed | Failed
"""What a session tells."""
