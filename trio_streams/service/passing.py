"""An exchange that passes everything on to another one, for those that change a part of it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import trio

from trio_streams.service.exchange import BodyEncoder, BodySource, Exchange, Headers, RequestHead

__all__ = ["PassingExchange"]


class PassingExchange:
    """Stands before an `Exchange`, and is one; a subclass overrides what it has something to say to.

    Args:
      inner: what everything is passed on to.
    """

    def __init__(self, inner: Exchange) -> None:
        self._inner = inner

    @property
    def request(self) -> RequestHead:
        """See `Exchange`."""
        return self._inner.request

    @property
    def cancel_scope(self) -> trio.CancelScope:
        """See `Exchange`."""
        return self._inner.cancel_scope

    @property
    def has_head(self) -> bool:
        """See `Exchange`."""
        return self._inner.has_head

    async def receive_some(self) -> bytes:
        """See `Exchange`."""
        return await self._inner.receive_some()

    def iter_body(self, *, max_bytes: int | None = None) -> AsyncIterator[bytes]:
        """See `Exchange`."""
        return self._inner.iter_body(max_bytes=max_bytes)

    async def receive_body(self, *, max_bytes: int | None = None) -> bytes:
        """See `Exchange`."""
        return await self._inner.receive_body(max_bytes=max_bytes)

    async def send_head(self, status: int, headers: Headers = ()) -> None:
        """See `Exchange`."""
        await self._inner.send_head(status, headers)

    async def send(self, data: bytes) -> None:
        """See `Exchange`."""
        await self._inner.send(data)

    async def send_from(self, source: BodySource) -> None:
        """See `Exchange`."""
        await self._inner.send_from(source)

    def end(self) -> None:
        """See `Exchange`."""
        self._inner.end()

    def encode_body(self, encoder: BodyEncoder) -> None:
        """See `Exchange`."""
        self._inner.encode_body(encoder)
