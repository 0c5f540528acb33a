"""What both sides and both clients of durable streams speak in.

Spec: Durable Streams §5.2, §5.5, §8.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Generic, Literal, TypeAlias, TypeVar

import attrs

__all__ = [
    "AppendResult",
    "ErrorHandler",
    "HeadResult",
    "HeadersLike",
    "LiveMode",
    "Offset",
    "ParamsLike",
    "StreamEvent",
]

T = TypeVar("T")

Offset: TypeAlias = str
"""A position in a stream, as its server words it: opaque, but greater ones are later."""

LiveMode: TypeAlias = Literal["auto", "long-poll", "sse"] | bool
"""How a reader goes on at the tail. False: not at all. `auto`: `read_…` stops there, iteration goes on by long-poll.
True: by SSE for JSON and text, else by long-poll."""

HeadersLike: TypeAlias = Mapping[str, str | Callable[[], str] | Callable[[], Awaitable[str]]]
"""Headers of each request; a callable is asked anew for each, and may be async where the client is."""

ParamsLike: TypeAlias = Mapping[str, str | Callable[[], str | None] | Callable[[], Awaitable[str | None]] | None]
"""Query parameters of each request, as `HeadersLike`; None leaves one out."""

ErrorHandler: TypeAlias = Callable[[Exception], Any]
"""Told of an error before it is raised: returns `{"headers": …, "params": …}` to try again with these added, or None to
have it raised. May be async where the client is."""


@attrs.frozen(slots=True)
class StreamEvent(Generic[T]):
    """A piece of a stream with where it ends.

    Attributes:
      data: bytes, text, or the batch's JSON values, as the mode says.
      next_offset: go on here to get what follows.
      up_to_date: whether it was the tail when the server said this.
      cursor: for caches on the way; None where the server gave none.
    """

    data: T
    next_offset: Offset
    up_to_date: bool
    cursor: str | None = None


@attrs.frozen(slots=True)
class HeadResult:
    """What is known about a stream.

    Attributes:
      exists: always True; a missing stream raises.
      content_type: of its bytes.
      offset: its tail.
      etag: for conditional requests.
      cache_control: as the server says.
      is_closed: whether nothing more can come.
      ttl_seconds: how long it lives without being read or written; None for ever.
      expires_at: when it expires, as RFC 3339; None for never.
    """

    exists: Literal[True] = True
    content_type: str | None = None
    offset: Offset | None = None
    etag: str | None = None
    cache_control: str | None = None
    is_closed: bool = False
    ttl_seconds: int | None = None
    expires_at: str | None = None


@attrs.frozen(slots=True)
class AppendResult:
    """What an append did.

    Attributes:
      next_offset: the tail behind it.
      duplicate: whether the server had it already, from the same producer.
    """

    next_offset: Offset
    duplicate: bool = False
