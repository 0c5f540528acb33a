"""What one HTTP/1.1 connection tells its host, and what its client may take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import attrs

from trio_streams.config import positive
from trio_streams.wire.http1_head import Request as Request

__all__ = ["BodyEnded", "BodyReceived", "Event", "Failed", "Http1Limits", "InputEnded", "Request", "whole_request"]


@attrs.frozen(kw_only=True)
class Http1Limits:
    """What one connection's client may take.

    Attributes:
      max_request_line_bytes: more is answered 414; RFC 9112 §3 asks for 8,000 at least.
      max_head_bytes: request line and headers, or trailers; more is answered 431. Twice what nginx admits by default.
      max_headers: more lines are answered 431.
      max_body_bytes: a larger body is answered 413; None leaves it to the handler.
      max_pipelined_bytes: unparsed input kept behind a request that is being served.
      max_drain_bytes: dropped of a body that was not read, before the connection is given up.
      header_timeout: seconds for a whole head.
      body_timeout: seconds between two pieces of a body.
      keep_alive_timeout: seconds of silence after an answer.
      drain_timeout: seconds for what is dropped.
    """

    max_request_line_bytes: int = attrs.field(default=8_192, validator=positive)
    max_head_bytes: int = attrs.field(default=65_536, validator=positive)
    max_headers: int = attrs.field(default=128, validator=positive)
    max_body_bytes: int | None = attrs.field(default=None, validator=positive)
    max_pipelined_bytes: int = attrs.field(default=65_536, validator=positive)
    max_drain_bytes: int = attrs.field(default=262_144, validator=positive)
    header_timeout: float = attrs.field(default=10.0, validator=positive)
    body_timeout: float = attrs.field(default=30.0, validator=positive)
    keep_alive_timeout: float = attrs.field(default=30.0, validator=positive)
    drain_timeout: float = attrs.field(default=1.0, validator=positive)


@attrs.define(frozen=True, slots=False)
class BodyReceived:
    """A piece of the request's body, as it came."""

    data: bytes


@attrs.frozen
class BodyEnded:
    """The request is complete. There is no such event for a request without a body (`length` 0)."""


@attrs.frozen
class InputEnded:
    """The client ended its side. What it asked for before can still be answered."""


@attrs.frozen
class Failed:
    """The client broke the rules, or was too slow; nothing more comes.

    Attributes:
      status: what it has been answered, or would have been.
      text: why, in one line without anything that the client sent.
    """

    status: int
    text: str


Event: TypeAlias = Request | BodyReceived | BodyEnded | InputEnded | Failed


def whole_request(events: Sequence[Event]) -> tuple[Request, bytes] | None:
    """The request and its body, where they are all that has happened; None where that is less, or more."""
    if not events or not isinstance(request := events[0], Request) or request.upgrade:
        return None
    if len(events) == 1 and request.length == 0:
        return request, b""
    if len(events) == 3 and isinstance(body := events[1], BodyReceived) and isinstance(events[2], BodyEnded):
        return request, body.data
    return None
