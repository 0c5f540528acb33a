"""What a connection tells the Trio side: edges, named by past participles.

`StreamReceived`, `Writable`, `Delivered` and the connection ids' are QUIC's own events, and `BodyReceived`,
`TrailersReceived` and `WentAway` are HTTP/3's, passed on as they came; content is to be `consumed`. Codes of streams
are the application's, 32 bits; None for a reset or a stop of which no application said why.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import attrs

from trio_streams.webtransport.protocol.error_codes import Http3Error
from trio_streams.webtransport.protocol.http3_events import BodyReceived, TrailersReceived, WentAway
from trio_streams.webtransport.protocol.requests import Answer, ConnectRequest, RawHeaders
from trio_streams.webtransport.protocol.session_events import Closer
from trio_streams.webtransport.protocol.settings import PeerSettings
from trio_streams.webtransport.quic_events import ConnectionIdIssued, ConnectionIdRetired, Delivered, Writable
from trio_streams.webtransport.quic_events import StreamDataReceived as StreamReceived

__all__ = [
    "AnswerReceived",
    "BodyReceived",
    "Closer",
    "ConnectionIdIssued",
    "ConnectionIdRetired",
    "ConnectionOver",
    "DatagramsReceived",
    "Delivered",
    "Event",
    "Ready",
    "RequestReceived",
    "RequestReset",
    "RequestStopped",
    "SessionAnswered",
    "SessionClosed",
    "SessionDrained",
    "SessionRequested",
    "StreamOpened",
    "StreamReceived",
    "StreamReset",
    "StreamStopped",
    "StreamsAllowed",
    "TrailersReceived",
    "WentAway",
    "Writable",
]


@attrs.frozen
class Ready:
    """The handshake is complete and the peer's settings are here: sessions may be asked for."""

    settings: PeerSettings


@attrs.frozen
class SessionRequested:
    """A client asks for a session: accept or refuse it, now or later."""

    session_id: int
    request: ConnectRequest


@attrs.frozen
class SessionAnswered:
    """The server's answer arrived. If it accepts, the session is open; else this is all that is heard of it."""

    session_id: int
    answer: Answer


@attrs.frozen
class SessionDrained:
    """The peer asks for the session to come to an end; streams may still be opened."""

    session_id: int


@attrs.frozen
class SessionClosed:
    """A session is over, and all its streams are: they were reset, stopped and released, and no event names them any more.

    It comes once for each session that was requested or asked for, unless an answer refused it.

    Attributes:
      session_id: which.
      code: the application's; where the stream was reset, the code on the wire.
      reason: for people.
      closer: who did it.
      error: what the peer did wrong; None where it did nothing wrong.
    """

    session_id: int
    code: int
    reason: str
    closer: Closer
    error: Http3Error | None = None


@attrs.frozen
class StreamOpened:
    """The peer opened a stream of a session. It is to be released, like those that we open."""

    session_id: int
    stream_id: int
    is_unidirectional: bool


@attrs.frozen
class StreamReset:
    """The peer abandoned its half of a session's stream; its credit has gone back already."""

    stream_id: int
    code: int | None


@attrs.frozen
class StreamStopped:
    """The peer refuses more of our half of a session's stream: what was not sent is dropped, and no more is taken."""

    stream_id: int
    code: int | None


@attrs.frozen
class StreamsAllowed:
    """Streams can be opened again in a session after `can_open` said no; ask it again."""

    session_id: int
    is_unidirectional: bool


@attrs.frozen
class DatagramsReceived:
    """Datagrams of a session arrived.

    Attributes:
      session_id: whose.
      run: their payloads, in the order in which they came.
    """

    session_id: int
    run: Sequence[bytes]


@attrs.frozen
class RequestReceived:
    """A plain request arrived; its stream is to be released."""

    stream_id: int
    headers: RawHeaders
    is_ended: bool


@attrs.frozen
class AnswerReceived:
    """The head of the answer to a plain request of ours; those with a status of 1xx come before the final one."""

    stream_id: int
    headers: RawHeaders
    is_ended: bool


@attrs.frozen
class RequestReset:
    """The peer abandoned its half of a plain request, or broke a rule on it. The code is HTTP/3's."""

    stream_id: int
    code: int


@attrs.frozen
class RequestStopped:
    """The peer reads no more of our half of a plain request. The code is HTTP/3's."""

    stream_id: int
    code: int


@attrs.frozen
class ConnectionOver:
    """The connection is over, and so is all on it; the last event. No other one says so of a session, stream or request.

    Attributes:
      error: what the peer did wrong, where that ended it; else None.
      code: of HTTP/3 if `is_application`, else of QUIC.
      reason: in words; may be empty.
      is_timeout: whether nothing was heard of the peer for too long.
      is_application: whether an application closed it, and not the transport.
    """

    error: Exception | None
    code: int
    reason: str
    is_timeout: bool
    is_application: bool


Event: TypeAlias = (
    Ready
    | SessionRequested
    | SessionAnswered
    | SessionDrained
    | SessionClosed
    | StreamOpened
    | StreamReceived
    | StreamReset
    | StreamStopped
    | Writable
    | Delivered
    | StreamsAllowed
    | DatagramsReceived
    | RequestReceived
    | AnswerReceived
    | BodyReceived
    | TrailersReceived
    | RequestReset
    | RequestStopped
    | WentAway
    | ConnectionIdIssued
    | ConnectionIdRetired
    | ConnectionOver
)
