"""Limits, timeouts and policies of a server of durable streams."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Literal, TypeAlias

import attrs

from trio_streams.config import positive
from trio_streams.durable import headers
from trio_streams.service.cors import CorsPolicy
from trio_streams.service.exchange import RequestHead

__all__ = ["DEFAULT_CORS", "Action", "Authenticate", "DurableConfig"]

Action: TypeAlias = Literal["create", "append", "read", "head", "delete", "list"]

Authenticate: TypeAlias = Callable[[RequestHead, Action, str], Awaitable[None]]
"""Looks at a request, what it would do and the stream's path below the root; raises `RpcError` UNAUTHENTICATED or
PERMISSION_DENIED where that is not allowed. Of a fork it is asked twice: to create it, and to read its source."""

DEFAULT_CORS: Final = CorsPolicy(
    origins=("*",),
    methods=("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"),
    exposed=(
        headers.STREAM_NEXT_OFFSET,
        headers.STREAM_CURSOR,
        headers.STREAM_UP_TO_DATE,
        headers.STREAM_CLOSED,
        headers.STREAM_EARLIEST_OFFSET,
        headers.STREAM_SSE_DATA_ENCODING,
        headers.STREAM_TTL,
        headers.STREAM_EXPIRES_AT,
        headers.PRODUCER_EPOCH,
        headers.PRODUCER_SEQ,
        headers.PRODUCER_EXPECTED_SEQ,
        headers.PRODUCER_RECEIVED_SEQ,
        "ETag",
        "Location",
        "Retry-After",
    ),
)
"""Pages of any origin, without credentials."""


def _check_root(_: object, attribute: attrs.Attribute[str], value: str) -> None:
    if not (value.startswith("/") and value.endswith("/")):
        raise ValueError(f"{attribute.name} begins and ends with '/', and {value!r} doesn't")


@attrs.frozen(kw_only=True)
class DurableConfig:
    """Limits and timeouts of one server.

    Attributes:
      root: below which the streams are; `/` at both ends.
      max_append_bytes: of one request's body; more is answered 413.
      max_read_bytes: of one answer to a read; one entry at least.
      long_poll_timeout: seconds that a long-poll waits.
      sse_lifetime: seconds after which an event stream ends, and its reader comes again.
      live_window_bytes: how far a reader by events may be behind its stream's tail before it goes on from the store. As much is
        kept in memory of a stream while any of its readers is behind; an append costs its length plus 64.
      max_streams: more are answered 429; None for no limit.
      max_loaded_streams: streams held in memory.
      max_producers_per_stream: idempotent producers that a stream knows; others are answered 429.
      max_waiting_readers: long-polls and event streams at a time; more are answered 429.
      max_stream_bytes: kept of one stream; the oldest entries beyond are dropped. None for all.
      max_age: seconds that an entry is kept; None for ever.
      sweep_interval: seconds between two looks for what has expired, and what need not be kept.
      max_appends_per_second: by one client; more are answered 429. None for no limit.
      cors: which pages may use the server; None for those of its own origin.
      is_public: whether caches that many share may keep answers. Not where `authenticate` is set.
      authenticate: who may do what; None for anybody anything.
    """

    root: str = attrs.field(default="/v1/stream/", validator=_check_root)
    max_append_bytes: int = attrs.field(default=16_777_216, validator=positive)
    max_read_bytes: int = attrs.field(default=524_288, validator=positive)
    long_poll_timeout: float = attrs.field(default=30.0, validator=positive)
    sse_lifetime: float = attrs.field(default=60.0, validator=positive)
    live_window_bytes: int = attrs.field(default=262_144, validator=positive)
    max_streams: int | None = attrs.field(default=None, validator=positive)
    max_loaded_streams: int = attrs.field(default=10_000, validator=positive)
    max_producers_per_stream: int = attrs.field(default=10_000, validator=positive)
    max_waiting_readers: int = attrs.field(default=100_000, validator=positive)
    max_stream_bytes: int | None = attrs.field(default=None, validator=positive)
    max_age: float | None = attrs.field(default=None, validator=positive)
    sweep_interval: float = attrs.field(default=10.0, validator=positive)
    max_appends_per_second: float | None = attrs.field(default=None, validator=positive)
    cors: CorsPolicy | None = DEFAULT_CORS
    is_public: bool = True
    authenticate: Authenticate | None = None

    @property
    def cache_control(self) -> str:
        """Of answers to catch-up reads."""
        scope = "public" if self.is_public and self.authenticate is None else "private"
        return f"{scope}, max-age=60, stale-while-revalidate=300"
