"""Answers in gzip, for clients that take it and types that gain by it. RFC 9110 §8.4, §12.5.3.

`compressed(handler)` is a handler. What it leaves alone: bodies that are small, already coded, partial or of a type
that does not shrink; and server-sent events, unless asked: each batch then has to be flushed, and a secret beside what
a stranger chooses can be guessed from the sizes (BREACH), which is true of any answer that holds both.
"""

from __future__ import annotations

import re
import zlib
from typing import Final

import attrs

from trio_streams.service.exchange import Exchange, ExchangeHandler, Headers, RequestHead
from trio_streams.service.passing import PassingExchange

__all__ = ["Compression", "accepts_gzip", "compressed", "is_compressible"]

_GZIP_BITS: Final = 31  # zlib's word for: 32 KiB of window, gzip around it
_TYPES: Final = re.compile(
    r"text/(?!event-stream).*|application/(json|javascript|xml|x-ndjson|wasm|[a-z0-9.+-]+\+(json|xml))|image/svg\+xml"
)
_CODING: Final = re.compile(r"[ \t]*([A-Za-z0-9*!#$%&'+.^_`|~-]+)[ \t]*(?:;[ \t]*[qQ]=([01](?:\.[0-9]{0,3})?)[ \t]*)?")
_EVENTS: Final = "text/event-stream"


@attrs.frozen(kw_only=True)
class Compression:
    """When and how to compress.

    Attributes:
      min_bytes: smaller bodies of a known length stay as they are; below this a packet is a packet.
      level: 1 to 9; from 6 on little is gained.
      events: whether server-sent events are compressed, and flushed after each write.
    """

    min_bytes: int = attrs.field(default=1_024, validator=attrs.validators.ge(0))
    level: int = attrs.field(default=5, validator=[attrs.validators.ge(1), attrs.validators.le(9)])
    events: bool = False


_DEFAULT: Final = Compression()


def accepts_gzip(request: RequestHead) -> bool:
    """Whether `accept-encoding` names gzip, or everything, with a quality above 0."""
    qualities: dict[str, float] = {}
    for part in (request.header("accept-encoding") or "").split(","):
        match = _CODING.fullmatch(part)
        if match is not None:
            qualities[match[1].lower()] = float(match[2] or 1)
    return qualities.get("gzip", qualities.get("x-gzip", qualities.get("*", 0.0))) > 0


def is_compressible(content_type: str) -> bool:
    """Whether bodies of a type shrink; server-sent events don't count."""
    return _TYPES.fullmatch(content_type.partition(";")[0].strip().lower()) is not None


def compressed(handler: ExchangeHandler, config: Compression = _DEFAULT) -> ExchangeHandler:
    """A handler whose answers are compressed where the client, the type and the size say so.

    Args:
      handler: what answers.
      config: when and how.
    """

    async def handle(exchange: Exchange) -> None:
        if accepts_gzip(exchange.request):
            await handler(_CompressedExchange(exchange, config))
        else:
            await handler(_VaryingExchange(exchange, config))

    return handle


class _Gzip:
    """A body's encoder; see `BodyEncoder`."""

    def __init__(self, level: int, *, flushes: bool) -> None:
        self._coder = zlib.compressobj(level, zlib.DEFLATED, _GZIP_BITS)
        self._flushes = flushes

    def encode(self, data: bytes) -> bytes:
        coded = self._coder.compress(data)
        return coded + self._coder.flush(zlib.Z_SYNC_FLUSH) if self._flushes else coded

    def finish(self) -> bytes:
        return self._coder.flush()


class _VaryingExchange(PassingExchange):
    """An exchange that tells caches what an answer depends on."""

    def __init__(self, inner: Exchange, config: Compression) -> None:
        super().__init__(inner)
        self._config = config

    async def send_head(self, status: int, headers: Headers = ()) -> None:
        await self._inner.send_head(status, self._vary(headers) if self._is_candidate(status, headers) else headers)

    def _is_candidate(self, status: int, headers: Headers) -> bool:
        found = dict(headers)
        if status in {204, 206, 304} or "content-encoding" in found or "no-transform" in found.get("cache-control", ""):
            return False
        content_type = found.get("content-type", "")
        is_events = content_type.startswith(_EVENTS)
        if not (self._config.events if is_events else is_compressible(content_type)):
            return False
        return "content-length" not in found or int(found["content-length"]) >= self._config.min_bytes

    def _vary(self, headers: Headers) -> list[tuple[str, str]]:
        return [*headers, ("vary", "accept-encoding")]


class _CompressedExchange(_VaryingExchange):
    """An exchange whose answer is coded on its way, if it qualifies."""

    async def send_head(self, status: int, headers: Headers = ()) -> None:
        if not self._is_candidate(status, headers):
            await self._inner.send_head(status, headers)
            return
        found = dict(headers)
        coded: list[tuple[str, str]] = []
        for name, value in self._vary(headers):
            if name == "etag" and not value.startswith("W/"):
                coded.append((name, f"W/{value}"))  # the coded bytes are others
            elif name not in {"content-length", "accept-ranges"}:
                coded.append((name, value))
        # A body without a length may be a live one: what is sent has to arrive.
        encoder = _Gzip(self._config.level, flushes="content-length" not in found)
        await self._inner.send_head(status, [*coded, ("content-encoding", "gzip")])
        self._inner.encode_body(encoder)
