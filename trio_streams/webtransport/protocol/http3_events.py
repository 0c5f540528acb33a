"""What HTTP/3 tells its driver, named by past participles.

A message ends with the first of these: a `HeadReceived` or `BodyReceived` that is ended, `TrailersReceived`, `MessageReset` or
`MessageFailed`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import attrs

from trio_streams.webtransport.protocol.error_codes import Http3Error
from trio_streams.webtransport.protocol.priority import Priority
from trio_streams.webtransport.protocol.requests import RawHeaders

__all__ = [
    "BodyReceived",
    "HeadReceived",
    "Http3Event",
    "InterimReceived",
    "MessageFailed",
    "MessageReset",
    "MessageStopped",
    "PriorityUpdated",
    "SettingsReceived",
    "TrailersReceived",
    "WentAway",
]


@attrs.frozen
class SettingsReceived:
    """The peer's SETTINGS are here; once.

    Attributes:
      settings: all of them, ours to know or not.
    """

    settings: Mapping[int, int]


@attrs.frozen
class HeadReceived:
    """A request's head, or that of its final answer. It keeps the rules of RFC 9114 §4.3; `cookie` is one field.

    Attributes:
      stream_id: the request's.
      headers: pseudo-header fields first.
      is_ended: whether there is neither body nor trailers.
    """

    stream_id: int
    headers: RawHeaders
    is_ended: bool


@attrs.frozen
class InterimReceived:
    """An answer's head that is not final (1xx); the final one follows."""

    stream_id: int
    headers: RawHeaders


@attrs.frozen
class BodyReceived:
    """Bytes of a body. Whoever takes them tells QUIC that they are consumed; everything else HTTP/3 has consumed itself.

    Attributes:
      stream_id: the request's.
      run: the bytes, in pieces; none where nothing but the end was left.
      size: of all pieces together.
      is_ended: whether the message is over, as long as it had said.
    """

    stream_id: int
    run: Sequence[bytes]
    size: int
    is_ended: bool


@attrs.frozen
class TrailersReceived:
    """The fields behind a body; told when the stream has ended, so the message is over."""

    stream_id: int
    headers: RawHeaders


@attrs.frozen
class MessageReset:
    """The peer abandoned its message. On a client also: a GOAWAY says that the request is not looked at, and both halves
    were reset (the code is H3_REQUEST_REJECTED then). On a server a request whose head never came is let go untold.

    Attributes:
      stream_id: the request's.
      code: on the wire.
    """

    stream_id: int
    code: int


@attrs.frozen
class MessageStopped:
    """The peer refuses more of our message; QUIC has reset our half."""

    stream_id: int
    code: int


@attrs.frozen
class MessageFailed:
    """The peer's message breaks a rule, or the limit of a head. Both halves of its stream were reset and stopped; it is to be
    released like any other.

    Attributes:
      stream_id: the request's. On a server nothing may have been told of it yet.
      error: which rule; it does not end the connection.
    """

    stream_id: int
    error: Http3Error


@attrs.frozen
class PriorityUpdated:
    """The client changed a request's priority (RFC 9218 §7.1). The request may be over, or yet to come.

    Attributes:
      stream_id: the request's.
      priority: as it is from now on, whatever the `priority` field of the head said.
    """

    stream_id: int
    priority: Priority


@attrs.frozen
class WentAway:
    """The peer begins to end the connection (RFC 9114 §5.2); may come again with a smaller id.

    Attributes:
      last_id: requests of this id and those after it won't be looked at, on a client; a push's id on a server.
    """

    last_id: int


Http3Event: TypeAlias = (
    SettingsReceived
    | HeadReceived
    | InterimReceived
    | BodyReceived
    | TrailersReceived
    | MessageReset
    | MessageStopped
    | MessageFailed
    | PriorityUpdated
    | WentAway
)
